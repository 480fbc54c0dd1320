"""Write the settings tables of docs/algorithms from the settings' declarations.

``python docs/make_tables.py`` rewrites the tables in place; a test fails where one is out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

DOCS = Path(__file__).resolve().parent / "algorithms"
if __package__ in (None, ""):  # run as a file: let `import agents` find the package
    sys.path[0] = str(DOCS.parent.parent)

import agents  # noqa: E402
from agents.common.validation import describe_bounds  # noqa: E402

TABLE = re.compile(r"(?<=## Settings\n\n)(?:\|.*\n)+")


def table_of(id: str) -> str:
    """Return an algorithm's settings table: what it declares itself, and common settings with another default.

    ``reference`` is the name in the paper or the authors' code, where that is another one.
    """
    method = agents.get(id).method
    assert method is not None
    rows = ["| setting | reference | default | range | meaning |", "|---|---|---|---|---|"]
    for name, declared in method.declared().items():
        if agents.Method.declared().get(name) is not declared:
            kept = describe_bounds(**declared.bounds).strip() or _kinds(declared.type)
            rows.append(f"| `{name}` | {declared.reference} | {_shown(declared.default)} | {kept} | {declared.doc} |")
    return "\n".join(rows) + "\n"


def _kinds(type: object) -> str:
    """Return what values there are, where no bounds say so."""
    return "true, false" if type is bool else ", ".join(map(str, get_args(type))) if get_origin(type) is Literal else ""


def _shown(value: object) -> str:
    """Return a default as it is written in a settings file."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def updated(id: str) -> str:
    """Return the text of an algorithm's page with the table that its declarations give."""
    text = (DOCS / f"{id}.md").read_text()
    return TABLE.sub(lambda _: table_of(id), text)


if __name__ == "__main__":
    for each in agents.algorithm_ids():
        (DOCS / f"{each}.md").write_text(updated(each))
