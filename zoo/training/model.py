"""The environments and the model of a run."""

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from agents.common.model_file import find_model, read_model_file
from agents.common.normalization import named_action_noise, normalized_env
from agents.common.sb3.encoders import POLICIES, make_policy
from agents.common.sb3.environments import require_own_environments
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.common.sb3.pretrained import check_outputs
from agents.registry import BUILT_IN
from zoo.algorithms.baselines import find_algorithm
from zoo.datasets.formats.base import Dataset
from zoo.datasets.shards import ShardedDataset
from zoo.envs.border import check_same_spaces
from zoo.envs.make import RepeatableEnv, make_env
from zoo.envs.observations import policy_name
from zoo.envs.snapshot import ResumableEnv
from zoo.processes.serving import start_server
from zoo.terminal.errors import STOP_SIGNALS, UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.training.plan import RunPlan


def check_method_on_env(plan: RunPlan, env: RepeatableEnv) -> None:
    """Refuse an algorithm that cannot learn in an environment, before data are loaded and a folder is made.

    The hooks of an algorithm that is not built in are tried.

    :param env: the first training environment; it is not stepped.
    """
    config = plan.config
    method = config.method
    spaces = env.observation_space, env.action_space
    policy = policy_name(env.observation_space)
    flow = plan.behaviour
    trained_agent = plan.request.trained_agent
    if trained_agent is not None:
        with as_usage_error(OSError, ValueError):
            saved, _ = read_model_file(trained_agent).attributes()
        check_same_spaces(
            trained_agent, (saved["observation_space"], saved["action_space"]), plan.env_id, spaces
        )
    if method is None:  # SB3's own
        if policy != "MlpPolicy":
            raise UsageError(
                f"`{config.algo}` is one of Stable-Baselines3's, which take vectors here, got "
                f"{env.observation_space} in {plan.env_id}; use an algorithm of this zoo, e.g. --algo qam"
            )
        return
    features: Any = env.observation_space
    is_vector = policy == "MlpPolicy" and isinstance(features, Box)
    with as_usage_error(AgentError, NotImplementedError, TypeError, ValueError):
        if flow is not None:
            method.pretrained = flow
        if flow is not None or not is_vector or method.encoder is not None or method.random_crop:
            wrapped = FlowAlgorithm._wrap_env(env)
            policy_on_env = make_policy(
                POLICIES[policy],
                wrapped.observation_space,
                wrapped.action_space,
                lambda _: 0.0,
                method,
                list(plan.request.seeds or [0]),
                config.settings.get("policy_kwargs"),
            )
            features = policy_on_env.features_space
            if flow is not None:
                check_outputs(policy_on_env)
        if config.algo not in BUILT_IN:
            check_first_update(method, features, env.action_space)


def make_model(
    plan: RunPlan, seeds: list[int], data: Dataset | ShardedDataset | None, env: VecEnv
) -> FlowAlgorithm:
    """Return the run's model with its data loaded."""
    config = plan.config
    request = plan.request
    settings = config.settings
    if config.method is not None:
        settings = {
            "method": config.method,
            "policy_kwargs": settings.get("policy_kwargs"),
            "behaviour": plan.behaviour,
        }
    with as_usage_error(NotImplementedError, TypeError, ValueError, OSError):
        model = find_algorithm(config.algo).algorithm(
            policy_name(env.observation_space),
            env,
            **settings,
            replay_buffer_kwargs={"storage": request.storage},
            seeds=seeds,
            device=request.device,
            verbose=max(request.verbose - 1, 0),
        )
        if config.run.online_steps:
            model.replay_buffer.require_room()  # now, and not after the offline phase
        if config.action_noise is not None:
            model.action_noise = named_action_noise(*config.action_noise, model.action_space)
        if data is not None:
            model.load_dataset(data.content)
        if request.trained_agent:  # after the dataset: it has observation statistics of its own
            model.set_parameters(find_model(request.trained_agent), device=request.device)
        if request.pretrained_actor:  # after the dataset, which gives the observation statistics
            model.load_pretrained_actor(request.pretrained_actor)
        if isinstance(model, FlowAlgorithm) and config.run.online_steps:  # now, as above
            model.require_statistics()
            require_own_environments(len(seeds), env, model.action_noise)
    log.info(model.replay_buffer.placement.text)
    if data is not None:
        log.info(model.replay_buffer.dataset_description)
    if isinstance(model, FlowAlgorithm):  # not one of SB3's
        log.info("updates: %s", model.trainer.mode)
    return model


def make_environments(plan: RunPlan, replicas: int, first: RepeatableEnv) -> VecEnv:
    """Return the training environments, the same number for each replica.

    :param first: an environment that was built for its spaces; it becomes the first of them, unless these are in
        processes of their own.
    """
    request = plan.request
    is_online = plan.config.run.online_steps > 0
    if is_online and request.n_envs and request.n_envs % replicas:
        raise UsageError(
            f"`--n-envs` must be a multiple of the {replicas} seeds, got {request.n_envs}; each seed trains online "
            "with environments of its own"
        )
    built = [first]

    def make_here() -> Env[Any, Any]:
        return built.pop() if built else make_env(plan.env_id, **plan.env_kwargs)

    def make_in_process() -> Env[Any, Any]:
        for number in {*STOP_SIGNALS} - {signal.SIGTERM}:  # Python ends them by SIGTERM
            signal.signal(number, signal.SIG_IGN)
        np.random.seed()  # all processes have been forked with the same global generator
        return make_env(plan.env_id, **plan.env_kwargs)

    make: Callable[[], Env[Any, Any]] = make_here
    vec_env: type[VecEnv] = DummyVecEnv
    if request.vec_env == "subproc":
        first.close()
        start_server()  # SB3 forks from it too
        make = make_in_process
        vec_env = SubprocVecEnv
    env = make_vec_env(
        make,
        n_envs=request.n_envs or (replicas if is_online else 1),
        wrapper_class=ResumableEnv if is_online else None,
        vec_env_cls=vec_env,  # type: ignore[arg-type]
    )
    for index in range(env.num_envs):
        env.env_method("set_name", f"training environment {index}", indices=[index])
    return normalized_env(env, plan.config.run.normalize, plan.config.settings["gamma"])
