"""Run a comparison, then write its page, tables and figures, or print its tables.

A report is deterministic: the same runs produce the same bytes, so two reports can be compared with `diff`. Only the
date, the commit and the command below the title differ.
"""

from __future__ import annotations

import base64
import json
import platform
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from rich.text import Text

from agents.common.files import atomic_path, explaining_write_errors
from zoo.report.comparison import (
    CURVE_COLUMNS,
    PROFILE_COLUMNS,
    Comparison,
    joined,
)
from zoo.report.compute import compare_kinds
from zoo.report.figures import all_figures, to_file
from zoo.report.inputs import Inputs, collect
from zoo.report.request import CompareRequest
from zoo.report.scores import last_evaluations, scores_table
from zoo.report.sentences import left_out_of_sets, verdict_sentences, warnings
from zoo.report.tables import (
    LONGEST_NAME,
    Table,
    TableEntry,
    aggregates_table,
    domains_table,
    protocol_table,
    tasks_table,
    to_csv,
    to_latex,
    verdict_table,
)
from zoo.runs.folder import PHASES
from zoo.runs.versions import git_commit
from zoo.terminal.errors import UsageError
from zoo.terminal.tables import make_table, terminal

TEMPLATES = Path(__file__).parent / "templates"
MARKER = "results.json"
"""File that marks a folder as a report."""
_PACKAGES = ("flow-rl-zoo", "rliable", "numpy", "scipy", "pandas", "matplotlib", "seaborn")
_PHASE_TABLES = (verdict_table, aggregates_table, domains_table, tasks_table)


@dataclass(frozen=True)
class Content:
    """The content of a report.

    :param origin: date of the report and commit of the installed code, as text.
    """

    inputs: Inputs
    comparisons: Sequence[Comparison]
    request: CompareRequest
    origin: str = ""

    @cached_property
    def verdicts(self) -> list[str]:
        """The verdict of each phase."""
        return verdict_sentences(self.comparisons)

    @cached_property
    def notes(self) -> list[str]:
        """Warnings about the comparison."""
        return [*warnings(self.inputs, self.comparisons)]

    @cached_property
    def tables(self) -> list[Table]:
        """Every table of the report, in the order of the page."""
        tables = []
        for comparison in self.comparisons:
            for make, phase in product(_PHASE_TABLES, comparison.phases.values()):
                tables.append(make(comparison, phase))
        tables.append(protocol_table(self.inputs.methods))
        return [table for table in tables if table.rows]

    @property
    def results(self) -> str:
        """Every number except points of curves and profiles, as JSON text.

        Keys are field names of the classes in `zoo.report.comparison`. The phases of the comparison by success are at
        the top level; a phase without evaluations is None. The other comparisons have their own keys: ``return`` and
        ``normalised_return``.
        """
        result: dict[str, Any] = dict.fromkeys(PHASES)
        for comparison in self.comparisons:
            phases: dict[str, Any] = dict.fromkeys(PHASES)
            for name, phase in comparison.phases.items():
                # profiles and curves have separate files
                numbers = dict(vars(phase))
                del numbers["profiles"], numbers["curves"]
                phases[name] = numbers
            result |= {comparison.suffix[1:]: phases} if comparison.suffix else phases
        methods = {}
        for name, method in self.inputs.methods.items():
            methods[name] = {
                "algorithm": method.algorithm,
                "source": method.source,
                "tally": method.tally(),
            }
        result |= {"methods": methods, "reference_scores": self.inputs.references}
        result["left_out"] = left_out_of_sets(self.inputs, self.comparisons)
        result |= {"skipped": self.inputs.own_runs.skipped(), "repetitions": self.request.reps}
        # sort keys, so that two files can be compared with `diff`
        return json.dumps(result, indent=1, default=vars, sort_keys=True) + "\n"


class Image(NamedTuple):
    """A figure of the page: a PNG in base64, its width on the page in pixels, and its caption."""

    data: str
    width: int
    caption: str


