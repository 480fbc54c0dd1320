"""Tables in the terminal, on standard error: standard output is for the result."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text


def terminal() -> Console:
    """Return the terminal that tables are printed on; without one it is 80 columns wide."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def make_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    unbroken: Sequence[str],
    wrapped: Sequence[str] = (),
) -> Table:
    """Return a table with as little decoration as possible: terminals are narrow.

    :param unbroken: the columns whose text is never broken.
    :param wrapped: the columns that share the width which the others leave.
    """
    # No lines: in a narrow terminal they would take the room of the numbers.
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

    :param wrapped: the columns that share the width which the others leave, and whose text is wrapped.
    """
    console = terminal()
    unbroken = [name for name in header if name not in wrapped]
    table = make_table(title, header, rows, unbroken, wrapped)
    if not wrapped:
        # Rich cuts off the ends of numbers where a line is too long; a narrow terminal breaks the line instead
        unlimited = console.options.update(max_width=1000)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    table.expand = bool(wrapped)
    table.min_width = min(len(title), console.width)
    console.print(table)
