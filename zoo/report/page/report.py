"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
Only the line below the title says when and how it was made.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from agents.common.files import explaining_write_errors
from agents.common.validation import count
from zoo.report.comparison import (
    CURVE_COLUMNS,
    PROFILE_COLUMNS,
    Cell,
    Comparison,
    Tally,
    baseline_of,
    joined,
    phases_of,
)
from zoo.report.cost import Costs
from zoo.report.figures.context import Drawing
from zoo.report.figures.files import FIGURE_SIZES, file_of
from zoo.report.figures.plots import all_figures
from zoo.report.inputs import Inputs
from zoo.report.page.sentences import verdict_sentences, warnings
from zoo.report.references import References
from zoo.report.reproduction import reproduce
from zoo.report.request import CompareRequest
from zoo.report.scores_file import to_scores
from zoo.report.significance import seed_plan
from zoo.report.statistics.estimates import Estimate
from zoo.report.table_entries import Table, to_csv, to_latex, to_markdown, write_file
from zoo.report.tables import (
    aggregates_table,
    cost_table,
    domains_table,
    improvement_table,
    only_task,
    pairs_table,
    protocol_table,
    reproduction_table,
    seeds_needed_table,
    tasks_table,
    verdict_table,
)
from zoo.runs.folder import PHASES
from zoo.runs.protocol import shortened
from zoo.runs.scores import SUCCESS
from zoo.terminal.errors import UsageError

FOLDER = Path(__file__).parent / "templates"
_FILES = re.compile(
    r"(tables|figures)/(verdict|aggregates|profiles|improvement|pairs|seeds_needed|sample_efficiency|domains|environments"
    r"|tasks|heat_map|runs|reproduction|cost)(_\w+)?\.(csv|md|tex|pdf|svg|png)"
    r"|(evaluations|curves|profiles)\.csv(\.gz)?|(runs|scores)\.csv|report\.html|results\.json"
)
"""Names of the files of this or an older report."""
LIST = ".report_files"
"""File with the names of the files of a report, a line each: what the next one may replace or remove."""
_PACKAGES = ("flow-rl-zoo", "rliable", "numpy", "scipy", "pandas", "matplotlib", "seaborn")
_EVALUATION = (
    "method", "environment", "domain", "seed", "phase", "step", "episodes", "kind", "score", "return", "length",
    "source", "run",
)  # fmt: skip
LONGEST_OPEN_TABLE = 12
"""The most rows of a table that is not folded."""
LARGEST_CSV = 10_000_000
"""The most bytes of a CSV file; a larger table is compressed, to about a thirtieth."""


class CsvFile(NamedTuple):
    """A table as a file; ``digest`` begins the SHA-256 of its text, compressed or not."""

    name: str
    content: bytes
    digest: str


