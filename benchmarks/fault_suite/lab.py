"""Where faults are tried: small training runs, what they end as undisturbed, and copies of interrupted ones."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from agents.common.engine.checkpoint import find_checkpoints
from agents.common.model_file import read_parameters
from benchmarks.fault_suite.programs import Ended, Programs, Running

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
TINY = ["net_arch=[16,16]", "ensemble_size=2", "flow_steps=2", "batch_size=8", "horizon_length=3", "buffer_size=40"]
CLOCK = ("time/fps", "time/time_elapsed", "time/updates_per_s")
"""Columns of `progress.csv` that depend on the time of day."""
DONE, FAILED, REFUSED, INTERRUPTED, KILLED = 0, 1, 2, 3, -9


class Broken(Exception):
    """Something was not as promised."""


class Skipped(Exception):
    """A fault cannot be tried here."""


@dataclass(frozen=True)
class Configuration:
    """A small run.

    :param kill: where an interrupted one was killed, after at least two checkpoints.
    """

    algo: str
    offline: int
    online: int
    seeds: tuple[str, ...]
    kill: tuple[str, int]

    @property
    def replicas(self) -> int:
        """How many run folders it has."""
        return 2 if "-" in self.seeds[1] else 1


ONE, TWO = ("--seed", "3"), ("--seeds", "3-4")
OFFLINE, ONLINE = ("update", 16), ("step", 9)
CONFIGURATIONS = {
    "qam": Configuration("qam", 9, 15, ONE, ONLINE),
    "sqam": Configuration("sqam", 9, 15, ONE, ONLINE),
    "dsrl": Configuration("dsrl", 9, 15, ONE, ONLINE),
    "qam, two seeds": Configuration("qam", 9, 15, TWO, ("step", 18)),
    "qam, offline": Configuration("qam", 20, 0, ONE, OFFLINE),
    "sqam, offline, two seeds": Configuration("sqam", 20, 0, TWO, OFFLINE),
    "dsrl, online": Configuration("dsrl", 0, 24, ONE, ("step", 18)),
}
NAMES = tuple(CONFIGURATIONS)


class Stock:
    """What many faults need and is made once: the dataset, undisturbed runs, interrupted ones.

    :param folder: where it is kept.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder that is made at its first use, by whichever thread comes first."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            path = self.folder / name.replace(", ", "-").replace(" ", "-")
            if not path.exists():
                path.mkdir(parents=True)
                make(path)
        return path


@dataclass
class Lab:
    """What one try of a fault gets: programs to run, a folder of its own, and random numbers that its seed decides."""

    programs: Programs
    stock: Stock
    folder: Path
    seed: int
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def configuration(self, names: tuple[str, ...] = NAMES) -> str:
        """Return the configuration of this try; consecutive seeds take one after the other."""
        return names[self.seed % len(names)]

    def words(self, name: str, logs: Path, *more: str, data: Path | None = None) -> list[str]:
        """Return the command line of a run."""
        configuration = CONFIGURATIONS[name]
        words = ["--algo", configuration.algo, "--env", ENV, "--dataset-dir", str(data or self.stock.data)]
        words += ["-f", str(logs), "--device", "cpu", *configuration.seeds]
        words += ["--offline-steps", str(configuration.offline), "--online-steps", str(configuration.online)]
        words += ["--eval-freq", "8", "--eval-episodes", "2", "--n-eval-envs", "1", "--save-freq", "7"]
        words += ["--env-kwargs", "max_episode_steps=9", "--log-interval", "5"]
        return [*words, "-params", *TINY, "learning_starts=4", *more]

    def start(self, name: str, logs: Path, *more: str, resume: bool = True, **how: Any) -> Running:
        """Start a run, or resume it.

        :param more: further words, after those of ``-params``.
        """
        words = self.words(name, logs, *more)
        return self.programs.start("train", [*words, "--resume"] if resume else words, **how)

    def train(self, name: str, logs: Path, *more: str, **how: Any) -> Ended:
        """Run a run to its end."""
        return self.start(name, logs, *more, **how).wait()

    def reference(self, name: str) -> Path:
        """Return the logs of an undisturbed run."""

        def make(logs: Path) -> None:
            require(self.train(name, logs, "--save-replay-buffer"), DONE)

        return self.stock.get(f"reference {name}", make)

    def interrupted(self, name: str) -> Path:
        """Return a copy of the logs of a run that was killed after its second checkpoint."""

        def make(logs: Path) -> None:
            require(self.train(name, logs, kill=CONFIGURATIONS[name].kill), KILLED)
            assert len(find_checkpoints(run_folder(logs, name) / "checkpoint")) == 2

        return self.copy(self.stock.get(f"interrupted {name}", make))

    def finished(self, name: str) -> Path:
        """Return a copy of the logs of an undisturbed run."""
        return self.copy(self.reference(name))

    def copy(self, logs: Path) -> Path:
        """Return a copy of logs in the folder of this try."""
        return Path(shutil.copytree(logs, self.folder / "logs"))

    def resume(self, name: str, logs: Path, *more: str, **how: Any) -> Ended:
        """Resume a run and require that it ends as if nothing had happened."""
        ended = require(self.train(name, logs, *more, **how), DONE)
        self.require_same(name, logs)
        return ended

    def require_same(self, name: str, logs: Path, numbers: tuple[int, ...] = (), ordered: bool = True) -> None:
        """Require that a run has ended as the undisturbed one.

        :param numbers: of its folders, where they are others.
        :param ordered: whether ``progress.csv`` has its rows in the same order; an evaluation beside training, or one
            that is made again, comes in later.
        """
        reference = self.reference(name)
        for replica in range(CONFIGURATIONS[name].replicas):
            number = numbers[replica] if numbers else replica + 1
            require_same_folder(run_folder(logs, name, number), run_folder(reference, name, replica + 1), ordered)

    # -- comparisons --------------------------------------------------------------------------------------------------

    def compare(self, logs: Path) -> tuple[Ended, dict[str, Any]]:
        """Compare the runs below a folder and return what the program found: scores, and which runs it skipped."""
        file = self.folder / "compared.json"
        file.unlink(missing_ok=True)
        ended = self.programs.run("compare", [logs, "--json", file, "--reps", "50"])
        found = json.loads(file.read_text()) if file.exists() else {}
        return ended, found


