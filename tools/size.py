"""Count the tokens of code: without comments, docstrings and line breaks, so that no layout changes the number.

``python tools/size.py`` prints the counts; a test compares them with the budget in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import json
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = {
    "product": ("agents", "zoo"),
    "tests": ("tests",),
    "benchmarks": ("benchmarks", "tools", "docs"),
}
LAYOUT = {
    tokenize.ENCODING, tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def count_tokens(path: Path) -> int:
    """Return how many tokens of code a Python file has."""
    documented = (
        node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, DOCUMENTED)
    )
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in documented
        if ast.get_docstring(node, clean=False) is not None
    }
    with path.open("rb") as file:
        return sum(
            token.type not in LAYOUT and token.start not in docstrings
            for token in tokenize.tokenize(file.readline)
        )


def sizes() -> dict[str, int]:
    """Return the tokens of the product, of its tests, and of what makes numbers and documents."""
    return {
        part: sum(
            count_tokens(path)
            for folder in folders
            for path in (ROOT / folder).rglob("*.py")
            if "_build" not in path.parts
        )
        for part, folders in PARTS.items()
    }


if __name__ == "__main__":
    json.dump(sizes(), sys.stdout)
    print()
