"""Processes that end at once, or that are asked to."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    CONFIGURATIONS,
    DONE,
    INTERRUPTED,
    KILLED,
    Broken,
    Lab,
    require,
    run_folder,
)
from benchmarks.fault_suite.programs import Running

EQUAL = "resumed, it ends bit for bit as an undisturbed run"
STOP_SECONDS = 10.0
EVENTS = {"update": 22, "step": 16, "write": 40, "evaluation": 4, "status": 5, "model": 2, "play": 12}
"""Where a run can be killed, and about how often that comes in one."""


def wait_for(running: Running, path: Path) -> None:
    """Wait until a path exists or the program ends."""
    while not path.exists() and not running.has_ended(0.02):
        pass


def last_folders(logs: Path, name: str) -> tuple[int, ...]:
    """Return the numbers of the folders of the newest run: one that was killed while it made them leaves some."""
    folders = (logs / CONFIGURATIONS[name].algo).glob(f"{run_folder(logs, name).name[:-1]}*")
    return tuple(sorted(int(path.name.rpartition("_")[2]) for path in folders)[-CONFIGURATIONS[name].replicas :])


@kind("kill-event", "`kill -9` at an update, step, checkpoint, evaluation, status or model", EQUAL, 20)
def kill_at_event(lab: Lab) -> None:
    """Kill a run right after some event, resume it, and do that twice at most."""
    name, logs = lab.configuration(), lab.folder / "logs"
    for _ in range(lab.draw.randint(1, 2)):
        event = lab.draw.choice(list(EVENTS))
        require(lab.train(name, logs, kill=(event, lab.draw.randint(1, EVENTS[event]))), KILLED, DONE)
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, last_folders(logs, name))


@kind("kill-write", "`kill -9` while a checkpoint is written", EQUAL, 8)
def kill_within_checkpoint(lab: Lab) -> None:
    """Kill a run between two files of a checkpoint."""
    name, logs = lab.configuration(), lab.folder / "logs"
    require(lab.train(name, logs, kill=("write", lab.draw.randint(2, 40))), KILLED, DONE)
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs)


@kind("kill-time", "`kill -9` at a random time", EQUAL, 10)
def kill_at_random_time(lab: Lab) -> None:
    """Kill a run some time after it has made its folder."""
    name, logs = lab.configuration(), lab.folder / "logs"
    undisturbed = _seconds_of_training(lab, name)
    running = lab.start(name, logs)
    wait_for(running, run_folder(logs, name))
    if not running.has_ended(lab.draw.uniform(0, undisturbed)):
        running.send("SIGKILL")
    require(running.wait(), KILLED, DONE)
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, last_folders(logs, name))


@kind("signal", "SIGTERM or SIGINT at a random time", f"it stops within {STOP_SECONDS:.0f} s, exit 3; {EQUAL}", 16)
def ask_to_stop(lab: Lab) -> None:
    """Ask a run to stop some time after it has made its folder."""
    name, logs = lab.configuration(), lab.folder / "logs"
    undisturbed = _seconds_of_training(lab, name)
    running = lab.start(name, logs)
    wait_for(running, run_folder(logs, name))
    running.has_ended(lab.draw.uniform(0, undisturbed))
    running.send(lab.draw.choice(["SIGTERM", "SIGINT"]))
    begin = time.monotonic()
    ended = require(running.wait(), INTERRUPTED, DONE)
    if time.monotonic() - begin > STOP_SECONDS:
        raise Broken(f"it took {time.monotonic() - begin:.1f} s to stop: {ended.err[-500:]}")
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, last_folders(logs, name), ordered=False)


def _seconds_of_training(lab: Lab, name: str) -> float:
    """Return how long the undisturbed run took from the making of its folder to its end."""
    folder = run_folder(lab.reference(name), name)
    return (folder / "status.json").stat().st_mtime - (folder / "command.txt").stat().st_mtime
