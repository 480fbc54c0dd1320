"""Find the run to resume, and return the result of a run that has already finished."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.common.model_file import find_checkpoints, step_of
from zoo.runs.folder import (
    DIVERGED,
    Evaluations,
    RunFolder,
    UnreadableRun,
    numbered_folders,
    summarise,
)
from zoo.runs.scores import ScoringRule, joint_result, result_of
from zoo.runs.versions import package_versions
from zoo.settings.record import RunRecord, differences
from zoo.terminal.errors import UsageError, shortened
from zoo.terminal.messages import log


@dataclass(frozen=True)
class StoredRun:
    """A run, as read from its folders.

    :param folders: folder of each replica.
    :param record: record of the first replica.
    :param statuses: content of each replica's ``status.json``.
    """

    folders: list[RunFolder]
    record: RunRecord
    statuses: list[dict[str, Any]]

    @property
    def is_done(self) -> bool:
        """Whether the run has finished, with or without failed replicas."""
        states = {status["state"] for status in self.statuses}
        return "done" in states and states <= {"done", "failed"}

    @property
    def has_diverged(self) -> bool:
        """Whether every replica has diverged; a replica that failed for another reason, e.g. a full disk, has not."""
        return all(status.get("failure") == DIVERGED for status in self.statuses)

    def __str__(self) -> str:
        """Return folders and seeds."""
        paths = ", ".join(str(folder.path) for folder in self.folders)
        return f"{paths} (seed {', '.join(map(str, self.record.all_seeds))})"


def matching_runs(
    settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun], *besides: str
) -> list[StoredRun]:
    """Return the runs with the same settings and seeds, in the given order.

    :param settings: result of :meth:`RunRecord.identity` with the same `besides`.
    :param besides: roles of entries that may differ; entries with the role ``note`` may always differ.
    """
    return [
        run
        for run in runs
        if seeds in (None, run.record.all_seeds) and run.record.identity(*besides) == settings
    ]


def closest_run(
    settings: Mapping[str, Any], seeds: list[int] | None, runs: Sequence[StoredRun]
) -> str:
    """Return a text that names the run whose settings differ least, and the differences."""
    differences_of_runs = []
    for run in runs:
        stored = {**run.record.identity(), "seeds": run.record.all_seeds}
        current = {**settings, "seeds": seeds or run.record.all_seeds}
        differences_of_runs.append((differences(stored, current), run.folders[0].path))
    named, path = min(differences_of_runs, key=lambda pair: len(pair[0]))
    return f"{path} differs in {'; '.join(shortened(named))}"


def find_run(log_folder: Path, record: RunRecord, seeds: list[int] | None) -> StoredRun | None:
    """Return the run to resume, locked for this process; without one, a finished run with equal settings, or None.

    :raises UsageError: if another process is training the run, or if an unreadable run may be the one to resume.
    """
    settings = record.identity()
    runs, unreadable = stored_runs(log_folder, record.algo, record.env)
    # prefer unfinished runs (False < True); among equals `min` returns the first, which is the newest
    run = min(matching_runs(settings, seeds, runs), key=lambda run: run.is_done, default=None)
    if run is None:
        if unreadable:  # a new run might repeat the training of the unreadable one
            raise UsageError(
                f"--resume: {unreadable[0]}; its folder contains checkpoints, so this may be the run to resume: "
                "restore the file, or move the folder away to start a new run"
            )
        unfinished = [stored for stored in runs if not stored.is_done]
        if unfinished:
            log.warning(
                "no unfinished run matches: %s; starting a new run",
                closest_run(settings, seeds, unfinished),
            )
        else:
            log.info("no unfinished run of this algorithm and environment; starting a new run")
        return None
    warn_if_code_changed([(run, record.code)])
    if run.is_done:
        log.info("%s has finished already; leave out --resume to train again", run)
        return run
    for folder in run.folders:
        if not folder.lock.take():
            raise UsageError(
                f"{folder.path} is being trained by {folder.lock.describe_holder()}; wait for it or stop it first"
            )
    _warn_if_packages_changed(run)
    steps = [*map(step_of, find_checkpoints(run.folders[0].checkpoints)), 0]
    log.info("resuming %s from step %d, counted over all phases", run, steps[0])
    return run


def _warn_if_packages_changed(run: StoredRun) -> None:
    """Warn if package versions have changed, because other versions may round differently."""
    recorded = run.folders[0].known_versions()["packages"]
    current = package_versions()
    # older runs recorded fewer packages
    changed = differences(recorded, {name: current.get(name) for name in recorded})
    if changed:
        log.warning(
            "package versions changed since this run started; results may differ in the last bits: %s",
            "; ".join(changed),
        )


def warn_if_code_changed(runs: Sequence[tuple[StoredRun, str | None]]) -> None:
    """Warn about runs that started with another version of their algorithm's source file.

    :param runs: runs, each with the current hash of its algorithm's source file.
    """
    changed = []
    for run, code in runs:
        if run.record.code != code:
            changed.append(str(run.folders[0].path))
    if changed:
        log.warning(
            "%s: started with another version of the algorithm's file; move these runs away to train again",
            ", ".join(shortened(changed)),
        )


def stored_runs(
    log_folder: Path, algo: str, env: str
) -> tuple[list[StoredRun], list[UnreadableRun]]:
    """Return an algorithm's runs on an environment, newest first; several seeds trained together are one run.

    :return: the runs, and the errors of unreadable runs that have checkpoints.
    """
    runs = []
    unreadable = []
    for _, path in sorted(numbered_folders(log_folder / algo, env).items(), reverse=True):
        folder = RunFolder(path)
        try:
            record = folder.read_config()
            if record.seed == record.all_seeds[0]:  # the first replica represents the run
                folders = folder.trained_together(record)
                statuses = [replica.read_status() for replica in folders]
                runs.append(StoredRun(folders, record, statuses))
        except UnreadableRun as error:
            if find_checkpoints(folder.checkpoints):
                unreadable.append(error)
    return runs, unreadable


def result_of_done(run: StoredRun) -> dict[str, Any]:
    """Return the printed result of a finished run; its speed is None, and ``already_done`` is true."""
    scoring = ScoringRule.from_run(run.record)
    results = []
    for folder, seed, status in zip(run.folders, run.record.all_seeds, run.statuses, strict=True):
        failure = None
        if status["state"] == "failed":
            failure = {"reason": status["reason"], "step": status.get("step")}
        history: Evaluations = {}
        try:
            if folder.evaluations.exists():
                history = folder.read_evaluations()
        except UnreadableRun as error:  # warn instead of failing, because the run has finished
            log.warning(error)
        results.append(result_of(folder.path, seed, scoring, summarise(history), failure))
    return {**joint_result(run.record, None, results), "already_done": True}
