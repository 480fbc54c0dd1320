"""Finished and unfinished runs, read back as tables.

A run folder is what ``train.py`` writes: ``status.json``, ``config.yml`` and ``evaluations.npz``. `read_runs` finds
them below any folder and returns one table of runs and one of evaluations. A run that cannot be counted stays in the
table with the reason: it is unfinished, unreadable, or a second run of the same seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from zoo.config import DEFAULT_PROFILE
from zoo.datasets.names import parse_env_name
from zoo.errors import UsageError
from zoo.runs.evaluations import UnreadableRun, check_complete, read_evaluations
from zoo.runs.folder import STATES
from zoo.runs.scores import RETURN

PROTOCOL = (
    "profile",
    "offline_steps",
    "online_steps",
    "eval_episodes",
    "sparse",
    "dataset_size",
    "dataset_fingerprint",
    "net_arch",
    "pretrain_steps",
    "pretrained_actor",
)
"""What must agree before two runs of an algorithm may share a row.

Runs that began with a saved behaviour flow are set apart from others and by its number of updates, but not by the
file, since each seed may have its own.
"""

_SAME_ON_ALL_TASKS = ("profile", "offline_steps", "online_steps", "eval_episodes")
_SAME_FOR_RETURNS = ("profile",)  # each environment has a scale, and by custom a number of steps, of its own
# Settings that change no score, and those that `PROTOCOL` names already.
_NOT_SETTINGS = {"seed", "seeds", "device", "verbose", "tensorboard_log", "precision", "compile"}
_NOT_SETTINGS |= {"net_arch", "sparse", "pretraining_steps"}
_RUN_FILES = ("status.json", "evaluations.npz")

EVALUATION_COLUMNS = (
    "method",
    "algorithm",
    "source",
    "environment",
    "domain",
    "task",
    "seed",
    "phase",
    "step",
    "successes",
    "episodes",
    "kind",
    "score",
    "return",
    "length",
    "run",
)


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
        """Return the evaluations of the runs that count.

        :return: rows of `evaluations`.
        """
        good = self.runs.loc[self.runs["problem"].isna(), "run"]
        return self.evaluations[self.evaluations["run"].isin(good)]

    def skipped(self) -> list[dict[str, str]]:
        """Return the runs that do not count, and why.

        :return: ``{"path": ..., "reason": ...}``, in the order of the paths.
        """
        bad = self.runs[self.runs["problem"].notna()]
        return [{"path": str(row["run"]), "reason": str(row["problem"])} for _, row in bad.iterrows()]


@cache
def split_environment(name: str) -> tuple[str, str, str]:
    """Return an environment's full name, domain and task.

    One task has several names in OGBench: the number may be left out for the default task
    (``scene-play-singletask-v0`` is ``scene-play-singletask-task2-v0``), and a larger dataset adds its size
    (``scene-play-100m-...``). All of them meet in one row; the size of the data is part of the protocol.

    :param name: e.g. ``cube-double-play-singletask-task2-v0``; a name that OGBench does not know is its own domain.
    :return: full name, domain (``cube-double-play``), task (``task2``, or an empty string).
    """
    try:
        parsed = parse_env_name(name)
    except UsageError:
        return name, name, ""
    task = f"task{parsed.task or _default_task(parsed.domain)}"
    return f"{parsed.domain}-singletask-{task}-v0", parsed.domain, task


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return every run folder at or below some paths.

    :param paths: folders to search, or run folders themselves.
    :return: the run folders, sorted, each once.
    :raises FileNotFoundError: if a path is not a folder.
    """
    found: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"expected a folder of runs, got `{path}`, which is not one; check the path")
        for folder, folders, files in os.walk(path):
            if any(name in files for name in _RUN_FILES):
                found.add(Path(folder))
                folders.clear()  # checkpoints and the like below a run are not runs
    return sorted(found)


