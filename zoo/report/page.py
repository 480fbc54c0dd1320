"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
"""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from zoo.report.caveats import describe_kinds, describe_phases, warnings
from zoo.report.comparison import Comparison, baseline_in
from zoo.report.compute import last_evaluations
from zoo.report.drawing import FORMATS, SHEETS, save
from zoo.report.entries import Table
from zoo.report.inputs import Inputs
from zoo.report.own_runs import differences_table
from zoo.report.plots import all_figures
from zoo.report.published import suite_names
from zoo.report.rendering import templates, to_csv, to_latex, to_markdown, write_file
from zoo.report.reproduction import Expected, reproduce
from zoo.report.results import json_text, to_json
from zoo.report.tables import (
    aggregates_table,
    domains_table,
    improvement_table,
    protocol_table,
    reproduction_table,
    tasks_table,
)
from zoo.report.tidy import csv_file, curves_table, evaluations_table, profiles_table
from zoo.runs.history import PHASES
from zoo.runs.protocol import count
from zoo.runs.read import RunTables
from zoo.runs.scores import KINDS, SUCCESS
from zoo.texts import csv_cells

_TEXTS = ("csv", "md", "tex")
_PACKAGES = ("flow-rl-zoo", "numpy", "scipy", "pandas", "matplotlib")


@dataclass(frozen=True)
class Content:
    """What a report is made from; the tolerance of a reproduction is a fraction.

    :param expected: gives the settings that are behind published scores.
    :param width: what the figures in files are drawn for, a key of `zoo.report.drawing.SHEETS`.
    :param formats: the kinds of these files, of `zoo.report.drawing.FORMATS`.
    """

    inputs: Inputs
    comparisons: Sequence[Comparison]
    baseline: str
    tolerance: float
    command: str
    expected: Expected | None = None
    width: str = "page"
    formats: Sequence[str] = FORMATS

    @cached_property
    def tables(self) -> list[Table]:
        """Every table of the report, in the order of the page."""
        inputs = self.inputs
        found = [differences_table(inputs.own, inputs.methods)]
        for comparison in self.comparisons:
            for phase in comparison.phases.values():
                found.append(aggregates_table(comparison, phase))
                found += [aggregates_table(comparison, phase, suite) for suite in phase.suite_aggregates]
                found.append(improvement_table(comparison, phase, baseline_in(comparison, self.baseline)))
                found.append(domains_table(comparison, phase))
                found.append(tasks_table(comparison, phase))
            if comparison.kind is SUCCESS:
                reproduced = reproduce(inputs.methods, inputs.evaluations, inputs.sets, self.tolerance, self.expected)
                found.append(reproduction_table(reproduced, self.tolerance))
        found.append(protocol_table(self.comparisons[0]))
        return [table for table in found if table.rows]


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, tables, figures, CSV files of runs and curves, and ``results.json``; return the page.

    Everything is made before anything is written. Files of an older report are replaced, or removed where this one has
    none of that name.
    """
    inputs = content.inputs
    images = {name: data["svg"].decode() for name, data in _figures(content, "page", ["svg"]).items()}
    figures = _figures(content, content.width, content.formats)
    files: dict[str, str | bytes] = {
        f"tables/{table.name}.{kind}": text
        for table in content.tables
        for kind, text in zip(_TEXTS, (to_csv(table), to_markdown(table), to_latex(table, content.width)), strict=True)
    }
    files |= {f"figures/{name}.{kind}": data for name, found in figures.items() for kind, data in found.items()}
    files["scores.csv"] = csv_cells(last_evaluations(inputs.evaluations)).to_csv(index=False)
    tidy = {
        "evaluations": evaluations_table(inputs.evaluations),
        "curves": curves_table(content.comparisons),
        "profiles": profiles_table(content.comparisons),
    }
    files |= dict(csv_file(name, table) for name, table in tidy.items())
    files["runs.csv"] = _runs_csv(inputs.own)
    files["results.json"] = json_text(to_json(content.comparisons, inputs.own.skipped(), inputs.references))
    files["report.html"] = to_html(content, images)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(folder / name, data)
    for path in _files_of_reports(folder):
        if str(path.relative_to(folder)) not in files:
            path.unlink()
    return folder / "report.html"


def to_html(content: Content, images: Mapping[str, str]) -> str:
    """Return the page with everything inside; ``images`` maps names of figures to SVG texts."""
    methods = content.comparisons[0].methods
    return (
        templates(autoescape=True)
        .get_template("report.html")
        .render(
            content=content,
            methods=methods,
            size=count(len(methods), "method"),
            tables={table.name: table for table in content.tables},
            images={name: Markup(_inline(svg, name)) for name, svg in images.items()},
            baselines=[baseline_in(comparison, content.baseline) for comparison in content.comparisons],
            phases=describe_phases(content.comparisons),
            kinds=describe_kinds(content.comparisons),
            warnings=warnings(content.comparisons, content.inputs.own, content.inputs.sets, content.inputs.failed),
            skipped=content.inputs.own.skipped(),
            has_own=any(method.is_own for method in methods.values()),
            versions=", ".join(f"{name} {version(name)}" for name in _PACKAGES)
            + f", Python {platform.python_version()}",
        )
    )


def _figures(content: Content, width: str, kinds: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Return every figure as files: its name -> kind of file -> content."""
    files: dict[str, dict[str, bytes]] = {}
    for comparison in content.comparisons:
        baseline = baseline_in(comparison, content.baseline)
        for name, figure in all_figures(comparison, baseline, SHEETS[width]).items():
            for kind in kinds:
                buffer = io.BytesIO()
                save(figure, buffer, kind)
                files.setdefault(name, {})[kind] = buffer.getvalue()
    return files


def _runs_csv(own: RunTables) -> str:
    departures = ["; ".join(found) if isinstance(found, tuple) else None for found in own.runs["departures"]]
    return csv_cells(own.runs.assign(departures=departures).drop(columns="settings")).to_csv(index=False)


def _files_of_reports(folder: Path) -> Iterator[Path]:
    """Yield the tables, figures and tidy files that this or an older report has left in a folder."""
    suffixes = [kind.suffix for kind in KINDS.values()]
    names = [f"{name}_{phase}" for name in ("aggregates", "improvement", "domains", "tasks") for phase in PHASES]
    names = [f"{name}{suffix}" for name in names for suffix in suffixes] + ["reproduction", "differences"]
    names += [f"aggregates_{phase}_{suite}" for phase in PHASES for suite in suite_names()]
    figures = ("aggregates", "profiles", "improvement", "sample_efficiency", "domains", "environments")
    found = [f"tables/{name}.{kind}" for name in names for kind in _TEXTS]
    found += [f"figures/{name}{suffix}.{kind}" for name in figures for suffix in suffixes for kind in FORMATS]
    found += [f"{name}.csv{ending}" for name in ("evaluations", "curves", "profiles") for ending in ("", ".gz")]
    return filter(Path.exists, (folder / name for name in found))


def _inline(svg: str, name: str) -> str:
    """Return an SVG to put into a page beside others: without prologue, with unique ids, scaled to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    opening = r'<svg [^>]*?width="([^"]*)"[^>]*?viewBox="([^"]*)"[^>]*>'
    replaced = rf'<svg viewBox="\2" style="width: \1" role="img" aria-label="{name}">'
    return re.sub(opening, lambda match: match.expand(replaced), svg, count=1)
