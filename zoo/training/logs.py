"""The logs of a run, one for each replica, and how they continue after an interruption without repeating a row.

``progress.csv`` and TensorBoard's events are always written; a tracker (Weights & Biases or trackio) gets a copy of
each row, in a run of its own for each run folder. The folder records the id of that run and the last row that was sent,
so that a resumed run goes on in the same tracker run and sends what is missing there, and nothing twice.

A tracker that refuses a new run ends it before it trains: nothing is lost yet. After that a tracker ends no training.
What fails is said once, and training goes on without the tracker.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from agents.common.files import naming
from agents.common.replicas import PerReplica
from zoo.errors import UsageError
from zoo.packages import import_optional
from zoo.runs.folder import RunFolder, describe_error
from zoo.settings.config import Config
from zoo.terminal.messages import log
from zoo.training.replicas import Replicas

STEP = "time/total_timesteps"
PROJECT = "flow-rl-zoo"


class Wandb:
    """Weights & Biases."""

    title = "Weights & Biases"
    hint = "log in with `wandb login`, or set WANDB_MODE=offline and upload later with `wandb sync`"

    def begin(self, record: Mapping[str, Any], args: argparse.Namespace, name: str, config: dict[str, Any]) -> Any:
        """Return a run; the x axis of its charts is the training step."""
        run = importlib.import_module("wandb").init(
            project=record["project"],
            entity=record["entity"],
            group=args.wandb_group,
            tags=args.wandb_tags,
            name=name,
            id=record["id"],
            resume="allow",
            config=config,
            reinit="create_new",  # beside the runs of other seeds
        )
        run.define_metric("*", step_metric=STEP)
        return run

    def send(self, run: Any, step: int, numbers: dict[str, float]) -> None:
        """Add a row; its step is a value, since W&B's own never goes back, and evaluations beside training do."""
        run.log({STEP: step, **numbers})

    def finish(self, run: Any, exit_code: int) -> None:
        """End a run."""
        run.finish(exit_code=exit_code)


class Trackio:
    """trackio, which keeps runs on this machine, or in a Space (TRACKIO_SPACE_ID)."""

    title = "trackio"
    hint = "check TRACKIO_DIR, TRACKIO_SPACE_ID and TRACKIO_SERVER_URL"

    def begin(self, record: Mapping[str, Any], args: argparse.Namespace, name: str, config: dict[str, Any]) -> Any:
        """Return a run, which trackio finds again by its name."""
        begin = partial(
            importlib.import_module("trackio").init,
            record["project"],
            f"{name}-{record['id']}",
            embed=False,
            group=args.wandb_group,
            config=config,
            resume="allow",
        )
        return copy_context().run(begin)  # it ends the run that its context knows, here that of another seed

    def send(self, run: Any, step: int, numbers: dict[str, float]) -> None:
        """Add a row."""
        run.log(numbers, step=step)

    def finish(self, run: Any, exit_code: int) -> None:
        """End a run."""
        run.finish()


TRACKERS: dict[str, Wandb | Trackio] = {"wandb": Wandb(), "trackio": Trackio()}
"""What ``--track`` takes; the names are those of the packages."""


def check_tracking(args: argparse.Namespace) -> None:
    """Refuse a tracker that is not installed, and options that it does not have or that need one."""
    flags = ("wandb_project_name", "wandb_entity", "wandb_group", "wandb_tags")
    given = [f"--{name.replace('_', '-')}" for name in flags if getattr(args, name)]
    if not args.track:
        if given:
            raise UsageError(f"`{given[0]}` needs --track, which is not given; add it, or leave out `{given[0]}`")
        return
    unknown = [flag for flag in given if flag in ("--wandb-entity", "--wandb-tags")]
    if args.track == "trackio" and unknown:
        raise UsageError(f"trackio has no `{unknown[0]}`; leave it out, or use --track wandb")
    import_optional(args.track, TRACKERS[args.track].title, "`--track`", args.track)


