"""Finished and unfinished runs, read back as tables.

`read_runs` finds run folders below any folder and returns one table of runs and one of evaluations. A run that cannot
be counted stays in the table with the reason: it is unfinished, unreadable, or an older run of the same seed.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.datasets.names import parse_env_name
from zoo.envs.tasks import D4RL, OCBENCH
from zoo.runs.episodes import ScoringRule
from zoo.runs.folder import (
    DEAD,
    DEAD_RUN_HINT,
    PHASES,
    RunFolder,
    UnreadableRun,
    describe_error,
    find_run_folders,
    state_now,
)
from zoo.runs.protocol import (
    PROTOCOL,
    SUCCESS_AT_END,
    describe_layers,
    describe_settings,
    kinds_of,
    labels_by_kind,
    name_methods,
    phase_ends,
    show,
)
from zoo.runs.scores import RETURN, SUCCESS, SUCCESS_BY_RETURN, WITHOUT_ENV
from zoo.settings.record import RunRecord
from zoo.terminal.errors import UsageError

EVALUATION_COLUMNS = (
    "method", "algorithm", "source", "environment", "domain", "task", "seed", "phase", "step", "successes", "episodes",
    "kind", "score", "return", "length", "run", "carried",
)  # fmt: skip
_OF_RUNS = ("run", "method", "algorithm", "environment", "domain", "task", "seed", "kind")
_RUN_COLUMNS = (
    "run", "state", "method", "algorithm", "label", "environment", "domain", "task", "seed", "kind", "offline_step",
    "online_step", "updated", *PROTOCOL, "reference_scores", "departures", "settings", "code", "problem",
    "replaced_by", "never_reported",
)  # fmt: skip


@dataclass(frozen=True)
class RunTables:
    """The runs below some folders.

    :param runs: one row a run: ``run`` (its path), ``state``, ``method``, ``algorithm``, ``label``, ``environment``,
        ``domain``, ``task``, ``seed``, ``kind`` (of its scores), ``offline_step``, ``online_step``, ``updated``, the
        fields of `PROTOCOL`, ``reference_scores`` (returns of a random and an expert policy, or None),
        ``departures`` (from the protocol of its profile, texts), ``settings`` (flat, as a
        mapping), ``code`` (hash of the algorithm's file, or None), ``problem`` (why the run does not count, or None),
        ``replaced_by`` (the run that stands for its method, environment and seed instead, or None) and
        ``never_reported`` (whether it counts as without success because only others on its environment report any).
    :param evaluations: one row an evaluation of a readable run, columns `EVALUATION_COLUMNS`.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame

    def counted(self) -> pd.DataFrame:
        """Return the rows of `evaluations` whose runs have finished and count."""
        good = self.runs.loc[self.runs["problem"].isna(), "run"]
        return self.evaluations[self.evaluations["run"].isin(good)]

    def skipped(self) -> list[dict[str, str]]:
        """Return ``{"path": ..., "reason": ...}`` of each run that does not count, in the order of the paths."""
        bad = self.runs[self.runs["problem"].notna()]
        return [
            {"path": str(row["run"]), "reason": str(row["problem"])} for _, row in bad.iterrows()
        ]


@cache
def split_environment(name: str) -> tuple[str, str, str]:
    """Return an environment's full name, domain and task.

    One task has several names in OGBench: the number may be left out for the default task
    (``scene-play-singletask-v0`` is ``scene-play-singletask-task2-v0``), and a larger dataset adds its size
    (``scene-play-100m-...``). All of them meet in one row; the size of the data is part of the protocol.

    :return: full name, domain (``cube-double-play``), task (``task2``); a name that no benchmark
        knows is its own domain, without a task.
    """
    if name in OCBENCH:
        domain = OCBENCH[name].domain
        return name, domain, name.removeprefix(f"{domain}-").removesuffix("-v0")
    if name in D4RL:
        return name, D4RL[name].domain, ""
    try:
        parsed = parse_env_name(name)
    except UsageError:
        id = name.rpartition(":")[2]  # the module before it only registers the environment
        return id, id, ""
    task = f"task{parsed.task}"
    return f"{parsed.domain}-singletask-{task}-v0", parsed.domain, task


def read_runs(paths: Iterable[Path], merge_protocols: bool = False) -> RunTables:
    """Read all runs below some paths.

    Runs of one label on one environment that differ in a field of `PROTOCOL`, or in a setting, become different
    methods, see `zoo.runs.protocol`; so do runs whose numbers of steps or episodes differ between environments, unless
    they are scored by their return. The other fields may differ between environments, as they do in the papers: sparse
    rewards belong to some domains. Runs that are scored by success and by their return are never held apart by this.

    :param merge_protocols: put runs of a label in one row, whatever their protocol.
    """
    rows = []
    tables = []
    for folder in find_run_folders(paths):
        row, table = _read_run(folder)
        rows.append(row)
        tables.append(table)
    _decide_kinds(rows, tables)
    runs = pd.DataFrame(rows, columns=list(_RUN_COLUMNS)).astype(
        {"problem": object, "replaced_by": object}
    )
    kinds = kinds_of(runs)
    runs.loc[kinds.notna() & (kinds != SUCCESS.name), "success_at"] = (
        None  # these have no success to take at a step
    )
    runs["method"] = labels_by_kind(runs) if merge_protocols else name_methods(runs)
    _mark_duplicates(runs)
    return RunTables(runs, _join(runs, tables))


def _decide_kinds(rows: Sequence[dict[str, Any]], tables: Sequence[pd.DataFrame | None]) -> None:
    """Score runs by success where any run on their environment has reported success: then theirs never did.

    Many environments put ``success`` into an info only when it is true, so a run that never succeeds reports none.
    """
    reporting = {row["environment"] for row in rows if row.get("kind") == SUCCESS.name}
    for row, table in zip(rows, tables, strict=True):
        if table is not None and row["follows_environment"] and row["kind"] == RETURN.name:
            row["never_reported"] = row["environment"] in reporting
            if row["never_reported"]:
                row["kind"] = SUCCESS.name
                table["successes"] = 0
                table["score"] = 0.0


def _join(runs: pd.DataFrame, evaluations: Sequence[pd.DataFrame | None]) -> pd.DataFrame:
    """Return the evaluations of runs as one table, columns `EVALUATION_COLUMNS`.

    :param runs: the rows of `RunTables`.
    :param evaluations: what `_tabulate` returned for each of them, or None.
    """
    tables = [
        table.assign(**{name: row[name] for name in _OF_RUNS})
        for (_, row), table in zip(runs.iterrows(), evaluations, strict=True)
        if table is not None
    ]
    if not tables:
        return pd.DataFrame(columns=list(EVALUATION_COLUMNS))
    joined_table = pd.concat(tables, ignore_index=True).assign(source="own", carried=False)
    return joined_table.astype({"successes": "Int64"})[list(EVALUATION_COLUMNS)]


def _read_run(folder: RunFolder) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Return a run's row, and its evaluations if they can be read."""
    row: dict[str, Any] = {"run": str(folder.path), "state": "unknown"}
    try:
        status = folder.read_status()
        row |= describe_config(folder.read_config(), status)
        if odd := [name for name in PROTOCOL if isinstance(row[name], list | dict)]:
            raise TypeError(f"`{odd[0]}` is {row[odd[0]]!r}")
        row |= {name: status[name] for name in ("offline_step", "online_step")}
        row |= {
            "state": state_now(folder, status),
            "updated": datetime.datetime.fromisoformat(status["updated"]),
        }
        unfinished = row["state"] != "done"
        if unfinished and not folder.evaluations.exists():
            table = None
        else:
            table = _tabulate(folder)
            kind = SUCCESS if row["success_return"] is None else SUCCESS_BY_RETURN
            if table["successes"].isna().all():
                kind = WITHOUT_ENV.get(row["score"], RETURN)
            row["kind"] = kind.name
            if row["score"] in WITHOUT_ENV:  # nothing was played
                table[["return", "length"]] = np.nan
    except UnreadableRun as error:
        return row | {"problem": error.reason}, None
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # of a value that no release writes
        return row | {"problem": f"cannot be understood ({describe_error(error)})"}, None
    if unfinished:
        reason = (
            DEAD_RUN_HINT if row["state"] == DEAD else " ".join(status.get("reason", "").split())
        )
        row["problem"] = f"{row['state']}: {_progress(row, status)}" + (
            f"; {reason}" if reason else ""
        )
    elif table is not None and (missing := _find_missing_evaluation(row, table)):
        return row | {"problem": missing}, None
    return row, table


def describe_config(record: RunRecord, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run that ``config.yml`` gives."""
    environment, domain, task = split_environment(record.env)
    run = record.run
    rule = ScoringRule.of_run(record)
    dataset = record.dataset or {}
    actor = record.pretrained_actor or {}
    besides: dict[str, Any] = {
        "offline_data": run.offline_data,
        "env_wrapper": run.env_wrapper,
        "normalize": run.normalize,
        "noise_type": run.noise_type,
        "noise_std": run.noise_std,
        "env_kwargs": record.env_kwargs,
        "eval_env_kwargs": record.eval_env_kwargs,
        "trained_agent": record.trained_agent is not None,  # each seed may have its own file
    }
    n_envs = (record.n_envs or 1) // len(record.all_seeds)
    if n_envs > 1 and run.online_steps:  # one update follows a step of all of them
        besides["n_envs"] = n_envs
    return {
        "algorithm": record.algo,
        "label": record.label or record.algo,
        "environment": environment,
        "domain": domain,
        "task": task,
        "seed": status["seed"],
        "profile": record.profile,
        "offline_steps": run.offline_steps,
        "online_steps": run.online_steps,
        "eval_episodes": run.eval_episodes,
        "sparse": bool(record.settings.get("sparse")),
        "dataset_size": dataset.get("size"),
        "dataset_fingerprint": dataset.get("fingerprint", "")[:8] or None,
        "net_arch": describe_layers(
            record.settings.get("net_arch"), (record.agent or {}).get("layers", "")
        ),
        "pretraining_steps": run.pretraining_steps or actor.get("updates", 0),
        "pretrained_actor": bool(actor),
        "score": run.score,
        "follows_environment": rule.follows_environment,
        "success_return": run.success_return,
        "success_at": run.success_at or SUCCESS_AT_END,
        "action_range": None if run.action_range is None else str(list(run.action_range)),
        "reference_scores": rule.reference_scores,
        "departures": tuple(record.departures),
        "settings": describe_settings(
            record.settings | {name: value for name, value in besides.items() if value}
        ),
        "code": record.code,
    }


def _tabulate(folder: RunFolder) -> pd.DataFrame:
    """Return a run's evaluations, scored by success where it was recorded, else by the return.

    Their number of successes is NaN where it was not recorded.
    """
    arrays = folder.read_evaluations()
    average = arrays["results"].mean(axis=1)
    episodes = arrays["results"].shape[1]
    successes = arrays["successes"].sum(axis=1) if "successes" in arrays else np.nan
    return pd.DataFrame(
        {
            "phase": [PHASES[phase] for phase in arrays["phase"]],
            "step": arrays["timesteps"],
            "successes": successes,
            "episodes": episodes,
            "score": successes / episodes if "successes" in arrays else average,
            "return": average,
            "length": arrays["ep_lengths"].mean(axis=1),
        }
    )


def _find_missing_evaluation(row: Mapping[str, Any], evaluations: pd.DataFrame) -> str | None:
    """Return which phase of a finished run lacks an evaluation at its end."""
    last = evaluations.groupby("phase")["step"].max()
    for phase, end in phase_ends(row).items():
        if last.get(phase, 0) < end:
            return (
                f"its last {phase} evaluation is at step {last.get(phase, 0):,}, expected {end:,}"
            )
    return None


def _progress(row: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    pretraining_step = status.get("pretraining_step", 0)
    if pretraining_step < row["pretraining_steps"] and not row["pretrained_actor"]:
        return f"at pretraining step {pretraining_step:,} of {row['pretraining_steps']:,}"
    offline = f"at offline step {row['offline_step']:,} of {show(row['offline_steps'])}"
    return f"{offline} and online step {row['online_step']:,} of {show(row['online_steps'])}"


def _mark_duplicates(runs: pd.DataFrame) -> None:
    """Let one run of a method, environment and seed stand for all: the newest that is finished, or else the newest."""
    newest_first = runs.assign(is_open=runs["problem"].notna()).sort_values(
        ["is_open", "updated", "run"], ascending=[True, False, False]
    )
    key = ["method", "environment", "seed"]
    first = newest_first.dropna(subset=key).groupby(key)["run"].transform("first")
    first = first[first != runs.loc[first.index, "run"]]
    runs.loc[first.index, "replaced_by"] = first
    first = first[runs.loc[first.index, "problem"].isna()]
    runs.loc[first.index, "problem"] = (
        "duplicate: " + first + " is a newer run of the same method, environment and seed"
    )


# -- how long training has taken ---------------------------------------------------------------------------------------


_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Times:
    """When a run was where.

    :param steps: of rows of the log, from the beginning of pretraining, shape (rows,).
    :param seconds: of training until then, shape (rows,).
    :param updates_per_second: between the first and the last row, or None where that is too short to say.
    :param replicas: how many seeds the process trained at once; all of them share the time.
    :param machine: what trained it.
    """

    steps: np.ndarray
    seconds: np.ndarray
    updates_per_second: float | None
    replicas: int
    machine: str

    @property
    def hours(self) -> float:
        """The time of the whole run."""
        return float(self.seconds[-1]) / 3600

    @property
    def hours_per_seed(self) -> float:
        """The run's share of the time of its process."""
        return self.hours / self.replicas


def read_times(folder: RunFolder) -> Times:
    """Return how long a run has taken.

    :raises UnreadableRun: if its log or configuration is missing or damaged, or it has logged no time.
    """
    rows = folder.read_progress()
    if not len(rows["steps"]):
        raise UnreadableRun(folder.progress, "has no row with the time")
    seconds = cumulative_seconds(rows)
    updates = rows["updates"]
    speed = None
    logged = np.flatnonzero(~np.isnan(updates))
    if len(logged) and seconds[logged[-1]] > seconds[logged[0]]:
        speed = float(np.ptp(updates[logged]) / np.ptp(seconds[logged]))
    return Times(
        rows["steps"],
        seconds,
        speed,
        len(folder.read_config().all_seeds),
        _describe_machine(folder),
    )


def read_speed(folder: RunFolder) -> tuple[int, float] | None:
    """Return the last step with a speed that a run has logged, and the speed in steps per second.

    :return: the step counts from the beginning of pretraining; None if no speed is known, or the log is damaged.
    """
    try:
        rows = folder.read_progress()
    except UnreadableRun:
        return None
    logged = np.flatnonzero(rows["speed"] > 0)
    return (
        (int(rows["steps"][logged[-1]]), float(rows["speed"][logged[-1]])) if len(logged) else None
    )


def cumulative_seconds(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the seconds since the beginning of the run, shape (rows,).

    Logs of older releases lack them. Their clock begins anew with each phase and process, which shows where it goes
    back, where the column of online speeds begins, and where another release goes on.

    :param rows: what `RunFolder.read_progress` returns.
    """
    total = rows["total_seconds"]
    if not np.isnan(total).any():
        return total
    seconds = rows["seconds"]
    begins = seconds[1:] < seconds[:-1]
    for column in (total, rows["fps"]):
        begins |= np.isnan(column[:-1]) & ~np.isnan(column[1:])
    ended = np.concatenate(
        [[0.0], np.where(begins, seconds[:-1], 0.0)]
    )  # seconds of the parts before
    return seconds + np.cumsum(ended)


def _describe_machine(folder: RunFolder) -> str:
    """Return the device that a run was started on; a CPU by the name of the processor."""
    try:
        versions = folder.read_versions()
    except UnreadableRun:
        return _UNKNOWN  # the times are as good as with it, and no other machine has this name
    device = versions.get("device") or _UNKNOWN
    return (
        f"cpu, {versions.get('processor') or 'processor not recorded'}"
        if device == "cpu"
        else str(device)
    )
