"""Custom datasets of two episodes in every format, and datasets of the benchmarks, with known content."""

import json
import warnings

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pytest
from minari.data_collector import EpisodeBuffer
from pyarrow import parquet

from tests.zoo.datasets.conftest import changed
from tests.zoo.envs import toys
from zoo.datasets.formats.base import compact
from zoo.datasets.formats.read import read_source
from zoo.envs.checks import stack
from zoo.envs.tasks import OBSERVATIONS, TASKS
from zoo.terminal.errors import UsageError

ENV = toys.SPRING


def read(source, reward_from=None):
    """Return a dataset's content as arrays in the compact layout."""
    return compact(read_source(source, reward_from))


def refusal(source):
    """Return the error message about a dataset; one sentence."""
    with pytest.raises(UsageError) as error:
        read(source)
    text = str(error.value)
    assert "\n" not in text
    return text


def played(env, act, seed, steps=None):
    """Run an episode, or its first steps, and return its arrays."""
    observations, rewards, actions = [env.reset(seed=seed)[0]], [], []
    is_over = False
    while not is_over and len(actions) != steps:
        actions.append(act(observations[-1]))
        observation, reward, terminated, truncated, _ = env.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
        is_over = terminated or truncated
    part = {"observations": observations, "actions": actions, "rewards": rewards}
    return {name: np.array(values) for name, values in part.items()}


def episodes(count=2, steps=20, seed=0, env=None):
    """Run episodes with random actions; the first terminates one step early, the others are truncated."""
    env, parts = env or toys.SpringEnv(), []
    env.action_space.seed(seed)
    for number in range(count):
        length = steps - (number == 0)
        part = played(env, lambda _: env.action_space.sample(), number, length)
        parts.append(part | {"terminated": np.arange(length) == (number > 0) * length + 18})
    return parts


def in_two(parts):
    """Return episodes whose observations are a Dict of two vectors, with z before a."""
    for part in parts:
        part["observations"] = {"z": part["observations"][:, 2:], "a": part["observations"][:, :2]}
    return parts


def joined(parts, name, steps=slice(None)):
    """Concatenate one array of all episodes, or some of its steps in each episode."""
    return np.concatenate([part[name][steps] for part in parts])


def without_steps(part):
    """Return an episode that ends before its first step."""
    empty = {name: array[:0] for name, array in part.items()}
    return empty | {"observations": part["observations"][:1]}


def regular(parts, **changes):
    """Return episodes in the regular layout, with some arrays changed."""
    terminals = joined(parts, "terminated")
    lengths = [len(part["actions"]) for part in parts]
    ends = np.isin(np.arange(len(terminals)), np.cumsum(lengths) - 1)
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
    return changed(arrays, changes)


def write_npz(folder, parts=None, **changes):
    path = folder / "my.npz"
    np.savez(path, **regular(parts or episodes(), **changes))
    return path


def write_folder(folder, parts=None):
    (folder / "episodes").mkdir()
    for number, part in enumerate(parts or episodes()):
        np.savez(folder / "episodes" / f"{number:03d}.npz", **part)
    return folder / "episodes"


def write_parquet(folder, parts=None):
    """Write episodes as LeRobot 2 does, one file each, without the last observation."""
    data = folder / "robot" / "data" / "chunk-000"
    data.mkdir(parents=True)
    for number, part in enumerate(parts or episodes()):
        steps = np.arange(len(part["actions"]))
        columns = {
            "observation.state": list(part["observations"][:-1].astype(np.float32)),
            "action": list(part["actions"]),
            "next.success" if "success" in part else "next.terminated": part.get(
                "success", part["terminated"]
            ),
            "next.done": steps == len(steps) - 1,
            "episode_index": np.full(len(steps), number),
            "frame_index": steps,
        }
        if "rewards" in part:
            columns["next.reward"] = part["rewards"]
        parquet.write_table(pyarrow.table(columns), data / f"episode_{number:06d}.parquet")
    return folder / "robot"


