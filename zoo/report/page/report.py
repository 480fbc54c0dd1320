"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
Only the line below the title says when and how it was made.
"""

from __future__ import annotations

import base64
import gzip
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from agents.common.files import explaining_write_errors
from zoo.report.comparison import (
    CURVE_COLUMNS,
    PROFILE_COLUMNS,
    Cell,
    Comparison,
    Tally,
    joined,
    phases_of,
)
from zoo.report.figures import DPI, all_figures, to_file
from zoo.report.inputs import Inputs
from zoo.report.page.sentences import describe_selection, selection, verdict_sentences, warnings
from zoo.report.request import CompareRequest
from zoo.report.scores_file import to_scores
from zoo.report.statistics.estimates import MIN_SEEDS, Estimate
from zoo.report.table_entries import Table, to_csv, to_latex, write_file
from zoo.report.tables import (
    aggregates_table,
    domains_table,
    only_task,
    pairs_table,
    protocol_table,
    tasks_table,
    verdict_table,
)
from zoo.runs.folder import PHASES
from zoo.runs.scores import SUCCESS
from zoo.terminal.errors import UsageError

TEMPLATES = Path(__file__).parent / "templates"
MARKER = "results.json"
"""The file by which a folder is known as that of a report."""
_FOLDERS = ("tables", "figures")
_PACKAGES = ("flow-rl-zoo", "rliable", "numpy", "scipy", "pandas", "matplotlib", "seaborn")
_EVALUATION = (
    "method", "environment", "domain", "seed", "phase", "step", "episodes", "kind", "score", "return", "length",
    "source", "run",
)  # fmt: skip
_PHASE_TABLES = (verdict_table, aggregates_table, domains_table, tasks_table, pairs_table)
LARGEST_CSV = 10_000_000
"""The most bytes of a CSV file; a larger table is compressed, to about a thirtieth."""


@dataclass(frozen=True)
class Content:
    """The input of a report.

    :param request: what was asked for.
    :param origin: when and with which code the report is made.
    """

    inputs: Inputs
    comparisons: Sequence[Comparison]
    request: CompareRequest
    origin: str = ""

    @cached_property
    def verdicts(self) -> list[str]:
        """First sentences of the report: the verdict of each phase."""
        verdicts = verdict_sentences(self.comparisons)
        return [self.inputs.uncovered, *verdicts] if self.inputs.uncovered else verdicts

    @cached_property
    def warnings(self) -> list[str]:
        """Warnings that a reader needs before trusting a number."""
        return list(warnings(self.inputs, self.comparisons))

    @cached_property
    def selected(self) -> dict[str, Any]:
        """What was left out of the comparison, and how it is decided."""
        return selection(self.inputs, self.comparisons, self.request)

    @property
    def selection(self) -> str:
        """The same as one line."""
        return describe_selection(self.selected)

    @cached_property
    def tables(self) -> list[Table]:
        """Every table of the report, in the order of the page."""
        tables = []
        for comparison in self.comparisons:
            for make, phase in product(_PHASE_TABLES, comparison.phases.values()):
                tables.append(make(comparison, phase))
        tables.append(protocol_table(self.comparisons[0]))
        return [table for table in tables if table.rows]

    @property
    def results(self) -> str:
        """Every number, as the text of a JSON file."""
        skipped = self.inputs.own_runs.skipped()
        numbers = to_json(self.comparisons, skipped, self.inputs.references)
        return json.dumps(numbers | {"compared": self.selected}, indent=1) + "\n"


class Image(NamedTuple):
    """A figure of the page: a PNG in base64, its width in inches, and its caption."""

    data: str
    width: float
    caption: str


def check_folder(folder: Path) -> None:
    """Refuse a folder with files that is not that of an earlier report.

    :raises UsageError: if it is none.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise UsageError(
            f"`--output` must be a new folder or that of an earlier report, got {folder}, which has files but no "
            f"{MARKER}; choose another folder"
        )


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, tables, figures, CSV files of runs and curves, and ``results.json``; return the page.

    An earlier report is replaced, its folders of tables and figures as a whole.

    :raises UsageError: if the folder has files, but no report.
    """
    check_folder(folder)
    inputs = content.inputs
    phases = phases_of(content.comparisons)
    # first: a report that is interrupted while it is written can be replaced by the next one
    files: dict[str, str | bytes] = {MARKER: content.results}
    files |= csv_file("evaluations", evaluations_table(inputs.evaluations))
    files |= csv_file("curves", joined([phase.curves for phase in phases], CURVE_COLUMNS))
    files |= csv_file("profiles", joined([phase.profiles for phase in phases], PROFILE_COLUMNS))
    files["scores.csv"] = to_scores(inputs.evaluations)
    files |= csv_file("runs", runs_table(inputs.own_runs.runs))
    for table in content.tables:
        files[f"tables/{table.name}.csv"] = to_csv(table)
        if content.request.latex:
            files[f"tables/{table.name}.tex"] = to_latex(table)
    images: dict[str, Image] = {}
    for comparison in content.comparisons:
        for name, drawing in all_figures(comparison, inputs.evaluations).items():
            image = to_file(drawing.figure, "png")
            files[f"figures/{name}.png"] = image
            if content.request.latex:
                files[f"figures/{name}.pdf"] = to_file(drawing.figure, "pdf")
            # the header of a PNG has its width in dots
            width = int.from_bytes(image[16:20], "big") / DPI
            images[name] = Image(base64.b64encode(image).decode(), width, drawing.caption)
    files["report.html"] = to_html(content, images)
    with explaining_write_errors(folder):
        # an earlier report may have tables and figures of methods that are gone
        for name in _FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for name, data in files.items():
            write_file(folder / name, data)
    return folder / "report.html"


def evaluations_table(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluations of all runs that count as the report has them; the environment is the task."""
    # the order in which folders are read may not show: a report has the same bytes on every machine
    order = ["method", "environment", "seed", "phase", "step"]
    rows = evaluations.sort_values(order, kind="stable").reindex(columns=_EVALUATION)
    rows.columns = rows.columns.str.replace("environment", "task")  # in place: `rename` copies
    return rows


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return every run folder; ``config.yml`` of each has its settings."""
    return runs.drop(columns="settings", errors="ignore")


def csv_file(name: str, table: pd.DataFrame) -> dict[str, bytes]:
    """Return the name of a table's CSV file -> its content, compressed if it is large."""
    content = table.to_csv(index=False).encode()
    if len(content) > LARGEST_CSV:
        # `mtime=0`: the time of writing would change the bytes
        return {f"{name}.csv.gz": gzip.compress(content, 3, mtime=0)}
    return {f"{name}.csv": content}