@dataclass(frozen=True)
class Content:
    """The input of a report.

    :param request: what was asked for.
    :param costs: of own runs.
    :param origin: when and with which code the report is made.
    """

    inputs: Inputs
    comparisons: Sequence[Comparison]
    request: CompareRequest
    costs: Costs | None = None
    origin: str = ""

    @cached_property
    def verdicts(self) -> list[tuple[str, str]]:
        """First sentences of the report: the verdict of each phase, and the data behind it."""
        verdicts = verdict_sentences(self.comparisons)
        if self.inputs.uncovered:
            verdicts.insert(0, (self.inputs.uncovered, ""))
        return verdicts

    @cached_property
    def warnings(self) -> list[str]:
        """Warnings that a reader needs before trusting a number."""
        return list(warnings(self.comparisons, self.inputs.own_runs, self.inputs.sets))

    @cached_property
    def tables(self) -> list[Table]:
        """Every table of the report, in the order of the page."""
        inputs = self.inputs
        tables = list[Table]()
        tables_of_phases = (
            aggregates_table,
            improvement_table,
            domains_table,
            tasks_table,
            pairs_table,
            seeds_needed_table,
        )
        for comparison in self.comparisons:
            # verdicts of all phases come first, as they do on the page
            for makers, phase in product(
                ((verdict_table,), tables_of_phases), comparison.phases.values()
            ):
                tables += [make(comparison, phase) for make in makers]
            if comparison.kind is SUCCESS:
                # published scores are success rates
                tolerance = self.request.tolerance
                reproduced = reproduce(inputs.methods, inputs.evaluations, inputs.sets, tolerance)
                tables.append(reproduction_table(reproduced, tolerance))
        if self.costs:
            tables.append(cost_table(self.comparisons, self.costs))
        tables.append(protocol_table(self.comparisons[0]))
        return [table for table in tables if table.rows]

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """Each table as the text of a file: its name -> kind of file -> text."""
        texts = {}
        for table in self.tables:
            latex = to_latex(table, self.request.width)
            texts[table.name] = {"csv": to_csv(table), "md": to_markdown(table), "tex": latex}
        return texts

    @cached_property
    def evaluations(self) -> CsvFile:
        """The evaluations of all runs that count; the environment is the task."""
        # the order in which folders are read may not show: a report has the same bytes on every machine
        order = ["method", "environment", "seed", "phase", "step"]
        rows = self.inputs.evaluations.sort_values(order, kind="stable")
        rows = rows.reindex(columns=_EVALUATION)
        rows.columns = rows.columns.str.replace("environment", "task")  # in place: `rename` copies
        return csv_file("evaluations", rows)

    @property
    def provenance(self) -> str:
        """Where the report comes from: when it was made, with which code and from which data."""
        # two reports of the same data have the same digest, whoever made them with whatever flags
        digest = f"SHA-256 of evaluations.csv: {self.evaluations.digest}"
        return " · ".join(filter(None, (self.origin, digest)))

    @cached_property
    def figures(self) -> dict[str, dict[str, bytes]]:
        """Every figure: its name -> kind of file -> content; an SVG always, since the page shows it."""
        # each once, in the order of the flag
        formats = dict.fromkeys((*self.request.format, "svg"))
        result: dict[str, dict[str, bytes]] = {}
        for name, drawing in self.drawings.items():
            about = f"Methods: {', '.join(drawing.methods)}. The numbers are in the tables and CSV files of the report."
            result[name] = {
                kind: file_of(drawing.figure, kind, drawing.title, about) for kind in formats
            }
        return result

    @cached_property
    def drawings(self) -> dict[str, Drawing]:
        """Every figure as it is drawn."""
        drawings: dict[str, Drawing] = {}
        size = FIGURE_SIZES[self.request.width]
        for comparison in self.comparisons:
            drawings |= all_figures(comparison, self.inputs.evaluations, size)
        return drawings

    @cached_property
    def results(self) -> str:
        """Every number, as the text of a JSON file."""
        inputs = self.inputs
        skipped = inputs.own_runs.skipped()
        numbers = to_json(self.comparisons, skipped, inputs.references, self.costs)
        return json.dumps(numbers, indent=1) + "\n"


def files_of_report(folder: Path) -> set[str]:
    """Return the names of the files in a folder that an earlier report has written.

    Reports of release 1.0.0 have no `LIST`: all files with names of theirs are, if the page is among them.
    """
    if (folder / LIST).is_file():
        listed = (folder / LIST).read_text(encoding="utf-8").splitlines()
        return set(filter(_FILES.fullmatch, listed))  # never a path to anywhere else
    names = _lookalikes(folder)
    # other programs may write a `runs.csv`, but hardly both of these
    if {"report.html", "results.json"} <= names:
        return names
    return set()


def refuse_foreign_files(folder: Path) -> None:
    """Refuse a folder with files that a report would replace or remove, and that no report has written.

    :raises UsageError: if there are any; says which.
    """
    foreign = sorted(_lookalikes(folder) - files_of_report(folder))
    if foreign:
        raise UsageError(
            f"`--output` must be a new folder or that of an earlier report, got {folder}, whose "
            f"{', '.join(shortened(foreign, 3))} no report has written; choose another folder, or move them away"
        )


