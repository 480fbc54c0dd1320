"""What ``--resume`` comes to: a run to go on with, a run that is done already, or a new one and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agents.common.engine.checkpoint import find_checkpoints
from zoo.errors import UsageError
from zoo.messages import log
from zoo.runs.folder import RunFolder
from zoo.runs.history import EvaluationHistory
from zoo.runs.results import joint_result, result_of, result_of_failed

DERIVED = ("sources", "departures")
"""Entries of ``config.yml`` that follow from the others; runs that differ in nothing else are the same."""
WHO = ("seed", "seeds", "folders")
"""Entries of ``config.yml`` that say which seeds of the same settings a run trains."""
NAMED_DIFFERENCES = 10


@dataclass(frozen=True)
class StoredRun:
    """A run as its folders describe it.

    :param folders: one run folder per replica.
    :param seeds: the replicas' seeds.
    :param settings: what must agree for two runs to be the same, with dotted names.
    :param statuses: what ``status.json`` says, one per replica.
    """

    folders: list[RunFolder]
    seeds: list[int]
    settings: dict[str, Any]
    statuses: list[dict[str, Any]]

    @property
    def is_done(self) -> bool:
        """Whether it has come to its end; replicas that failed on the way do not change that."""
        states = {status["state"] for status in self.statuses}
        return "done" in states and states <= {"done", "failed"}

    def __str__(self) -> str:
        """Return folders and seeds."""
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        return f"{', '.join(str(folder.path) for folder in self.folders)} ({seeds})"


@dataclass(frozen=True)
class Choice:
    """What to do where some runs are there.

    :param run: the run to go on with, or one that is done; None starts a new one.
    :param nearest: for a new one, the run that differs in the fewest settings: of the unfinished ones if there are any.
    :param differences: in what it differs.
    """

    run: StoredRun | None
    nearest: StoredRun | None = None
    differences: tuple[str, ...] = ()


def choose(settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun]) -> Choice:
    """Choose the newest run of the same settings and seeds, an unfinished one if there is one.

    :param settings: those wanted, from :func:`comparable`.
    :param seeds: those wanted; None takes any.
    :param runs: the runs that are there, newest first.
    :return: the choice.
    """
    same = [run for run in runs if run.settings == settings and seeds in (None, run.seeds)]
    if same:
        return Choice(min(same, key=lambda run: run.is_done))
    if not runs:
        return Choice(None)
    others = [run for run in runs if not run.is_done] or runs
    found, nearest = min(((differences(run, settings, seeds), run) for run in others), key=lambda pair: len(pair[0]))
    return Choice(None, nearest, tuple(found))


def differences(run: StoredRun, settings: Mapping[str, Any], seeds: list[int] | None) -> list[str]:
    """Return in what a run differs from the one that is wanted.

    :param run: a run.
    :param settings: those wanted.
    :param seeds: those wanted; None takes any.
    :return: one phrase for each setting.
    """
    names = dict.fromkeys([*run.settings, *settings])
    found = {  # a setting of the algorithm may be among the run's too, under the same name
        name.removeprefix("settings."): f"{_show(name, run.settings)} there, {_show(name, settings)} now"
        for name in names
        if name not in run.settings or name not in settings or run.settings[name] != settings[name]
    }
    if seeds not in (None, run.seeds):
        assert seeds is not None
        is_single = len(seeds) == len(run.seeds) == 1
        there, now = (run.seeds[0], seeds[0]) if is_single else (run.seeds, seeds)
        found["seed" if is_single else "seeds"] = f"{there} there, {now} now"
    return [f"{name}: {text}" for name, text in found.items()]


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``config.yml`` that makes two runs of equal seeds the same.

    :param record: what the file holds, or will hold.
    :return: values as YAML gives them back, with dotted names.
    """
    kept = {name: value for name, value in record.items() if name not in (*DERIVED, *WHO)}
    return dict(_flatten(yaml.safe_load(yaml.safe_dump(kept, sort_keys=False))))


def find_run(log_folder: Path, record: Mapping[str, Any], seeds: list[int] | None) -> StoredRun | None:
    """Return the run to go on with, claimed for this process, or the same one if it is done; say which, or why none.

    :param log_folder: where all runs are.
    :param record: what ``config.yml`` will hold of the settings.
    :param seeds: the replicas' seeds; None takes a run of any.
    :return: the run, or None to start a new one.
    :raises UsageError: if another process is training it.
    """
    settings = comparable(record)
    choice = choose(settings, seeds, stored_runs(log_folder, record["algo"], record["env"]))
    run = choice.run
    if run is None:
        log.info("no unfinished run matches%s; starting a new run", _nearest(choice))
    elif run.is_done:
        log.info("%s is a finished run of these settings; leave out --resume to train another", run)
    elif run.folders[0].claim():
        log.info("going on with %s, %s", run, _position(run))
    else:
        path = run.folders[0].path
        raise UsageError(f"another process is training {path}; wait for its end, or stop it, before --resume")
    return run


