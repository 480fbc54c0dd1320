"""A run folder: its lock, and the names and formats of its files."""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from agents.common.files import DamagedFileError, atomic_path, read_text, write_text
from agents.common.files.npz import read_npz
from zoo.runs.locks import HOST, Lock
from zoo.runs.scores import EVALUATION, NO_SUCCESS, EpisodeResults
from zoo.settings.layers import dump_yaml, load_yaml
from zoo.settings.record import RunRecord
from zoo.terminal.errors import CannotResume, Interrupted, UsageError, describe_error
from zoo.terminal.messages import say_once

PHASES = ("offline", "online")
"""Names of the phases; an array named ``phase`` contains indices into this tuple."""
OFFLINE, ONLINE = range(2)
COLUMNS = ("timesteps", "phase", "results", "ep_lengths", "episode_seeds")
"""Arrays in every ``evaluations.npz``; ``successes`` is added if success is the score."""
Evaluations = dict[str, np.ndarray]
"""The evaluations of one seed so far, see :func:`with_evaluation`."""
STUDY = "study.yml"
"""File that marks the folder of a tuning study."""
STATUS, CONFIG, EVALUATIONS = "status.json", "config.yml", "evaluations.npz"
VERSIONS = "versions.json"
STATES = ("running", "done", "failed", "interrupted")
DIVERGED = "diverged"
"""Value of ``failure`` in the status of a diverged run; a run that failed for another reason lacks this entry."""
DEAD = "dead"
SHOWN_STATES = (*STATES, DIVERGED, DEAD)
STALE_AFTER = datetime.timedelta(days=1)
"""A run on another host counts as dead if its lock is free and its status is older than this."""
PROGRESS = {
    "time/total_timesteps": "steps",
    "time/updates_per_s": "speed",
    "time/fps": "online_speed",
}
"""Columns of ``progress.csv`` -> columns of `RunFolder.read_progress`."""
_SEED = re.compile(r"^seed: (0|[1-9]\d*)$", re.MULTILINE)


class UnreadableRun(UsageError):
    """A file of a run folder is missing or damaged.

    :param problem: the problem, as text that follows the file name.
    """

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file} {problem}")
        self.reason = f"{file.name} {problem}"


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert errors while reading a file to UnreadableRun, which names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableRun(path, "is missing") from error
    except KeyError as error:
        raise UnreadableRun(path, f"lacks {error}") from error
    except (
        OSError,
        TypeError,
        ValueError,
        LookupError,
        OverflowError,
        RecursionError,
        UsageError,
    ) as error:
        problem = str(error)
        if isinstance(error, DamagedFileError):
            problem = error.problem  # the text of the error names the file already
        problem = shorten(problem, 300, placeholder="...")  # YAML's errors may quote long content
        raise UnreadableRun(path, f"cannot be read: {problem}") from error