def _lookalikes(folder: Path) -> set[str]:
    """Return the names of the files in a folder that are called like those of a report."""
    names = set()
    for path in [*folder.glob("*"), *folder.glob("tables/*"), *folder.glob("figures/*")]:
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _FILES.fullmatch(name):
            names.add(name)
    return names


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, tables, figures, CSV files of runs and curves, and ``results.json``; return the page.

    Files of an older report are replaced, or removed where this one has none of that name.

    :raises UsageError: if a file that no report has written is in the way.
    """
    refuse_foreign_files(folder)
    inputs = content.inputs
    phases = phases_of(content.comparisons)
    files: dict[str, str | bytes] = {}
    # first, since many evaluations need more memory than figures leave
    for table in (
        content.evaluations,
        csv_file("curves", joined([phase.curves for phase in phases], CURVE_COLUMNS)),
        csv_file("profiles", joined([phase.profiles for phase in phases], PROFILE_COLUMNS)),
    ):
        files[table.name] = table.content
    for name, texts in content.texts.items():
        for kind, text in texts.items():
            files[f"tables/{name}.{kind}"] = text
    for name, contents in content.figures.items():
        for kind in content.request.format:
            files[f"figures/{name}.{kind}"] = contents[kind]
    files["scores.csv"] = to_scores(inputs.evaluations)
    # settings are one mapping a run: `config.yml` of each folder has them
    runs = inputs.own_runs.runs.drop(columns="settings")
    departures = runs["departures"].map(json.dumps, na_action="ignore")
    files["runs.csv"] = runs.assign(departures=departures).to_csv(index=False)
    files["results.json"] = content.results
    files["report.html"] = to_html(content)
    outdated = files_of_report(folder) - files.keys()
    # the list comes first: a report that is interrupted while it is written may be replaced by the next one
    write_file(folder / LIST, "\n".join(sorted({*files, *outdated})))
    # a disk may be full: all new files are written before the first old one is replaced
    with (
        explaining_write_errors(folder),
        tempfile.TemporaryDirectory(prefix=".report_", dir=folder) as new_files,
    ):
        for name, data in files.items():
            write_file(Path(new_files, name), data)
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            Path(new_files, name).replace(folder / name)
    for name in outdated:
        (folder / name).unlink(missing_ok=True)
    write_file(folder / LIST, "\n".join(sorted(files)))
    return folder / "report.html"


def to_html(content: Content) -> str:
    """Return the page with everything inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
    )
    # NaN is no JSON: a browser could not read the page's data
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}

    versions = [f"{name} {version(name)}" for name in _PACKAGES]
    versions.append(f"Python {platform.python_version()}")
    return environment.get_template("report.html").render(
        content=content,
        methods=content.comparisons[0].methods,
        tables={table.name: table for table in content.tables},
        files={
            name: {"CSV": text["csv"], "LaTeX": text["tex"]} for name, text in content.texts.items()
        },
        in_phases=in_phases,
        baseline_of=baseline_of,
        only_task=only_task,
        longest_open=LONGEST_OPEN_TABLE,
        count=count,
        shortened=shortened,
        versions=", ".join(versions),
    )


def in_phases(comparison: Comparison, name: str) -> list[str]:
    """Return the names of a table, or of a figure, about each phase."""
    return [f"{name}_{phase}{comparison.kind.suffix}" for phase in comparison.phases]


def csv_file(name: str, table: pd.DataFrame) -> CsvFile:
    """Return a table as CSV, compressed if it is large."""
    buffer = io.BytesIO()  # as bytes: a text would need as much memory again for them
    table.to_csv(buffer, index=False)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:12]
    if buffer.getbuffer().nbytes > LARGEST_CSV:
        # `mtime=0`: the time of writing would change the bytes
        return CsvFile(f"{name}.csv.gz", gzip.compress(buffer.getbuffer(), 3, mtime=0), digest)
    return CsvFile(f"{name}.csv", buffer.getvalue(), digest)


# -- a comparison as JSON, for other programs -------------------------------------------------------------------------