def read_runs(paths: Iterable[Path], merge_protocols: bool = False) -> RunTables:
    """Read all runs below some paths.

    Runs of one label on one environment that differ in a field of `PROTOCOL`, or in a setting, become different
    methods, named after what differs; so do runs whose numbers of steps or episodes differ between environments, unless
    they are scored by their return. The other fields may differ between environments, as they do in the papers: sparse
    rewards belong to some domains. Runs that are scored by success and by their return are never held apart by this.

    :param paths: folders to search.
    :param merge_protocols: put runs of a label in one row, whatever their protocol.
    :return: the tables; both empty if there are no runs.
    :raises FileNotFoundError: if a path is not a folder.
    """
    rows: list[dict[str, Any]] = []
    evaluations: list[pd.DataFrame] = []
    for folder in find_runs(paths):
        row, table = _read_run(folder)
        rows.append(row)
        if table is not None:
            evaluations.append(table)
    runs = pd.DataFrame(rows, columns=_run_columns()).astype({"problem": object})
    runs["method"] = runs["label"] if merge_protocols else _split_by_protocol(runs)
    _mark_duplicates(runs)
    if not evaluations:
        return RunTables(runs, pd.DataFrame(columns=list(EVALUATION_COLUMNS)))
    columns = ["run", "method", "algorithm", "environment", "domain", "task", "seed"]
    joined = pd.concat(evaluations, ignore_index=True).merge(runs[columns], on="run").assign(source="own")
    return RunTables(runs, joined[list(EVALUATION_COLUMNS)])


