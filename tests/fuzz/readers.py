"""The readers that meet files of unknown origin: what each is given, and what it may answer.

An input is one byte, which says what part of an intact example it replaces, and the bytes to put there. So a mutation
also gets at what lies inside an archive, whose checksum is then right. A reader may refuse a file as it documents;
anything else that it raises, a second of thought too many or a GB of memory is a finding.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from gymnasium import spaces

import agents
from agents.common.data.action_range import ActionRange
from agents.common.data.arrays import prepare
from agents.common.saved import find_model, read_attributes
from tests.common.toys import toy_dataset
from tests.envs import SpacesEnv
from tests.zoo.datasets import demonstrations, own
from tests.zoo.datasets.test_ocbench import arrays as ocbench_arrays
from tests.zoo.runs.test_read import write_run
from zoo.datasets.formats.episodes import COMPACT, Arrays
from zoo.datasets.formats.read import read_source
from zoo.errors import UsageError
from zoo.models.agent import agent_of_file
from zoo.models.score import Score
from zoo.runs.read import read_runs
from zoo.settings import plain_yaml
from zoo.settings.config import load_config
from zoo.settings.layers import load_yaml
from zoo.suites.suite import read_suite

GIB = 1 << 30
Files = Mapping[str, bytes]
"""Parts of an example by name; ``archive!member`` is a member of an archive."""


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    :param example: gives the files of an intact example.
    :param read: reads them from a folder.
    :param refusals: the errors that say what is wrong with a file.
    """

    example: Callable[[], Files]
    read: Callable[[Path], Any]
    refusals: tuple[type[Exception], ...]

    @cached_property
    def parts(self) -> list[str]:
        """Return what an input may replace."""
        files = self.example()
        members = [f"{name}!{member}" for name in sorted(files) for member in _members(files[name])]
        return [*sorted(files), *members]

    def seeds(self) -> list[bytes]:
        """Return one intact input for each part."""
        return [bytes([k]) + self._content(part) for k, part in enumerate(self.parts)]

    def try_input(self, data: bytes) -> bool:
        """Read an input; return whether it was accepted. Whatever the reader should not raise comes out."""
        if not data:
            return False
        parts = self.parts
        files = self._replaced(parts[data[0] % len(parts)], data[1:])
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = Path(name)
            for file, content in files.items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
            try:
                self.read(folder)
            except self.refusals:
                return False
            return True

    def _content(self, part: str) -> bytes:
        file, _, member = part.partition("!")
        content = self.example()[file]
        return _members(content)[member] if member else content

    def _replaced(self, part: str, content: bytes) -> Files:
        file, _, member = part.partition("!")
        files = dict(self.example())
        files[file] = _archive({**_members(files[file]), member: content}) if member else content
        return files


