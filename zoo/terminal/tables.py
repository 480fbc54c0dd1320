"""Tables in the terminal, on standard error, because standard output is for the result."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


def terminal() -> Console:
    """Return the console for tables, 80 columns wide without a terminal."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def make_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    unbroken: Sequence[str],
    wrapped: Sequence[str] = (),
) -> Table:
    """Return a table with little decoration, because terminals are narrow.

    :param unbroken: columns whose text is never wrapped.
    :param wrapped: columns that share the remaining width.
    """
    # without lines, which would take the space of numbers in a narrow terminal
    table = Table(
        title=title, title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in header:
        table.add_column(
            name, no_wrap=name in unbroken, overflow="fold", ratio=1 if name in wrapped else None
        )
    for row in rows:
        table.add_row(*row)
    return table


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], wrapped: Sequence[str] = ()
) -> None:
    """Print a table as wide as the terminal.

    :param wrapped: columns that share the remaining width, with wrapped text.
    """
    console = terminal()
    unbroken = [name for name in header if name not in wrapped]
    table = make_table(title, header, rows, unbroken, wrapped)
    if not wrapped:
        # Rich would truncate numbers in a line that is too long; a narrow terminal wraps it instead
        unlimited = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    table.expand = bool(wrapped)
    table.min_width = min(len(title), console.width)
    console.print(table)
