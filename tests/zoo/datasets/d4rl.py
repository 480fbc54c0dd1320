"""D4RL's data as Minari has them, of random actions: made here, since the real ones can only be downloaded."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np

from tests.zoo.datasets.own import write_minari
from zoo.envs.d4rl import TASKS


def record(root: Path, name: str, env: gymnasium.Env | None = None, **about: float) -> None:
    """Write four short episodes of a task below a folder, which Minari is told to use.

    :param env: what is played; by default the task's.
    :param about: ``ref_min_score`` and ``ref_max_score``.
    """
    env = env or gymnasium.make(TASKS[name].env_id)
    env.action_space.seed(0)
    parts = []
    for number in range(4):
        observations, actions, rewards = [env.reset(seed=number)[0]], [], []
        for _ in range(10):
            actions.append(env.action_space.sample())
            observation, reward, *_ = env.step(actions[-1])
            observations.append(observation)
            rewards.append(float(reward))
        joined = (
            {key: np.array([each[key] for each in observations]) for key in observations[0]}
            if isinstance(observations[0], dict)
            else np.array(observations)
        )
        ends = {"terminated": np.zeros(10, bool), "rewards": np.array(rewards)}
        parts.append({"observations": joined, "actions": np.array(actions), **ends})
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    env.close()
    write_minari(root, parts, name, env=env.spec.id, **spaces, **about)
