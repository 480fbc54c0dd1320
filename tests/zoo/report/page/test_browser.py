"""What a reader can do with the page, in a real browser."""

from xml.etree import ElementTree

import pytest

from tests.zoo.report.page import browser
from tests.zoo.report.samples import content_of, evaluations, own_methods
from zoo.report.comparison import ComparedMethod
from zoo.report.page import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        browser.PROGRAM is None, reason="no Chromium here; `apt install chromium` brings one"
    ),
]
HOSTILE = "</script><b>a&b=c,d</b>\u2028"
METHODS = ["QAM", "FQL", HOSTILE]


@pytest.fixture(scope="module")
def content():
    methods = own_methods(METHODS) | {"FQL": ComparedMethod("FQL", "FQL", "a_set")}
    table = evaluations(METHODS, tasks=4)
    table.loc[table["method"] == "FQL", "source"] = "a_set"
    return content_of(table, methods, problems=[("logs/a", None)])


@pytest.fixture(scope="module")
def address(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report.to_html(content), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab, address):
    """Yield the tab with the page in it, which must have caused no error at the end of the test."""
    tab.media("light")
    tab.resize(1400, 900)
    tab.open(address)
    yield tab
    assert tab.problems == []


def column(page, table, number):
    """Return the texts of one column of the rows that are shown."""
    rows = f"document.querySelectorAll('#{table} tbody tr')"
    return page.evaluate(f"[...{rows}].map(row => row.cells[{number}].firstChild.textContent)")


def sorts(page, table):
    return page.evaluate(
        f"[...document.querySelectorAll('#{table} th')].map(each => each.ariaSort)"
    )


def test_page_draws_everything_without_errors_or_requests(page, content, address):
    drawn = page.evaluate(
        "[...document.querySelectorAll('.drawing svg')].map(each => each.parentNode.id)"
    )
    assert sorted(drawn) == sorted(f"figure-{name}" for name in content.figures)
    assert page.requests == {address}


def test_headings_sort_numbers_by_number_and_texts_by_name(page):
    def click(table, number):
        page.click(f"#{table} th:nth-child({number}) [role=button]")

    unsorted = column(page, "aggregates_offline", 0)
    for order in ("descending", "ascending"):
        click("aggregates_offline", 2)
        means = [float(text.strip("† ")) for text in column(page, "aggregates_offline", 1)]
        assert means == sorted(means, reverse=order == "descending")
        assert sorts(page, "aggregates_offline")[:3] == ["none", order, "none"]
    click("aggregates_offline", 2)
    assert column(page, "aggregates_offline", 0) == unsorted
    click("aggregates_offline", 1)
    assert column(page, "aggregates_offline", 0) == [HOSTILE, "FQL", "QAM"]
    page.evaluate("document.querySelectorAll('#verdict_offline tbody tr').forEach((row, k) => {"
                  "row.cells[3].firstChild.textContent = ['< 0.001', '0.001'][k]; })")  # fmt: skip
    for order in (
        ["0.001", "< 0.001"],
        ["< 0.001", "0.001"],
    ):  # the largest first, then the smallest
        click("verdict_offline", 4)
        assert column(page, "verdict_offline", 3) == order


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return the address of a page with many methods and a long name."""
    names = ["QAM", "q" * 120, *(f"agent {k}" for k in range(6))]
    path = tmp_path_factory.mktemp("wide") / "report.html"
    content = content_of(evaluations(names, tasks=2), baseline=names[1])
    path.write_text(report.to_html(content), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("width", [390, 1000, 1600])
def test_the_page_never_scrolls_sideways_and_its_texts_are_readable(tab, wide, width):
    tab.resize(width, 844, mobile=width < 500)
    tab.open(wide)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.evaluate("document.querySelector('#side').open") == (width >= 1000)
    sizes = tab.evaluate("""[...document.querySelectorAll('.drawing text')].map(each => {
        const {a, b} = each.getScreenCTM();  // the scale, of turned texts too
        return parseFloat(getComputedStyle(each).fontSize) * Math.hypot(a, b);
    })""")
    assert min(sizes) > 8
    assert tab.problems == []


def test_figures_beside_one_another_do_not_touch(page):
    page.resize(1600, 900)
    left, right = page.evaluate(
        "[...document.querySelectorAll('#figure-verdict_offline svg, #figure-verdict_online svg')].map(each => {"
        "const boxes = [...each.querySelectorAll('text')].map(text => text.getBoundingClientRect());"
        "return [Math.min(...boxes.map(box => box.left)), Math.max(...boxes.map(box => box.right)), boxes[0].top]; })"
    )
    assert abs(left[2] - right[2]) < 40  # in one row
    assert left[1] + 10 < right[0]


def test_tables_and_figures_can_be_copied(page, content):
    copied = "navigator.clipboard.writeText = async text => { window.copied = text; }"
    for is_allowed in (True, False):
        page.evaluate(f"window.copied = ''; {copied}")
        if not is_allowed:  # the old way, as in a page that a browser does not trust
            page.evaluate("navigator.clipboard.writeText = async () => { throw new Error('no'); }")
            page.evaluate(
                "document.execCommand = () => { window.copied = document.activeElement.value; return true; }"
            )
        page.click("#aggregates_offline .copy :last-child")
        page.settle()
        assert page.evaluate("copied") == content.texts["aggregates_offline"]["tex"]
    page.evaluate(copied)
    page.click("#figure-profiles_offline .copy :last-child")
    page.settle()
    assert (
        ElementTree.fromstring(page.evaluate("copied"))[0].text == "Performance profiles, offline"
    )


def test_the_keyboard_reaches_and_does_everything(page):
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Tab")
    assert page.evaluate("document.activeElement.closest('nav') !== null")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, order in (("Enter", "descending"), (" ", "ascending")):
        page.evaluate(
            "document.querySelector('#aggregates_offline th:nth-child(2) [role=button]').focus()"
        )
        page.press(key)
        assert sorts(page, "aggregates_offline")[1] == order


def colours(page):
    """Return the colours of the page, and of the words of the figure below the verdict."""
    text = "getComputedStyle(document.querySelector('#figure-verdict_offline text')).fill"
    return page.evaluate(f"[getComputedStyle(document.body).backgroundColor, {text}]")


LIGHT, DARK = ["rgb(255, 255, 255)", "rgb(38, 38, 38)"], ["rgb(21, 24, 29)", "rgb(228, 230, 234)"]


def test_page_and_figures_are_dark_where_the_system_or_the_reader_wishes_it(page):
    assert colours(page) == LIGHT
    page.media("dark")
    assert colours(page) == DARK
    page.click("#theme [role=button]")
    assert colours(page) == LIGHT
    page.click("#theme [role=button]")
    page.media("light")
    assert colours(page) == DARK
