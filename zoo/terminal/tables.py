"""Tables in the terminal, on standard error: standard output is for the result."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zoo.terminal.texts import printable


def terminal() -> Console:
    """Return the terminal that tables are printed on; without one it is 80 columns wide."""
    return Console(stderr=True, highlight=False)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], wrapped: Sequence[str] = ()) -> None:
    """Print a table as wide as the terminal, with as little decoration as possible.

    :param wrapped: the columns that share the width which the others leave, and whose text is wrapped.
    """
    console = terminal()
    table = Table(title=Text(printable(title)), title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header:
        is_wrapped = name in wrapped
        table.add_column(name, ratio=1 if is_wrapped else None, no_wrap=not is_wrapped, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    table.expand = bool(wrapped)
    table.min_width = min(len(title), console.width)
    console.print(table)
