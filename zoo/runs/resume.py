"""Search for the run to resume, and results of finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.model_file import find_checkpoints, step_of
from agents.common.validation import count
from zoo.runs.folder import (
    DIVERGED,
    EVALUATION,
    NO_SUCCESS,
    RunFolder,
    UnreadableRun,
    numbered_folders,
)
from zoo.runs.protocol import shortened
from zoo.runs.scores import REPORTED, EpisodeResults, ScoringRule
from zoo.runs.versions import describe_versions
from zoo.settings.record import RunRecord
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log


@dataclass(frozen=True)
class StoredRun:
    """A run, as read from its folders.

    :param folders: one for each replica.
    :param record: record of the first replica.
    :param statuses: content of ``status.json`` of each replica.
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
        """Whether it has finished, with or without failed replicas."""
        states = {status["state"] for status in self.statuses}
        return "done" in states and states <= {"done", "failed"}

    @property
    def has_diverged(self) -> bool:
        """Whether every replica has diverged; other failures, such as a full disk, may be the machine's."""
        return all(status.get("failure") == DIVERGED for status in self.statuses)

    def __str__(self) -> str:
        """Return folders and seeds."""
        paths = ", ".join(str(folder.path) for folder in self.folders)
        return f"{paths} (seed {', '.join(map(str, self.seeds))})"


def matching_runs(
    settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun], *besides: str
) -> list[StoredRun]:
    """Return the runs of the same settings and seeds, in their order.

    :param settings: result of :meth:`RunRecord.identity` for the same roles `besides`.
    """
    return [
        run
        for run in runs
        if run.record.identity(*besides) == settings and seeds in (None, run.seeds)
    ]


def closest_run(
    settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun]
) -> str:
    """Return the run with the fewest different settings, and its differences, as text."""
    differences_of_runs = []
    for run in runs:
        stored = {**run.record.identity(), "seeds": run.seeds}
        current = {**settings, "seeds": seeds or run.seeds}
        differences_of_runs.append((differences(stored, current), run.folders[0].path))
    named, path = min(differences_of_runs, key=lambda pair: len(pair[0]))
    return f"{path} differs in {'; '.join(shortened(named))}"


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the differences between two sets of settings, one phrase for each dotted name."""
    phrases = []
    for name in dict.fromkeys([*stored, *current]):
        old = stored.get(name, "not set")
        new = current.get(name, "not set")
        if old != new:
            phrases.append(f"{name.removeprefix('settings.')}: {old} (stored), {new} (now)")
    return phrases


def find_run(log_folder: Path, record: RunRecord, seeds: list[int] | None) -> StoredRun | None:
    """Return the run to resume, locked for this process, or the finished one; None if there is neither.

    :raises UsageError: if another process is training it.
    """
    settings = record.identity()
    runs, unreadable = stored_runs(log_folder, record.algo, record.env)
    # prefer unfinished runs (False < True); among equals `min` returns the first, which is the newest
    run = min(matching_runs(settings, seeds, runs), key=lambda run: run.is_done, default=None)
    if run is None and unreadable:  # a new run would repeat its training
        raise UsageError(
            f"--resume: {unreadable[0]}; its folder contains checkpoints and may be the run to resume: restore the "
            "file, or move the folder away to start a new run"
        )
    if run is None:
        unfinished = [stored for stored in runs if not stored.is_done]
        if unfinished:
            closest = closest_run(settings, seeds, unfinished)
            log.warning("no unfinished run matches: %s; starting a new run", closest)
        else:
            log.info("no unfinished run of this algorithm and environment; starting a new run")
        return None
    warn_if_code_changed([(run, record.code)])
    if run.is_done:
        log.info("%s has finished already; leave out --resume to train again", run)
        return run
    for folder in run.folders:
        if not folder.lock.take():  # held until this process ends
            raise UsageError(
                f"{folder.path} is being trained by {folder.lock.describe_holder()}; wait for it or stop it first"
            )
    _warn_if_packages_changed(run)
    steps = [*map(step_of, find_checkpoints(run.folders[0].checkpoints)), 0]
    log.info("resuming %s from step %d of all phases", run, steps[0])
    return run


def _warn_if_packages_changed(run: StoredRun) -> None:
    """Warn of changed package versions, because their kernels may round differently."""
    recorded = run.folders[0].known_versions()["packages"]
    changed = differences(recorded, describe_versions("")["packages"])
    if recorded and changed:
        log.warning(
            "package versions changed since this run started; results may differ in the last bits: %s",
            "; ".join(changed),
        )


def warn_if_code_changed(runs: Sequence[tuple[StoredRun, str | None]]) -> None:
    """Warn of runs that started with another version of their algorithm's file.

    :param runs: runs, each with the current hash of the file.
    """
    changed = []
    for run, code in runs:
        if run.record.code and code and run.record.code != code:
            changed.append(str(run.folders[0].path))
    if changed:
        log.warning(
            "%s: started with another version of the algorithm's file; move them away to train anew",
            ", ".join(shortened(changed)),
        )


def stored_runs(
    log_folder: Path, algo: str, env: str
) -> tuple[list[StoredRun], list[UnreadableRun]]:
    """Return an algorithm's runs on an environment, newest first; several seeds trained at once are one run.

    :return: the runs, and the errors of unreadable ones with checkpoints.
    """
    runs = []
    unreadable = []
    for _, path in sorted(numbered_folders(log_folder / algo, env).items(), reverse=True):
        folder = RunFolder(path)
        try:
            record = folder.read_config()
            if record.seed == record.all_seeds[0]:  # the first replica represents the run
                names = record.folders or [path.name]
                folders = [RunFolder(path.with_name(name)) for name in names]
                statuses = [replica.read_status() for replica in folders]
                runs.append(StoredRun(folders, record, statuses))
        except UnreadableRun as error:
            if find_checkpoints(folder.checkpoints):
                unreadable.append(error)
    return runs, unreadable


def result_of_done(run: StoredRun) -> dict[str, Any]:
    """Return the printed result of a finished run, without its speed, and ``already_done``."""
    results = []
    for folder, seed, status in zip(run.folders, run.seeds, run.statuses, strict=True):
        failure = None
        if status["state"] == "failed":
            failure = {"reason": status["reason"], "step": status.get("step")}
        results.append(result_of(folder, seed, ScoringRule.from_run(run.record), failure))
    joint = joint_result(run.record, None, results)
    return {**joint, "already_done": True}


# -- the result of a run that a program prints ------------------------------------------------------------------------


def result_of(
    folder: RunFolder, seed: int, scoring: ScoringRule, failure: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the result of one finished run: success and return of its last evaluation, or None.

    :param scoring: adds the normalised return if it has reference scores.
    :param failure: reason and step of a replica that failed while others continued.
    """
    result: dict[str, Any] = {"run": str(folder.path), "seed": seed}
    result |= {"success": None, "return": None, "episodes": 0, "steps": None}
    if failure is not None:
        return {**result, "steps": failure["step"], **failure}
    try:
        rows = folder.summarise_evaluations().tolist() if folder.evaluations.exists() else []
    except UnreadableRun as error:  # the run is done anyway
        log.warning(error)
        rows = []
    if rows:
        last = dict(zip(EVALUATION.names or (), rows[-1], strict=True))
        result |= {"return": last["return"], "episodes": last["episodes"], "steps": last["step"]}
        if last["successes"] != NO_SUCCESS:
            result["success"] = last["successes"] / last["episodes"]
        elif scoring.reference_scores is not None:
            result["normalised_return"] = scoring.normalised(last["return"])
    return result


