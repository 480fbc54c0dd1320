"""Tables in the terminal; most are written to standard error, because standard output is for the result."""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Stream:
    """A standard stream; writing to a closed terminal or pipe does not raise an error."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, text: str) -> None:
        """Write a text; a character that the stream cannot encode is escaped, as Python does on standard error."""
        encoding = self.file.encoding or "utf-8"  # a `StringIO` has none
        with contextlib.suppress(OSError):
            self.file.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def flush(self) -> None:
        """Flush the stream."""
        with contextlib.suppress(OSError):
            self.file.flush()


def terminal(stream: TextIO | None = None) -> Console:
    """Return the console for tables, by default on standard error; without a terminal, it is 80 columns wide."""
    # keep the stream, because Rich replaces `sys.stderr` while it shows a progress bar
    file: Any = _Stream(stream or sys.stderr)
    # a name such as `lab:Robot`, followed by a colon, contains the code of an emoji
    return Console(file=file, highlight=False, markup=False, emoji=False)


def make_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    unbroken: Sequence[str],
    wrapped: str = "",
) -> Table:
    """Return a table with little decoration, because terminals are narrow.

    :param unbroken: columns whose text is never wrapped.
    :param wrapped: a column that takes the remaining width.
    """
    # no lines between columns, because narrow terminals need the space for numbers
    table = Table(
        title=title,
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        expand=bool(wrapped),
    )
    for name in header:
        table.add_column(
            name, no_wrap=name in unbroken, overflow="fold", ratio=1 if name == wrapped else None
        )
    for row in rows:
        table.add_row(*row)
    return table


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], wrapped: str
) -> None:
    """Print a table, as wide as the terminal.

    :param wrapped: the column that takes the remaining width.
    """
    unbroken = [name for name in header if name != wrapped]
    terminal().print(make_table(title, header, rows, unbroken, wrapped))