class RunFolder:
    """One run of one seed: ``{log}/{algo}/{env}_{k}/``. All files except the logs and the lock are written atomically.

    >>> run = RunFolder(Path("logs/qam/pointmaze-medium-navigate-singletask-task1-v0_1"))
    >>> run.read_status()["state"]
    'done'
    >>> run.read_evaluations()["results"].mean(axis=1)  # mean return of each evaluation
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = path / STATUS
        self.config = path / CONFIG
        self.evaluations = path / EVALUATIONS
        self.summary = path / "summary.json"
        self.progress = path / "progress.csv"
        self.checkpoints = path / "checkpoint"
        self.model = path / f"{path.name.rpartition('_')[0]}.zip"
        self.best_model = path / "best_model.zip"

    @cached_property
    def lock(self) -> Lock:
        """The lock, held by the process that trains the run."""
        return Lock(self.path / "lock")

    # -- ownership ----------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, log_folder: Path, algo: str, env: str) -> RunFolder:
        """Create and lock the folder with the next free number; simultaneous runs get different folders."""
        parent = log_folder / algo
        parent.mkdir(parents=True, exist_ok=True)
        first = 1 + max(numbered_folders(parent, env), default=0)
        for number in itertools.count(first):
            folder = cls(parent / f"{file_name_of(env)}_{number}")
            try:
                folder.path.mkdir()
            except FileExistsError:
                continue
            break
        folder.lock.take()  # the lock of a new folder is always free
        folder.write_status("running", 0, 0)
        return folder

    # -- status.json --------------------------------------------------------------------------------------------------

    def write_status(self, state: str, offline_step: int, online_step: int, **entries: Any) -> None:
        """Record the progress of the run, in gradient steps offline and environment steps online."""
        status = {
            "state": state,
            "offline_step": offline_step,
            "online_step": online_step,
            **entries,
            "host": HOST,  # `state_now` can test the lock only on this host
            "updated": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_text(self.status, json.dumps(status) + "\n")

    def read_status(self) -> dict[str, Any]:
        """Return the content of ``status.json``; its ``state`` is one of `STATES`.

        :raises UnreadableRun: if the file cannot be read, or has another state or time.
        """
        # defaults of optional entries
        status: dict[str, Any] = {"pretraining_step": 0, "reason": "", **_read_json(self.status)}
        with reading(self.status):
            if status["state"] not in STATES:
                raise ValueError(
                    f"`state` must be one of {', '.join(STATES)}, got {status['state']!r}"
                )
            datetime.datetime.fromisoformat(status["updated"])
        return status

    # -- config.yml and other files written before training ------------------------------------------------------------

    def write_config(self, record: RunRecord) -> None:
        """Write the record of the run, including its seed."""
        write_text(self.config, dump_yaml(record.plain()))

    def read_config(self) -> RunRecord:
        """Return the record of the run.

        :raises UnreadableRun: if ``config.yml`` cannot be read, lacks an entry or has a wrong value.
        """
        with reading(self.config):
            text = read_text(self.config)
            # with the seed replaced, records that differ only in the seed are parsed once; parsing YAML is slow
            record = _read_record(_SEED.sub("seed: 0", text))
            # there may be no match in a file not written by `write_config`
            for seed in _SEED.findall(text):
                record = replace(record, seed=int(seed))
        return record

    def trained_together(self, record: RunRecord) -> list[RunFolder]:
        """Return the folders of all replicas of this run.

        :param record: record of the run.
        :raises UnreadableRun: if a folder was renamed or copied, so that its name is missing or is another run's.
        """
        if record.folders is None:
            return [self]
        folders = [RunFolder(self.path.with_name(name)) for name in record.folders]
        for folder, seed in zip(folders, record.all_seeds, strict=True):
            if folder.read_config().plain() != {**record.plain(), "seed": seed}:
                raise UnreadableRun(
                    self.config,
                    f"names {folder.path.name}, which contains another run; restore the folders' names",
                )
        return folders

    def write_origin(self, versions: Mapping[str, Any]) -> None:
        """Record the command line and the versions of software and data."""
        write_text(self.path / "command.txt", shlex.join(sys.orig_argv) + "\n")
        write_text(self.path / VERSIONS, json.dumps(versions, indent=1) + "\n")

    def read_versions(self) -> dict[str, Any]:
        """Return the versions of software and data, as :meth:`write_origin` wrote them.

        :raises UnreadableRun: if their file cannot be read.
        """
        return {"packages": {}, "data": {}, **_read_json(self.path / VERSIONS)}

    def known_versions(self) -> dict[str, Any]:
        """Return the versions of software and data, or empty mappings if they cannot be read."""
        try:
            return self.read_versions()
        except UnreadableRun:
            return {"packages": {}, "data": {}}

    # -- evaluations.npz ----------------------------------------------------------------------------------------------

    def write_evaluations(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the evaluations so far; the bytes of the file depend only on the arrays."""
        with atomic_path(self.evaluations) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    def read_evaluations(self) -> dict[str, np.ndarray]:
        """Return the evaluations so far; there is at least one.

        :return: the arrays of `zoo.runs.folder.COLUMNS`, and ``successes`` if the file has them; row t of each array
            is evaluation t.
        :raises UnreadableRun: if the file is missing or damaged.
        """
        with reading(self.evaluations):
            arrays = read_npz(self.evaluations, (*COLUMNS, "successes"))
            shape = arrays["results"].shape
            if len(shape) != 2 or 0 in shape:
                raise ValueError(f"`results` must be (evaluations, episodes), got {shape}")
        return arrays

    # -- summary.json: evaluations of a finished run, for reports ----------------------------------------------------

    def write_summary(self, rows: np.ndarray) -> None:
        """Write the summary of a finished run; call this before writing the status ``done``.

        :param rows: evaluations of the run, as an array of dtype `EVALUATION`.
        """
        evaluations = [dict(zip(EVALUATION.names or (), row, strict=True)) for row in rows.tolist()]
        write_text(self.summary, json.dumps({"evaluations": evaluations}) + "\n")

    def read_summary(self) -> np.ndarray:
        """Return the evaluations in the summary, as an array of dtype `EVALUATION`.

        :raises UnreadableRun: if the file is missing or damaged.
        """
        content = _read_json(self.summary)
        with reading(self.summary):
            rows = [
                tuple(row[name] for name in EVALUATION.names or ())
                for row in content["evaluations"]
            ]
            return np.array(rows, EVALUATION)

    # -- progress.csv -------------------------------------------------------------------------------------------------

    def read_progress(self) -> pd.DataFrame:
        """Return ``progress.csv`` with the columns steps and speed; rows of evaluations have no speed.

        Speed is in updates per second offline, and in environment steps per second online. Steps are counted from the
        start of the run, including pretraining. An incomplete last line is ignored.

        :raises UnreadableRun: if the file is missing or damaged.
        """
        with reading(self.progress):
            text = read_text(self.progress)
            table = pd.read_csv(io.StringIO(text[: text.rfind("\n") + 1]))
            table = table.reindex(columns=list(PROGRESS)).rename(columns=PROGRESS).astype(float)
        table["speed"] = table["speed"].fillna(table["online_speed"])
        return table


