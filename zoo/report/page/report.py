"""The page, tables and figures of a comparison.

A report is a function of its input: the same runs give the same bytes, so two reports can be compared with `diff`.
Only the line below the title says when and how it was made.
"""

from __future__ import annotations

import gzip
import hashlib
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import jinja2
import pandas as pd

from zoo.report.comparison import (
    CURVE_COLUMNS,
    PROFILE_COLUMNS,
    Comparison,
    baseline_of,
    joined,
    phases_of,
)
from zoo.report.cost import Costs
from zoo.report.figures.files import FIGURE_SIZES, FORMATS, file_of
from zoo.report.figures.plots import Drawing, all_figures
from zoo.report.inputs import Inputs
from zoo.report.page.results import json_text, to_json
from zoo.report.page.sentences import verdict_sentences, warnings
from zoo.report.reproduction import reproduce
from zoo.report.scores_file import scores_table
from zoo.report.tables import (
    Table,
    aggregates_table,
    cost_table,
    differences_table,
    domains_table,
    improvement_table,
    pairs_table,
    protocol_table,
    reproduction_table,
    seeds_needed_table,
    tasks_table,
    to_csv,
    to_latex,
    to_markdown,
    verdict_table,
    write_file,
)
from zoo.runs.protocol import count, shortened
from zoo.runs.scores import SUCCESS
from zoo.terminal.errors import UsageError

FOLDER = Path(__file__).parent / "templates"
_NAMES = (
    "verdict", "aggregates", "profiles", "improvement", "pairs", "seeds_needed", "sample_efficiency", "domains",
    "environments", "tasks", "heat_map", "runs", "reproduction", "differences", "cost",
)  # fmt: skip
_OF_REPORTS = re.compile(
    rf"(tables|figures)/({'|'.join(_NAMES)})(_\w+)?\.(csv|md|tex|pdf|svg|png)|(evaluations|curves|profiles)\.csv(\.gz)?"
)
"""Tables, figures and data of this or an older report."""
_OTHERS = ("report.html", "results.json", "runs.csv", "scores.csv")
LIST = ".report_files"
"""File with the names of the files of a report, a line each: what the next one may replace or remove."""
_PACKAGES = ("flow-rl-zoo", "rliable", "numpy", "scipy", "pandas", "matplotlib", "seaborn")
_EVALUATION = (
    "method", "environment", "domain", "seed", "phase", "step", "successes", "episodes", "kind", "score", "return",
    "length", "source", "run",
)  # fmt: skip
LARGEST_CSV = 10_000_000
"""The most characters of a CSV file; a larger table is compressed, to about a thirtieth."""


@dataclass(frozen=True)
class Content:
    """What a report is made from; the tolerance of a reproduction is a fraction.

    :param width: what the figures in files are drawn for, a key of `zoo.report.figures.files.FIGURE_SIZES`.
    :param formats: the kinds of these files, of `zoo.report.figures.files.FORMATS`.
    :param costs: what own runs cost.
    :param made: when and with which code the report is made.
    """

    inputs: Inputs
    comparisons: Sequence[Comparison]
    tolerance: float
    command: str
    width: str = "page"
    formats: Sequence[str] = FORMATS
    costs: Costs | None = None
    made: str = ""

    @cached_property
    def verdicts(self) -> list[tuple[str, str]]:
        """What the report says first: the verdict of each phase, and what it rests on."""
        uncovered = [(self.inputs.uncovered, "")] if self.inputs.uncovered else []
        return uncovered + verdict_sentences(self.comparisons)

    @cached_property
    def warnings(self) -> list[str]:
        """What a reader must know before believing a number."""
        inputs = self.inputs
        return warnings(self.comparisons, inputs.own, inputs.sets, inputs.failed)

    @cached_property
    def tables(self) -> list[Table]:
        """Every table of the report, in the order of the page."""
        inputs = self.inputs
        tables = [differences_table(inputs.own, inputs.methods)]
        makers = (
            aggregates_table,
            improvement_table,
            domains_table,
            tasks_table,
            pairs_table,
            seeds_needed_table,
        )
        for comparison in self.comparisons:
            tables += [verdict_table(comparison, phase) for phase in comparison.phases.values()]
            for phase in comparison.phases.values():
                tables += [make(comparison, phase) for make in makers]
            if comparison.kind is SUCCESS:
                reproduced = reproduce(
                    inputs.methods, inputs.evaluations, inputs.sets, self.tolerance
                )
                tables.append(reproduction_table(reproduced, self.tolerance))
        tables += [cost_table(self.comparisons, self.costs)] if self.costs else []
        tables.append(protocol_table(self.comparisons[0]))
        return [table for table in tables if table.rows]

    @cached_property
    def texts(self) -> dict[str, dict[str, str]]:
        """Each table as the text of a file: its name -> kind of file -> text."""
        return {
            table.name: {
                "csv": to_csv(table),
                "md": to_markdown(table),
                "tex": to_latex(table, self.width),
            }
            for table in self.tables
        }

    @cached_property
    def evaluations(self) -> str:
        """The evaluations of all runs that count, as CSV; the environment is the task."""
        rows = self.inputs.evaluations.reindex(columns=_EVALUATION).rename(
            columns={"environment": "task"}
        )
        return csv_text(
            rows.sort_values(["method", "task", "seed", "phase", "step"], kind="stable")
        )

    @property
    def provenance(self) -> str:
        """Where the report comes from: when it was made, with which code and from which data."""
        digest = hashlib.sha256(self.evaluations.encode()).hexdigest()[:12]
        return " · ".join(filter(None, (self.made, f"SHA-256 of evaluations.csv: {digest}")))

    @cached_property
    def figures(self) -> dict[str, dict[str, bytes]]:
        """Every figure: its name -> kind of file -> content; an SVG always, since the page shows it."""
        formats = dict.fromkeys((*self.formats, "svg"))
        result = {}
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
        for comparison in self.comparisons:
            drawings |= all_figures(comparison, self.inputs.evaluations, FIGURE_SIZES[self.width])
        return drawings


