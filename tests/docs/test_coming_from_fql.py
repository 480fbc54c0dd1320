"""The page for readers of FQL's and QAM's code shows this library's FQL."""

import ast

from tests import ROOT, code_blocks


def statements(code):
    """Return the statements of the class FQL, without docstrings and comments."""
    (fql,) = (node for node in ast.parse(code).body if isinstance(node, ast.ClassDef))
    for node in (fql, *fql.body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.unparse(fql)


def test_the_page_has_the_code_of_fql():
    (code,) = code_blocks("docs/coming_from_fql.md", "py\n# agents/fql.py")
    assert statements(code) == statements((ROOT / "agents/fql.py").read_text())