def _read_json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file of a run folder."""
    with reading(path):
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise ValueError(f"it must be a mapping, got {shorten(repr(content), 60)}")
    return content


@lru_cache(maxsize=2048)
def _read_record(text: str) -> RunRecord:
    """Return the record in the text of a ``config.yml``; the record is cached, so callers must not change it."""
    content = load_yaml(text, "it")
    return RunRecord.read(content if isinstance(content, dict) else {})


def with_evaluation(
    history: Evaluations, timesteps: int, phase: int, results: EpisodeResults, replica: int
) -> Evaluations:
    """Append an evaluation to one seed's evaluations; the arrays are named as in Stable-Baselines3's ``EvalCallback``.

    Row t of every array is one evaluation. Arrays of shape (T,) are ``timesteps`` and ``phase`` (0 offline, 1 online).
    Arrays of shape (T, episodes) are ``results`` (returns), ``ep_lengths``, ``episode_seeds`` and, once success is the
    score, ``successes``.

    :param history: earlier evaluations; empty if there are none.
    :param timesteps: gradient steps since the end of pretraining, plus environment steps.
    :param results: results from `zoo.runs.scores.ScoringRule.apply`.
    :param replica: index of the replica, from 0 to S - 1.
    """
    row = {
        "timesteps": np.array(timesteps, np.int64),
        "phase": np.array(phase, np.int64),
        "results": results.returns[replica],
        "ep_lengths": results.lengths[replica],
        "episode_seeds": results.seeds,
    }
    if results.successes is not None:
        row["successes"] = results.successes[replica]
    if not history:
        return {name: values[None] for name, values in row.items()}
    if "successes" in row and "successes" not in history:
        # This environment reports success but not failure, so all earlier episodes were failures.
        history = {**history, "successes": np.zeros(history["results"].shape, np.int64)}
    return {name: np.concatenate([history[name], values[None]]) for name, values in row.items()}


def summarise(history: Evaluations) -> np.ndarray:
    """Return one seed's evaluations, summarised over episodes, as an array of dtype `EVALUATION`."""
    if not history:
        return np.empty(0, EVALUATION)
    rows = np.empty(len(history["results"]), EVALUATION)
    rows["phase"] = history["phase"]
    rows["step"] = history["timesteps"]
    rows["episodes"] = history["results"].shape[1]
    rows["successes"] = NO_SUCCESS
    if "successes" in history:
        rows["successes"] = history["successes"].sum(axis=1)
    rows["return"] = history["results"].mean(axis=1)
    rows["length"] = history["ep_lengths"].mean(axis=1)
    return rows


def file_name_of(env: str) -> str:
    """Return the name of an environment in file names: ``module__ns__Name-v0`` for ``module:ns/Name-v0``."""
    return env.replace("/", "__").replace(":", "__")