def _members(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive; none for another file."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archive(members: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


@contextlib.contextmanager
def memory_limited(more: int = GIB) -> Iterator[None]:
    """Let this process take some memory more than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# -- run folders ------------------------------------------------------------------------------------------------------


def _read_runs(folder: Path) -> None:
    """Read a run and an intact one beside it, as ``compare`` does: a bad one is skipped, and takes no other with it.

    The two differ in seed and environment, which are in different files: a run of the same seed
    would replace the other.
    """
    write_run(folder / "intact", env="scene-play-singletask-task2-v0", seed=1, episodes=3, offline=(1, 2))
    tables = read_runs([folder])
    assert len(tables.runs) == 2
    assert all(entry["reason"] for entry in tables.skipped())
    assert str(folder / "intact") in set(tables.counted()["run"])
    assert len(set(tables.counted()["run"])) + len(tables.skipped()) == 2


# -- datasets ---------------------------------------------------------------------------------------------------------


def _read_dataset(folder: Path) -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    found = prepare(folder / "dataset.npz", (3,), ActionRange.of(box, None), horizon_length=2)
    for name, array in found.arrays.items():
        assert np.isfinite(np.asarray(array, np.float32)[found.valid]).all(), name


def _read_own(name: str) -> Callable[[Path], None]:
    """Return what reads a set of one's own, given its path in the folder."""

    def read(folder: Path) -> None:
        found = read_source(folder / name)
        shapes = {len(found[array]) for array in COMPACT}
        assert len(shapes) == 1
        assert all(np.isfinite(found[array]).all() for array in ("observations", "rewards", "masks"))

    return read


# -- settings and suites ----------------------------------------------------------------------------------------------

SETTINGS = """\
# of an algorithm
default: &all {gamma: 0.99, net_arch: [64, 64], offline_steps: 1e5, learning_rate: lin_3e-4}
cube-double-play: {<<: *all, horizon_length: 5, source: "a paper"}
profiles:
  trqam: {default: {policy_kwargs: {optimizer_kwargs: {eps: 1.0e-5}}}}
"""


def _read_settings(folder: Path) -> None:
    text = (folder / "settings.yml").read_bytes().decode(errors="replace")
    with contextlib.suppress(yaml.YAMLError, ValueError):
        plain_yaml.read(text)
    with contextlib.suppress(UsageError):
        load_yaml(text, "settings.yml")
    load_config("qam", "cube-double-play-singletask-task1-v0", "cube-double-play", conf=folder / "settings.yml")


SUITE = """\
title: A suite
algorithms: [qam, {algo: fql, label: small, params: {net_arch: [64]}}]
environments: [cube-double-play, scene-play-singletask-task1-v0]
seeds: [0-2, 7]
seeds_at_once: 2
params: {gamma: 0.99}
overrides:
  - {algorithms: q*, environments: [scene-*], params: {offline_steps: 1e4}}
published: [qam2026]
"""


def _read_suite(folder: Path) -> None:
    assert all(run.seeds for run in read_suite(folder / "suite.yml").runs())


# -- models -----------------------------------------------------------------------------------------------------------


def _tiny() -> agents.BC:
    env = SpacesEnv(3, 2)
    return agents.BC("MlpPolicy", env, net_arch=[2], flow_steps=1, horizon_length=1, buffer_size=4, device="cpu")


def _read_model(folder: Path) -> None:
    path = find_model(folder / "model")
    json.dumps(read_attributes(path))
    model = agents.load(path, device="cpu")
    model.predict(model.observation_space.sample())


def _write_policy(folder: Path) -> None:
    protocol = {"episodes": 2, "seed": 0, "env_kwargs": {}}
    about = {"env": "Toy-v0", "seed": 0, "protocol": protocol, "score": vars(Score("success", 0.5, 0.1, 0.9, 2))}
    _tiny().save_policy(folder / "policy.safetensors", about)


def _read_policy(folder: Path) -> None:
    agent = agent_of_file(folder / "policy.safetensors", None, "cpu")
    agent.policy.predict(agent.policy.observation_space.sample())


# -- recorded numbers -------------------------------------------------------------------------------------------------


def _written(write: Callable[[Path], Any]) -> Callable[[], Files]:
    """Return what gives the files that a function writes into a folder."""

    @cache
    def example() -> Files:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder)
            found = sorted(path for path in folder.rglob("*") if path.is_file())
            return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    return example


def _own(write: Callable[[Path, list[Arrays]], Any]) -> Callable[[], Files]:
    """Return what gives the files of a set of one's own."""
    return _written(lambda folder: write(folder, own.episodes(2, 4)))


DATASET = {**toy_dataset(12, observations=3, actions=2, length=4), "timeouts": np.zeros(12, bool)}
PARTS = [demonstrations.demonstration(3), demonstrations.demonstration(2, 1)]
_runs = _written(lambda folder: write_run(folder / "run", episodes=3, offline=(1, 2)))
_dataset = _written(lambda folder: np.savez(folder / "dataset.npz", **DATASET))
_robomimic = _written(lambda folder: demonstrations.write(folder / "low_dim.hdf5", PARTS))
_ocbench = _written(lambda folder: np.savez(folder / "ocbench.npz", **ocbench_arrays()))
_model = _written(lambda folder: _tiny().save(folder / "model"))

READERS = {
    "runs": Reader(_runs, _read_runs, ()),
    "datasets": Reader(_dataset, _read_dataset, (ValueError, OSError)),
    "folders": Reader(_own(own.write_folder), _read_own("episodes"), (UsageError,)),
    "parquet": Reader(_own(own.write_parquet), _read_own("robot"), (UsageError,)),
    "hdf5": Reader(_own(own.write_d4rl), _read_own("d4rl.hdf5"), (UsageError,)),
    "minari": Reader(_own(own.write_minari), _read_own("spring/random-v0"), (UsageError,)),
    "robomimic": Reader(_robomimic, _read_own("low_dim.hdf5"), (UsageError,)),
    "ocbench": Reader(_ocbench, _read_own("ocbench.npz"), (UsageError,)),
    "settings": Reader(lambda: {"settings.yml": SETTINGS.encode()}, _read_settings, (UsageError,)),
    "suites": Reader(lambda: {"suite.yml": SUITE.encode()}, _read_suite, (UsageError,)),
    "models": Reader(_model, _read_model, (ValueError, OSError)),
    "policies": Reader(_written(_write_policy), _read_policy, (UsageError,)),
}
