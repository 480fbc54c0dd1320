"""What ``--resume`` finds and restores: a run to resume, one that is done already, or none, and why."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.model_file import find_checkpoints
from zoo.errors import UsageError
from zoo.playing.episodes import REPORTED, EpisodeResults, Scoring
from zoo.processes.versions import describe_versions
from zoo.runs.folder import Evaluations, RunFolder, UnreadableRun, numbered_folders
from zoo.runs.protocol import shortened
from zoo.settings.record import RunRecord
from zoo.terminal.messages import log

NAMED_DIFFERENCES = 10


@dataclass(frozen=True)
class StoredRun:
    """A run as its folders describe it.

    :param folders: one for each replica, as is what ``status.json`` says.
    :param record: that of the first replica.
    """

    folders: list[RunFolder]
    record: RunRecord
    statuses: list[dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """One for each replica."""
        return self.record.all_seeds

    @property
    def is_done(self) -> bool:
        """Whether it has reached its end; replicas that failed on the way do not change that."""
        states = {status["state"] for status in self.statuses}
        return "done" in states and states <= {"done", "failed"}

    def __str__(self) -> str:
        """Return folders and seeds."""
        seeds = f"seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))}"
        return f"{', '.join(str(folder.path) for folder in self.folders)} ({seeds})"


def choose(settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun]) -> StoredRun | None:
    """Return the newest run of the same settings and seeds, an unfinished one if possible; None starts a new one.

    :param settings: what :meth:`RunRecord.identity` returned.
    :param runs: the runs that exist, newest first.
    """
    same = [run for run in runs if run.record.identity() == settings and seeds in (None, run.seeds)]
    return min(same, key=lambda run: run.is_done) if same else None


def describe_nearest(settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun]) -> str:
    """Return how the run differs that differs in the fewest settings, an unfinished one if possible."""
    if not runs:
        return ": there is no run of this algorithm and environment"
    found = []
    for run in [run for run in runs if not run.is_done] or runs:
        there, now = ({"seed": own[0] if len(own) == 1 else own} for own in (run.seeds, seeds or run.seeds))
        found.append((differences(run.record.identity() | there, {**settings, **now}), run))
    named, nearest = min(found, key=lambda pair: len(pair[0]))
    where = f"{nearest.folders[0].path}{' (finished)' * nearest.is_done}"
    return f"; the nearest, {where}, differs in {'; '.join(shortened(named, NAMED_DIFFERENCES))}"


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how two sets of settings with dotted names differ, one phrase for each setting."""
    found = []
    for name in dict.fromkeys([*there, *now]):
        if name in there and name in now and there[name] == now[name]:
            continue
        before, after = (
            "none" if side.get(name, "") is None else str(side.get(name, "not set")) for side in (there, now)
        )
        if name.endswith("fingerprint"):
            before, after = before[:8], after[:8]
        found.append(f"{name.removeprefix('settings.')}: {before} there, {after} now")
    return found


def find_run(log_folder: Path, record: RunRecord, seeds: list[int] | None) -> StoredRun | None:
    """Return the run to resume, locked for this process, or the same one if it is done; say which, or why none.

    :raises UsageError: if another process is training it.
    """
    settings = record.identity()
    runs, lost = stored_runs(log_folder, record.algo, record.env)
    run = choose(settings, seeds, runs)
    for folder, error in lost:
        log.warning("%s has checkpoints, but it cannot be read: %s", folder.path, error)
    if run is None and lost:
        raise UsageError(
            f"--resume: {lost[0][0].path} has checkpoints and may be the run to resume, but it cannot be read "
            f"({lost[0][1]}); put back a copy of that file, or move the folder away to start a new run"
        )
    if run is None:
        has_state = any(not each.is_done for each in runs)
        level, nearest = logging.WARNING if has_state else logging.INFO, describe_nearest(settings, seeds, runs)
        log.log(level, "no unfinished run matches%s; starting a new run", nearest)
        return None
    tell_of_other_code([(run, record.code)])
    if run.is_done:
        log.info("%s has already finished with these settings; leave out --resume to train again", run)
    else:
        lock = run.folders[0].lock
        if not lock.take():
            raise UsageError(
                f"{run.folders[0].path} is being trained by {lock.describe_holder()}; wait for its end, or stop it, "
                "before --resume"
            )
        _tell_of_other_versions(run.folders[0])
        where = "the start, because it has no checkpoint yet"
        if checkpoints := find_checkpoints(run.folders[0].checkpoints):
            where = describe_step(run, int(checkpoints[0].name.removeprefix("step_").partition(".")[0]))
        log.info("resuming %s from %s", run, where)
    return run


