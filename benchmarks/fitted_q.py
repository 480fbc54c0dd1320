"""Fitted Q evaluation of five policies of Pendulum beside their true discounted values: the table of docs/no_env.md.

``python benchmarks/fitted_q.py`` prints a row for each policy and seed; ``--d3rlpy`` fits d3rlpy's FQE to the same
transitions, where that is installed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium
import numpy as np
import torch

import agents
from agents.common.data.arrays import read_transitions
from agents.common.sb3.policy import FlowPolicy
from zoo.playing.fitted_q import fitted_value

ENV = "Pendulum-v1"
CHECKPOINTS = (1_500, 500, 2_500, 2_700, 4_000)
"""Steps after which a training's policy is taken, the worst policy first."""
EPISODES, STEPS = 50, 200  # of each policy in the data
TRUE_EPISODES, TRUE_STEPS = 200, 700  # gamma^700 is below 1e-6
RANDOM_SHARE = 0.3  # of actions in the data
SMALL = {"net_arch": [64, 64], "learning_rate": 1e-3, "tau": 0.2, "batch_size": 128}
GAMMA = 0.98
"""Discount of the values; that of training is 0.99."""


def train_policies() -> list[FlowPolicy]:
    """Return the policies of one training at its checkpoints."""
    model = agents.RLPD(
        "MlpPolicy", gymnasium.make(ENV), horizon_length=1, net_arch=[64, 64], gamma=0.99, learning_starts=500,
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
    envs = [gymnasium.make(ENV, max_episode_steps=steps) for _ in range(episodes)]
    generator = np.random.default_rng(seed)
    policy.set_random_seed(seed)
    observations = np.stack(
        [env.reset(seed=1000 * seed + number)[0] for number, env in enumerate(envs)]
    )
    columns: dict[str, list[Any]] = {
        name: [] for name in ("observations", "actions", "next_observations", "rewards")
    }
    for _ in range(steps):
        actions, _ = policy.predict(observations)
        is_random = generator.random(episodes) < random_share
        torques = generator.uniform(-2, 2, actions.shape).astype(np.float32)
        actions = np.where(is_random[:, None], torques, actions)
        results = [env.step(action) for env, action in zip(envs, actions, strict=True)]
        columns["observations"].append(observations)
        observations = np.stack([result[0] for result in results])
        columns["next_observations"].append(observations)
        columns["actions"].append(actions)
        columns["rewards"].append(np.array([result[1] for result in results], np.float32))
    return {name: np.stack(values, 1) for name, values in columns.items()}


def fit_d3rlpy(policy: FlowPolicy, arrays: dict[str, np.ndarray], steps: int, seed: int) -> float:
    """Return the value that d3rlpy's FQE gives to a policy at the first states.

    :param arrays: of :func:`play`.
    """
    import d3rlpy

    class Policy:
        """Acts for d3rlpy, which asks an algorithm and its `impl` alike."""

        def predict_best_action(self, observations: torch.Tensor) -> torch.Tensor:
            """Return actions scaled to [-1, 1]."""
            return torch.as_tensor(self.predict(observations.numpy()))

        def predict(self, observations: np.ndarray) -> np.ndarray:
            """Return the same as an array."""
            return policy.scale_action(policy.predict(observations)[0])

    algorithm: Any = Policy()
    algorithm.impl = algorithm
    d3rlpy.seed(seed)
    policy.set_random_seed(seed)
    timeouts = np.zeros(arrays["rewards"].shape)
    timeouts[:, -1] = 1
    data = d3rlpy.dataset.MDPDataset(
        np.concatenate(arrays["observations"]), policy.scale_action(np.concatenate(arrays["actions"])),
        arrays["rewards"].reshape(-1, 1), np.zeros(timeouts.size), timeouts.ravel(),
    )  # fmt: skip
    config = d3rlpy.ope.FQEConfig(
        learning_rate=1e-3, batch_size=128, gamma=GAMMA, target_update_interval=15,
        encoder_factory=d3rlpy.models.VectorEncoderFactory([64, 64]),
    )  # fmt: skip
    fqe = d3rlpy.ope.FQE(algo=algorithm, config=config)
    logger = d3rlpy.logging.NoopAdapterFactory()
    fqe.fit(data, steps, steps, show_progress=False, logger_adapter=logger)
    first = arrays["observations"][:, 0]
    return float(fqe.predict_value(first, algorithm.predict(first)).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2_000, help="updates of an estimate")
    parser.add_argument("--d3rlpy", action="store_true")
    args = parser.parse_args()
    policies = train_policies()
    true_values = []
    parts = []
    for number, policy in enumerate(policies):
        rewards = play(policy, TRUE_EPISODES, TRUE_STEPS, seed=99)["rewards"]
        true_values.append(float((rewards @ GAMMA ** np.arange(rewards.shape[1])).mean()))
        parts.append(play(policy, EPISODES, STEPS, seed=number + 1, random_share=RANDOM_SHARE))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    content = {name: np.concatenate(array) for name, array in arrays.items()}
    content["masks"] = np.ones_like(content["rewards"])
    content["terminals"] = np.tile(np.arange(STEPS) == STEPS - 1, len(arrays["rewards"]))
    transitions = read_transitions(content, (3,), 1)
    for seed in range(args.seeds):
        for number, policy in enumerate(policies):
            begin = time.process_time()
            if args.d3rlpy:
                text = f"{fit_d3rlpy(policy, arrays, args.steps, seed):.0f}"
            else:
                estimate = fitted_value(
                    policy, transitions, steps=args.steps, seed=seed, gamma=GAMMA, **SMALL
                )
                low, high = estimate.policy.interval
                text = f"{estimate.policy.value:.0f} [{low:.0f}, {high:.0f}]"
            seconds = time.process_time() - begin
            print(
                f"policy {number}, seed {seed}: true {true_values[number]:.0f}, fitted {text}, {seconds:.0f} s of CPU"
            )


if __name__ == "__main__":
    main()
