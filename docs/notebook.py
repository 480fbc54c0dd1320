"""Show a notebook as a page, with the outputs that it was saved with; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

FENCE = "`" * 6
PICTURE, TEXT = "image/png", "text/plain"


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the parser to Sphinx."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class NotebookParser(MystParser):
    """Reads notebooks as Markdown."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Add what a notebook says to a document."""
        super().parse("\n\n".join(as_markdown(json.loads(inputstring))), document)


def as_markdown(notebook: dict[str, Any]) -> Iterator[str]:
    """Give the paragraphs of a notebook: texts, code, and the outputs of code."""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield text
            continue
        yield f"{FENCE}python\n{text}\n{FENCE}"
        for output in cell["outputs"]:
            yield _shown(output)


def _shown(output: dict[str, Any]) -> str:
    """Return an output: a picture where it has one, else its text."""
    data = output.get("data", {TEXT: output.get("text", "")})
    if PICTURE in data:
        return f"![output](data:{PICTURE};base64,{''.join(data[PICTURE]).replace(chr(10), '')})"
    return f"{FENCE}text\n{''.join(data[TEXT])}\n{FENCE}"
