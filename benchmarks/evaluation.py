"""Speed of evaluation against bare simulation: how much the batched policy, the pipes and the bookkeeping cost.

The policy is an untrained network, or an untrained agent with ``--algo``, so that episodes last to their time limit.
Bare simulation is the environments as Gymnasium makes them, stepped with fixed actions by as many processes as the
evaluation uses; nothing passes between them. The two are timed in turn, several times. The median of the ratios counts:
a machine whose speed wanders is about as fast in both halves of a pair.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import zoo` find the package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import run_program
from zoo.terminal.arguments import Parser, whole_number

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

    import gymnasium
    import numpy as np
    import torch

    from zoo.playing.evaluate import ChunkPolicy

FIXED_ACTIONS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    :param arguments: command-line words; None takes the process's own.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--env", default="cube-double-singletask-task2-v0", help="Gymnasium id")
    parser.add_argument(
        "--n-envs", type=whole_number, help="environments of the evaluation; as in training if not given"
    )
    parser.add_argument("--episodes", type=whole_number, default=16, help="episodes of each replica")
    parser.add_argument("--replicas", type=whole_number, default=1, help="stacked replicas of the policy")
    parser.add_argument("--horizon-length", type=whole_number, default=5, help="actions in a plan")
    parser.add_argument(
        "--hidden", type=whole_number, nargs="+", default=[256, 256], help="widths of the untrained network"
    )
    parser.add_argument("--algo", help="evaluate this algorithm, untrained, instead of a plain network")
    parser.add_argument("--device", default="auto", help="where the algorithm plans")
    parser.add_argument("--num-threads", type=whole_number, help="PyTorch's threads; its own choice if not given")
    parser.add_argument("--repeats", type=whole_number, default=3, help="how often each of the two is timed")
    parser.add_argument("--json", type=Path, nargs="?", help="also write the result to this file; it is printed anyway")
    parser.add_argument("--verbose", type=whole_number, default=1, help="2 prints tracebacks")
    options = parser.parse_args(arguments)
    return run_program(lambda: measure(options), options.verbose)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time one evaluation and the bare simulation of as many episodes.

    :param options: the parsed command line.
    :return: speeds in environment steps a second, times in seconds.
    """
    import torch

    from zoo.playing.evaluate import Evaluator
    from zoo.playing.pool import count_environments
    from zoo.processes.serving import available_cores

    n_envs = options.n_envs or count_environments(options.env, {}, options.episodes)
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    began = time.perf_counter()
    with Evaluator(options.env, episodes=options.episodes, n_envs=n_envs, seed=0) as evaluator:
        observation_space, action_space = evaluator.spaces
        assert observation_space.shape is not None
        start_s = time.perf_counter() - began
        policy = TimedPolicy(make_policy(observation_space.shape[0], action_space, options))
        speeds, bare, alone, planning = [], [], [], []
        for _ in range(options.repeats):
            policy.calls, policy.seconds = 0, 0.0
            began = time.perf_counter()
            steps = int(evaluator.evaluate(policy).lengths.sum())
            seconds = time.perf_counter() - began
            speeds.append(steps / seconds)
            planning.append(policy.seconds / seconds)
            episodes, processes = options.replicas * options.episodes, min(n_envs, available_cores())
            bare.append(simulate(options.env, episodes, processes, n_envs, options.horizon_length))
            alone.append(simulate(options.env, episodes, processes, processes, options.horizon_length))
    result = {
        "env": options.env,
        "episodes": options.episodes,
        "replicas": options.replicas,
        "n_envs": n_envs,
        "processes": processes,
        "horizon_length": options.horizon_length,
        "policy": options.algo or f"untrained network {options.hidden}",
        "start_s": start_s,
        "steps": steps,
        "planning_share": median(planning),
        "policy_calls": policy.calls,
        "steps_per_s": median(speeds),
        "simulation_steps_per_s": median(bare),
        "fractions_of_simulation": [speed / other for speed, other in zip(speeds, bare, strict=True)],
        "fraction_of_simulation": median(speed / other for speed, other in zip(speeds, bare, strict=True)),
        "one_environment_each_steps_per_s": median(alone),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def make_policy(observation_size: int, action_space: gymnasium.spaces.Box, options: argparse.Namespace) -> ChunkPolicy:
    """Return the policy to evaluate.

    :param observation_size: O.
    :param action_space: where actions are clipped.
    :param options: the parsed command line.
    :return: an untrained policy.
    """
    if options.algo is None:
        return UntrainedPolicy(observation_size, action_space, options)
    import agents
    from zoo.envs.make import make_env

    algorithm = agents.get(options.algo).algorithm
    return algorithm(
        "MlpPolicy",
        make_env(options.env),
        horizon_length=options.horizon_length,
        seeds=list(range(options.replicas)),
        device=options.device,
    ).policy


class TimedPolicy:
    """A policy whose plans are counted and timed.

    :param policy: who plans.
    """

    def __init__(self, policy: ChunkPolicy) -> None:
        self.chunk_length, self.num_replicas = policy.chunk_length, policy.num_replicas
        self.draw_action_noise = policy.draw_action_noise
        self._plan = policy.plan
        self.calls, self.seconds = 0, 0.0

    def plan(self, observations: np.ndarray, noise: dict[str, torch.Tensor]) -> np.ndarray:
        """Return the policy's plans.

        :param observations: shape (S, N, O).
        :param noise: name to noise, each (S, N, ...).
        :return: shape (S, N, H, A).
        """
        began = time.perf_counter()
        actions = self._plan(observations, noise)
        self.calls += 1
        self.seconds += time.perf_counter() - began
        return actions


class UntrainedPolicy:
    """Normal noise, shifted a little by an untrained network, so that the work of a real policy is done.

    :param observation_size: O.
    :param action_space: where actions are clipped.
    :param options: ``horizon_length``, ``replicas`` and ``hidden``.
    """

    def __init__(self, observation_size: int, action_space: gymnasium.spaces.Box, options: argparse.Namespace) -> None:
        import torch

        self.chunk_length, self.num_replicas = options.horizon_length, options.replicas
        self._low, self._high = torch.as_tensor(action_space.low), torch.as_tensor(action_space.high)
        size = self.chunk_length * len(action_space.low)
        widths = [observation_size + size, *options.hidden, size]
        generator = torch.Generator().manual_seed(0)
        self._weights = [
            torch.randn(self.num_replicas, fan_in, fan_out, generator=generator) / fan_in**0.5
            for fan_in, fan_out in itertools.pairwise(widths)
        ]

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return normal noise for some plans.

        :param rows: how many.
        :param generator: where it comes from.
        :return: ``x_0``, shape (rows, H * A).
        """
        import torch

        return {"x_0": torch.randn(rows, self.chunk_length * len(self._low), generator=generator)}

    def plan(self, observations: np.ndarray, noise: dict[str, torch.Tensor]) -> np.ndarray:
        """Return chunks of actions.

        :param observations: shape (S, N, O).
        :param noise: ``x_0``, shape (S, N, H * A).
        :return: shape (S, N, H, A).
        """
        import torch

        with torch.no_grad():
            x = torch.cat([torch.as_tensor(observations, dtype=torch.float32), noise["x_0"]], dim=-1)
            for weight in self._weights:
                x = torch.tanh(torch.bmm(x, weight))
            # almost noise alone: a drift would push robots into walls, where a step of simulation costs twice as much
            chunks = (noise["x_0"] + 1e-3 * x).unflatten(-1, (self.chunk_length, -1))
            return torch.clamp(chunks, self._low, self._high).numpy()


def simulate(env_id: str, episodes: int, processes: int, n_envs: int, horizon_length: int) -> float:
    """Return the steps a second of bare simulation.

    :param env_id: Gymnasium id.
    :param episodes: how many to play in all.
    :param processes: how many play them.
    :param n_envs: environments of all processes together.
    :param horizon_length: steps that an environment takes before it is the next one's turn.
    :return: environment steps a second of all together, resets included.
    """
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.SimpleQueue()
    shares = [[len(range(process, count, processes)) for count in (episodes, n_envs)] for process in range(processes)]
    players = [
        context.Process(target=play, args=(env_id, *share, horizon_length, barrier, queue), daemon=True)
        for share in shares
    ]
    for player in players:
        player.start()
    spans: list[tuple[float, float, int]] = []
    while len(spans) < processes:
        if any(player.exitcode for player in players):  # the others wait for it, and end with this process
            raise RuntimeError("a process of the bare simulation failed; its traceback is above")
        time.sleep(0.01)
        spans += [queue.get()] if not queue.empty() else []
    for player in players:
        player.join()
    began, ended, steps = zip(*spans, strict=True)
    return float(sum(steps) / (max(ended) - min(began)))


def play(
    env_id: str,
    episodes: int,
    n_envs: int,
    horizon_length: int,
    barrier: Barrier,
    queue: SimpleQueue[tuple[float, float, int]],
) -> None:
    """Play episodes with fixed actions and report when they began and ended, and how many steps they had.

    :param env_id: Gymnasium id.
    :param episodes: how many.
    :param n_envs: environments that play them, in turn.
    :param horizon_length: steps of a turn.
    :param barrier: where all processes wait for each other.
    :param queue: takes the report.
    """
    import gymnasium
    import numpy as np
    import ogbench  # noqa: F401  registers its environments

    from zoo.envs.make import ignore_startup_warnings

    ignore_startup_warnings()
    envs = [gymnasium.make(env_id, disable_env_checker=True) for _ in range(min(n_envs, episodes))]
    low, high = envs[0].action_space.low, envs[0].action_space.high  # type: ignore[attr-defined]
    draws = np.random.default_rng(0).standard_normal((FIXED_ACTIONS, *low.shape))
    actions = itertools.cycle(np.clip(draws, low, high).astype(low.dtype))  # distributed as the policy's
    for index, env in enumerate(envs):
        env.reset(seed=index)
    barrier.wait()
    began, steps, left = time.perf_counter(), 0, episodes - len(envs)
    while envs:
        for env in list(envs):
            for _ in range(horizon_length):
                _, _, terminated, truncated, _ = env.step(next(actions))
                steps += 1
                if terminated or truncated:
                    break
            else:
                continue
            if left:
                left -= 1
                env.reset()
            else:
                envs.remove(env)
    queue.put((began, time.perf_counter(), steps))


if __name__ == "__main__":
    sys.exit(main())