def tell_of_other_code(found: Sequence[tuple[StoredRun, str | None]]) -> None:
    """Warn of runs that began with another version of their algorithm's file than there is now."""
    other = [str(run.folders[0].path) for run, now in found if run.record.code and now and run.record.code != now]
    if other:
        began = "began with another version of the algorithm's file, and count as runs of this one"
        log.warning("%s: %s; move them away to train anew", ", ".join(shortened(other)), began)


def _tell_of_other_versions(folder: RunFolder) -> None:
    """Warn where a run goes on with other software than before, which may change numbers."""
    try:
        there = folder.read_versions().get("packages")
    except UnreadableRun:
        return
    now = describe_versions("", None)["packages"]
    found = [
        f"{name} {there.get(name)} there, {version} now"
        for name, version in now.items()
        if isinstance(there, dict) and there.get(name) != version
    ]
    if found:
        log.warning("the run goes on with other software, so it may differ in its last bits: %s", "; ".join(found))


def stored_runs(log_folder: Path, algo: str, env: str) -> tuple[list[StoredRun], list[tuple[RunFolder, UnreadableRun]]]:
    """Return an algorithm's runs on an environment, newest first; several seeds trained at once are one run.

    :return: the runs; and the folders with checkpoints of which nothing says what they are, and why.
    """
    found, lost, configs = [], [], {}
    paths = [path for _, path in sorted(numbered_folders(log_folder / algo, env).items(), reverse=True)]
    for path in paths:
        with contextlib.suppress(UnreadableRun):
            configs[path] = RunFolder(path).read_config()
    for path in paths:
        folder = RunFolder(path)
        try:
            record = configs.get(path) or folder.read_config()
            folders = _find_together(folder, record, configs)
            if record.seed == record.all_seeds[0]:
                found.append(StoredRun(folders, record, [each.read_status() for each in folders]))
        except UnreadableRun as error:
            if find_checkpoints(folder.checkpoints):
                lost.append((folder, error))
    return found, lost


def _find_together(folder: RunFolder, record: RunRecord, configs: Mapping[Path, RunRecord]) -> list[RunFolder]:
    """Return the folders of all seeds that are trained together.

    :raises UnreadableRun: if one of them is not where it was.
    """
    folders = [RunFolder(folder.path.with_name(name)) for name in record.folders or [folder.path.name]]
    for each, seed in zip(folders, record.all_seeds, strict=True):
        there = configs.get(each.path)
        if there is None or (there.seed, there.folders) != (seed, record.folders):
            raise UnreadableRun(
                folder.config, f"names {each.path.name} as the folder of seed {seed}, which is gone or another run's"
            )
    return folders


def result_of_done(run: StoredRun) -> dict[str, Any]:
    """Return what a finished run printed when it ended, except for its speed, and ``already_done``."""
    results, scoring = [], Scoring.of_run(run.record)
    for folder, seed, status in zip(run.folders, run.seeds, run.statuses, strict=True):
        if status["state"] == "failed":
            failure = {name: status.get(name) for name in ("reason", "step")}
            results.append(result_of_failed(folder, seed, failure))
        else:
            history = {}
            try:
                history = folder.read_evaluations()
            except UnreadableRun as error:
                log.warning("%s", error)
            results.append(result_of(folder, seed, history, scoring))
    joint = joint_result(run.record.algo, run.record.env, None, results)
    return {**joint, "already_done": True}


