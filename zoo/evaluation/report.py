"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
"""

from __future__ import annotations

import io
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from agents.common.files import atomic_path
from zoo.evaluation import plots, tables
from zoo.evaluation.caveats import warnings
from zoo.evaluation.comparison import Comparison
from zoo.evaluation.rendering import templates, to_csv, to_latex, to_markdown
from zoo.evaluation.reproduction import Reproduction
from zoo.evaluation.results import to_json
from zoo.evaluation.tables import Table
from zoo.published import PublishedSet
from zoo.run import RunTables

_PACKAGES = ("flow-rl-zoo", "rliable", "numpy", "scipy", "pandas", "matplotlib")


@dataclass(frozen=True)
class Input:
    """What a report is made from.

    :param comparison: every number.
    :param reproduction: own beside published scores.
    :param own: own runs.
    :param scores: last evaluation of each run in each phase, for the file of all scores.
    :param sets: published sets.
    :param baseline: whom to improve on.
    :param tolerance: of a reproduction, as a fraction.
    :param command: the command line that makes the report.
    """

    comparison: Comparison
    reproduction: list[Reproduction]
    own: RunTables
    scores: pd.DataFrame
    sets: Sequence[PublishedSet]
    baseline: str
    tolerance: float
    command: str


def write_report(folder: Path, content: Input) -> Path:
    """Write ``report.html``, ``tables/``, ``figures/``, ``scores.csv``, ``runs.csv`` and ``results.json``.

    :param folder: where; made if missing, files of an older report are replaced.
    :param content: what the report is made from.
    :return: the page.
    """
    made = all_tables(content)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for table in made:
        for kind, render in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
            _write(folder / "tables" / f"{table.name}.{kind}", render(table))
    images = _write_figures(folder / "figures", content)
    _write(folder / "scores.csv", content.scores.to_csv(index=False))
    _write(folder / "runs.csv", content.own.runs.drop(columns="settings").to_csv(index=False))
    results = to_json(content.comparison, content.own.skipped())
    _write(folder / "results.json", json.dumps(results, indent=1) + "\n")
    page = folder / "report.html"
    _write(page, to_html(content, made, images))
    return page


def all_tables(content: Input) -> list[Table]:
    """Return every table of a report.

    :param content: what the report is made from.
    :return: the tables in the order of the page.
    """
    comparison = content.comparison
    made = []
    for phase in comparison.phases.values():
        made.append(tables.aggregates_table(comparison, phase))
        made.append(tables.improvement_table(comparison, phase, content.baseline))
        made.append(tables.domains_table(comparison, phase))
        made.append(tables.tasks_table(comparison, phase))
    if content.reproduction:
        made.append(tables.reproduction_table(content.reproduction, content.tolerance))
    made.append(tables.protocol_table(comparison))
    return [table for table in made if table.rows]


def to_html(content: Input, made: Sequence[Table], images: Mapping[str, str]) -> str:
    """Return the page.

    :param content: what the report is made from.
    :param made: its tables.
    :param images: name of a figure -> SVG.
    :return: the page, with everything inside.
    """
    return (
        templates(autoescape=True)
        .get_template("report.html")
        .render(
            content=content,
            tables={table.name: table for table in made},
            images={name: Markup(_inline(svg, name)) for name, svg in images.items()},
            phases=list(content.comparison.phases),
            warnings=warnings(content.comparison, content.own),
            skipped=content.own.skipped(),
            has_own=any(method.source == "own" for method in content.comparison.methods.values()),
            versions=", ".join(f"{name} {version(name)}" for name in _PACKAGES)
            + f", Python {platform.python_version()}",
        )
    )


def _write_figures(folder: Path, content: Input) -> dict[str, str]:
    """Write every figure as SVG and PNG, and return the SVG texts."""
    figures = plots.all_figures(content.comparison, content.baseline)
    images = {}
    try:
        for name, figure in figures.items():
            for kind in ("svg", "png"):
                buffer = io.BytesIO()
                plots.save(figure, buffer, kind)
                _write(folder / f"{name}.{kind}", buffer.getvalue())
                if kind == "svg":
                    images[name] = buffer.getvalue().decode()
    finally:
        plots.close(figures.values())
    return images


def _inline(svg: str, name: str) -> str:
    """Return an SVG text that can stand in a page beside others: no prologue, names of its own, scaled to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = r'<svg [^>]*?width="([^"]*)"[^>]*?viewBox="([^"]*)"[^>]*>'
    replaced = rf'<svg viewBox="\2" style="width: \1" role="img" aria-label="{name}">'
    return re.sub(opening, lambda match: match.expand(replaced), svg, count=1)


def _write(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all."""
    data = content if isinstance(content, bytes) else content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