def run_folder(logs: Path, name: str, number: int = 1) -> Path:
    """Return a run folder of a configuration."""
    return logs / CONFIGURATIONS[name].algo / f"{ENV}_{number}"


def newest_checkpoint(logs: Path, name: str) -> Path:
    """Return the newest checkpoint of a run."""
    return find_checkpoints(run_folder(logs, name) / "checkpoint")[0]


def require(ended: Ended, *codes: int) -> Ended:
    """Require an exit code, and no hang and no traceback on the way."""
    told = " | ".join(ended.err.strip().splitlines()[-6:])[-1500:]
    if ended.hung:
        raise Broken(f"it hung for {ended.seconds:.0f} s: {told}")
    if "Traceback (most recent call last)" in ended.err:
        raise Broken(f"it ended with a traceback and exit code {ended.code}: {told}")
    if ended.code not in codes:
        raise Broken(f"exit code {ended.code}, expected {' or '.join(map(str, codes))}: {told}")
    return ended


def require_named(text: str, *names: str) -> None:
    """Require that a message names something."""
    for name in names:
        if name not in text:
            raise Broken(f"expected a message that names `{name}`, got: {text[-1000:] or 'nothing'}")


def require_same_folder(found: Path, expected: Path, ordered: bool = True) -> None:
    """Require that two runs have the same final and best model, evaluations and log, and that both are done."""
    for name in (f"{ENV}.zip", "best_model.zip"):
        if not (found / name).is_file():
            raise Broken(f"{found / name} is missing")
        require_same_tensors(read_parameters(found / name, "cpu"), read_parameters(expected / name, "cpu"), name)
    if (found / "evaluations.npz").read_bytes() != (expected / "evaluations.npz").read_bytes():
        with np.load(found / "evaluations.npz") as there, np.load(expected / "evaluations.npz") as wanted:
            steps = there["timesteps"].tolist(), wanted["timesteps"].tolist()
        raise Broken(f"evaluations.npz differs: steps {steps[0]}, expected {steps[1]}")
    try:
        pd.testing.assert_frame_equal(read_log(found, ordered), read_log(expected, ordered))
    except (AssertionError, ValueError) as error:
        raise Broken(f"progress.csv differs: {error}") from error
    if json.loads((found / "status.json").read_text())["state"] != "done":
        raise Broken(f"{found / 'status.json'} does not say `done`")


def require_same_tensors(found: Any, expected: Any, where: str) -> None:
    """Require that two nested structures of tensors agree to the last bit."""
    if isinstance(expected, Mapping):
        if found.keys() != expected.keys():
            raise Broken(f"{where} has other entries")
        for key in expected:
            require_same_tensors(found[key], expected[key], f"{where}, {key}")
    elif isinstance(expected, tuple | list):
        for one, other in zip(found, expected, strict=True):
            require_same_tensors(one, other, where)
    elif isinstance(expected, torch.Tensor):
        if not torch.equal(found, expected):
            raise Broken(f"{where} differs")
    elif found != expected:
        raise Broken(f"{where} differs")


def read_log(folder: Path, ordered: bool = True) -> pd.DataFrame:
    """Return ``progress.csv`` without what depends on the time of day, columns sorted, and rows too on demand."""
    table = pd.read_csv(folder / "progress.csv")
    table = table.drop(columns=[name for name in table if name in CLOCK]).sort_index(axis=1)
    if ordered:
        return table
    return table.sort_values(["time/total_timesteps", "eval/mean_reward"]).reset_index(drop=True)


def snapshot(folder: Path, but: tuple[str, ...] = ("run.log",)) -> dict[str, bytes]:
    """Return every file below a folder with its content.

    :param but: names of files that may change.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }


def require_untouched(folder: Path, before: Mapping[str, bytes]) -> None:
    """Require that no file below a folder has changed since :func:`snapshot`."""
    after = snapshot(folder)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise Broken(f"files were changed, added or removed: {', '.join(changed)}")
