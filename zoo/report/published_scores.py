"""Published scores: which sets there are, their protocols, and their scores as tables.

They are in ``results/published``, in a checkout and in an installed package: the counts of single runs, which give
intervals, as an array or as CSV files, or tables of means where there is no more.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from agents.common.files import DamagedFileError, read_text
from agents.common.files.npz import read_npz
from agents.common.validation import unknown_name_message
from zoo.datasets.names import single_task_names
from zoo.report.comparison import joined
from zoo.runs.folder import PHASES
from zoo.runs.protocol import describe_layers, phase_ends
from zoo.runs.read import EVALUATION_COLUMNS, split_environment
from zoo.runs.scores import SUCCESS
from zoo.settings.layers import load_yaml
from zoo.terminal.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
NOT_EVALUATED = -1
"""What stands in an array of counts where a method was not evaluated."""

COLUMNS = (
    "method", "environment", "seed", "phase", "step", "successes", "episodes", "return", "length", "settings",
    "commit", "ogbench", "mujoco", "dataset",
)  # fmt: skip
"""Columns of a file of single runs.

The last five say what made a run: a hash of its settings, the commit of the code, versions of packages, and the SHA-256
of its data. They are empty where they are not known.
"""
_RUN = ["method", "environment", "seed"]
_COUNTS = ["seed", "step", "successes", "episodes"]
_INSTALL_AGAIN = "install the package again"


@dataclass(frozen=True)
class PublishedSet:
    """A set of published scores, the fields of its entry in ``sets.yml``.

    :param suite: name of the tasks that its scores are about.
    :param protocol: fields of `zoo.runs.read.PROTOCOL` on most domains.
    :param scoring: how its scores were taken, or None if they are those of the last evaluation.
    :param baseline: the method that others are compared with unless a user names one, or None for the first by name.
    :param domains: domain -> the fields that differ there.
    :param methods: method -> the fields that differ for it, and under ``domains`` those that differ on a domain.
    :param runs: the data of single runs, an array of counts (``.npz``) or a folder of CSV files, or None where there
        are only means.
    :param ogbench: the version that its scores were made with, or None where the source does not say.
    """

    name: str
    title: str
    authors: str
    reference: str
    date: Any
    source: str
    suite: str
    protocol: dict[str, Any]
    notes: Sequence[str] = ()
    scoring: str | None = None
    baseline: str | None = None
    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: str | None = None
    ogbench: str | None = None

    def protocol_of(self, method: str, domain: str) -> dict[str, Any]:
        """Return the fields of `zoo.runs.read.PROTOCOL` of a method on a domain; None where the source does not say."""
        protocol = self.protocol | self.domains.get(domain, {})
        protocol |= self.methods.get(method, {})
        protocol |= protocol.pop("domains", {}).get(domain, {})
        return protocol | {"net_arch": describe_layers(protocol.get("net_arch"))}

    @cached_property
    def evaluations(self) -> pd.DataFrame | None:
        """The data of single runs, one row for each evaluation, or None where only means were published.

        The columns are `zoo.runs.read.EVALUATION_COLUMNS`; arrays of counts have no returns and lengths, and their seed
        is the number of a column. It pairs nothing, because the columns of different tasks and methods are in different
        orders. Raises UsageError if a file is damaged.
        """
        if self.runs is None:
            return None
        path = (FOLDER / self.runs).resolve()
        table = (
            _read_counts(path, self.protocol) if path.suffix == ".npz" else self._read_rows(path)
        )
        about = {"source": self.name, "run": self.name, "kind": SUCCESS.name, "carried": False}
        score = table["successes"] / table["episodes"]
        table = with_places(table.assign(algorithm=table["method"], score=score, **about))
        return table.filter(EVALUATION_COLUMNS)

    def _read_rows(self, folder: Path) -> pd.DataFrame:
        """Return the rows of CSV files' runs that reached the end of each of their phases."""

        def last_steps(method: str, environment: str) -> dict[str, int]:
            return phase_ends(self.protocol_of(method, split_environment(environment)[1]))

        table = read_included_runs(folder, suite_tasks(self.suite))
        table["method"] = table["method"].replace(published_names())
        return finished_runs(table, last_steps)


def load_set(name: str) -> PublishedSet:
    """Return what is known about a set of published scores; raises UsageError if there is no such set."""
    sets = _metadata()["sets"]
    if name not in sets:
        raise UsageError(unknown_name_message("set of published scores", name, sets))
    entry = dict(sets[name])
    counts = entry.pop("raw", None)
    if counts and (FOLDER / counts).exists():  # not every checkout has the authors' file converted
        entry["runs"] = counts
    return PublishedSet(name, **entry)


