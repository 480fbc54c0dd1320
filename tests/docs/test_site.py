"""The check of the built site: every page leads to the others."""

from tools.check_site import problems


def test_a_page_without_a_way_back_is_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text('<a href="../report.html">a report</a><a href="index.html">home</a>')
    (tmp_path / "report.html").write_text('<a href="#">up</a>')
    assert list(problems(tmp_path)) == ["report.html: no link leads to a page in docs/"]
    (tmp_path / "report.html").write_text('<a href="docs/index.html">home</a>')
    assert not list(problems(tmp_path))
