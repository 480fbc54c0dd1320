"""Trackers: Weights & Biases and trackio, with one of their runs for each run folder.

``progress.csv`` and TensorBoard's events are always written; a tracker gets a copy of each row. A run folder records
the id of its tracker run and the last row that was sent, so that a resumed run goes on in the same tracker run and
sends what is missing there, and nothing twice.

A tracker that refuses a new run ends it before it trains: nothing is lost yet. After that a tracker ends no training.
What fails is said once, and training goes on without the tracker.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np

from zoo.errors import UsageError
from zoo.packages import import_optional
from zoo.runs.folder import RunFolder, UnreadableRun, describe_error
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

    :param folder: of the run, which records what was sent.
    :param run: the tracker's; None if the tracker has failed.
    """

    def __init__(self, folder: RunFolder, name: str, run: Any, record: dict[str, Any]) -> None:
        self._folder, self._name, self._run = folder, name, run
        self._record = record
        self._tracker = TRACKERS[name]

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
        try:
            self._tracker.send(self._run, step, numbers)
        except Exception as error:  # whatever a tracker raises, the run is worth more
            self._give_up(f"failed at step {step}", error)
        else:
            self._record[kind] = step
            self._folder.write_tracking(self._name, self._record)

    def send_table(self, text: str) -> None:
        """Send the rows of a ``progress.csv`` that the tracker does not have."""
        for row in csv.DictReader(io.StringIO(text)):
            self.write({key: float(value) for key, value in row.items() if value}, int(row[STEP]))

    def finish(self, exit_code: int) -> None:
        """End the tracker's run."""
        if self._run is not None:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # the last line on stdout is the result
                    self._tracker.finish(self._run, exit_code)
            except Exception as error:
                self._give_up("could not end its run", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._run = None
        log.warning(
            "%s %s for %s (%s); training goes on without it; progress.csv and TensorBoard have every row, and "
            "--resume sends the missing ones",
            self._tracker.title,
            what,
            self._folder.path.name,
            describe_error(error),
        )


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
    try:
        for replica in replicas.active if args.track else ():
            runs[replica] = _begin(args, config, replicas.folders[replica], replicas.seeds[replica], position)
            if position is not None and position["tables"]:
                runs[replica].send_table(position["tables"][replica])
        yield runs
        exit_code = 0
    finally:
        for replica, run in runs.items():
            run.finish(1 if replica in replicas.failed else exit_code)


def _begin(
    args: argparse.Namespace, config: Config, folder: RunFolder, seed: int, position: Mapping[str, Any] | None
) -> TrackedRun:
    """Begin the tracker run of a run folder, or go on with it.

    :raises UsageError: if the tracker refuses a run that has not trained yet.
    """
    tracker, run = TRACKERS[args.track], None
    record = {"id": secrets.token_hex(4), "project": args.wandb_project_name or PROJECT, "entity": args.wandb_entity}
    try:
        record = folder.read_tracking(args.track) or record
    except UnreadableRun as error:
        log.warning("%s; a new run of %s begins", error, tracker.title)
    name, settings = f"{config.algo}_{folder.path.name}", config.record() | {"seed": seed}
    try:
        with contextlib.redirect_stdout(sys.stderr):
            run = tracker.begin(record, args, name, settings)
    except Exception as error:
        refused = f"{tracker.title} refused {folder.path.name} ({describe_error(error)}); {tracker.hint}"
        if position is None:
            raise UsageError(f"{refused}, or leave out --track") from error
        log.warning("%s, and resume again to send what is missing; the run goes on without it", refused)
    else:
        folder.write_tracking(args.track, record)
    return TrackedRun(folder, args.track, run, record)
