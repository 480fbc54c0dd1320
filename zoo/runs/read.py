"""Read finished and unfinished runs as tables.

`read_runs` finds all run folders in some folders and returns a table of runs and a table of evaluations. A run that
does not count is listed with the reason, e.g. that it is unfinished or unreadable, or was repeated by a newer run.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from zoo.datasets.names import split_environment
from zoo.runs.folder import (
    DEAD,
    PHASES,
    RunFolder,
    UnreadableRun,
    find_run_folders,
    state_now,
    summarise,
)
from zoo.runs.protocol import (
    PROTOCOL,
    describe_layers,
    describe_settings,
    name_methods,
    phase_ends,
    show,
)
from zoo.runs.scores import EVALUATION, NO_SUCCESS, RETURN, SUCCESS, ScoringRule
from zoo.runs.versions import simulator
from zoo.settings.record import RunRecord, RunSettings

EVALUATION_COLUMNS = (
    "method", "algorithm", "environment", "domain", "seed", "phase", "step", "episodes", "kind",
    "score", "return", "length", "run",
)  # fmt: skip
_OF_RUNS = ("run", "method", "algorithm", "environment", "domain", "seed", "kind")
_MAY_CHANGE_SCORES = {*RunSettings.with_role("")} - {
    *PROTOCOL, "eval_freq", "score", "reference_scores", "reward_from",
}  # fmt: skip
"""Settings of a run that may affect scores, except those of `PROTOCOL` and those that the score's kind or the dataset's
fingerprint shows; evaluations, at any interval, do not affect training."""
_RUN_COLUMNS = (
    "run", "state", "method", "algorithm", "label", "environment", "domain", "seed", "kind", "offline_step",
    "online_step", "updated", *PROTOCOL, "reference_scores", "departures", "settings", "success_rule", "played",
    "code", "problem", "replaced_by", "never_reported",
)  # fmt: skip
ReadRun: TypeAlias = tuple[dict[str, Any], np.ndarray]
"""Row of a run, and its evaluations as an array of dtype `zoo.runs.scores.EVALUATION`."""


@dataclass(frozen=True)
class RunTables:
    """The runs in some folders.

    :param runs: one row per run. Columns are ``run`` (its path), ``state``, ``method``, ``algorithm``, ``label``,
        ``environment``, ``domain``, ``seed``, ``kind`` (of its scores), ``offline_step``, ``online_step``,
        ``updated`` and the fields of `PROTOCOL`. ``reference_scores`` are returns of a random and an expert policy, or
        None. ``departures`` are the run's differences from the protocol of its profile. ``settings`` maps names to
        texts, for all settings that may affect scores. ``success_rule`` describes success, for scores by success.
        ``played`` are the arguments and wrappers of the evaluation environment. ``code`` is the hash of the algorithm's
        source file, or None. ``problem`` is the reason why the run does not count, or None. ``replaced_by`` is the
        newer run that counts for the same method, environment and seed, or None. ``never_reported`` is true if all
        episodes count as failures, because only other runs on the environment reported success.
    :param evaluations: one row per evaluation, columns `EVALUATION_COLUMNS`; no rows for a run that is unreadable or
        trained without an environment.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame

    def counted(self) -> pd.DataFrame:
        """Return the evaluations of runs that have finished and count."""
        good = self.runs.loc[self.runs["problem"].isna(), "run"]
        return self.evaluations[self.evaluations["run"].isin(good)]

    def skipped(self) -> list[dict[str, str]]:
        """Return ``{"path": ..., "reason": ...}`` for each run that does not count, sorted by path."""
        bad = self.runs[self.runs["problem"].notna()]
        columns = {"run": "path", "problem": "reason"}
        return bad[[*columns]].rename(columns=columns).to_dict("records")


