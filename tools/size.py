"""Count the lines of code: without blanks, comments and docstrings.

``python tools/size.py`` prints the counts; a test compares them with the budget in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("agents", "zoo")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(path: Path) -> int:
    """Return how many lines of a Python file hold code."""
    source = path.read_text(encoding="utf-8")
    lines = {number for number, line in enumerate(source.split("\n"), 1) if line.strip()[:1] not in ("", "#")}
    nodes = list(ast.walk(ast.parse(source)))
    for node in nodes:
        if isinstance(node, ast.Constant | ast.JoinedStr):  # a text may have blank lines
            lines.update(range(node.lineno, (node.end_lineno or 0) + 1))
    for node in nodes:
        if isinstance(node, DOCUMENTED) and node.body and _is_text(node.body[0]):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def used_once(files: list[Path]) -> list[str]:
    """Return the modules that exactly one other module imports; packages and programs are left out."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files if path.stem[:2] != "__"}
    found: Counter[str] = Counter()
    for path in files:
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found.update(name for name in imported & names.keys() if names[name] != path)
    return sorted(name for name, count in found.items() if count == 1)


def sizes() -> dict[str, int]:
    """Return the counts by name: lines of code of the product and of its tests, and modules with one importer."""
    product = [path for name in PRODUCT for path in sorted((ROOT / name).rglob("*.py"))]
    tests = sorted((ROOT / "tests").rglob("*.py"))
    return {
        "product": sum(map(code_lines, product)),
        "tests": sum(map(code_lines, tests)),
        "modules_with_one_importer": len(used_once(product)),
    }


if __name__ == "__main__":
    json.dump(sizes(), sys.stdout)
    print()