def files_of_report(folder: Path) -> set[str]:
    """Return the names of the files in a folder that an earlier report has written.

    Reports of older releases have no `LIST`: all files with names of theirs are, if the page is among them.
    """
    if (folder / LIST).is_file():
        listed = set((folder / LIST).read_text(encoding="utf-8").splitlines())
        return {
            name for name in listed if _is_name_of_report(name)
        }  # never a path to anywhere else
    return (
        _lookalikes(folder)
        if (folder / "results.json").is_file() and (folder / "report.html").is_file()
        else set()
    )


def refuse_foreign_files(folder: Path) -> None:
    """Refuse a folder with files that a report would replace or remove, and that no report has written.

    :raises UsageError: if there are any; says which.
    """
    if foreign := sorted(_lookalikes(folder) - files_of_report(folder)):
        raise UsageError(
            f"`--output` must be a new folder or that of an earlier report, got {folder}, whose "
            f"{', '.join(shortened(foreign, 3))} no report has written; choose another folder, or move them away"
        )


def _lookalikes(folder: Path) -> set[str]:
    """Return the names of the files in a folder that are called like those of a report."""
    paths = [*folder.glob("*"), *folder.glob("tables/*"), *folder.glob("figures/*")]
    names = (path.relative_to(folder).as_posix() for path in paths if path.is_file())
    return {name for name in names if _is_name_of_report(name)}


def _is_name_of_report(name: str) -> bool:
    return name in _OTHERS or _OF_REPORTS.fullmatch(name) is not None


def write_report(folder: Path, content: Content) -> Path:
    """Write ``report.html``, tables, figures, CSV files of runs and curves, and ``results.json``; return the page.

    Everything is made before anything is written. Files of an older report are replaced, or removed where this one has
    none of that name.

    :raises UsageError: if a file that no report has written is in the way.
    """
    refuse_foreign_files(folder)
    inputs = content.inputs
    own_runs = inputs.own
    phases = phases_of(content.comparisons)
    files: dict[str, str | bytes] = {}
    for name, texts in content.texts.items():
        files |= {f"tables/{name}.{kind}": text for kind, text in texts.items()}
    for name, contents in content.figures.items():
        files |= {f"figures/{name}.{kind}": contents[kind] for kind in content.formats}
    for name, text in {
        "evaluations": content.evaluations,
        "curves": csv_text(joined([phase.curves for phase in phases], CURVE_COLUMNS)),
        "profiles": csv_text(joined([phase.profiles for phase in phases], PROFILE_COLUMNS)),
    }.items():
        if len(text) > LARGEST_CSV:
            files[f"{name}.csv.gz"] = gzip.compress(text.encode(), 3, mtime=0)
        else:
            files[f"{name}.csv"] = text
    files["scores.csv"] = csv_text(scores_table(inputs.evaluations, inputs.methods))
    departures = own_runs.runs["departures"].map("; ".join, na_action="ignore")
    files["runs.csv"] = csv_text(
        own_runs.runs.assign(departures=departures).drop(columns="settings")
    )
    files["results.json"] = json_text(
        to_json(content.comparisons, own_runs.skipped(), inputs.references, content.costs)
    )
    files["report.html"] = to_html(content)
    for name in ("tables", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    outdated = files_of_report(folder) - files.keys()
    # the list comes first: a report that is interrupted while it is written may be replaced by the next one
    write_file(folder / LIST, "\n".join(sorted({*files, *outdated})))
    for name, data in files.items():
        write_file(folder / name, data)
    for name in outdated:
        (folder / name).unlink(missing_ok=True)
    write_file(folder / LIST, "\n".join(sorted(files)))
    return folder / "report.html"


def to_html(content: Content) -> str:
    """Return the page with everything inside."""
    methods = content.comparisons[0].methods
    inputs = content.inputs
    return (
        _templates()
        .get_template("report.html")
        .render(
            content=content,
            size=count(len(methods), "method"),
            tables={table.name: table for table in content.tables},
            figures={name: contents["svg"].decode() for name, contents in content.figures.items()},
            widths={
                name: drawing.figure.get_figwidth() for name, drawing in content.drawings.items()
            },
            files={
                name: {"CSV": text["csv"], "LaTeX": text["tex"]}
                for name, text in content.texts.items()
            },
            in_phases=in_phases,
            shown=[],
            contents=[],
            baseline_of=baseline_of,
            skipped=inputs.own.skipped(),
            own=[method.title for method in methods.values() if method.is_own],
            versions=", ".join(f"{name} {version(name)}" for name in _PACKAGES)
            + f", Python {platform.python_version()}",
        )
    )


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.do"],
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def in_phases(comparison: Comparison, name: str) -> list[str]:
    """Return the names of a table, or of a figure, about each phase."""
    return [f"{name}_{phase}{comparison.kind.suffix}" for phase in comparison.phases]


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV."""
    return table.to_csv(index=False)