class TrackedRun:
    """Sends the rows of one run to its tracker; no failure of the tracker is raised after the beginning.

    :param name: of the tracker, in :data:`TRACKERS`.
    :param folder: of the run, which records what was sent.
    :param record: id, project and entity of the tracker's run, and the last steps that it has.
    """

    def __init__(self, name: str, folder: RunFolder, record: dict[str, Any]) -> None:
        self._tracker, self._name, self._folder, self._record = TRACKERS[name], name, folder, record
        self._run: Any = None  # the tracker's; None once the tracker has failed

    def begin(self, *about: Any, is_new: bool) -> None:
        """Begin the tracker's run, or go on with it.

        :param about: arguments of the tracker's own ``begin``.
        :raises UsageError: if the tracker refuses a run that has not trained yet.
        """
        with self._survived("refused", is_new):
            self._run = self._tracker.begin(self._record, *about)
        self._folder.write_tracking(self._name, self._record)

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Send the numbers of a row, unless the tracker has it already."""
        numbers = {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, (int, float, np.number)) and key != STEP
        }
        kind = "evaluations" if any(key.startswith("eval/") for key in numbers) else "training"
        if self._run is None or not numbers or step <= self._record.get(kind, -1):
            return
        with self._survived(f"failed at step {step} for"):
            self._tracker.send(self._run, step, numbers)
            self._record[kind] = step
        self._folder.write_tracking(self._name, self._record)

    def finish(self, exit_code: int) -> None:
        """End the tracker's run."""
        with self._survived("could not end its run for"):
            if self._run is not None:
                self._tracker.finish(self._run, exit_code)

    @contextlib.contextmanager
    def _survived(self, what: str, is_new: bool = False) -> Iterator[None]:
        """Go on without the tracker after whatever it raises: the run is worth more, unless it has not trained yet."""
        try:
            with contextlib.redirect_stdout(sys.stderr):  # the last line on stdout is the result
                yield
        except Exception as error:
            self._run = None
            told = f"{self._tracker.title} {what} {self._folder.path.name} ({describe_error(error)})"
            if is_new:
                raise UsageError(f"{told}; {self._tracker.hint}, or leave out --track") from error
            rest = "progress.csv and TensorBoard have every row, and --resume sends the missing ones"
            log.warning("%s; training goes on without it; %s", told, rest)


@contextlib.contextmanager
def tracked(
    args: argparse.Namespace, config: Config, replicas: Replicas, position: Mapping[str, Any] | None
) -> Iterator[dict[int, TrackedRun]]:
    """Begin a tracker run for each replica that has not failed, if that is asked for, and end them.

    :param position: of the logs of a run that is resumed.
    :yields: them by replica.
    """
    runs: dict[int, TrackedRun] = {}
    exit_code = 1
    new = {"project": args.wandb_project_name or PROJECT, "entity": args.wandb_entity}
    try:
        for replica in replicas.active if args.track else ():
            folder, seed = replicas.folders[replica], replicas.seeds[replica]
            record = folder.read_tracking(args.track) or {"id": secrets.token_hex(4), **new}
            runs[replica] = run = TrackedRun(args.track, folder, record)
            name, settings = f"{config.algo}_{folder.path.name}", config.record() | {"seed": seed}
            run.begin(args, name, settings, is_new=position is None)
            if position is not None and position["tables"]:
                for row in csv.DictReader(io.StringIO(position["tables"][replica])):
                    run.write({key: float(value) for key, value in row.items() if value}, int(row[STEP]))
        yield runs
        exit_code = 0
    finally:
        for replica, run in runs.items():
            run.finish(1 if replica in replicas.failed else exit_code)