def protocol_differences(phase: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return where two protocols differ, in words. A field that one of them does not state is not compared.

    :param phase: ``"offline"`` scores do not depend on the online steps that follow.
    :param ours: values of fields of `PROTOCOL`.
    :param theirs: the same for the other side.
    :return: one phrase a field, e.g. ``"offline_steps 10,000 against 1,000,000"``.
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
    """Return layer widths in short, e.g. ``512x4``.

    :param value: a list of widths, a mapping of such lists, or None.
    :return: the short form, or None where nothing is stated.
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
    """Return a value of a protocol or setting as text.

    :param value: a number, string, bool, list or None.
    :return: the text, with thousands separated.
    """
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def short_name(environment: str) -> str:
    """Return an environment's name without the parts that all of them share.

    :param environment: e.g. ``scene-play-singletask-task1-v0``.
    :return: e.g. ``scene-play task1``.
    """
    return environment.replace("-singletask-", " ").removesuffix("-v0")


def _default_task(domain: str) -> int:
    """Return the task that OGBench 1.2 means where a name gives none."""
    if domain.startswith(("puzzle-3x3", "puzzle-4x4", "antsoccer")):
        return 4
    return 2 if domain.startswith(("puzzle", "cube", "scene")) else 1


def _run_columns() -> list[str]:
    """Return the columns of the table of runs."""
    about = ["run", "state", "method", "algorithm", "label", "environment", "domain", "task", "seed", "kind"]
    return [*about, "offline_step", "online_step", "updated", *PROTOCOL, "departures", "settings", "problem"]


def _read_run(folder: Path) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """Return a run's row, and its evaluations if they can be read."""
    row: dict[str, Any] = {"run": str(folder), "state": "unknown"}
    try:
        row |= _read_status(folder)
        reason = row.pop("reason")
        row |= _read_config(folder, row)
        unfinished = row["state"] != "done"
        if unfinished and not (folder / "evaluations.npz").exists():
            table = None
        else:
            table = read_evaluations(folder)
            row["kind"] = table["kind"].iloc[0]
            if not unfinished:
                check_complete(row, table)
    except UnreadableRun as error:
        return row | {"problem": str(error)}, None
    if unfinished:
        row["problem"] = f"{row['state']}: {_progress(row)}" + (f"; {reason}" if reason else "")
    return row, table


def _progress(row: Mapping[str, Any]) -> str:
    """Return how far an unfinished run is."""
    if row["pretrain_step"] < row["pretrain_steps"] and not row["pretrained_actor"]:
        return f"at pretraining step {row['pretrain_step']:,} of {row['pretrain_steps']:,}"
    offline = f"at offline step {row['offline_step']:,} of {show(row['offline_steps'])}"
    return f"{offline} and online step {row['online_step']:,} of {show(row['online_steps'])}"


def _read_status(folder: Path) -> dict[str, Any]:
    """Return what ``status.json`` says."""
    path = folder / "status.json"
    try:
        status = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UnreadableRun("status.json is missing") from error
    except (OSError, ValueError) as error:
        raise UnreadableRun(f"status.json cannot be read: {error}") from error
    if not isinstance(status, dict) or status.get("state") not in STATES:
        raise UnreadableRun(f"status.json has no state out of {', '.join(STATES)}")
    updated = pd.to_datetime(str(status.get("updated")), utc=True, errors="coerce")
    if pd.isna(updated):
        updated = pd.Timestamp(path.stat().st_mtime, unit="s", tz="UTC")
    return {
        "state": status["state"],
        "seed": status.get("seed"),
        "pretrain_step": int(status.get("pretrain_step") or 0),
        "offline_step": int(status.get("offline_step") or 0),
        "online_step": int(status.get("online_step") or 0),
        "updated": updated,
        "reason": " ".join(str(status.get("reason") or "").split()),
    }


def _read_config(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config.yml`` says about the run."""
    try:
        config = yaml.safe_load((folder / "config.yml").read_text())
    except FileNotFoundError as error:
        raise UnreadableRun("config.yml is missing") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnreadableRun(f"config.yml cannot be read: {' '.join(str(error).split())}") from error
    config = _mapping(config)
    missing = [key for key in ("algo", "env", "offline_steps") if config.get(key) is None]
    seed = row["seed"] if row["seed"] is not None else config.get("seed")
    if seed is None:
        missing.append("seed")
    if missing:
        raise UnreadableRun(f"config.yml lacks {', '.join(missing)}")
    environment, domain, task = split_environment(str(config["env"]))
    settings, dataset, actor = (_mapping(config.get(key)) for key in ("settings", "dataset", "pretrained_actor"))
    return {
        "algorithm": str(config["algo"]),
        "label": str(config.get("label") or config["algo"]),
        "environment": environment,
        "domain": domain,
        "task": task,
        "seed": seed,
        "profile": str(config.get("profile") or DEFAULT_PROFILE),
        "offline_steps": int(config["offline_steps"]),
        "online_steps": int(config.get("online_steps") or 0),
        "eval_episodes": config.get("eval_episodes"),
        "sparse": bool(config.get("sparse")),
        "dataset_size": dataset.get("size"),
        "dataset_fingerprint": str(dataset["fingerprint"])[:8] if dataset.get("fingerprint") else None,
        "net_arch": describe_layers(settings.get("net_arch")),
        "pretrain_steps": int(config.get("pretrain_steps") or actor.get("updates") or 0),
        "pretrained_actor": bool(actor),
        "departures": _departures(config),
        "settings": dict(_flatten(settings)),
    }


def _departures(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return where a run departs from the protocol of its profile, in words; runs of older versions do not say."""
    found = config.get("departures", [])
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise UnreadableRun(f"config.yml has departures that are not a list of texts: {found!r}")
    return tuple(found)


def _mapping(value: Any) -> dict[str, Any]:
    """Return a mapping, empty where there is none."""
    return value if isinstance(value, dict) else {}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as (dotted name, text)."""
    for name, value in sorted(settings.items(), key=lambda item: str(item[0])):
        if prefix + str(name) in _NOT_SETTINGS:
            continue
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", show(value)


def _split_by_protocol(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label, and what sets it apart from others of that label."""
    methods = runs["label"].copy()
    by_return = runs["kind"] == RETURN.name
    for (label, has_returns), everything in runs[runs["label"].notna()].groupby(["label", by_return]):
        same_on_all_tasks = _SAME_FOR_RETURNS if has_returns else _SAME_ON_ALL_TASKS
        counted = everything[everything["problem"].isna()]
        group = everything if counted.empty else counted  # a run that failed renames no other
        table = group[list(PROTOCOL)].join(pd.DataFrame(list(group["settings"]), index=group.index), rsuffix="_")
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
    """Let only the newest run of a method, environment and seed count."""
    good = runs[runs["problem"].isna()].sort_values(["updated", "run"], ascending=False)
    for _, group in good.groupby(["method", "environment", "seed"]):
        newest = group.iloc[0]["run"]
        for index in group.index[1:]:
            runs.loc[index, "problem"] = f"duplicate: {newest} is a newer run of the same method, environment and seed"
