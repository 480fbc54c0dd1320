"""What a reader can do with the page, in a real browser."""

import re
from dataclasses import replace
from urllib.parse import parse_qs
from xml.etree import ElementTree

import pytest

from tests.zoo.report.page import browser
from tests.zoo.report.samples import comparison_of_returns, content_of, evaluations, own_methods
from zoo.report.comparison import Method
from zoo.report.page import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here; `apt install chromium` brings one"),
]
HOSTILE = "</script><b>a&b=c,d</b>\u2028"
METHODS = ["QAM", "FQL", HOSTILE]
WAIT = """new Promise(done => {
  const look = () => document.querySelector("#main").ariaBusy === "true" ? setTimeout(look, 5) : done();
  look();
})"""


@pytest.fixture(scope="module")
def content():
    methods = own_methods(METHODS) | {"FQL": Method("FQL", "FQL", "a_set")}
    found = content_of(evaluations(METHODS, tasks=4), methods, problems=[("logs/a", None)])
    found.inputs.evaluations.loc[found.inputs.evaluations["method"] == "FQL", "source"] = "a_set"
    return found


@pytest.fixture(scope="module")
def address(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.to_html(content), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(tab, address):
    tab.media()
    tab.resize(1400, 900)
    tab.open(address)
    yield tab
    assert tab.problems == []


def column(page, table, number):
    """Return the texts of one column of the rows that are shown."""
    rows = f"document.querySelectorAll('#{table} tbody tr:not([hidden])')"
    return page.evaluate(f"[...{rows}].map(row => row.cells[{number}].firstChild.textContent)")


def sorts(page, table):
    return page.evaluate(f"[...document.querySelectorAll('#{table} th')].map(each => each.ariaSort)")


def hide(page, name, value):
    page.click(f"#selection input[name={name}][value='{value}']")
    page.evaluate(WAIT)


def texts(page, selector, kind="textContent"):
    return page.evaluate(f"[...document.querySelectorAll(`{selector}`)].map(each => each.{kind})")


def words_of(page):
    return parse_qs(page.evaluate("location.hash.slice(1)"))


def test_page_draws_everything_without_errors_or_requests(page, content, address):
    found = "[...document.querySelectorAll('[data-drawing]')].filter(each => each.querySelector('.panels svg'))"
    drawn = page.evaluate(f"{found}.map(each => each.dataset.drawing)")
    assert len(drawn) == 9
    assert sorted(drawn) == sorted(drawing["name"] for drawing in content.data["drawings"])
    assert page.requests == {address}


def test_policy_keeps_scripts_and_the_network_out(tab, address):
    tab.open(address)
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:9/a.png onerror=alert(1)>')")
    tab.evaluate("fetch('http://127.0.0.1:9/').catch(() => 0)")
    tab.settle()
    assert tab.requests == {address}
    assert [text for text in tab.problems if "Content Security Policy" in text]


def test_headings_sort_numbers_by_number_and_texts_by_name(page):
    def click(table, number):
        page.click(f"#{table} th:nth-child({number}) button")

    before = column(page, "aggregates_offline", 0)
    for is_reversed, way in ((True, "descending"), (False, "ascending")):
        click("aggregates_offline", 2)
        means = [float(text.strip("† ")) for text in column(page, "aggregates_offline", 1)]
        assert means == sorted(means, reverse=is_reversed)
        assert sorts(page, "aggregates_offline")[:3] == ["none", way, "none"]
    click("aggregates_offline", 2)
    assert column(page, "aggregates_offline", 0) == before
    click("aggregates_offline", 1)
    assert column(page, "aggregates_offline", 0) == [HOSTILE, "FQL", "QAM"]
    page.evaluate("document.querySelectorAll('#verdict_offline tbody tr').forEach((row, k) => {"
                  "row.cells[2].firstChild.textContent = ['< 0.001', '0.001'][k]; })")  # fmt: skip
    for expected in (["0.001", "< 0.001"], ["< 0.001", "0.001"]):  # the largest first, then the smallest
        click("verdict_offline", 3)
        assert column(page, "verdict_offline", 2) == expected


def test_a_hidden_method_is_hidden_everywhere(page):
    number = texts(page, "#selection label:has([name=method])").index("FQL")
    hide(page, "method", number)
    for paint in ("fill", "stroke"):
        assert not texts(page, f'.panels [{paint}="var(--method-{number})"]')
    assert "FQL" not in texts(page, ".panels text")
    for table in ("aggregates_offline", "aggregates_online", "domains_offline"):
        assert "FQL" not in column(page, table, 0)
    assert "FQL" not in texts(page, "#tasks_online th:not([hidden]) button")
    assert len(texts(page, "#tasks_online tbody tr:first-child td:not([hidden])")) == 3
    assert "Hidden: FQL." in texts(page, "#hidden-note")[0]


def test_a_hidden_domain_is_hidden_everywhere(page):
    assert texts(page, "#figure-domains .panel-title") == ["cube-double-play", "scene-play"]
    hide(page, "domain", 0)
    assert texts(page, "#figure-domains .panel-title") == ["scene-play"]
    assert not [text for text in texts(page, "#figure-heat_map text") if "cube" in text]
    assert [text[:5] for text in column(page, "tasks_offline", 0)] == ["scene"] * 2
    assert texts(page, "#domains_offline th:not([hidden])") == ["method", "scene-play (2)"]


NUMBER = r"\S+ \[\S+, \S+\]"
"""An estimate with its interval."""
HOVERED = {
    "verdict [aria-label=dot] circle": rf"difference of means \(points\): {NUMBER}\noffline: .* against\nunclear",
    "aggregates [aria-label=dot] circle": rf"\(%\): {NUMBER}\noffline, mean, 4 common tasks\n6 seeds\n2,000 steps",
    "sample_efficiency [aria-label=dot] path": rf"4 common tasks: {NUMBER}\nstep [123],000\n(off|on)line\n6 seeds",
    "pairs [aria-label=cell] rect": rf" against .*\nprobability of improvement: {NUMBER}\ndifference of means: ",
    "heat_map [aria-label=cell] rect": rf"success \(%\): {NUMBER}\n(cube-double|scene)-play task\d\noffline\n6 seeds",
}


def test_hovering_tells_method_value_interval_seeds_and_step(page):
    for mark, expected in HOVERED.items():
        figure, _, inside = mark.partition(" ")
        page.move(*page.place(f"#figure-{figure} svg {inside}"))
        assert re.search(expected, texts(page, "#tip:not([hidden])", "innerText")[0]), mark
    page.move(2, 2)
    assert not texts(page, "#tip:not([hidden])")


def test_a_link_restores_the_selection(page, address):
    hide(page, "domain", 1)
    page.click("#figure-domains .legend li:last-child button")
    page.click("#selection input[value=offline]")
    page.click("#aggregates_offline th:nth-child(2) button")
    page.evaluate(WAIT)
    hidden = words_of(page)["hide"]
    assert words_of(page) == {
        "hide": hidden, "domain": ["scene-play"], "phase": ["offline"], "sort": ["aggregates_offline.1.descending"]
    }  # fmt: skip
    link, shown = page.evaluate("document.querySelector('#permalink').href"), page.evaluate("document.body.innerText")
    page.open(address)
    assert page.evaluate("document.body.innerText") != shown
    page.open(link)
    assert page.evaluate("document.body.innerText") == shown
    assert words_of(page)["hide"] == hidden


def test_a_link_may_name_what_this_report_lacks(page, address):
    words = "hide=GONE&domain=nowhere&phase=never&sort=a.b&sort=aggregates_offline.99.ascending&at=nothing"
    page.open(f"{address}#{words}")
    assert page.evaluate("document.querySelector('#hidden-note').hidden")
    page.open(f"{address}#section-3")
    assert page.evaluate("scrollY") > 0


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_never_scrolls_sideways(tab, tmp_path, width):
    names = ["QAM", "q" * 120, *(f"agent {k}" for k in range(14))]
    (tmp_path / "report.html").write_text(report.to_html(content_of(evaluations(names, tasks=2))), encoding="utf-8")
    tab.resize(width, 844, mobile=width < 500)
    tab.open((tmp_path / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("document.querySelector('#side').open") == (width == 1400)
    wide = "document.querySelector('#figure-heat_map .panels')"
    assert tab.evaluate(f"{wide}.scrollWidth > {wide}.clientWidth") == (width == 390)  # it scrolls inside instead
    assert tab.problems == []


def test_tables_and_figures_can_be_taken_away(page, content):
    copied = "navigator.clipboard.writeText = async text => { window.copied = text; }"
    for is_allowed in (True, False):
        page.evaluate(f"window.copied = ''; {copied}")
        if not is_allowed:  # the old way, as in a page that a browser does not trust
            page.evaluate("navigator.clipboard.writeText = async () => { throw new Error('no'); }")
            page.evaluate("document.execCommand = () => { window.copied = document.activeElement.value; return true; }")
        page.click("#aggregates_offline .copy button:last-child")
        page.settle()
        assert page.evaluate("copied") == content.texts["aggregates_offline"]["tex"]
    page.evaluate(copied)
    page.click("#figure-pairs .copy button")
    page.settle()
    picture = ElementTree.fromstring(page.evaluate("copied"))
    assert picture.tag.endswith("svg")
    colours = {each.get("fill") for each in picture.iter() if each.tag.endswith("rect")}
    assert len(colours) > 3
    assert all(re.fullmatch("#[0-9a-f]{6}|none", colour) for colour in colours if colour)
    assert texts(page, "#figure-pairs .copy button") == ["copied", "save SVG"]


def test_the_keyboard_reaches_and_does_everything(page):
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Tab")
    assert page.evaluate("document.activeElement.closest('nav') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, way in (("Enter", "descending"), (" ", "ascending")):
        page.evaluate("document.querySelector('#aggregates_offline th:nth-child(2) button').focus()")
        page.press(key)
        assert sorts(page, "aggregates_offline")[1] == way
    page.evaluate("document.querySelector('#selection [name=method]').focus()")
    page.press(" ")
    assert "hide" in words_of(page)


def test_print_is_light_and_without_controls(page, tmp_path):
    page.media("print", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for selector in ("#side", "#tip", ".skip", ".copy"):
        assert page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).display") == "none"
    page.media()
    widths = "[...document.querySelectorAll('.panels')].map(each => each.firstChild.clientWidth)"
    headings = "document.querySelectorAll('th .printed').length"  # buttons are not repeated on the next page
    page.evaluate(f"addEventListener('beforeprint', () => {{ found = {widths}; headings = {headings}; }})")
    page.print(tmp_path / "page.pdf")
    widths = page.evaluate("window.found")
    assert page.evaluate("window.headings") == page.evaluate("document.querySelectorAll('th button').length")
    assert page.evaluate("document.querySelectorAll('.printed').length") == 0
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert len(widths) == 9
    assert max(widths) <= 700


def test_returns_are_drawn_too(tab, tmp_path):
    content = replace(content_of(evaluations(["a", "b", "c"])), comparisons=[comparison_of_returns(["a", "b", "c"])])
    (tmp_path / "report.html").write_text(report.to_html(content), encoding="utf-8")
    tab.open((tmp_path / "report.html").as_uri())
    assert texts(tab, "#figure-environments_return .panel-title") == ["HalfCheetah-v5", "Pendulum-v1"]
    assert tab.problems == []