def check_folder(folder: Path) -> None:
    """Raise UsageError if a folder contains files, except hidden ones, but no earlier report."""
    # a process killed while writing the marker leaves a hidden file
    if any(folder.glob("[!.]*")) and not (folder / MARKER).is_file():
        raise UsageError(
            f"{folder} is not empty and not a report; choose another folder for --output"
        )


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, tables, figures, CSV files of runs and curves, and ``results.json``.

    An earlier report is replaced, including all files in its folders of tables and figures.

    :return: the path of ``report.html``.
    """
    inputs = content.inputs
    # write the marker first, so that an interrupted report can be replaced
    files: dict[str, str | bytes] = {MARKER: content.results}
    data = {
        "evaluations": scores_table(inputs.evaluations, inputs.methods),
        "scores": scores_table(last_evaluations(inputs.evaluations), inputs.methods),
        # leave out settings, which are in each run's `config.yml`
        "runs": inputs.own_runs.runs.drop(columns="settings"),
    }
    for comparison in content.comparisons:
        phases = comparison.phases.values()
        curves = [phase.curves for phase in phases]
        profiles = [phase.profiles for phase in phases]
        data[f"figures/curves{comparison.suffix}"] = joined(curves, CURVE_COLUMNS)
        data[f"figures/profiles{comparison.suffix}"] = joined(profiles, PROFILE_COLUMNS)
    files |= {f"{name}.csv": rows.to_csv(index=False) for name, rows in data.items()}
    for table in content.tables:
        files[f"tables/{table.name}.csv"] = to_csv(table)
        if content.request.latex:
            files[f"tables/{table.name}.tex"] = to_latex(table)
    images: dict[str, Image] = {}
    for comparison in content.comparisons:
        for name, drawing in all_figures(comparison).items():
            image = to_file(drawing.figure, "png")
            files[f"figures/{name}.png"] = image
            if content.request.latex:
                files[f"figures/{name}.pdf"] = to_file(drawing.figure, "pdf")
            # bytes 16 to 19 of a PNG contain its width; three image pixels per two page pixels look sharp
            width = int.from_bytes(image[16:20], "big") * 2 // 3
            images[name] = Image(base64.b64encode(image).decode(), width, drawing.caption)
    files["report.html"] = to_html(content, images)
    with explaining_write_errors(folder):
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / name) as temporary:
                # write bytes, because line endings of text depend on the system
                temporary.write_bytes(text.encode() if isinstance(text, str) else text)
        # An earlier report may contain tables and figures that this one lacks. They are removed last, because another
        # program may be writing the same report.
        for path in [*folder.glob("tables/[!.]*"), *folder.glob("figures/[!.]*")]:
            if path.is_file() and path.relative_to(folder).as_posix() not in files:
                path.unlink(missing_ok=True)
    return folder / "report.html"


def to_html(content: Content, images: Mapping[str, Image]) -> str:
    """Return the page as one self-contained HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names are read from files, so they are not trusted
        undefined=jinja2.StrictUndefined,  # misspelt names are errors
    )
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    versions.append(f"Python {platform.python_version()}")
    return environment.get_template("report.html").render(
        content=content,
        tables={table.name: table for table in content.tables},
        images=images,
        in_phases=in_phases,
        versions=", ".join(versions),
    )


def in_phases(comparison: Comparison, name: str) -> list[str]:
    """Return the names of a table or figure, one for each phase."""
    return [f"{name}_{phase}{comparison.suffix}" for phase in comparison.phases]


# -- from a request to files and the terminal --------------------------------------------------------------------------


def run(request: CompareRequest) -> dict[str, Any]:
    """Run a comparison, write or print it, and return the JSON result of `zoo compare`."""
    request.check()
    if request.output:
        check_folder(request.output)  # check it before the long computation
    inputs = collect(request)
    comparisons = compare_kinds(
        inputs,
        request.reps,
        curves=request.output is not None,
        focus=inputs.focus(request.focus),
    )
    result: dict[str, Any] = {
        "methods": len(inputs.methods),
        "runs": len(inputs.own_runs.runs),
        "skipped": len(inputs.own_runs.skipped()),
    }
    origin = f"{datetime.now(UTC):%Y-%m-%d}, commit {(git_commit() or 'unknown')[:12]}"
    content = Content(inputs, comparisons, request, origin)
    if request.output:
        result["report"] = str(write_report(request.output, content))
    _print(content)
    return result


def _print(content: Content) -> None:
    """Print sentences and, without a report, tables: verdicts, aggregates, and tasks of phases without aggregates."""
    console = terminal(sys.stdout)
    for verdict in content.verdicts:
        console.print(verdict)
    for text in content.notes:
        console.print(f"! {text}")
    if content.request.output:
        return
    for comparison in content.comparisons:
        for phase in comparison.phases.values():
            scores = aggregates_table if phase.aggregates else tasks_table
            for table in (verdict_table(comparison, phase), scores(comparison, phase)):
                rows = table.frame.map(_text).to_numpy().tolist()
                if rows:
                    console.print(
                        make_table(table.title, table.header, rows, unbroken=table.header[:1])
                    )


def _text(entry: TableEntry) -> Text:
    text = textwrap.fill(entry.plain, LONGEST_NAME)
    return Text(text, style="bold" if entry.is_bold else "")