def short_name(environment: str) -> str:
    """Return the short name of an environment, e.g. ``scene-play task1``."""
    return environment.replace("-singletask-", " ").removesuffix("-v0")


def numbered_folders(parent: Path, env: str) -> dict[int, Path]:
    """Return number -> folder for an environment's runs."""
    prefix = f"{file_name_of(env)}_"
    folders = {}
    for path in parent.glob(f"{prefix}*"):
        number = path.name.removeprefix(prefix)
        # The name of another environment may start with this prefix.
        if number.isdecimal():
            folders[int(number)] = path
    return folders


def find_run_folders(paths: Iterable[Path]) -> list[Path]:
    """Return the path of every run folder at or below some paths, sorted, each once.

    Symbolic links are followed; a folder with several paths is returned once, under the first path. Trials of a study
    are not results, so they are found only if the study's folder, or a folder in it, is one of the paths.
    """
    run_folders: list[str] = []
    visited: set[str] = set()
    for path in paths:
        if not path.is_dir():
            raise UsageError(
                f"expected a folder of runs, got `{path}`, which is not a folder; check the path"
            )
        for folder, names, files in os.walk(path, onerror=_warn_of_skipped, followlinks=True):
            real_path = os.path.realpath(folder)
            if real_path in visited:  # a link may lead back to a folder above it
                names.clear()
                continue
            visited.add(real_path)
            is_study = STUDY in files and folder != str(path)
            # a run may have lost one of these files, so two suffice; a single one may belong to another program
            is_run = len({STATUS, CONFIG, EVALUATIONS}.intersection(files)) > 1
            if is_run and not is_study:
                run_folders.append(folder)
            if is_run or is_study:
                names.clear()
            # visit real folders before links, so that the path without links is returned; skip hidden folders, e.g. a
            # trash
            names[:] = [name for name in names if not name.startswith(".")]
            names.sort(key=lambda name: (os.path.islink(f"{folder}/{name}"), name))
    return [Path(folder) for folder in sorted(run_folders, key=lambda path: path.split(os.sep))]


def _warn_of_skipped(error: OSError) -> None:
    """Warn that a folder could not be read, e.g. another user's; one removed meanwhile is not an error."""
    if not isinstance(error, FileNotFoundError):
        say_once(f"a folder was skipped, with any runs in it: {error}")


@contextlib.contextmanager
def ending_recorded(folders: Sequence[RunFolder]) -> Iterator[None]:
    """Record an exception in the status of the runs that it ends, and release the runs' locks.

    :param folders: the run folders; more may be appended later.
    """
    try:
        yield
    except CannotResume:
        raise  # leave the runs unchanged
    except BaseException as error:
        ending = "failed"
        if isinstance(error, KeyboardInterrupt | Interrupted):
            ending = "interrupted"
        for folder in folders:
            # Recording often fails for the same reason as the run, and the run's error is more useful.
            with contextlib.suppress(OSError, UnreadableRun):
                status = folder.read_status()
                # the states done and failed were written before the exception
                if status["state"] not in ("done", "failed"):
                    status |= {"state": ending, "reason": describe_error(error)}
                    folder.write_status(**status)
        raise
    finally:
        for folder in folders:
            folder.lock.release()


def state_now(folder: RunFolder, status: Mapping[str, Any]) -> str:
    """Return a run's state: ``dead`` if its process is gone, ``diverged``, or the state in its ``status.json``.

    A ``running`` run whose lock is free is dead if its status was written on this host. A lock taken on another host
    may not be visible here, and a copied folder is not locked. Therefore a run on another host is dead only if its
    status is also more than a day old. If locks cannot be tested, the state in ``status.json`` is returned.

    :param status: content of ``status.json``.
    """
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(status["updated"])
    is_of_here = status.get("host") == HOST
    may_be_dead = status["state"] == "running" and (is_of_here or age > STALE_AFTER)
    # `is_held` returns None if the storage does not support locks.
    is_free = may_be_dead and folder.lock.is_held() is False
    # a process that ends writes its status before it releases the lock, maybe since the status was read
    if is_free and folder.read_status() == status:
        return DEAD
    return str(status.get("failure", status["state"]))
