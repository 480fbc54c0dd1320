"""The page for readers of FQL's and QAM's code shows FQL as it is here."""

from tests import ROOT, code_blocks


def test_the_page_has_the_code_of_fql():
    (code,) = code_blocks("docs/coming_from_fql.md", "py\n# agents/fql.py")
    heading, _, hooks = code.partition("\n")
    source = (ROOT / "agents/fql.py").read_text()
    assert heading in source
    assert source.endswith(hooks)
