"""Finished and unfinished runs, read back as tables.

`read_runs` finds run folders below any folder and returns one table of runs and one of evaluations. A run that cannot
be counted stays in the table with the reason: it is unfinished, unreadable, or an older run of the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.datasets.names import parse_env_name
from zoo.errors import UsageError
from zoo.layers import DEFAULT_PROFILE, flatten
from zoo.runs.folder import RunFolder, UnreadableRun, find_run_folders
from zoo.runs.history import PHASES
from zoo.runs.liveness import DEAD, WHAT_TO_DO, state_now
from zoo.runs.scores import RETURN, SUCCESS
from zoo.texts import printable

PROTOCOL = (
    "profile", "offline_steps", "online_steps", "eval_episodes", "sparse", "dataset_size", "dataset_fingerprint",
    "net_arch", "pretraining_steps", "pretrained_actor",
)  # fmt: skip
"""What must agree before two runs of an algorithm may share a row.

Runs that began with a saved behaviour flow are set apart from others and by its number of updates, but not by the
file, since each seed may have its own.
"""

_SAME_ON_ALL_TASKS = ("profile", "offline_steps", "online_steps", "eval_episodes")
_SAME_FOR_RETURNS = ("profile",)  # each environment has a scale, and by custom a number of steps, of its own
# Settings that change no score, and those that `PROTOCOL` names already.
_NOT_SETTINGS = {"seed", "seeds", "device", "verbose", "tensorboard_log", "precision", "compile"}
_NOT_SETTINGS |= {"net_arch", "sparse", "pretraining_steps"}

EVALUATION_COLUMNS = (
    "method", "algorithm", "source", "environment", "domain", "task", "seed", "phase", "step", "successes", "episodes",
    "kind", "score", "return", "length", "run",
)  # fmt: skip
_RUN_COLUMNS = (
    "run", "state", "method", "algorithm", "label", "environment", "domain", "task", "seed", "kind", "offline_step",
    "online_step", "updated", *PROTOCOL, "departures", "settings", "problem",
)  # fmt: skip


@dataclass(frozen=True)
class RunTables:
    """The runs below some folders.

    :param runs: one row a run: ``run`` (its path), ``state``, ``method``, ``algorithm``, ``label``, ``environment``,
        ``domain``, ``task``, ``seed``, ``kind`` (of its scores), ``offline_step``, ``online_step``, ``updated``, the
        fields of `PROTOCOL`, ``departures`` (from the protocol of its profile, texts), ``settings`` (flat, as a
        mapping) and ``problem`` (why the run does not count, or None).
    :param evaluations: one row an evaluation of a readable run, columns `EVALUATION_COLUMNS`.
    """

    runs: pd.DataFrame
    evaluations: pd.DataFrame

    def counted(self) -> pd.DataFrame:
        """Return the rows of `evaluations` whose runs count."""
        good = self.runs.loc[self.runs["problem"].isna(), "run"]
        return self.evaluations[self.evaluations["run"].isin(good)]

    def skipped(self) -> list[dict[str, str]]:
        """Return ``{"path": ..., "reason": ...}`` of each run that does not count, in the order of the paths."""
        bad = self.runs[self.runs["problem"].notna()]
        return [{"path": str(row["run"]), "reason": str(row["problem"])} for _, row in bad.iterrows()]


@cache
def split_environment(name: str) -> tuple[str, str, str]:
    """Return an environment's full name, domain and task.

    One task has several names in OGBench: the number may be left out for the default task
    (``scene-play-singletask-v0`` is ``scene-play-singletask-task2-v0``), and a larger dataset adds its size
    (``scene-play-100m-...``). All of them meet in one row; the size of the data is part of the protocol.

    :return: full name, domain (``cube-double-play``), task (``task2``); a name that OGBench does not know is its own
        domain, without a task.
    """
    try:
        parsed = parse_env_name(name)
    except UsageError:
        return name, name, ""
    task = f"task{parsed.task}"
    return f"{parsed.domain}-singletask-{task}-v0", parsed.domain, task


def read_runs(paths: Iterable[Path], merge_protocols: bool = False) -> RunTables:
    """Read all runs below some paths.

    Runs of one label on one environment that differ in a field of `PROTOCOL`, or in a setting, become different
    methods, named after what differs; so do runs whose numbers of steps or episodes differ between environments, unless
    they are scored by their return. The other fields may differ between environments, as they do in the papers: sparse
    rewards belong to some domains. Runs that are scored by success and by their return are never held apart by this.

    :param merge_protocols: put runs of a label in one row, whatever their protocol.
    """
    rows: list[dict[str, Any]] = []
    evaluations: list[pd.DataFrame] = []
    for folder in find_run_folders(paths):
        row, table = _read_run(folder)
        rows.append(row)
        if table is not None:
            evaluations.append(table)
    runs = pd.DataFrame(rows, columns=list(_RUN_COLUMNS)).astype({"problem": object})
    runs["method"] = runs["label"] if merge_protocols else _split_by_protocol(runs)
    _mark_duplicates(runs)
    if not evaluations:
        return RunTables(runs, pd.DataFrame(columns=list(EVALUATION_COLUMNS)))
    columns = ["run", "method", "algorithm", "environment", "domain", "task", "seed"]
    joined = pd.concat(evaluations, ignore_index=True).merge(runs[columns], on="run").assign(source="own")
    return RunTables(runs, joined[list(EVALUATION_COLUMNS)])


def protocol_differences(phase: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return where two protocols differ, e.g. ``["offline_steps 10,000 against 1,000,000"]``.

    A field of `PROTOCOL` that one of them does not state is not compared, nor are online steps for offline scores.
    """
    result = []
    for field in PROTOCOL:
        a, b = ours.get(field), theirs.get(field)
        if a is None or b is None or a == b or (phase == "offline" and field == "online_steps"):
            continue
        if field == "dataset_size" and isinstance(a, int) and abs(a - b) <= 0.01 * b:
            continue  # the last state of each trajectory is counted or not
        result.append(f"{field} {show(a)} against {show(b)}")
    return result


