"""Generation with OCBench's oracles: each episode follows from its number, plays back, and is what OCBench reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.datasets.formats.read import read_source
from zoo.datasets.generate.ocbench import OracleWriter, generate_ocbench
from zoo.datasets.sources.ocbench import generated_files
from zoo.envs.make import make_env
from zoo.envs.ocbench import TASKS

ocbench = pytest.importorskip("ocbench", reason="needs OCBench")

BLOCK = TASKS["block-cpu-lite-single-task1-v0"]
FAMILIES = [
    "switch-cpu-lite-3x3-task1-v0", "hanoi-cpu-lite-single-task1-v0", "chamber-cpu-lite-easy-task1-v0",
    "bowling-cpu-task1-v0",
]  # fmt: skip


@pytest.fixture(scope="module")
def writer() -> OracleWriter:
    return OracleWriter(BLOCK.name, seed=0)


def test_an_episode_depends_on_its_number_only_and_leaves_the_global_generator(writer: OracleWriter) -> None:
    state = np.random.get_state()[1].copy()
    first, other, again = (writer.collect(split, 0) for split in ("train", "val", "train"))
    assert first.keys() == {"observations", "actions", "rewards", "masks", "terminals"}
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name], err_msg=name)
    assert not np.array_equal(first["observations"][0], other["observations"][0])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.slow
def test_its_actions_played_back_give_its_observations_and_rewards(writer: OracleWriter) -> None:
    episode = writer.collect("train", 0)
    env = make_env(BLOCK.name)
    words = np.random.SeedSequence(0, spawn_key=(0, 0, 0)).generate_state(5)
    observations = [env.reset(seed=int(words[4]))[0]]
    rows = zip(*(episode[name] for name in ("actions", "rewards", "masks", "terminals")), strict=True)
    for action, reward, mask, is_last in rows:
        observation, got, terminated, truncated, info = env.step(action)
        observations.append(observation)
        assert (got, 1 - terminated, terminated or truncated) == (reward, mask, is_last)
    np.testing.assert_array_equal(episode["observations"], np.array(observations, np.float32))
    assert info["success"] == 1
    assert episode["rewards"].sum() == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the files of two episodes, generated in one go by this process."""
    files = generated_files(BLOCK, tmp_path_factory.mktemp("whole"))
    generate_ocbench(BLOCK, files, num_episodes=2, num_workers=1)
    return files


def test_ocbench_reads_the_files(whole: tuple[Path, Path]) -> None:
    theirs = ocbench.load_dataset(whole[0])
    assert len(ocbench.get_episode_offsets(theirs)[0]) == 3
    np.testing.assert_array_equal(read_source(whole[0])["observations"], theirs["observations"])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_its_oracle(name: str) -> None:
    writer = OracleWriter(name, seed=0)
    first, _, again = (writer.collect("train", number) for number in (0, 1, 0))
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key], err_msg=key)
    assert len(first["actions"]) <= TASKS[name].steps
    assert len(first["observations"]) == len(first["actions"]) + 1
    assert np.abs(first["actions"]).max() <= 1
