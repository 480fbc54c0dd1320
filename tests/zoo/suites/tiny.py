"""A suite of four short jobs for tests of launchers, and checks of its run folders after the last job."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import agents
from agents.common.files import digest_of
from tests import ROOT
from tests.common.toys import assert_same
from tests.zoo.outcomes import config_of, status_of
from zoo.runs.locks import Lock

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
SEEDS = range(7)
JOBS = 4
AGENT = '''
import time
from pathlib import Path

import agents
from agents.fql import FQL


@agents.register("slow_fql", paper="none", published_name="Slow FQL")
class SlowFQL(FQL):
    """FQL that takes as long for an update as a file says."""

    def losses(self, *arguments):
        time.sleep(float(Path("seconds").read_text()))
        return super().losses(*arguments)
'''
SUITE = """
algorithms: ["slow_fql:SlowFQL"]
environments: [{env}]
seeds: {first}-{last}
seeds_at_once: 2
quick: true
dataset_dir: "{data}"
params:
  net_arch: [16, 16]
  batch_size: 8
  flow_steps: 2
  offline_steps: 150
  eval_freq: 50
  eval_episodes: 2
  save_freq: 40
"""


class Project:
    """A folder with a suite and a custom algorithm, in which the program is started.

    :param seconds: added duration of each update.
    """

    def __init__(self, folder, data, seconds):
        self.folder, self.logs = folder, folder / "logs"
        folder.mkdir(exist_ok=True)
        (folder / "slow_fql.py").write_text(AGENT)
        self.update_takes(seconds)
        text = SUITE.format(env=ENV, first=SEEDS[0], last=SEEDS[-1], data=data)
        (folder / "suite.yml").write_text(text)

    @contextmanager
    def started(self, *words, environment=None):
        """Run the benchmark program until the end of the block; its messages are written to a file."""
        line = f"suite.yml -f {self.logs} --device cpu"
        command = [sys.executable, str(ROOT / "zoo" / "benchmark.py"), *line.split(), *words]
        variables = {**os.environ, **(environment or {}), "OMP_NUM_THREADS": "1"}
        with (self.folder / "messages").open("a") as messages:
            driver = subprocess.Popen(
                command,
                cwd=self.folder,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
            )
        try:
            yield driver
        finally:
            driver.kill()
            driver.wait()

    def messages(self):
        return (self.folder / "messages").read_text()

    def finish(self, driver):
        """Wait for the program's end, and return its output."""
        output, _ = driver.communicate(timeout=400)
        assert driver.returncode == 0, self.messages()
        return json.loads(output.splitlines()[-1])

    def training(self):
        """Return the lock holders of all runs that are being trained, each with the run's folder as ``run``."""
        holders = []
        for path in self.logs.glob("slow_fql/*/lock"):
            # the holder's record is empty for an instant
            if Lock(path).is_held() and (text := path.read_text()):
                holders.append(json.loads(text) | {"run": path.parent})
        return holders

    def states(self):
        """Return the states of all runs."""
        return [status_of(path.parent)["state"] for path in self.logs.glob("slow_fql/*/config.yml")]

    def wait_for_training(self, is_meant=lambda holder: True):
        """Return the lock holder of a run that is past its first checkpoint and evaluation.

        :param is_meant: function of a holder that selects runs.
        """
        holders = []

        def is_past():
            for holder in self.training():
                if "step 50" in log_of(holder["run"]) and is_meant(holder):
                    holders.append(holder)
            return holders

        wait_for(is_past, 240, "for an evaluation")
        return holders[0]

    def wait_for_another_life(self, first):
        """Wait until a process other than the first trains a run."""

        def is_alive():
            holders = {holder["run"]: holder for holder in self.training()}
            return holders.get(first["run"], first) != first

        wait_for(is_alive, 200)

    def assert_files_stay(self):
        """Check that no process writes to the run folders any more."""
        fingerprints = self.fingerprints()
        time.sleep(3)
        assert self.fingerprints() == fingerprints

    def update_takes(self, seconds):
        """Change the duration of updates, for all runs from now on."""
        temporary = self.folder / "seconds.new"
        temporary.write_text(str(seconds))
        temporary.replace(self.folder / "seconds")

    def runs(self):
        """Return seed -> run folder, after checking that each seed has exactly one run, which is done."""
        folders = sorted(path.parent for path in self.logs.glob("slow_fql/*/status.json"))
        states = [status_of(folder)["state"] for folder in folders]
        assert states == ["done"] * len(SEEDS), folders
        runs = {config_of(folder)["seed"]: folder for folder in folders}
        assert sorted(runs) == list(SEEDS)
        return runs

    def fingerprints(self):
        """Return modification time and content of every file in the run folders."""
        files = [path for path in self.logs.glob("slow_fql/**/*") if path.is_file()]
        return {file: (file.stat().st_mtime_ns, digest_of(file)) for file in files}


def log_of(run):
    """Return the messages from the training of a run."""
    file = run / "run.log"
    return file.read_text() if file.exists() else ""


def assert_equal_runs(project, reference, monkeypatch):
    """Check that the runs of two projects have bitwise equal evaluations and final parameters."""
    monkeypatch.syspath_prepend(project.folder)
    expected = reference.runs()
    for seed, folder in project.runs().items():
        for name, array in np.load(expected[seed] / "evaluations.npz").items():
            assert np.array_equal(np.load(folder / "evaluations.npz")[name], array), (seed, name)
        # saved with a custom class
        models = (agents.load(path, device="cpu", trust=True) for path in (folder, expected[seed]))
        assert_same(*(model.policy.state_dict() for model in models))


def wait_for(condition, seconds=30, purpose="", pause=0.2):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain {purpose}"
        time.sleep(pause)


def descendants(pid):
    """Return the direct and indirect child processes of a process."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # the process has just ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    below = [pid]
    for process in below:
        below += children.get(process, [])
    return below[1:]