def set_names() -> list[str]:
    """Return the names of all sets."""
    return list(_metadata()["sets"])


def suite_tasks(name: str) -> tuple[str, ...]:
    """Return the environments of a suite, sorted; raises UsageError if there is no such suite."""
    suites = _metadata()["suites"]
    if name not in suites:
        raise UsageError(unknown_name_message("suite of tasks", name, suites))
    return tuple(sorted(chain.from_iterable(map(tasks_of, suites[name]))))


def suite_of(tasks: Collection[str]) -> str | None:
    """Return the suite that consists of some tasks, or None."""
    for name in _metadata()["suites"]:
        if set(suite_tasks(name)) == set(tasks):
            return name
    return None


def published_names() -> dict[str, str]:
    """Return the name under which each algorithm is published, e.g. ``"qam_e"`` -> ``"QAM-E"``."""
    return dict(_metadata()["methods"])


def tasks_of(place: str) -> list[str]:
    """Return the environments of the tasks of a domain, e.g. of ``"scene-play"``; a task's name is that of one."""
    if "-singletask-" in place:
        return [place]
    return single_task_names(f"{place}-v0")[1:]  # the first one is another name of one of them


def load_means(published: PublishedSet) -> pd.DataFrame:
    """Return the published means over seeds.

    The columns are ``method``, ``phase``, ``step``, ``environment`` (a task, or a domain), ``mean`` and ``sd`` (sample
    standard deviation over seeds; fractions, NaN where the source does not say) and ``seeds``.
    """
    if published.evaluations is None:
        return pd.read_csv(FOLDER / f"{published.name}.csv")
    return _means_of_runs(published.evaluations)


