"""The value of a run's policy from data alone, by fitted Q evaluation."""

import contextlib
import dataclasses
from typing import Any

from agents.common.sb3.environments import DataOnly
from agents.common.sb3.policy import FlowPolicy
from agents.fqe import fitted_q
from zoo.envs.make import make_env
from zoo.models.agent import Agent
from zoo.runs.folder import RunFolder, check_log_folder
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.training.plan import load_data_of_run

MAX_STEPS = 20_000


def fit_value(agent: Agent, dataset: str | None, seed: int | None) -> dict[str, Any]:
    """Estimate the discounted value of a run's policy, write it to the run folder and return it.

    :param dataset: as `--dataset` names it; None is that of the run.
    :param seed: of the critics; None is that of the run's evaluations.
    :raises UsageError: if it is no run of this library's algorithms, or there are too few data.
    """
    if agent.run is None:
        raise UsageError(
            f"`--fitted-q` needs the folder of a run, whose settings say how data are read, got {agent.source}; give "
            "MODEL as that folder, without another --env"
        )
    policy = agent.policy
    if not isinstance(policy, FlowPolicy):
        raise UsageError(
            f"`--fitted-q` evaluates policies of this zoo's algorithms, got {agent.algo} of Stable-Baselines3; play it"
        )
    check_log_folder(agent.run, "run folder", "MODEL")
    folder = RunFolder(agent.run)
    config = folder.read_config()
    # the folder of the run's datasets need not have another dataset
    trained_on = folder.read_versions() if dataset is None else {}
    dataset = dataset or trained_on.get("dataset", "auto")
    if config.no_env:
        env: Any = DataOnly(policy.observation_space, policy.action_space)
    else:
        env = make_env(agent.env_id, **agent.env_kwargs)
        agent.check_spaces((env.observation_space, env.action_space))
    with contextlib.closing(env):
        data = load_data_of_run(config, dataset, trained_on.get("dataset_dir"), env)
    seed = agent.seed if seed is None else seed
    with as_usage_error(ValueError):
        fitted = fitted_q(
            policy,
            data.transitions,
            steps=MAX_STEPS,
            seed=seed,
            observe=lambda updates, value: log.info("%d updates: value %.4g", updates, value),
        )
    result = {
        "algo": agent.algo,
        "env": agent.env,
        "model": str(agent.source),
        "dataset": str(dataset),
        "fingerprint": data.fingerprint,
        "gamma": policy.method.gamma,
        "seed": seed,
        **dataclasses.asdict(fitted),
    }
    folder.write_fitted_q(result)
    for name, estimate in (("policy", fitted.policy), ("behaviour", fitted.behaviour)):
        low, high = estimate.interval
        log.info("discounted value of the %s: %.4g [%.4g, %.4g]", name, estimate.value, low, high)
    if not fitted.settled:
        log.warning("not converged after %d updates: no 95%% intervals", fitted.updates)
    if fitted.action_distance > 1:
        log.warning(
            "the policy's actions differ from the data's more than two actions of the data do (%.2g times), so the "
            "data cannot tell its value",
            fitted.action_distance,
        )
    return result
