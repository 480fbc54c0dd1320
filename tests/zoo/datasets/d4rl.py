"""D4RL's data as Minari has them, of random actions: made here, since the real ones can only be downloaded."""

import gymnasium
import numpy as np

from tests.zoo.datasets.samples import episodes, write_minari
from zoo.envs.tasks import TASKS


def record(root, name, env=None, **about):
    """Write four short episodes of a task below a folder, which Minari is told to use.

    :param env: what is played; by default the task's.
    :param about: ``ref_min_score`` and ``ref_max_score``.
    """
    env = env or gymnasium.make(TASKS[name].env_id)
    parts = episodes(4, 11, env=env)
    for part in parts:
        part["terminated"][:] = False
        if isinstance(env.observation_space, gymnasium.spaces.Dict):
            observations = part["observations"]
            part["observations"] = {}
            for key in env.observation_space:
                part["observations"][key] = np.array(
                    [observation[key] for observation in observations]
                )
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    env.close()
    write_minari(root, parts, name, env=env.spec.id, **spaces, **about)
