"""OCBench's evaluation: the zoo's pool plays what OCBench's own loop plays, step for step."""

import numpy as np
import pytest
import torch

from zoo.playing.evaluate import Evaluator, seeds_of_starts

ocbench = pytest.importorskip("ocbench", reason="needs OCBench")

TASKS = [
    "block-cpu-lite-single-task1-v0", "hanoi-cpu-lite-single-task1-v0", "switch-cpu-lite-3x3-task1-v0",
    "bowling-cpu-task1-v0",
]  # fmt: skip
EPISODES, EVAL_SEED = 2, 4


class Reacting:
    """Chooses each action by the observation, elementwise, so that no rounding depends on the batch."""

    num_replicas, chunk_length = 1, 1

    def draw_action_noise(self, rows, generator):
        return {"none": torch.zeros(rows, 1)}

    def plan(self, observations, noise):
        return react(observations)[:, :, None]


def react(observations):
    return np.sin(3 * observations[..., :7]).astype(np.float32)


def play_as_ocbench_does(name):
    """Play episodes with the loop of OCBench's README: its own environment, made and stepped by its own functions."""
    env = ocbench.make(name)
    results = []
    for seed in seeds_of_starts(EVAL_SEED, EPISODES):
        observation, info = env.reset(seed=int(seed))
        episode_return, step, done = 0.0, 0, False
        while not done:
            observation, reward, terminated, truncated, info = env.step(react(observation))
            episode_return, step = episode_return + reward, step + 1
            done = terminated or truncated
        results.append((episode_return, step, bool(info["success"])))
    env.close()
    return results


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_policy_gives_the_returns_lengths_and_success_of_ocbenchs_loop(name):
    with Evaluator(name, episodes=EPISODES, n_envs=2, seed=EVAL_SEED) as evaluator:
        results = evaluator.evaluate(Reacting())
    played = zip(results.returns[0], results.lengths[0], results.successes[0], strict=True)
    assert list(played) == play_as_ocbench_does(name)