def to_html(content: Content, images: Mapping[str, Image]) -> str:
    """Return the page with everything inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,  # a name that the template misspells is an error
    )
    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    versions.append(f"Python {platform.python_version()}")
    return environment.get_template("report.html").render(
        content=content,
        tables={table.name: table for table in content.tables},
        images=images,
        in_phases=in_phases,
        only_task=only_task,
        min_seeds=MIN_SEEDS,
        versions=", ".join(versions),
    )


def in_phases(comparison: Comparison, name: str) -> list[str]:
    """Return the names of a table, or of a figure, about each phase."""
    return [f"{name}_{phase}{comparison.kind.suffix}" for phase in comparison.phases]


# -- a comparison as JSON, for other programs -------------------------------------------------------------------------


def to_json(
    comparisons: Sequence[Comparison],
    skipped: list[dict[str, str]],
    references: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return comparisons as plain values; success rates are fractions, returns are as they are.

    There is one entry for each phase of success rates (None where nothing was evaluated), ``repetitions``, ``methods``
    and ``skipped``. Where there are scores of other kinds, the same phases are under ``return`` and
    ``normalised_return``, beside the ``reference_scores``.
    """
    first = comparisons[0]  # what is not about scores is the same in all
    # success came first, so that its phases are at the top and other kinds below their names
    result: dict[str, Any] = dict.fromkeys(PHASES)
    other_kinds = {}
    for comparison in comparisons:
        phases = {name: _phase_to_json(comparison, name) for name in PHASES}
        if comparison.kind is SUCCESS:
            result = phases
        else:
            other_kinds[comparison.kind.suffix.removeprefix("_")] = phases
    methods = {}
    for name, method in first.methods.items():
        about = {"algorithm": method.algorithm, "source": method.source, "hours": method.hours}
        methods[name] = about | _tally_to_json(method.tally())
    result |= {"repetitions": first.reps, "methods": methods, "skipped": skipped}
    result |= other_kinds
    if references:
        result["reference_scores"] = references
    return result


def _phase_to_json(comparison: Comparison, name: str) -> dict[str, Any] | None:
    """Return one phase as plain values; None where nothing was evaluated."""
    phase = comparison.phases.get(name)
    if phase is None:
        return None
    decision = phase.decision
    pairs: dict[str, dict[str, Any]] = {}
    # sorted: two files of the same scores can be compared with `diff`
    for (x, y), pair in sorted(phase.improvements.items()):
        pairs.setdefault(x, {})[y] = {
            "probability": pair.probability,
            "difference": pair.difference,
            "p_holm": pair.p_value,
        }
    verdicts: dict[str, dict[str, Any]] = {}
    for verdict in decision.verdicts:
        verdicts[verdict.method] = {
            "verdict": verdict.outcome,
            "p_holm": verdict.p_value,
            "difference": _plain(verdict.difference),
            "interval_over_tasks": verdict.over_tasks and verdict.over_tasks.interval,
            "probability": _plain(verdict.probability),
        }
    return {
        "common_tasks": phase.tasks,
        "suite": phase.suite,
        "left_out_tasks": phase.left_out,
        "stray_methods": phase.strays,
        "aggregates": {
            method: _cell_to_json(cell)
            | {"iqm": _plain(cell.iqm), "steps": phase.step_ranges[method]}
            for method, cell in sorted(phase.aggregates.items())
        },
        "tests": decision.tested,
        "level": decision.level,
        "verdict_on": decision.subject,
        "verdicts": verdicts,
        "seeds_needed": decision.seeds_needed,
        "pairs": pairs,
        "domains": _places_to_json(phase.domains),
        "tasks": _places_to_json(phase.per_task),
    }


def _places_to_json(places: Mapping[str, Mapping[str, Cell]]) -> dict[str, Any]:
    """Return the means of methods at some places as plain values."""
    result = {}
    for place, cells in sorted(places.items()):
        result[place] = {method: _cell_to_json(cell) for method, cell in sorted(cells.items())}
    return result


def _cell_to_json(cell: Cell) -> dict[str, Any]:
    """Return a mean with the numbers of tasks and seeds that it is from."""
    about = {"tasks": cell.tasks, "seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
    return {"mean": _plain(cell.mean)} | about | _tally_to_json(cell.tally)


def _tally_to_json(tally: Tally) -> dict[str, int]:
    """Return what became of own runs; nothing for published scores."""
    if tally.started:
        return tally._asdict()
    return {}


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    """Return an estimate as plain values; None where it is not known."""
    return asdict(estimate) if estimate else None