def describe_layers(value: Any) -> str | None:
    """Return layer widths in short, e.g. ``512x4``; None where nothing is stated.

    :param value: a list of widths, a mapping of such lists, or None.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {describe_layers(widths)}" for name, widths in sorted(value.items()))
    if isinstance(value, list | tuple) and value:
        same = len(set(map(str, value))) == 1
        return f"{value[0]}x{len(value)}" if same else "-".join(map(str, value))
    return str(value)


def show(value: Any) -> str:
    """Return a value of a protocol or setting as text, with thousands separated."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def count(number: int | str, noun: str) -> str:
    """Return a number of things in words, e.g. ``1 task`` or ``2 tasks``."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"


def short_name(environment: str) -> str:
    """Return an environment's name without the parts that all of them share, e.g. ``scene-play task1``."""
    return environment.replace("-singletask-", " ").removesuffix("-v0")


def _read_run(folder: RunFolder) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Return a run's row, and its evaluations if they can be read."""
    row: dict[str, Any] = {"run": str(folder.path), "state": "unknown"}
    try:
        status = folder.read_status()
        row |= _describe_status(folder, status) | _describe_config(folder, status)
        unfinished = row["state"] != "done"
        if unfinished and not folder.evaluations.exists():
            table = None
        else:
            table = _tabulate(folder)
            row["kind"] = table["kind"].iloc[0]
    except UnreadableRun as error:
        return row | {"problem": error.reason}, None
    except OSError as error:  # e.g. a folder that is removed meanwhile
        return row | {"problem": f"cannot be read: {error.strerror}"}, None
    if unfinished:
        reason = WHAT_TO_DO if row["state"] == DEAD else printable(" ".join((status.get("reason") or "").split()))
        row["problem"] = f"{row['state']}: {_progress(row, status)}" + (f"; {reason}" if reason else "")
    elif missing := _find_missing_evaluation(row, table):
        return row | {"problem": missing}, None
    return row, table


