"""Processes of an evaluation that die, or that hang."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from benchmarks.fault_suite.kills import STOP_SECONDS, wait_for
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, INTERRUPTED, NAMES, Broken, Lab, require, run_folder
from benchmarks.fault_suite.programs import Running

PATIENCE = {"zoo.processes.heartbeat:PATIENCE": 30.0}
"""Seconds until a process is said to hang: ten minutes are too long for many tries."""
ONE_SEED = tuple(name for name in NAMES if "two" not in name)


def workers_of(running: Running) -> list[int]:
    """Return the processes that play for a program: those that its fork server has made."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    children = [pid for pid, parent in parents.items() if parent == running.pid]
    return sorted(pid for pid, parent in parents.items() if parent in children)


def _disturb(lab: Lab, running: Running, by: str) -> bool:
    """Send a signal to a process that plays, at a random time; return whether there was one."""
    while not (found := workers_of(running)):
        if running.has_ended(0.02):
            return False
    running.has_ended(lab.draw.uniform(0, 2))
    found = workers_of(running) or found
    with contextlib.suppress(ProcessLookupError):
        os.kill(lab.draw.choice(found), getattr(signal, by))
        return True
    return False


@kind("worker-killed", "a process of the evaluation killed", "its episodes are played again; the run ends equal", 6)
def kill_worker(lab: Lab) -> None:
    """Kill a process that plays, up to twice."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "logs"
    running = lab.start(name, logs, "--n-eval-envs", "2")
    for _ in range(lab.draw.randint(1, 2)):
        _disturb(lab, running, "SIGKILL")
    require(running.wait(), DONE)
    lab.require_same(name, logs)


@kind("worker-stopped", "a process of the evaluation hangs (SIGSTOP)", "it is replaced; the run ends equal", 4)
def stop_worker(lab: Lab) -> None:
    """Stop a process that plays."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "logs"
    running = lab.start(name, logs, "--n-eval-envs", "2", constants=PATIENCE)
    if lab.seed % 2:  # else while it builds
        wait_for(running, run_folder(logs, name) / "checkpoint")
    _disturb(lab, running, "SIGSTOP")
    require(running.wait(), DONE)
    lab.require_same(name, logs)


@kind(
    "worker-signal",
    "SIGTERM while a process of the evaluation hangs",
    f"it stops within {STOP_SECONDS:.0f} s, exit 3; resumed, it ends equal",
    4,
)
def stop_worker_and_run(lab: Lab) -> None:
    """Stop a process that plays, and then ask the run to end."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "logs"
    running = lab.start(name, logs, "--n-eval-envs", "2")
    if lab.seed % 2:  # else while it builds, before there is a run folder
        wait_for(running, run_folder(logs, name) / "checkpoint")
    _disturb(lab, running, "SIGSTOP")
    running.has_ended(lab.draw.uniform(0, 2))
    running.send("SIGTERM")
    begin = time.monotonic()
    require(running.wait(), INTERRUPTED, DONE)
    if time.monotonic() - begin > STOP_SECONDS:
        raise Broken(f"it took {time.monotonic() - begin:.1f} s to stop")
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, ordered=False)


@kind(
    "worker-background",
    "the process of an evaluation beside training (`--eval-mode async`) killed",
    "resumed if it ended with a message, it ends with the same models and evaluations",
    2,
)
def kill_background(lab: Lab) -> None:
    """Kill the process that evaluates beside training."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "logs"
    running = lab.start(name, logs, "--eval-mode", "async")
    _disturb(lab, running, "SIGKILL")
    if require(running.wait(), DONE, 1).code != DONE:
        require(lab.train(name, logs, "--eval-mode", "async"), DONE)
    lab.require_same(name, logs, ordered=False)
