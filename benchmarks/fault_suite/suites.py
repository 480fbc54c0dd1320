"""Suites: jobs that misbehave, claims that are spoiled, and programs that are ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import yaml

from benchmarks.fault_suite.kills import STOP_SECONDS
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, INTERRUPTED, KILLED, Broken, Lab, require
from benchmarks.fault_suite.programs import Running

AGENT = '''
import os, subprocess
from pathlib import Path

import agents
from agents.fql import FQL


@agents.register("faulty", paper="none", published_name="Faulty")
class Faulty(FQL):
    """FQL that does what a file says at each update."""

    def losses(self, *arguments):
        fault = Path("fault").read_text()
        if fault == "prints":
            print("o" * 1000, flush=True)
        elif fault:
            Path("fault").write_text("")
        if fault == "leaves":
            Path("left").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
        if fault == "quits":
            os._exit(0)
        return super().losses(*arguments)
'''
EQUAL = "the suite ends, each run once and equal to an undisturbed one"


def _start(lab: Lab, folder: Path) -> Running:
    words: list[str | Path] = ["suite.yml", "-f", folder / "logs", "--device", "cpu", "--no-report", "--compile", "off"]
    return lab.programs.start("benchmark", [*words, "--workers", "1", "--stale-after", "20"], folder=folder)


def _project(lab: Lab, folder: Path, fault: str = "") -> Path:
    """Write a suite of two jobs into a folder, of which the first has a fault."""
    params = {"net_arch": [16, 16], "batch_size": 8, "offline_steps": 100, "eval_freq": 50, "eval_episodes": 2}
    suite = {
        "algorithms": ["faulty:Faulty", "bc"],
        "environments": [ENV],
        "seeds": 0,
        "quick": True,
        "dataset_dir": str(lab.stock.data),
        "params": {**params, "save_freq": 20},
        "env_kwargs": {"max_episode_steps": 9},
    }
    folder.mkdir(exist_ok=True)
    (folder / "faulty.py").write_text(AGENT)
    (folder / "fault").write_text(fault)
    (folder / "suite.yml").write_text(yaml.safe_dump(suite))
    return folder


def _wait_for(folder: Path, pattern: str, running: Running) -> None:
    while not list(folder.glob(pattern)) and not running.has_ended(0.05):
        pass


def _require_same(lab: Lab, folder: Path) -> None:
    """Require one finished run of each job, with the evaluations of an undisturbed one."""

    def make(reference: Path) -> None:
        require(_start(lab, _project(lab, reference)).wait(), DONE)

    reference = lab.stock.get("reference suite", make)
    for algorithm in ("faulty", "bc"):
        runs = list((folder / "logs" / algorithm).glob("*/status.json"))
        if [json.loads(run.read_text())["state"] for run in runs] != ["done"]:
            raise Broken(f"{algorithm} has not one finished run: {runs}")
        (expected,) = (reference / "logs" / algorithm).glob("*/evaluations.npz")
        with np.load(expected) as wanted, np.load(runs[0].with_name("evaluations.npz")) as found:
            if any(not np.array_equal(wanted[name], found[name]) for name in wanted):
                raise Broken(f"{algorithm} has other evaluations")


@kind("suite-job", "a job prints 100 kB, leaves a process behind, or ends with exit 0 in the middle", EQUAL, 3)
def job(lab: Lab) -> None:
    """Run a suite with a job that misbehaves."""
    fault = ("prints", "leaves", "quits")[lab.seed % 3]
    folder = _project(lab, lab.folder / "project", fault)
    require(_start(lab, folder).wait(), DONE)
    _require_same(lab, folder)
    if fault == "leaves":
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((folder / "left").read_text()), 0)
            raise Broken("the process that the job left still runs")


@kind("suite-claims", "claims of a suite without content, of others, from the future, or removed", EQUAL, 4)
def claims(lab: Lab) -> None:
    """Spoil the claims of a suite that is running or was killed."""
    folder = _project(lab, lab.folder / "project", "prints")
    running = _start(lab, folder)
    _wait_for(folder, "logs/faulty/*/checkpoint/step_*", running)
    if lab.seed % 4 == 0:
        shutil.rmtree(folder / "logs" / ".claims")
    else:
        running.send("SIGKILL")
        for holder in folder.glob("logs/.claims/*/held/*/holder.json"):
            holder.write_text(("", "[1]", '{"pid": "x"}')[lab.seed % 4 - 1])
            holder.parents[2].joinpath("0.json").write_text(lab.draw.choice(["", "[]", '{"outcome": 1}']))
            os.utime(holder.parent, (time.time() + 1e6,) * 2)
        require(running.wait(), KILLED)
        running = _start(lab, folder)
    require(running.wait(), DONE)
    _require_same(lab, folder)


@kind("suite-stop", "SIGTERM, or `kill -9`, while a job prints", f"stops in {STOP_SECONDS:.0f} s, exit 3; {EQUAL}", 2)
def stop(lab: Lab) -> None:
    """End the program in the middle of a job, and start it again."""
    folder = _project(lab, lab.folder / "project", "prints")
    running = _start(lab, folder)
    _wait_for(folder, "logs/faulty/*/checkpoint/step_*", running)
    running.send(("SIGTERM", "SIGKILL")[lab.seed % 2])
    begin = time.monotonic()
    require(running.wait(), (INTERRUPTED, KILLED)[lab.seed % 2])
    if time.monotonic() - begin > STOP_SECONDS:
        raise Broken(f"it took {time.monotonic() - begin:.1f} s to stop")
    require(_start(lab, folder).wait(), DONE)
    _require_same(lab, folder)
