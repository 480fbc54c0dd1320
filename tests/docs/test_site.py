"""The built site: what its search lists first, and that every page leads to the others."""

import pytest
from sphinx.application import Sphinx

from tests.docs.commands import ROOT
from tests.zoo.report.page import browser
from tools.check_site import problems

PAGES = {
    "docs/index": "Zoo\n===\n",
    "docs/container": "Zebras in containers\n=====================\n\nThey need a GPU.\n",
    "docs/reference/methods": "Methods\n=======\n\nGenerated, GPU.\n",
    "benchmarks/notebook": "A notebook\n==========\n\nGPU\n---\n\nMeasured.\n",
    "docs/train_e": "Train-E\n=======\n\nA part.\n",
    "docs/train": "Train: how\n==========\n\nThe whole.\n",
}
LIST_RESULTS = """
const listed = () => [...document.querySelectorAll("ul.search a")].map(link => link.getAttribute("href"));
const look = () => document.querySelector(".search-summary")?.innerText ? done(listed()) : setTimeout(look, 20)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a small site with this one's way to order what the search finds."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.rst").write_text(f":orphan:\n\n{text}")
    scorer = str(ROOT / "docs" / "assets" / "search.js")
    options = {"root_doc": "docs/index", "html_search_scorer": scorer, "html_theme": "basic"}
    out = folder / "out"
    Sphinx(
        str(folder),
        None,
        str(out),
        str(folder / "doctrees"),
        "html",
        options,
        status=None,
        warning=None,
    ).build()
    return out


@pytest.mark.browser
@pytest.mark.skipif(
    browser.PROGRAM is None, reason="no Chromium here; `apt install chromium` brings one"
)
def test_search_lists_pages_for_users_first_and_of_these_the_one_that_is_named(site, tmp_path):
    with browser.chromium(tmp_path) as page:
        results = {}
        for words in ("gpu", "train"):
            page.open(f"{(site / 'search.html').as_uri()}?q={words}")
            results[words] = page.evaluate(f"new Promise(done => {{ {LIST_RESULTS}; look(); }})")
    assert results["gpu"][0] == "docs/container.html"
    assert results["gpu"][-1].startswith("benchmarks/notebook.html")
    assert results["train"][0] == "docs/train.html"


def test_a_page_without_a_way_back_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text(
        '<a href="../report.html">a report</a><a href="index.html">home</a>'
    )
    (tmp_path / "report.html").write_text('<a href="#">up</a>')
    assert list(problems(tmp_path)) == ["report.html: no link leads to a page in docs/"]
    (tmp_path / "report.html").write_text('<a href="docs/index.html">home</a>')
    assert not list(problems(tmp_path))
