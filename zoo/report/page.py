"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
"""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from zoo.report import tables
from zoo.report.caveats import describe_kinds, describe_phases, warnings
from zoo.report.comparison import Comparison, baseline_in
from zoo.report.compute import last_evaluations
from zoo.report.drawing import save
from zoo.report.entries import Table
from zoo.report.inputs import Inputs
from zoo.report.plots import all_figures
from zoo.report.published import PublishedSet
from zoo.report.rendering import templates, to_csv, to_latex, to_markdown, write_file
from zoo.report.reproduction import Reproduction, reproduce
from zoo.report.results import json_text, to_json
from zoo.runs.history import PHASES
from zoo.runs.read import RunTables
from zoo.runs.scores import KINDS, SUCCESS

_FORMATS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
_PACKAGES = ("flow-rl-zoo", "numpy", "scipy", "pandas", "matplotlib")


@dataclass(frozen=True)
class Content:
    """What a report is made from.

    :param comparisons: every number, one comparison for each kind of scores.
    :param reproduction: own beside published scores.
    :param own: own runs.
    :param scores: last evaluation of each run in each phase, for the file of all scores.
    :param sets: published sets.
    :param baseline: the method to improve on.
    :param tolerance: of a reproduction, as a fraction.
    :param command: the command line that makes the report.
    :param references: reference scores of environments, random and expert.
    """

    comparisons: Sequence[Comparison]
    reproduction: list[Reproduction]
    own: RunTables
    scores: pd.DataFrame
    sets: Sequence[PublishedSet]
    baseline: str
    tolerance: float
    command: str
    references: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, inputs: Inputs, comparisons: Sequence[Comparison], baseline: str, tolerance: float, command: str
    ) -> Content:
        """Return the content of a report on what was collected and computed."""
        return cls(
            comparisons=comparisons,
            reproduction=reproduce(inputs.methods, inputs.evaluations, inputs.sets, tolerance),
            own=inputs.own,
            scores=last_evaluations(inputs.evaluations),
            sets=inputs.sets,
            baseline=baseline,
            tolerance=tolerance,
            command=command,
            references=inputs.references,
        )


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, ``tables/``, ``figures/``, ``scores.csv``, ``runs.csv`` and ``results.json``.

    Everything is made before anything is written. Files of an older report are replaced, or removed where this one has
    none of that name.

    :param folder: where; made if missing.
    :param content: what the report is made from.
    :return: the page.
    """
    made = all_tables(content)
    figures = _figures(content)
    images = {name.removesuffix(".svg"): data.decode() for name, data in figures.items() if name.endswith(".svg")}
    files: dict[str, str | bytes] = {
        f"tables/{table.name}.{kind}": render(table) for table in made for kind, render in _FORMATS.items()
    }
    files |= {f"figures/{name}": data for name, data in figures.items()}
    files["scores.csv"] = content.scores.to_csv(index=False)
    files["runs.csv"] = _runs_csv(content.own)
    files["results.json"] = json_text(to_json(content.comparisons, content.own.skipped(), content.references))
    files["report.html"] = to_html(content, made, images)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(folder / name, data)
    for path in _files_of_reports(folder):
        if str(path.relative_to(folder)) not in files:
            path.unlink()
    return folder / "report.html"


def all_tables(content: Content) -> list[Table]:
    """Return every table of a report, in the order of the page."""
    made = []
    for comparison in content.comparisons:
        for phase in comparison.phases.values():
            made.append(tables.aggregates_table(comparison, phase))
            made.append(tables.improvement_table(comparison, phase, baseline_in(comparison, content.baseline)))
            made.append(tables.domains_table(comparison, phase))
            made.append(tables.tasks_table(comparison, phase))
        if comparison.kind is SUCCESS and content.reproduction:
            made.append(tables.reproduction_table(content.reproduction, content.tolerance))
    made.append(tables.protocol_table(content.comparisons[0]))
    return [table for table in made if table.rows]


def to_html(content: Content, made: Sequence[Table], images: Mapping[str, str]) -> str:
    """Return the page with everything inside.

    :param content: what the report is made from.
    :param made: its tables.
    :param images: name of a figure -> SVG.
    """
    methods = content.comparisons[0].methods
    return (
        templates(autoescape=True)
        .get_template("report.html")
        .render(
            content=content,
            methods=methods,
            tables={table.name: table for table in made},
            images={name: Markup(_inline(svg, name)) for name, svg in images.items()},
            baselines=[baseline_in(comparison, content.baseline) for comparison in content.comparisons],
            phases=describe_phases(content.comparisons),
            kinds=describe_kinds(content.comparisons),
            warnings=warnings(content.comparisons, content.own),
            skipped=content.own.skipped(),
            has_own=any(method.is_own for method in methods.values()),
            versions=", ".join(f"{name} {version(name)}" for name in _PACKAGES)
            + f", Python {platform.python_version()}",
        )
    )


def _figures(content: Content) -> dict[str, bytes]:
    """Return every figure as SVG and PNG, under the names of their files."""
    files = {}
    for comparison in content.comparisons:
        for name, figure in all_figures(comparison, baseline_in(comparison, content.baseline)).items():
            for kind in ("svg", "png"):
                buffer = io.BytesIO()
                save(figure, buffer, kind)
                files[f"{name}.{kind}"] = buffer.getvalue()
    return files


def _runs_csv(own: RunTables) -> str:
    """Return the table of own runs as CSV."""
    departures = ["; ".join(found) if isinstance(found, tuple) else None for found in own.runs["departures"]]
    return own.runs.assign(departures=departures).drop(columns="settings").to_csv(index=False)


def _files_of_reports(folder: Path) -> Iterator[Path]:
    """Yield the tables and figures that this or an older report has left in a folder."""
    suffixes = [kind.suffix for kind in KINDS.values()]
    names = [f"{name}_{phase}" for name in ("aggregates", "improvement", "domains", "tasks") for phase in PHASES]
    names = [f"{name}{suffix}" for name in names for suffix in suffixes] + ["reproduction"]
    figures = ("aggregates", "profiles", "improvement", "sample_efficiency", "domains", "environments")
    found = [f"tables/{name}.{kind}" for name in names for kind in _FORMATS]
    found += [f"figures/{name}{suffix}.{kind}" for name in figures for suffix in suffixes for kind in ("svg", "png")]
    return filter(Path.exists, (folder / name for name in found))


def _inline(svg: str, name: str) -> str:
    """Return an SVG to put into a page beside others: without prologue, with unique ids, scaled to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = r'<svg [^>]*?width="([^"]*)"[^>]*?viewBox="([^"]*)"[^>]*>'
    replaced = rf'<svg viewBox="\2" style="width: \1" role="img" aria-label="{name}">'
    return re.sub(opening, lambda match: match.expand(replaced), svg, count=1)