def write_d4rl(folder, parts=None, **changes):
    """Write an HDF5 file in D4RL's layout, without ``next_observations`` and with some arrays changed."""
    arrays = changed(regular(parts or episodes(), next_observations=None), changes)
    with h5py.File(folder / "d4rl.hdf5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip")
        file.create_dataset("infos/qpos", data=np.zeros(3))
    return folder / "d4rl.hdf5"


def write_minari(root, parts=None, name="spring/random-v0", **overrides):
    """Write a dataset with Minari's API below Minari's folder; return its name in this library."""
    buffers = []
    for number, part in enumerate(parts or episodes()):
        truncations = np.arange(len(part["actions"])) == len(part["actions"]) - 1
        buffer = EpisodeBuffer(
            id=number,
            observations=part["observations"],
            actions=part["actions"],
            rewards=part["rewards"].tolist(),
            terminations=part["terminated"].tolist(),
            truncations=(truncations & ~part["terminated"]).tolist(),
            infos={},
        )
        buffers.append(buffer)
    settings = dict.fromkeys(("algorithm_name", "author", "author_email", "code_permalink"), "a")
    for space in ("observation_space", "action_space"):
        settings[space] = getattr(toys.SpringEnv, space)
    settings |= {"env": "Spring-v0"} | overrides
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari warns that a description is missing
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


def change_metadata(root, **changes):
    """Change the metadata of the Minari dataset below a folder."""
    path = root / "spring" / "random-v0" / "data" / "metadata.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), changes)))


# -- D4RL's data in Minari's format ------------------------------------------------------------------------------------


def write_d4rl_task(root, name, env=None, **about):
    """Write four short episodes of a task below a folder, which becomes Minari's folder.

    :param env: the environment; by default the task's.
    :param about: ``ref_min_score`` and ``ref_max_score``.
    """
    env = env or gymnasium.make(TASKS[name].env_id)
    parts = episodes(4, 11, env=env)
    for part in parts:
        part["terminated"][:] = False
        part["observations"] = stack(env.observation_space, part["observations"])
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    env.close()
    write_minari(root, parts, name, env=env.spec.id, **spaces, **about)


# -- robomimic ---------------------------------------------------------------------------------------------------------

LIFT = "lift-mh-low_dim"
SIZES = dict(zip(OBSERVATIONS, (3, 4, 2, 10), strict=True))
ENV_ARGS = {
    "env_name": "Lift",
    "env_version": "1.5.1",
    "type": 1,
    "env_kwargs": {"control_freq": 20},
}


def demonstration(steps, successes=2, seed=0):
    """Return a demonstration of Lift that succeeds in its last steps, with the last observation."""
    generator = np.random.default_rng(seed)
    is_achieved = np.arange(steps) >= steps - successes
    return {
        "observations": generator.normal(size=(steps + 1, sum(SIZES.values()))),
        "actions": generator.uniform(-1, 1, (steps, 7)),
        "rewards": is_achieved.astype(np.float64),
        "dones": is_achieved.astype(np.int64),
    }


def write_robomimic(path, demonstrations, *, next_obs=True, env_args=ENV_ARGS):
    """Write demonstrations as robomimic does: one array per sensor, without the last observation.

    :param next_obs: whether to also write the observations after each step.
    """
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(env_args)
        for number, part in enumerate(demonstrations):
            group = file.create_group(f"data/demo_{number}")
            for name in ("actions", "rewards", "dones"):
                group[name] = part[name]
            sensors = np.split(part["observations"], np.cumsum([*SIZES.values()])[:-1], axis=1)
            for name, values in zip(SIZES, sensors, strict=True):
                group[f"obs/{name}"] = values[:-1]
                if next_obs:
                    group[f"next_obs/{name}"] = values[1:]
            group["obs/robot0_joint_pos"] = np.zeros((len(part["actions"]), 7))  # not read
            group["states"] = np.zeros((len(part["actions"]), 32))
        file["mask/train"] = np.array(["demo_0"], "S8")
    return path
