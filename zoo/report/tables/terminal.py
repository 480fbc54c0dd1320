"""Tables in the terminal: the main numbers of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.report.tables import entries
from zoo.terminal.texts import printable

_SHOWN = ("aggregates", "improvement", "verdict", "differences", "reproduction")


def print_tables(verdicts: Iterable[tuple[str, str]], warnings: Iterable[str], found: Sequence[entries.Table]) -> None:
    """Print verdicts, warnings, aggregates, improvements and reproduction, each in the columns that fit a terminal.

    Where nothing can be averaged, the means of the tasks stand in for the aggregates.
    """
    averaged = {table.name.removeprefix("aggregates") for table in found if table.name.startswith("aggregates")}
    console = Console()
    for text in (*(" ".join(both).strip() for both in verdicts), *(f"! {sentence}" for sentence in warnings)):
        console.print(printable(text), markup=False, highlight=False)
    for table in found:
        kind = table.name.split("_")[0]
        if kind not in _SHOWN and (kind != "tasks" or table.name.removeprefix("tasks") in averaged):
            continue
        wanted = [k for k, name in enumerate(table.header) if kind != "reproduction" or name != "protocol"]
        shown = terminal_table([table.header[k] for k in wanted], table.title)
        for row in table.rows:
            texts = ((literal(row[k].plain), row[k].is_bold) for k in wanted)
            shown.add_row(*(f"[bold]{text}[/bold]" if is_bold else text for text, is_bold in texts))
        console.print(shown)


def terminal_table(header: Sequence[str], title: str = "") -> Table:
    """Return an empty table with as little decoration as possible: terminals are narrow."""
    table = Table(title=literal(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(literal(name), overflow="fold", no_wrap=name in ("environment", "where"))
    return table


def literal(text: str) -> str:
    """Return a text that Rich shows as it is, without control bytes."""
    return escape(printable(text))
