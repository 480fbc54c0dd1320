"""Estimate the value of a run's policy from data alone, by fitted Q evaluation."""

import contextlib
import copy
import dataclasses
from typing import Any

from agents.common.sb3.environments import DataOnly
from agents.fqe import fitted_q
from zoo.envs.make import make_env
from zoo.models.agent import Agent
from zoo.runs.folder import RunFolder
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.training.plan import load_data_of_run

STEPS = 20_000


def _show_progress(local_variables: dict[str, Any], _: dict[str, Any]) -> bool:
    """Log each fiftieth of the updates; an SB3 callback."""
    updates = local_variables["self"].num_timesteps
    if updates % max(1, STEPS // 50) == 0:
        log.info("updates %d/%d", updates, STEPS)
    return True


def fit_value(agent: Agent, dataset: str | None, seed: int | None) -> dict[str, Any]:
    """Estimate the discounted value of a run's policy; return the result to print.

    :param dataset: value of `--dataset`; None for the run's dataset.
    :param seed: seed of the critics; None for the seed of the run's evaluations.
    :raises UsageError: if the agent has no run folder or uses an algorithm of SB3, or if the dataset is too small.
    """
    if agent.run is None:
        raise UsageError(
            f"`--fitted-q` needs a run folder, to read data as in training, got {agent.source}; pass the folder as "
            "MODEL, without another --env"
        )
    policy = agent.flow_policy()
    folder = RunFolder(agent.run)
    # a copy, because its settings are changed below, and `read_config` shares them with later readers
    config = copy.deepcopy(folder.read_config())
    trained_on: dict[str, Any] = {}
    if dataset is None:
        trained_on = folder.read_versions()
    else:  # the recorded folder and size apply only to the run's own dataset
        config.run.dataset_size = None
    dataset = dataset or trained_on.get("dataset", "auto")
    if config.no_env:
        env: Any = DataOnly(policy.observation_space, policy.action_space)
    else:
        env = make_env(agent.env_id, **agent.env_kwargs)
    with contextlib.closing(env):
        data = load_data_of_run(config, dataset, trained_on.get("dataset_dir"), env)
    seed = agent.seed if seed is None else seed
    log.info("fitting the policy's value with five critics, %d updates", STEPS)
    with as_usage_error(ValueError):
        fitted = fitted_q(policy, data.transitions, steps=STEPS, seed=seed, callback=_show_progress)
    low, high = fitted.interval
    log.info("discounted value of the policy: %.4g [%.4g, %.4g]", fitted.value, low, high)
    if fitted.action_distance > 1:
        log.warning(
            "the distance of the policy's actions from dataset actions is %.2g times the distance between dataset "
            "actions, so the value is not reliable",
            fitted.action_distance,
        )
    return {
        "algo": agent.algo,
        "env": agent.env,
        "model": str(agent.source),
        "dataset": str(dataset),
        "fingerprint": data.fingerprint,
        "gamma": policy.method.gamma,
        "seed": seed,
        **dataclasses.asdict(fitted),
    }
