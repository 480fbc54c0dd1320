"""How fast an algorithm trains on this machine: a short trial with random data."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

import numpy as np
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.model import FlowQLearning
from zoo.baselines import find_algorithm
from zoo.envs.make import make_env
from zoo.envs.observations import policy_name
from zoo.messages import log
from zoo.suites.jobs import Job
from zoo.suites.overview import Look, Trial
from zoo.training.arguments import make_parser
from zoo.training.options import read_request

SECONDS = 2.0
ROWS = 5_000
KEPT_MODELS = 4
"""How often a run folder holds the model: two checkpoints, the best, the last."""


def try_algorithms(looks: Sequence[Look], others: Sequence[Look] = ()) -> dict[str, Trial]:
    """Try every algorithm that has jobs left and no finished one, and return what was seen, by algorithm.

    :param looks: at the jobs that are asked about.
    :param others: at further jobs, of which finished ones tell the time too.
    """
    known = {look.job.algo for look in (*looks, *others) if look.state.is_final and look.seconds}
    jobs = {look.job.algo: look.job for look in looks if not look.state.is_final and look.job.algo not in known}
    if jobs:
        log.info("trying how fast %s train on this machine, some seconds each", ", ".join(jobs))
    return {algo: _try(job) for algo, job in jobs.items()}


def _try(job: Job) -> Trial:
    """Train a job's model on random data for a moment."""
    request = read_request(make_parser().parse_args(job.words))
    if request.args.num_threads > 0:
        torch.set_num_threads(request.args.num_threads)
    env = DummyVecEnv([lambda: make_env(request.env_id, **request.env_kwargs)])
    model = find_algorithm(request.config.algo).algorithm(
        policy_name(env.observation_space),
        env,
        **request.config.settings,
        seeds=list(job.run.seeds),
        device=request.args.device,
    )
    model.load_dataset(_random_dataset(model))
    _train_for(model, 2)  # warms up
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        steps += _train_for(model, max(1, steps))
    seconds = (time.perf_counter() - begin) / steps / len(job.run.seeds)
    saved = io.BytesIO()
    model.save(saved)
    env.close()
    return Trial(seconds, KEPT_MODELS * saved.getbuffer().nbytes / len(job.run.seeds))


def _train_for(model: OffPolicyAlgorithm, steps: int) -> int:
    """Train for some steps, in the phase that the algorithm has, and return how many they were."""
    if isinstance(model, FlowQLearning):
        model.learn_offline(steps)
    else:
        model.learn(steps, reset_num_timesteps=False)
    return steps


def _random_dataset(model: OffPolicyAlgorithm) -> dict[str, np.ndarray]:
    """Return trajectories of 200 steps for a model's spaces."""
    rng = np.random.default_rng(0)
    assert isinstance(model.replay_buffer, SequenceReplayBuffer)
    assert model.action_space.shape is not None
    layout = model.replay_buffer.stored
    shape = (ROWS, *layout.row_shape)
    if layout.is_plain:
        seen = rng.standard_normal(shape, dtype=np.float32)
    else:  # zero is a value of any choice
        seen = rng.integers(256, size=shape, dtype=np.uint8) if layout.dtype == torch.uint8 else np.zeros(shape)
    return {
        "observations": seen,
        "next_observations": np.roll(seen, -1, axis=0),
        "actions": rng.uniform(-1, 1, (ROWS, *model.action_space.shape)).astype(np.float32),
        "rewards": np.full(ROWS, -1, np.float32),
        "masks": np.ones(ROWS, np.float32),
        "terminals": (np.arange(ROWS) % 200 == 199).astype(np.float32),
    }