def describe_step(run: StoredRun, step: int) -> str:
    """Return where in its phases a step of a run is, e.g. ``offline step 3 of 10``; it counts from the beginning."""
    for phase in ("pretraining", "offline", "online"):
        steps = getattr(run.record.run, f"{phase}_steps")
        if phase == "online" or (steps and step <= steps):
            break
        step -= steps
    return f"{phase} step {step} of {steps}"


# -- the result of a run that a program prints ------------------------------------------------------------------------


def result_of(folder: RunFolder, seed: int, history: Evaluations, scoring: Scoring = REPORTED) -> dict[str, Any]:
    """Return the result of one finished run: success and return of its last evaluation, None where there is none.

    :param scoring: adds the normalised return where it knows the returns of a random and an expert policy.
    """
    result = {"run": str(folder.path), "seed": seed, "success": None, "return": None, "episodes": 0, "steps": None}
    if history:
        last = {name: values[-1] for name, values in history.items()}
        if "successes" in last:
            result["success"] = float(last["successes"].mean())
        mean = float(last["results"].mean())
        result["value_estimate" if scoring.score == "value" else "return"] = mean
        if "successes" not in last and scoring.reference_scores is not None:
            result["normalised_return"] = scoring.normalised(mean)
        result["episodes"], result["steps"] = len(last["results"]), int(last["timesteps"])
    return result | ({"learning_curve": str(folder.learning_curve)} if folder.learning_curve.exists() else {})


def result_of_failed(folder: RunFolder, seed: int, failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of a replica that failed while others continued; a failure is reason and step."""
    head = {"run": str(folder.path), "seed": seed, "success": None, "return": None, "steps": failure.get("step")}
    return {**head, **failure}


def joint_result(
    algo: str, env: str, updates_per_second: float | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what the training program prints: the result of its only seed, or those of all seeds as ``runs``."""
    speed = None if updates_per_second is None else round(updates_per_second, 2)
    head = {"algo": algo, "env": env, "updates_per_s": speed}
    return head | (results[0] if len(results) == 1 else {"runs": results})


def describe_evaluation(
    step: int, phase: str, results: EpisodeResults, seeds: Sequence[int], scoring: Scoring = REPORTED
) -> str:
    """Return an evaluation in one line: success where it is the score, mean return and mean length.

    Several seeds have the mean over all of them, and the score of each.
    """
    played = np.flatnonzero(results.played).tolist()
    returns, lengths = results.returns[played], results.lengths[played]
    if results.estimates:
        told = "; ".join(
            f"seed {seeds[replica]}: {results.returns[replica].mean():.2f} "
            f"[{results.estimates['low'][replica]:.2f}, {results.estimates['high'][replica]:.2f}]"
            for replica in played
        )
        own = " [".join(f"{results.estimates[name][0]:.2f}" for name in ("behaviour", "behaviour_low"))
        text = f"value estimate of {told}, of the behaviour {own}, {results.estimates['behaviour_high'][0]:.2f}]"
        return f"evaluation at step {step} ({phase}): {text}, from {returns.shape[1]} held-out trajectories"
    name, scores, digits = "mean return", returns, ".2f"
    if results.successes is not None:
        name, scores, digits = scoring.success, results.successes[played], ".1%"
    text = f"{name} {scores.mean():{digits}} over {returns.shape[1]} episodes"
    if len(seeds) > 1:
        each = (f"seed {seeds[replica]}: {own.mean():{digits}}" for replica, own in zip(played, scores, strict=True))
        text += f" ({', '.join(each)})"
    if results.successes is not None:
        text += f", mean return {returns.mean():.2f}"
    elif scoring.reference_scores is not None:
        text += f", normalised return {scoring.normalised(float(returns.mean())):.1%}"
    return f"evaluation at step {step} ({phase}): {text}, mean length {lengths.mean():.1f}"