def _describe_status(folder: RunFolder, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run that ``status.json`` gives."""
    updated = pd.to_datetime(str(status.get("updated")), utc=True, errors="coerce")
    if pd.isna(updated):
        updated = pd.Timestamp(folder.status.stat().st_mtime, unit="s", tz="UTC")
    steps = {name: int(status.get(name) or 0) for name in ("offline_step", "online_step")}
    return {"state": state_now(folder, status), "updated": updated, **steps}


def _describe_config(folder: RunFolder, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run that ``config.yml`` gives."""
    config = folder.read_config()
    environment, domain, task = split_environment(str(config["env"]))
    settings, dataset, actor = (_mapping(config.get(key)) for key in ("settings", "dataset", "pretrained_actor"))
    own = {name: value for name, value in settings.items() if name not in _NOT_SETTINGS}
    return {
        "algorithm": str(config["algo"]),
        "label": str(config.get("label") or config["algo"]),
        "environment": environment,
        "domain": domain,
        "task": task,
        "seed": config["seed"] if status.get("seed") is None else status["seed"],
        "profile": str(config.get("profile") or DEFAULT_PROFILE),
        "offline_steps": int(config["offline_steps"]),
        "online_steps": int(config.get("online_steps") or 0),
        "eval_episodes": config.get("eval_episodes"),
        "sparse": bool(config.get("sparse")),
        "dataset_size": dataset.get("size"),
        "dataset_fingerprint": str(dataset["fingerprint"])[:8] if dataset.get("fingerprint") else None,
        "net_arch": describe_layers(settings.get("net_arch")),
        "pretraining_steps": int(config.get("pretraining_steps") or actor.get("updates") or 0),
        "pretrained_actor": bool(actor),
        "departures": tuple(config.get("departures") or ()),  # older runs do not say
        "settings": {name: printable(show(value)) for name, value in sorted(flatten(own)) if value != {}},
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _tabulate(folder: RunFolder) -> pd.DataFrame:
    """Return a run's evaluations, scored by success where the environment knows success, else by the return."""
    arrays = folder.read_evaluations()
    successes, average = arrays.get("successes"), arrays["results"].mean(axis=1)
    episodes = arrays["results"].shape[1]
    total = pd.array([pd.NA] * len(average) if successes is None else successes.sum(axis=1), dtype="Int64")
    return pd.DataFrame(
        {
            "run": str(folder.path),
            "phase": np.asarray(PHASES)[arrays["phase"].astype(int)],
            "step": arrays["timesteps"].astype(int),
            "successes": total,
            "episodes": episodes,
            "kind": (RETURN if successes is None else SUCCESS).name,
            "score": average if successes is None else total.to_numpy(int) / episodes,
            "return": average,
            "length": arrays["ep_lengths"].mean(axis=1),
        }
    )


def _find_missing_evaluation(row: Mapping[str, Any], evaluations: pd.DataFrame) -> str | None:
    """Return which phase of a finished run lacks an evaluation at its end."""
    last = evaluations.groupby("phase")["step"].max()
    ends = {"offline": row["offline_steps"], "online": row["offline_steps"] + row["online_steps"]}
    for phase, wanted in ends.items():
        if row[f"{phase}_steps"] and last.get(phase, -1) < wanted:
            got = f"{last[phase]:,}" if phase in last else "none"
            return f"its last {phase} evaluation is at step {got}, expected {wanted:,}"
    return None


def _progress(row: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    pretraining_step = int(status.get("pretraining_step") or 0)
    if pretraining_step < row["pretraining_steps"] and not row["pretrained_actor"]:
        return f"at pretraining step {pretraining_step:,} of {row['pretraining_steps']:,}"
    offline = f"at offline step {row['offline_step']:,} of {show(row['offline_steps'])}"
    return f"{offline} and online step {row['online_step']:,} of {show(row['online_steps'])}"


def _split_by_protocol(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label, and what sets it apart from others of that label."""
    methods = runs["label"].copy()
    by_return = runs["kind"] == RETURN.name
    for (label, has_returns), everything in runs[runs["label"].notna()].groupby(["label", by_return]):
        same_on_all_tasks = _SAME_FOR_RETURNS if has_returns else _SAME_ON_ALL_TASKS
        counted = everything[everything["problem"].isna()]
        group = everything if counted.empty else counted  # a run that failed renames no other
        settings = pd.DataFrame(list(group["settings"]), index=group.index)
        settings = settings.rename(columns={field: f"{field}_" for field in PROTOCOL})
        table = pd.concat([group[list(PROTOCOL)], settings], axis=1)
        text = table.astype(object).where(table.notna(), None).map(_as_text)
        apart = [
            field
            for field in text.columns
            if (text.groupby(group["environment"])[field].nunique() > 1).any()
            or (field in same_on_all_tasks and text[field].nunique() > 1)
        ]
        for index in group.index if apart else ():
            methods[index] = f"{label} ({', '.join(f'{field}={text.at[index, field]}' for field in apart)})"
    return methods


def _as_text(value: Any) -> str:
    """Return a table's value as text; numbers that pandas made floats are whole again."""
    whole = isinstance(value, float) and value.is_integer()
    return show(int(value)) if whole else show(value)


def _mark_duplicates(runs: pd.DataFrame) -> None:
    """Count only the newest run of a method, environment and seed."""
    good = runs[runs["problem"].isna()].sort_values(["updated", "run"], ascending=False)
    for _, group in good.groupby(["method", "environment", "seed"]):
        newest = group.iloc[0]["run"]
        for index in group.index[1:]:
            runs.loc[index, "problem"] = f"duplicate: {newest} is a newer run of the same method, environment and seed"