def _read_counts(path: Path, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """Return the single runs of an array of counts."""
    try:
        arrays = read_npz(path)
        methods = arrays["methods"].astype(object)  # shares one string between all rows
        environments = arrays["environments"].astype(object)
        steps = arrays["steps"]
        successes = arrays["successes"]
    except (OSError, DamagedFileError, KeyError) as error:
        raise UsageError(f"`{path}` cannot be read ({error}); {_INSTALL_AGAIN}") from error
    where = np.nonzero(successes != NOT_EVALUATED)
    method, environment, step, seed = where
    columns = {
        "method": methods[method],
        "environment": environments[environment],
        "seed": seed,
        "phase": np.where(steps[step] <= protocol["offline_steps"], *PHASES),
        "step": steps[step],
        "successes": successes[where].astype(int),
        "episodes": protocol["eval_episodes"],
    }
    return pd.DataFrame(columns)


def with_places(table: pd.DataFrame) -> pd.DataFrame:
    """Return scores with the full name of each environment, its domain and its task."""
    columns = ["environment", "domain", "task"]
    # each name is split once: a set has hundreds of thousands of rows
    places = {name: split_environment(name) for name in table["environment"].unique()}
    rows = pd.DataFrame.from_dict(places, "index", columns=columns).loc[table["environment"]]
    return table.assign(**rows.set_index(table.index))


def _means_of_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the means of single runs: those of single tasks, and of the domains that a method has whole."""
    key = ["method", "phase", "environment"]
    last = runs.sort_values("step").drop_duplicates([*key, "seed"], keep="last")
    tasks = last.groupby([*key, "domain"], as_index=False).agg(
        step=("step", "max"), mean=("score", "mean"), sd=("score", "std"), seeds=("score", "size")
    )
    domains = tasks.groupby(["method", "phase", "domain"], as_index=False).agg(
        step=("step", "max"),
        mean=("mean", pd.Series.mean),  # pandas' own "mean" sums in another order
        sd=("sd", _sd_of_mean),
        seeds=("seeds", "min"),
        tasks=("mean", "size"),
    )
    # the mean of some tasks of a domain is not comparable with that of all
    is_whole = domains["tasks"] == domains["domain"].map(tasks_of).map(len)
    domains = domains[is_whole].rename(columns={"domain": "environment"})
    columns = [*key, "step", "mean", "sd", "seeds"]
    return joined([tasks, domains], columns)[columns].sort_values(key, ignore_index=True)


def _sd_of_mean(deviations: pd.Series) -> float:
    """Return the standard deviation of the mean of tasks, whose seeds are not paired."""
    return np.sqrt((deviations**2).sum(skipna=False)) / len(deviations)


def _metadata() -> dict[str, Any]:
    path = FOLDER / "sets.yml"
    if not path.exists():
        raise UsageError(
            f"expected the published tables in `{FOLDER}`, got no such folder; {_INSTALL_AGAIN}"
        )
    return _parsed(read_text(path), str(path))


@cache
def _parsed(text: str, name: str) -> dict[str, Any]:
    return dict(load_yaml(text, name))


# -- single runs in CSV files: one row for each evaluation ------------------------------------------------------------


def read_included_runs(folder: Path, tasks: Collection[str]) -> pd.DataFrame:
    """Return the rows of all CSV files of a folder, with the columns `COLUMNS`.

    :param tasks: the environments that rows may be about.
    :raises UsageError: if there is no file, or one is damaged; the text names the file and the line.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UsageError(
            f"expected CSV files of single runs in `{folder}`, got none; {_INSTALL_AGAIN}"
        )
    table = read_rows(files, COLUMNS, [*_COUNTS, "return", "length"])
    is_good = (
        (table["method"] != "")
        & table["environment"].isin(tasks)
        & table["phase"].isin(PHASES)
        & are_counts(table[_COUNTS])
        & (table["episodes"] >= table["successes"].clip(lower=1))
    )
    problems = {"an evaluation on a task of the set's suite": ~is_good}
    refuse(table, problems | clashes(table, [*_RUN, "phase", "step"], ["settings"]))
    return table.astype(dict.fromkeys(_COUNTS, int)).reset_index(drop=True)


def finished_runs(
    table: pd.DataFrame, last_steps: Callable[[str, str], Mapping[str, int]]
) -> pd.DataFrame:
    """Return the rows of runs that were evaluated at the end of each of their phases.

    :param table: what `read_included_runs` returns.
    :param last_steps: (method, environment) -> the step at which each of its phases ends.
    """
    reached = table.groupby([*_RUN, "phase"])["step"].max().to_dict()

    @cache
    def is_finished(*run: Any) -> bool:
        ends = last_steps(*run[:2]).items()
        return all(reached.get((*run, phase), -1) >= end for phase, end in ends)

    return table.loc[[is_finished(*run) for run in table[_RUN].itertuples(index=False)]]


# -- rows of CSV files: of published sets, of reports (``scores.csv``) and of suites ----------------------------------
# A table of several files is indexed by file and row, so that a message can name both.


RESTORE = "restore the file"


def read_rows(
    paths: Sequence[Path],
    columns: Sequence[str],
    numbers: Sequence[str] = (),
    remedy: str = RESTORE,
) -> pd.DataFrame:
    """Return the rows of files as texts; a row that was cut in the middle has no method.

    :param columns: that a file must have.
    :param numbers: the columns to read as numbers, NaN where a cell is none.
    :param remedy: what to do about a damaged file, for messages.
    :raises UsageError: if a file cannot be read, lacks a column or has no rows.
    """
    tables = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
            table = pd.read_csv(
                io.StringIO(text), dtype=str, keep_default_na=False, index_col=False
            ).fillna("")
            missing = [name for name in columns if name not in table]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            if table.empty:
                raise ValueError("it has no rows")
        except (OSError, ValueError) as error:  # also errors of pandas and broken UTF-8
            raise UsageError(f"`{path}` cannot be read ({error}); {remedy}") from error
        # a number that was cut short is still a number, so without a method the row is refused
        if not text.endswith("\n"):
            table.iloc[-1:, 0] = ""
        tables[path] = table
    rows = pd.concat(tables)
    return rows.assign(**{name: pd.to_numeric(rows[name], errors="coerce") for name in numbers})


def are_counts(columns: pd.DataFrame) -> pd.Series:
    """Return where all of some columns are whole numbers from 0 on, (rows,) of bool; NaN is none."""
    return ((columns >= 0) & (columns % 1 == 0)).all(axis=1)


def refuse(table: pd.DataFrame, problems: Mapping[str, pd.Series], remedy: str = RESTORE) -> None:
    """Refuse the first row with a problem.

    :param problems: what rows must be, in words -> (rows,) of bool, true where a row is not.
    :raises UsageError: naming the file and the line.
    """
    for expected, is_bad in problems.items():
        if is_bad.any():
            path, row = is_bad.idxmax()
            cells = ", ".join(f"{name} {value}" for name, value in table.loc[path, row].items())
            raise UsageError(
                f"`{path}`, line {row + 2}: expected {expected}, got {cells}; {remedy}"
            )


def clashes(
    table: pd.DataFrame, evaluation: Sequence[str], settings: Sequence[str]
) -> dict[str, pd.Series]:
    """Return the problems of rows that repeat an evaluation, or have other settings than those of their method above.

    :param evaluation: the columns that name an evaluation.
    """
    place = ["method", "environment"]
    return {
        "one row for each evaluation of a run": table.duplicated(evaluation),
        "equal settings for the runs of a method on an environment": (
            table.duplicated(place) & ~table.duplicated([*place, *settings])
        ),
    }