def stored_runs(log_folder: Path, algo: str, env: str) -> list[StoredRun]:
    """Return an algorithm's runs on an environment; one without a readable configuration or status is left out.

    :param log_folder: where all runs are.
    :param algo: algorithm id.
    :param env: environment name.
    :return: the runs, newest first; stacked seeds are one run.
    """
    parent = log_folder / algo
    numbers = {path: path.name.removeprefix(f"{env}_") for path in parent.glob(f"{env}_*")}
    paths = sorted((path for path in numbers if numbers[path].isdigit()), key=lambda path: -int(numbers[path]))
    found = []
    for path in paths:
        config = _read(path, "config.yml", "seed", of=path)
        if config is None or config["seed"] != config.get("seeds", [config["seed"]])[0]:
            continue  # unreadable, or not the first of its stack
        names = config.get("folders", [path.name])
        read = [_read(parent / name, "status.json", "state", of=path) for name in names]
        statuses = [status for status in read if status is not None]
        if len(statuses) == len(names):
            folders = [RunFolder(parent / name, env) for name in names]
            found.append(StoredRun(folders, config.get("seeds", [config["seed"]]), comparable(config), statuses))
    return found


def result_of_done(run: StoredRun) -> dict[str, Any]:
    """Return the result of a run that is done already, as far as its folders tell.

    :param run: the run.
    :return: what it printed when it ended, but for its speed, and ``already_done``.
    """
    results = []
    for folder, seed, status in zip(run.folders, run.seeds, run.statuses, strict=True):
        if status["state"] == "failed":
            failure = {name: status.get(name) for name in ("reason", "step")}
            results.append(result_of_failed(folder.path, seed, failure))
        else:
            results.append(result_of(folder.path, seed, _history(folder.path / "evaluations.npz")))
    joint = joint_result(run.settings["algo"], run.settings["env"], None, results)
    return {**joint, "already_done": True}


def _history(path: Path) -> EvaluationHistory:
    """Return a finished run's evaluations; none where they cannot be read."""
    try:
        return EvaluationHistory.load(path)
    except UsageError as error:
        log.warning("%s", error)
        return EvaluationHistory()


def _read(folder: Path, name: str, needed: str, of: Path) -> dict[str, Any] | None:
    """Return a file of a run folder; None where it cannot be read, which is said of a run that has checkpoints."""
    try:
        text = (folder / name).read_text()
        content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        if not isinstance(content, dict) or needed not in content:
            raise ValueError(f"it lacks `{needed}`")
        return content
    except (OSError, ValueError, yaml.YAMLError) as error:
        if find_checkpoints(of / "checkpoint"):
            why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            log.warning(
                "%s has checkpoints, but --resume passes it over: %s cannot be read: %s", of, folder / name, why
            )
        return None


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings with dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _show(name: str, settings: Mapping[str, Any]) -> str:
    """Return a setting's value in short."""
    if name not in settings:
        return "not set"
    text = "none" if settings[name] is None else str(settings[name])
    return text[:8] if name.endswith("fingerprint") else text


def _nearest(choice: Choice) -> str:
    """Return in what the nearest run differs, if there is one."""
    if choice.nearest is None:
        return ", for there is no run of this algorithm and environment"
    named = list(choice.differences[:NAMED_DIFFERENCES])
    more = len(choice.differences) - len(named)
    text = "; ".join([*named, *([f"and {more} more"] if more else [])])
    done = " (finished)" if choice.nearest.is_done else ""
    return f"; the nearest, {choice.nearest.folders[0].path}{done}, differs in {text}"


def _position(run: StoredRun) -> str:
    """Return where a run's newest checkpoint is."""
    checkpoints = find_checkpoints(run.folders[0].path / "checkpoint")
    if not checkpoints:
        return "which has no checkpoint yet, from its beginning"
    step = int(checkpoints[0].name.removeprefix("step_").partition(".")[0])
    for phase, setting in (("pretraining", "pretrain_steps"), ("offline", "offline_steps"), ("online", "online_steps")):
        steps = run.settings.get(setting) or 0
        if phase == "online" or (steps and step <= steps):
            break
        step -= steps
    return f"whose newest checkpoint is at {phase} step {step} of {steps}"
