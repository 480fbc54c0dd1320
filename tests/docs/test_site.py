"""The site: the first results of its search, and links between all pages."""

import json
import shutil
import subprocess

import pytest

from tests.docs.commands import ROOT
from tools.check_site import problems

PAGES = {
    "docs/container": "Zebras in containers",
    "docs/reference/methods": "Methods",
    "benchmarks/notebook": "A notebook",
    "docs/train_e": "Train-E",
    "docs/train": "Train: how",
}


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
def test_search_lists_users_pages_first_and_the_named_one_on_top():
    scorer = (ROOT / "docs" / "assets" / "search.js").read_text()
    # the arguments with which Sphinx asks for a page's score: name, title, anchor, description, score
    index = json.dumps([[page, title, "", "", 5] for page, title in PAGES.items()])
    code = (
        f"const window = {{location: {{search: '?q=train'}}}};\n{scorer}\n"
        f"console.log(JSON.stringify({index}.map(Scorer.score)));"
    )
    ran = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    scores = dict(zip(PAGES, json.loads(ran.stdout), strict=True))
    order = sorted(PAGES, key=lambda page: -scores[page])
    assert order[0] == "docs/train"
    assert order[-2:] == ["docs/reference/methods", "benchmarks/notebook"]


def test_a_page_without_a_way_back_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text(
        '<a href="../report.html">a report</a><a href="index.html">home</a>'
    )
    (tmp_path / "report.html").write_text('<a href="#">up</a>')
    assert list(problems(tmp_path)) == ["report.html: no link leads to a page in docs/"]
