"""Files in robomimic's layout, with known content."""

import json

import h5py
import numpy as np

from zoo.envs.tasks import OBSERVATIONS

SIZES = dict(zip(OBSERVATIONS, (3, 4, 2, 10), strict=True))
ENV_ARGS = {
    "env_name": "Lift",
    "env_version": "1.5.1",
    "type": 1,
    "env_kwargs": {"control_freq": 20},
}


def demonstration(steps, successes=2, seed=0):
    """Return a demonstration of Lift that is achieved in its last steps, with its last observation."""
    generator = np.random.default_rng(seed)
    is_achieved = np.arange(steps) >= steps - successes
    return {
        "observations": generator.normal(size=(steps + 1, sum(SIZES.values()))),
        "actions": generator.uniform(-1, 1, (steps, 7)),
        "rewards": is_achieved.astype(np.float64),
        "dones": is_achieved.astype(np.int64),
    }


def write(path, demonstrations, *, next_obs=True, env_args=ENV_ARGS):
    """Write demonstrations as robomimic does, observations of each step under their names, without the last one.

    :param next_obs: whether to write the observations after each step too.
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
            group["obs/robot0_joint_pos"] = np.zeros((len(part["actions"]), 7))  # what is not read
            group["states"] = np.zeros((len(part["actions"]), 32))
        file["mask/train"] = np.array(["demo_0"], "S8")
    return path