def to_json(
    comparisons: Sequence[Comparison],
    skipped: list[dict[str, str]],
    references: References | None = None,
    costs: Costs | None = None,
) -> dict[str, Any]:
    """Return comparisons as plain values; success rates are fractions, returns are as they are.

    There is one entry for each phase of success rates (None where nothing was evaluated), ``repetitions``, ``methods``
    and ``skipped``. Where there are scores of other kinds, the same phases are under ``return`` and
    ``normalised_return``, beside the ``reference_scores``. ``cost`` has what own methods cost, by machine and number of
    seeds at once.
    """
    first = comparisons[0]  # what is not about scores is the same in all
    # success came first, so that its phases are at the top and other kinds below their names
    result = dict.fromkeys(PHASES)
    other_kinds = {}
    for comparison in comparisons:
        phases = {name: _phase_to_json(comparison, name) for name in PHASES}
        if comparison.kind is SUCCESS:
            result = phases
        else:
            other_kinds[comparison.kind.suffix.removeprefix("_")] = phases
    methods = {}
    for name, method in first.methods.items():
        about = {"algorithm": method.algorithm, "source": method.source}
        methods[name] = about | _tally_to_json(method.tally())
    cost: dict[str, Any] = {}
    if costs:
        for name, group in costs.groups():
            cost.setdefault(name, []).append(group)
    result |= {"repetitions": first.reps, "focus": first.focus, "methods": methods}
    result |= {"skipped": skipped, "resolve": first.resolve, "cost": cost}
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
    steps = set(phase.steps.values())
    chances: dict[str, dict[str, Any]] = {}
    # sorted: two files of the same scores can be compared with `diff`
    for (x, y), pair in sorted(phase.improvements.items()):
        entry = _estimate_to_json(pair.probability)
        entry |= {"p_value": pair.p_value, "p_holm": decision.p_values.get((x, y))}
        if pair.difference is not None:
            plan = seed_plan(comparison, phase, (x, y))  # None where nothing says how runs vary
            entry["difference"] = _estimate_to_json(pair.difference)
            entry["difference"]["seeds_needed"] = plan and plan.seeds
        entry["tasks"] = pair.tasks._asdict()
        chances.setdefault(x, {})[y] = entry
    verdicts: dict[str, dict[str, Any]] = {}
    for verdict in decision.verdicts:
        verdicts[verdict.other] = {"p_holm": verdict.p_value, "verdict": verdict.outcome}
        difference = verdict.improvement.difference
        if difference is not None:
            verdicts[verdict.other] |= {
                "difference": difference.point,
                "verdict_interval": difference.interval,
                "interval_over_tasks": verdict.over_tasks and verdict.over_tasks.interval,
            }
    return {
        "steps": steps.pop() if len(steps) == 1 else None,
        "common_tasks": phase.tasks,
        "suite": phase.suite,
        "left_out_tasks": phase.left_out,
        "stray_methods": phase.strays,
        "aggregates": {
            method: _cell_to_json(cell, comparison.kind.metrics) | {"steps": phase.steps[method]}
            for method, cell in sorted(phase.aggregates.items())
        },
        "tests": decision.tested,
        "probability_of_improvement": chances,
        "verdict_on": decision.subject,
        "verdicts": verdicts,
        "domains": {
            domain: {
                method: _cell_to_json(cell, ("mean", "iqm"))
                for method, cell in sorted(cells.items())
            }
            for domain, cells in sorted(phase.domains.items())
        },
        "tasks": {
            task: {
                method: {
                    "mean": cell.mean.point,
                    "ci95": cell.mean.interval,
                    "seeds": cell.seeds[0],
                    **_tally_to_json(cell.tally),
                }
                for method, cell in sorted(cells.items())
            }
            for task, cells in phase.per_task.items()
        },
    }


def _cell_to_json(cell: Cell, metrics: Sequence[str]) -> dict[str, Any]:
    """Return estimates with the numbers of tasks and seeds that they are from."""
    estimates = {metric: _estimate_to_json(cell.estimates.get(metric)) for metric in metrics}
    about = {"tasks": cell.tasks, "seeds": cell.seeds[0], "most_seeds": cell.seeds[1]}
    return estimates | about | _tally_to_json(cell.tally)


def _tally_to_json(tally: Tally) -> dict[str, int]:
    """Return what became of own runs; nothing for published scores."""
    if tally.started:
        return tally._asdict()
    return {}


def _estimate_to_json(estimate: Estimate | None) -> dict[str, Any]:
    """Return an estimate as plain values; None where it is not known."""
    if estimate is None:
        return {"point": None, "ci95": None, "interval": "none"}
    return {"point": estimate.point, "ci95": estimate.interval, "interval": estimate.kind}
