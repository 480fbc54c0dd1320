"""The logs of a run, one for each replica, and how they continue after an interruption without repeating a row.

``progress.csv`` and TensorBoard's events are always written; Weights & Biases follows the events on demand.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from agents.common.files import naming
from agents.common.replicas import PerReplica
from zoo.errors import UsageError
from zoo.packages import import_optional
from zoo.runs.folder import describe_error
from zoo.settings.record import RunRecord
from zoo.training.replicas import Replicas

STEP = "time/total_timesteps"
PROJECT = "flow-rl-zoo"


def check_tracking(args: argparse.Namespace) -> None:
    """Refuse ``--track`` without its package, and its options without ``--track``."""
    flags = ("wandb_project_name", "wandb_entity", "wandb_group", "wandb_tags")
    given = [f"--{name.replace('_', '-')}" for name in flags if getattr(args, name)]
    if args.track:
        import_optional("wandb", "Weights & Biases", "`--track`", "wandb")
    elif given:
        raise UsageError(f"`{given[0]}` needs --track, which is not given; add it, or leave out `{given[0]}`")


@contextlib.contextmanager
def tracked(args: argparse.Namespace, config: RunRecord, replicas: Replicas) -> Iterator[None]:
    """Let Weights & Biases follow the TensorBoard events that a `with` block writes, if that is asked for.

    A resumed run goes on in its run there.

    :raises UsageError: if it refuses the run.
    """
    if not args.track:
        yield
        return
    folder = replicas.folders[0]
    exit_code = 1
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the last line on stdout is the result
            run = importlib.import_module("wandb").init(
                project=args.wandb_project_name or PROJECT,
                entity=args.wandb_entity,
                group=args.wandb_group,
                tags=args.wandb_tags,
                name=f"{config.algo}_{folder.path.name}",
                id=folder.tracking_id(),
                resume="allow",
                config=config.plain() | {"seeds": list(replicas.seeds)},
                sync_tensorboard=True,
            )
    except Exception as error:
        raise UsageError(
            f"Weights & Biases refused {folder.path.name} ({describe_error(error)}); log in with `wandb login`, set "
            "WANDB_MODE=offline and upload later with `wandb sync`, or leave out --track"
        ) from error
    try:
        yield
        exit_code = 0
    finally:
        with contextlib.redirect_stdout(sys.stderr):
            run.finish(exit_code=exit_code)


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
    """

    def __init__(
        self,
        replicas: Replicas,
        tensorboard: Sequence[Path],
        position: Mapping[str, Any] | None = None,
    ) -> None:
        self._replicas = replicas
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
