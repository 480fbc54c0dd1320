"""Fitted Q evaluation of five policies of Pendulum beside their true discounted values: the table of docs/no_env.md.

``python benchmarks/fitted_q.py`` prints a row for each policy and seed.
"""

from __future__ import annotations

import argparse
import time

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv

import agents
from agents.common.data.arrays import read_transitions
from agents.common.sb3.policy import FlowPolicy
from zoo.evaluation.from_data import fitted_value

ENV = "Pendulum-v1"
GAMMA = 0.99
CHECKPOINTS = (1_500, 500, 2_500, 2_700, 4_000)
"""Steps after which a training's policy is taken, the worst policy first."""
EPISODES, STEPS = 50, 200  # of each policy in the data
TRUE_EPISODES, TRUE_STEPS = 200, 700  # 0.99^700 is below 1e-3
RANDOM_SHARE = 0.3  # of actions in the data
SMALL = {"net_arch": [64, 64], "learning_rate": 1e-3, "tau": 0.1, "batch_size": 64}


def train_policies() -> list[FlowPolicy]:
    """Return the policies of one training at its checkpoints."""
    model = agents.RLPD(
        "MlpPolicy", gymnasium.make(ENV), horizon_length=1, net_arch=[64, 64], gamma=GAMMA, learning_starts=500,
        device="cpu", seed=0, buffer_size=20_000, learning_rate=1e-3, ensemble_size=2, batch_size=128,
    )  # fmt: skip
    policies = {}
    for steps in sorted(CHECKPOINTS):
        model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
        policies[steps] = model.policy.replica(0)
    return [policies[steps] for steps in CHECKPOINTS]


def play(
    policy: FlowPolicy, episodes: int, steps: int, seed: int, random_share: float = 0.0
) -> dict[str, np.ndarray]:
    """Return the transitions of episodes side by side, each array (episodes, steps, ...)."""
    envs = SyncVectorEnv([lambda: gymnasium.make(ENV, max_episode_steps=steps)] * episodes)
    generator = np.random.default_rng(seed)
    policy.set_random_seed(seed)
    observations, _ = envs.reset(seed=1000 * seed)  # and the numbers after it, one an episode
    transitions = []
    for _ in range(steps):
        actions, _ = policy.predict(observations)
        is_random = generator.random(episodes) < random_share
        torques = generator.uniform(-2, 2, actions.shape).astype(np.float32)
        actions = np.where(is_random[:, None], torques, actions)
        following, rewards, _, _, _ = envs.step(actions)
        transitions.append((observations, actions, following, rewards.astype(np.float32)))
        observations = following
    names = ("observations", "actions", "next_observations", "rewards")
    columns = zip(*transitions, strict=True)
    return {name: np.stack(column, 1) for name, column in zip(names, columns, strict=True)}


def collect(policies: list[FlowPolicy], gamma: float) -> tuple[list[float], dict[str, np.ndarray]]:
    """Return the true value of each policy, and transitions of all of them, some of whose actions are random."""
    true_values = []
    parts = []
    for number, policy in enumerate(policies):
        rewards = play(policy, TRUE_EPISODES, TRUE_STEPS, seed=99)["rewards"]
        true_values.append(float((rewards @ gamma ** np.arange(rewards.shape[1])).mean()))
        parts.append(play(policy, EPISODES, STEPS, seed=number + 1, random_share=RANDOM_SHARE))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    content = {name: np.concatenate(array) for name, array in arrays.items()}
    content["masks"] = np.ones_like(content["rewards"])
    content["terminals"] = np.tile(np.arange(STEPS) == STEPS - 1, len(arrays["rewards"]))
    return true_values, content


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4_000, help="updates of an estimate")
    parser.add_argument("--default-sizes", action="store_true", help="as `zoo evaluate` has them")
    args = parser.parse_args()
    settings = {} if args.default_sizes else SMALL
    policies = train_policies()
    true_values, content = collect(policies, GAMMA)
    transitions = read_transitions(content, (3,), 1)
    for seed in range(args.seeds):
        for number, policy in enumerate(policies):
            begin = time.process_time()
            fitted = fitted_value(
                policy, transitions, steps=args.steps, seed=seed, gamma=GAMMA, **settings
            )
            low, high = fitted.policy.interval
            ending = "settled" if fitted.settled else f"drift {fitted.policy.drift:.0f}"
            seconds = time.process_time() - begin
            print(
                f"policy {number}, seed {seed}: true {true_values[number]:.0f}, fitted {fitted.policy.value:.0f} "
                f"[{low:.0f}, {high:.0f}], {ending} after {fitted.updates} updates, {seconds:.0f} s of CPU"
            )


if __name__ == "__main__":
    main()