def read_runs(paths: Iterable[Path], finished: dict[Path, ReadRun] | None = None) -> RunTables:
    """Read all runs in some folders.

    Runs with the same label on the same environment are different methods if a setting or the kind of their scores
    differs, see `zoo.runs.protocol.name_methods`.

    :param finished: path -> run, a cache of finished runs; the call adds each finished run that it reads.

    >>> tables = read_runs([Path("logs")])
    >>> last = tables.counted().groupby(["method", "environment", "seed"]).last()
    >>> last.groupby("method")["score"].mean()
    """
    cache = {} if finished is None else finished
    rows = []
    evaluations = []
    for path in find_run_folders(paths):
        row, rows_of_run = cache.get(path) or _read_run(path)
        if row["state"] == "done":
            cache[path] = row, rows_of_run
        rows.append(dict(row))
        evaluations.append(rows_of_run)
    # Many environments add success to `info` only if it is true. So if one run on an environment reports success, the
    # runs there that never report it have never succeeded.
    reporting = {
        row["environment"]
        for row in rows
        if row.get("kind") == SUCCESS.name and row["success_return"] is None
    }
    for row, rows_of_run in zip(rows, evaluations, strict=True):
        if len(rows_of_run) and row["follows_environment"] and row["kind"] == RETURN.name:
            row["never_reported"] = row["environment"] in reporting
            if row["never_reported"]:
                row["kind"] = SUCCESS.name
    runs = pd.DataFrame(rows, columns=_RUN_COLUMNS)
    runs = runs.astype({"problem": object, "replaced_by": object})
    runs["success_rule"] = runs["success_rule"].where(runs["kind"] == SUCCESS.name)
    runs["method"] = name_methods(runs)
    _mark_duplicates(runs)
    return RunTables(runs, _evaluation_table(runs, evaluations))


def _read_run(path: Path) -> ReadRun:
    """Return a run's row and evaluations; no evaluations if `RunTables` excludes them."""
    folder = RunFolder(path)
    row: dict[str, Any] = {"run": str(path), "state": "unknown"}
    no_evaluations = np.empty(0, EVALUATION)
    evaluations = no_evaluations
    try:
        status = folder.read_status()
        record = folder.read_config()
        row |= _columns_of(record, _simulators(folder, record.env)) | status
        row["updated"] = datetime.datetime.fromisoformat(status["updated"])
        row["state"] = state_now(folder, status)
        is_done = row["state"] == "done"
        if is_done and record.no_env:
            row["problem"] = "trained without an environment, so it has no scores"
            return row, no_evaluations
        if is_done and folder.summary.exists():
            evaluations = folder.read_summary()
        elif is_done or folder.evaluations.exists():
            evaluations = summarise(folder.read_evaluations())
    except UnreadableRun as error:
        return row | {"problem": error.reason}, no_evaluations
    if len(evaluations):
        # Successes are recorded only if success is the score.
        kind = RETURN if evaluations["successes"][0] == NO_SUCCESS else SUCCESS
        row["kind"] = kind.name
    if not is_done:
        return row | {"problem": _unfinished(row, status)}, evaluations
    return row | {"problem": _find_missing_evaluation(row, evaluations)}, evaluations


def _simulators(folder: RunFolder, environment: str) -> str | None:
    """Return a run's simulator group (see `simulator`), followed by its data's group if the two differ."""
    name = split_environment(environment)[0]
    versions = folder.known_versions()
    played = simulator(name, versions["packages"].get("mujoco"))
    recorded = simulator(name, versions["data"].get("mujoco"))
    if recorded in (None, played):
        return played
    return f"{played}, data {recorded}"


def _columns_of(record: RunRecord, mujoco: str | None) -> dict[str, Any]:
    """Return the columns that are derived from a run's ``config.yml`` and its simulator group."""
    environment, domain = split_environment(record.env)
    run = record.run
    values = run.settings()
    rule = ScoringRule.from_run(record)
    dataset = record.dataset or {}
    actor = record.pretrained_actor or {}
    played = [*record.evaluation_env_kwargs, *(run.env_wrapper or ())]
    besides: dict[str, Any] = {
        **{name: values[name] for name in _MAY_CHANGE_SCORES},
        "env_kwargs": record.env_kwargs,
        "eval_env_kwargs": record.eval_env_kwargs,
        "behaviour": (record.behaviour or {}).get("fingerprint", "")[:8],
        # not the model's path, because each seed may start from another model
        "trained_agent": record.trained_agent is not None,
    }
    n_envs = (record.n_envs or 1) // len(record.all_seeds)
    # with several environments, there are fewer updates per environment step
    if n_envs > 1 and run.online_steps:
        besides["n_envs"] = n_envs
    columns = {
        **values,
        "algorithm": record.algo,
        "label": record.label or record.algo,
        "environment": environment,
        "domain": domain,
        "seed": record.seed,
        "profile": record.profile,
        "sparse": bool(record.settings.get("sparse")),
        "success_rule": rule.success,
        "played": " ".join(map(str, played)) or "none",
        "dataset_size": dataset.get("size"),
        "dataset_fingerprint": dataset.get("fingerprint", "")[:8] or None,
        "net_arch": describe_layers(record.settings.get("net_arch")),
        "pretraining_steps": run.pretraining_steps or actor.get("updates", 0),
        "pretrained_actor": bool(actor),
        "follows_environment": rule.follows_environment,
        "action_range": run.action_range and str(list(run.action_range)),
        "reference_scores": rule.reference_scores,
        "departures": record.departures,
        "code": record.code,
        "mujoco": mujoco,
    }
    settings = {name: show(columns[name]) for name in ("algorithm", *PROTOCOL)}
    other_settings = record.settings | {name: value for name, value in besides.items() if value}
    return {**columns, "settings": settings | describe_settings(other_settings)}