def joint_result(
    record: RunRecord, updates_per_second: float | None, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the printed result of training: the result of a single seed, or of all seeds as ``runs``."""
    if updates_per_second is not None:
        updates_per_second = round(updates_per_second, 2)
    head = {"algo": record.algo, "env": record.env, "updates_per_s": updates_per_second}
    if len(results) == 1:
        return head | results[0]
    return {**head, "runs": results}


def describe_evaluation(
    step: int,
    phase: str,
    results: EpisodeResults,
    seeds: Sequence[int],
    scoring: ScoringRule = REPORTED,
) -> str:
    """Return an evaluation in one line: success if it is the score, mean return and mean length.

    For several seeds: the mean over all seeds and the score of each.
    """
    played = np.flatnonzero(results.played).tolist()
    returns = results.returns[played]
    scores = returns
    digits = ".2f"
    if results.successes is not None:
        name = scoring.success
        scores = results.successes[played]
        digits = ".1%"
    else:
        name = "mean return"
    episodes = count(returns.shape[1], "episode")
    text = f"evaluation at step {step} ({phase}): {name} {scores.mean():{digits}} over {episodes}"
    if len(seeds) > 1:
        seed_texts = []
        for replica, mean in zip(played, scores.mean(axis=1), strict=True):
            seed_texts.append(f"seed {seeds[replica]}: {mean:{digits}}")
        text += f" ({', '.join(seed_texts)})"
    if results.successes is not None:
        text += f", mean return {returns.mean():.2f}"
    elif scoring.reference_scores is not None:
        text += f", normalised return {scoring.normalised(float(returns.mean())):.1%}"
    return f"{text}, mean length {results.lengths[played].mean():.1f}"
