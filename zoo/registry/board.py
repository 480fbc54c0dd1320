"""The board: one page with every score of the registry and of the published sets, suites and protocols apart.

``python -m zoo.registry.board -o board.html``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from agents.common.files import atomic_path
from zoo.registry.checks import count_inside
from zoo.report.comparison import Cell, Phase
from zoo.report.compute import compare
from zoo.report.inputs import Request, collect
from zoo.report.published_scores import LEVELS, PublishedSet, set_names
from zoo.report.tables.entries import number_entry
from zoo.runs.protocol import describe_layers, show
from zoo.runs.read import short_name
from zoo.terminal.arguments import a_path

TEMPLATE = Path(__file__).parent / "board.html"
REPS = 20
"""Bootstrap repetitions; the board shows means, whose intervals need none."""


def write_board(path: Path) -> int:
    """Write the page, and return its number of rows."""
    rows = list(board_rows())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    text = environment.from_string(TEMPLATE.read_text("utf-8")).render(data={"rows": rows, "levels": LEVELS})
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(rows)


def board_rows() -> Iterator[dict[str, Any]]:
    """Yield a row for each method of each set in each phase, its scores in percent."""
    first: dict[str, str] = {}
    for name in set_names():
        inputs = collect(Request(published=[name]))
        (published,) = inputs.sets
        origin = {"group": _group(published, first), **_origin(published)}
        for method in inputs.methods:  # each alone, over all tasks that it has
            runs, means = (table[table["method"] == method] for table in (inputs.evaluations, inputs.means))
            comparison = compare({method: inputs.methods[method]}, runs, means, REPS, curves=False)
            for phase in comparison.phases.values():
                row = {
                    "id": "/".join((name, method, phase.name)).replace(" ", "-"),
                    "method": method,
                    "phase": phase.name,
                }
                yield row | _scores(phase, method) | _curve(runs, phase) | origin


def _scores(phase: Phase, method: str) -> dict[str, Any]:
    """Return what a method scored in a phase; numbers of what is not known are None."""
    whole = phase.aggregates.get(method)
    return {
        "mean": None if whole is None else _numbers(whole),
        "seeds": None if whole is None else whole.seeds,
        "count": len(phase.coverage[method]),
        "domains": {domain: _numbers(cells[method]) for domain, cells in phase.domains.items()},
        "tasks": {short_name(task): _numbers(cells[method]) for task, cells in phase.per_task.items()},
    }


def _curve(runs: pd.DataFrame, phase: Phase) -> dict[str, Any]:
    """Return the mean at each step of a phase at which every run was evaluated; empty where there is none."""
    runs = runs[runs["phase"] == phase.name]
    at = runs.groupby("step")["score"].agg(["mean", "size"])
    whole = at[at["size"] == len(runs[["environment", "seed"]].drop_duplicates())]
    return {"curve": [[int(step), round(100 * float(mean), 2)] for step, mean in whole["mean"].items()]}


def _group(published: PublishedSet, first: dict[str, str]) -> str:
    """Return what must agree before scores stand in one table: the tasks and the protocol, on every domain.

    :param first: protocol -> the first set that was made so, whose name tells it from others of the same length.
    """
    protocol = {name: value for name, value in published.protocol.items() if value is not None}
    name = first.setdefault(json.dumps([published.suite, protocol, published.domains], sort_keys=True), published.name)
    everywhere = [protocol, *published.domains.values()]

    def values(key: str) -> str:
        found = [part[key] for part in everywhere if part.get(key)]
        texts = map(describe_layers, found) if key == "net_arch" else map(show, found)
        return " or ".join(dict.fromkeys(map(str, texts)))

    lengths, widths = [*filter(None, map(values, ("offline_steps", "online_steps")))], values("net_arch")
    parts = [f"{' + '.join(lengths)} steps" if lengths else "", f"networks {widths}" if widths else ""]
    return ", ".join(filter(None, (f"{published.suite} as in {name}", *parts)))


def _origin(published: PublishedSet) -> dict[str, Any]:
    """Return what is known of a set besides its scores."""
    about = {key: published.about[key] for key in ("reference", "date", "source")}
    checks = [
        f"{check['date']}: {check['level']} {'holds' if check['holds'] else 'fails'} "
        f"({count_inside(check['runs'])} of {len(check['runs'])} runs inside their intervals)"
        for check in published.checks
    ]
    return {"set": published.name, "level": published.level, "hours": published.hours, "checks": checks, **about}


def _numbers(cell: Cell) -> list[Any]:
    """Return a mean and its interval in percent, None where there is no interval, and the text of a report's table."""
    estimate = cell.estimates["mean"]
    low, high = estimate.interval or (None, None)
    numbers = [None if value is None else round(100 * float(value), 2) for value in (estimate.point, low, high)]
    return [*numbers, number_entry(estimate, 100, 1).plain]


def main() -> None:
    """Write the page that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=a_path, required=True, metavar="FILE", help="the page")
    args = parser.parse_args()
    print(f"{write_board(args.output)} rows in {args.output}")


if __name__ == "__main__":
    main()
