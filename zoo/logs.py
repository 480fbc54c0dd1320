"""The log of a run, and how it goes on after an interruption without a row twice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat

CSV_NAME = "progress.csv"
BEGINNING: dict[str, Any] = {"step": -1, "lines": 0, "pending": {}, "counts": {}, "excluded": {}}


def open_log(folder: Path, tensorboard: Path, position: Mapping[str, Any] | None = None) -> Logger:
    """Return a logger that writes ``progress.csv`` and TensorBoard events.

    :param folder: of ``progress.csv``.
    :param tensorboard: of the events.
    :param position: what :func:`log_position` returned at a checkpoint, to go on from there; None starts anew.
    :return: the logger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    events = TensorBoardOutputFormat(str(tensorboard))
    if position is None:
        return Logger(str(folder), [CSVOutputFormat(str(folder / CSV_NAME)), events])
    _hide_later_events(events, position["step"])
    logger = Logger(str(folder), [_reopen_csv(folder / CSV_NAME, position["lines"]), events])
    logger.name_to_value.update(position["pending"])
    logger.name_to_count.update(position["counts"])
    logger.name_to_excluded.update(position["excluded"])
    return logger


def log_position(logger: Logger, step: int) -> dict[str, Any]:
    """Return how far a log is: the lines of ``progress.csv``, and what is recorded but not written yet.

    :param logger: the logger.
    :param step: the training step.
    :return: plain values for :func:`open_log`.
    """
    formats = [output for output in logger.output_formats if isinstance(output, CSVOutputFormat)]
    lines = 0
    for output in formats:
        output.file.seek(0)
        lines = sum(1 for _ in output.file)  # and the file is at its end again
    plain = (int, float, str, np.generic)
    pending = {name: value for name, value in logger.name_to_value.items() if isinstance(value, plain)}
    counts = {name: count for name, count in logger.name_to_count.items() if name in pending}
    excluded = {name: logger.name_to_excluded[name] for name in pending}
    return {"step": step, "lines": lines, "pending": pending, "counts": counts, "excluded": excluded}


def _reopen_csv(path: Path, lines: int) -> CSVOutputFormat:
    """Return an open ``progress.csv`` that holds the first lines of the old one; a crash leaves one of the two."""
    with open(path) as file:
        kept = [line for _, line in zip(range(lines), file, strict=False)]
    temporary = path.with_name(f".{path.name}")
    output = CSVOutputFormat(str(temporary))
    output.file.writelines(kept)
    output.file.flush()
    output.keys = kept[0].rstrip("\n").split(output.separator) if kept else []
    os.replace(temporary, path)  # the open file follows
    return output


def _hide_later_events(events: TensorBoardOutputFormat, step: int) -> None:
    """Let TensorBoard drop what an earlier process wrote beyond a step."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    writer = events.writer.file_writer
    writer.add_event(Event(step=step + 1, file_version="brain.Event:2"))
    writer.add_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