def _evaluation_table(runs: pd.DataFrame, evaluations: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return a table with one row per evaluation, columns `EVALUATION_COLUMNS`.

    :param evaluations: for each run, an array of dtype `EVALUATION`.
    """
    # without a given dtype, NumPy would search for a common dtype of all runs, which is slow
    numbers = np.concatenate([np.empty(0, EVALUATION), *evaluations], dtype=EVALUATION)
    rows = np.repeat(np.arange(len(runs)), np.fromiter(map(len, evaluations), int))
    columns: dict[str, Any] = {name: runs[name].to_numpy()[rows] for name in _OF_RUNS}
    is_success = (runs["kind"] == SUCCESS.name).to_numpy()[rows]
    # `NO_SUCCESS` is negative, but a run that never reported success has 0 successes.
    successes = np.maximum(numbers["successes"], 0)
    columns |= {
        "phase": np.array(PHASES, object)[numbers["phase"]],
        "step": numbers["step"],
        "episodes": numbers["episodes"],
        "score": np.where(is_success, successes / numbers["episodes"], numbers["return"]),
        "return": numbers["return"],
        "length": numbers["length"],
    }
    return pd.DataFrame(columns, columns=EVALUATION_COLUMNS, copy=False)


def _find_missing_evaluation(row: Mapping[str, Any], evaluations: np.ndarray) -> str | None:
    """Return a reason if a phase of a finished run lacks an evaluation at its end, otherwise None."""
    # later evaluations of a phase overwrite earlier ones
    last_steps = dict(zip(evaluations["phase"].tolist(), evaluations["step"].tolist(), strict=True))
    for phase, end in phase_ends(row).items():
        last = last_steps.get(PHASES.index(phase), 0)
        if last < end:
            return f"its last {phase} evaluation is at step {last:,}, expected {end:,}"
    return None


def _unfinished(row: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """Return the reason why an unfinished run does not count."""
    places = []
    for phase in PHASES:
        steps = row[f"{phase}_steps"]
        if steps:
            places.append(f"{phase} step {row[f'{phase}_step']:,} of {steps:,}")
    cloned = status["pretraining_step"]
    if cloned < row["pretraining_steps"] and not row["pretrained_actor"]:
        places = [f"pretraining step {cloned:,} of {row['pretraining_steps']:,}"]
    reason = " ".join(status["reason"].split())
    at = "at"
    if row["state"] == DEAD:  # a dead run's status is from its last checkpoint
        at, reason = "last checkpoint:", "its process is gone; --resume continues it"
    return f"{row['state']}: {at} {' and '.join(places)}" + (f"; {reason}" if reason else "")


def _mark_duplicates(runs: pd.DataFrame) -> None:
    """For each method, environment and seed, keep the newest finished run, or else the newest run; mark the rest."""
    key = ["method", "environment", "seed"]
    best_last = runs.assign(is_done=runs["problem"].isna()).dropna(subset=key)
    # The path breaks ties, so that the order of folders does not matter.
    best_last = best_last.sort_values(["is_done", "updated", "run"])
    newest = best_last.groupby(key)["run"].transform("last")
    newest = newest[newest != best_last["run"]]
    runs.loc[newest.index, "replaced_by"] = newest
    newest = newest[best_last["is_done"]]
    runs.loc[newest.index, "problem"] = (
        "duplicate: " + newest + " is a newer run of the same method, environment and seed"
    )


def read_speed(folder: RunFolder) -> tuple[int, float] | None:
    """Return the last step for which a run has logged its speed, and the speed in steps per second.

    Steps are counted from the start of pretraining.

    :return: step and speed; None if no speed is known or the log is damaged.
    """
    try:
        rows = folder.read_progress()
    except UnreadableRun:
        return None
    logged = rows[rows["speed"] > 0]
    if logged.empty:
        return None
    last = logged.iloc[-1]
    return int(last["steps"]), float(last["speed"])