class ProgressTable(CSVOutputFormat):
    """SB3's CSV with the step as its first column, in every row."""

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Append a row."""
        path = Path(self.file.name)
        with naming(path.with_name(path.name.removeprefix("."))):  # see `_reopen_csv`
            if not self.keys:
                self.keys = [STEP]
                self.file.write(f"{STEP}\n")
            super().write({**key_values, STEP: step}, key_excluded, step)


class ReplicaLogger(Logger):
    """Writes ``progress.csv`` and TensorBoard events for each replica, with its own value where one is known.

    Nothing more is written of a replica that has failed.

    :param position: what :meth:`position` returned at a checkpoint, with what :meth:`tables` returned as ``tables``, to
        continue from there; None begins new files.
    :param trackers: replica -> its run of a tracker, which gets each row too.
    """

    def __init__(
        self,
        replicas: Replicas,
        tensorboard: Sequence[Path],
        position: Mapping[str, Any] | None = None,
        trackers: Mapping[int, TrackedRun] | None = None,
    ) -> None:
        self._replicas, self._trackers = replicas, trackers or {}
        files = [folder.progress for folder in replicas.folders]
        self._events = [TensorBoardOutputFormat(str(folder)) for folder in tensorboard]
        if position is None:
            self._tables = [ProgressTable(str(file)) for file in files]
        else:
            tables = position["tables"] or [""] * len(files)
            self._tables = [_reopen_csv(file, text) for file, text in zip(files, tables, strict=True)]
            for events in self._events:
                _hide_later_events(events, position["step"])
        super().__init__(str(replicas.folders[0].path), [*self._tables, *self._events])
        if position is not None:
            self.name_to_value.update(position["pending"])
            self.name_to_count.update(position["counts"])
            self.name_to_excluded.update(position["excluded"])

    def record(self, key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
        """Note a value; a mean over replicas does not replace their own values."""
        if isinstance(self.name_to_value.get(key), PerReplica) and not isinstance(value, PerReplica):
            return
        super().record(key, value, exclude)

    def dump(self, step: int = 0) -> None:
        """Write what was recorded."""
        self.write(self.name_to_value, step, self.name_to_excluded)
        self.name_to_value.clear()
        self.name_to_count.clear()
        self.name_to_excluded.clear()

    def write(
        self, values: Mapping[str, Any], step: int, excluded: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        """Write a row, apart from what is recorded.

        :param excluded: name -> formats that leave the value out.
        """
        left_out = {name: (excluded or {}).get(name, ("",)) for name in values}
        for replica in self._replicas.active:
            own = {
                name: float(value.values[replica]) if isinstance(value, PerReplica) else value
                for name, value in values.items()
            }
            self._tables[replica].write(own, left_out, step)
            with naming(Path(self._events[replica].writer.log_dir) / "events.out.tfevents"):
                self._events[replica].write(own, left_out, step)
            if replica in self._trackers:
                self._trackers[replica].write(own, step)

    def position(self, step: int) -> dict[str, Any]:
        """Return how far the logs are, and what is recorded but not written yet."""
        plain = (int, float, str, np.generic)
        pending = {name: value for name, value in self.name_to_value.items() if isinstance(value, plain)}
        counts = {name: count for name, count in self.name_to_count.items() if name in pending}
        excluded = {name: self.name_to_excluded[name] for name in pending}
        return {"step": step, "pending": pending, "counts": counts, "excluded": excluded}

    def tables(self) -> list[str]:
        """Return each ``progress.csv`` so far."""
        return [_read_again(table.file) for table in self._tables]


BEGINNING: dict[str, Any] = {"step": -1, "tables": None, "pending": {}, "counts": {}, "excluded": {}}


def _read_again(file: TextIO) -> str:
    """Return what was written to a file, whose position is at its end again."""
    file.seek(0)
    return file.read()


def _reopen_csv(path: Path, text: str) -> ProgressTable:
    """Return an open ``progress.csv`` that holds a text; a crash leaves either the old one or the new one."""
    temporary = path.with_name(f".{path.name}")
    output = ProgressTable(str(temporary))
    output.file.write(text)
    output.file.flush()
    output.keys = text.partition("\n")[0].split(output.separator) if text else []
    os.replace(temporary, path)  # the open file follows
    return output


def _hide_later_events(events: TensorBoardOutputFormat, step: int) -> None:
    """Make TensorBoard drop what an earlier process wrote after a step."""
    writer: Any = events.writer.file_writer
    writer.add_event(Event(step=step + 1, file_version="brain.Event:2"))
    writer.add_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
