"""Sets of one's own in every format, of two episodes each, with known content."""

import json
import warnings

import h5py
import minari
import numpy as np
import pyarrow
import pytest
from minari.data_collector import EpisodeBuffer
from pyarrow import parquet

from tests.zoo.envs import toys
from zoo.datasets.formats.base import compact
from zoo.datasets.formats.read import DEFAULT_OPTIONS, read_source

ENV = toys.SPRING


def read(source, options=DEFAULT_OPTIONS):
    """Return what is read of a set, as arrays in the compact layout."""
    return compact(read_source(source, options))


def episodes(count=2, steps=20, seed=0, env=None):
    """Play episodes with random actions; the first terminates one step early, the others are cut off."""
    env, parts = env or toys.SpringEnv(), []
    env.action_space.seed(seed)
    for number in range(count):
        length = steps - (number == 0)
        observations, rewards, actions = [env.reset(seed=number)[0]], [], []
        for _ in range(length):
            actions.append(env.action_space.sample())
            observation, reward, *_ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(float(reward))
        terminated = np.arange(length) == (length - 1 if number == 0 else -1)
        parts.append(
            {
                "observations": np.array(observations),
                "actions": np.array(actions),
                "rewards": np.array(rewards),
                "terminated": terminated,
            }
        )
    return parts


def in_two(parts):
    """Return episodes whose observations are a Dict of two vectors, z before a."""
    for part in parts:
        part["observations"] = {"z": part["observations"][:, 2:], "a": part["observations"][:, :2]}
    return parts


def joined(parts, name, steps=slice(None)):
    """Return an array of all episodes, or some of its steps in each."""
    return np.concatenate([part[name][steps] for part in parts])


def without_steps(part):
    """Return an episode that ends before its first step."""
    empty = {name: array[:0] for name, array in part.items()}
    return empty | {"observations": part["observations"][:1]}


def regular(parts):
    """Return episodes in the regular layout."""
    terminals = joined(parts, "terminated")
    ends = np.zeros(len(terminals), bool)
    ends[np.cumsum([len(part["actions"]) for part in parts]) - 1] = True
    arrays = {
        "observations": joined(parts, "observations", slice(None, -1)),
        "next_observations": joined(parts, "observations", slice(1, None)),
        "actions": joined(parts, "actions"),
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }
    for name in ("rewards", "success"):
        if name in parts[0]:
            arrays[name] = joined(parts, name)
    return arrays


def write_npz(folder, parts):
    path = folder / "my.npz"
    np.savez(path, **regular(parts))
    return path


def write_folder(folder, parts):
    (folder / "episodes").mkdir()
    for number, part in enumerate(parts):
        np.savez(folder / "episodes" / f"{number:03d}.npz", **part)
    return folder / "episodes"


def write_parquet(folder, parts):
    """Write episodes as LeRobot 2 does, in a file each: without the last observation."""
    for number, part in enumerate(parts):
        length = len(part["actions"])
        table = pyarrow.table(
            {
                "observation.state": list(part["observations"][:-1].astype(np.float32)),
                "action": list(part["actions"]),
                **({"next.reward": part["rewards"]} if "rewards" in part else {}),
                "next.success": part.get("success", part["terminated"]),
                "next.done": np.arange(length) == length - 1,
                "episode_index": np.full(length, number),
                "frame_index": np.arange(length),
            }
        )
        path = folder / "robot" / "data" / "chunk-000" / f"episode_{number:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    return folder / "robot"


def write_d4rl(folder, parts, names=()):
    """Write an HDF5 file as D4RL's, without ``next_observations`` if ``names`` does not have it."""
    arrays = regular(parts)
    with h5py.File(folder / "d4rl.hdf5", "w") as file:
        for name, array in arrays.items():
            if name != "next_observations" or name in names:
                file.create_dataset(name, data=array, compression="gzip")
        file.create_dataset("infos/qpos", data=np.zeros(3))
    return folder / "d4rl.hdf5"


def write_minari(root, parts, name="spring/random-v0", **overrides):
    """Write a set with Minari's own API below the folder that it is told to use; return how it is named here."""
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=part["observations"],
            actions=part["actions"],
            rewards=part["rewards"].tolist(),
            terminations=part["terminated"].tolist(),
            truncations=[False] * (len(part["actions"]) - 1) + [not part["terminated"][-1]],
            infos={},
        )
        for number, part in enumerate(parts)
    ]
    about = {
        "algorithm_name": "random",
        "author": "a",
        "author_email": "a@b.c",
        "code_permalink": "d",
    }
    spaces = {
        "observation_space": toys.SpringEnv.observation_space,
        "action_space": toys.SpringEnv.action_space,
    }
    settings = {"env": "Spring-v0", **spaces, **about, **overrides}
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses a description
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        minari.create_dataset_from_buffers(name, buffers, **settings)
    return f"minari:{name}"


WRITERS = {
    "npz": write_npz,
    "folder": write_folder,
    "parquet": write_parquet,
    "d4rl": write_d4rl,
    "minari": write_minari,
}


def metadata_of(root, name="spring/random-v0"):
    path = root / name / "data" / "metadata.json"
    return path, json.loads(path.read_text())
