"""The notebook is a page of the site: its texts, its code and the outputs that it was saved with."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("sphinx")

from docs.notebook import as_markdown
from tests.docs.commands import ROOT

PICTURE = {"output_type": "display_data", "data": {"image/png": ["AB\n", "CD\n"], "text/plain": ["<Figure>"]}}
VALUE = {"output_type": "execute_result", "data": {"text/plain": ["3"]}}
PRINTED = {"output_type": "stream", "text": ["a\n", "b"]}


def test_texts_code_and_outputs_follow_each_other() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {"cell_type": "code", "source": ["x = 1\n", "x"], "outputs": [VALUE, PICTURE, PRINTED]},
    ]
    assert list(as_markdown({"cells": cells})) == [
        "# Title\nText.",
        "``````python\nx = 1\nx\n``````",
        "``````text\n3\n``````",
        "![output](data:image/png;base64,ABCD)",
        "``````text\na\nb\n``````",
    ]


def test_the_notebook_was_saved_with_its_pictures() -> None:
    text = "\n".join(as_markdown(json.loads((ROOT / "docs" / "first_steps.ipynb").read_text(encoding="utf-8"))))
    assert text.startswith("# ")
    assert text.count("](data:image/png;base64,") == 3
