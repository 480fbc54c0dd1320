"""Which agent plays, and where: that of a run, of a file, or one of the trained agents that come with the package."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.policies import BasePolicy

from agents.common.engine.checkpoint import find_checkpoints
from agents.common.frames import frames_of
from agents.common.saved import algorithm_of, find_model
from agents.common.sb3.acting import load_policy, read_about
from agents.registry import ALIASES, find_named_by_file, name_of
from zoo.baselines import find_algorithm
from zoo.datasets.names import gym_id
from zoo.errors import UsageError, as_usage_error
from zoo.hub.download import download_policy
from zoo.layers import parse_overrides
from zoo.packages import import_environments
from zoo.playing.scoring import REPORTED, Scoring
from zoo.runs.folder import RunFolder, numbered_folders
from zoo.watching.score import Score
from zoo.watching.trained import ENDING, find_trained

DEFAULT_EPISODES = 50
"""Episodes of an evaluation in the report's protocol, for a model that does not say."""
DEFAULT_SEED = 0


@dataclass(frozen=True)
class Agent:
    """A policy, and how it is evaluated.

    :param algo: id of its algorithm.
    :param policy: plans the actions.
    :param source: file that it was loaded from.
    :param env: name of the environment, as runs have it.
    :param env_kwargs: arguments of the environment; the policy's stacked frames are added.
    :param episodes: of an evaluation.
    :param seed: decides the starts and the noise.
    :param replica: the number that stands for it in its noise; the seed that it was trained with.
    :param scoring: what its episodes are scored by.
    :param stated: the score that its file states; None where it states none.
    :param run: folder of its run; None where it is of none, or plays in another environment.
    """

    algo: str
    policy: BasePolicy
    source: Path
    env: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    episodes: int = DEFAULT_EPISODES
    seed: int = DEFAULT_SEED
    replica: int = 0
    scoring: Scoring = REPORTED
    stated: Score | None = None
    run: Path | None = None

    def __post_init__(self) -> None:
        frames = frames_of(self.policy)
        if frames > 1:  # frozen
            object.__setattr__(self, "env_kwargs", {**self.env_kwargs, "frame_stack": frames})

    @property
    def env_id(self) -> str:
        """Gymnasium's id of the environment."""
        return gym_id(self.env)


@dataclass(frozen=True)
class Choice:
    """Which model of a run plays.

    :param best: whether to take the best model instead of the final one.
    :param step: of the checkpoint to take instead; -1 takes the last.
    """

    best: bool = False
    step: int | None = None


def find_agent(args: argparse.Namespace) -> Agent:
    """Return the agent that the flags of :mod:`zoo.watching.arguments` name."""
    import_environments(args.gym_packages)
    if args.num_threads > 0:
        torch.set_num_threads(args.num_threads)
    if args.from_hub is not None:
        return agent_of_file(download_policy(args.from_hub), args.env, args.device)
    if args.model is not None:
        return agent_of_file(args.model, args.env, args.device, trust=args.trust)
    if args.trained:
        return agent_of_file(find_trained(args.algo, args.env), None, args.device)
    _find_algorithm(args.algo, trust=True)  # what the user names may be imported, and not what a file names
    choice = Choice(args.load_best, -1 if args.load_last_checkpoint else args.load_checkpoint)
    run = find_run(args.folder, args.algo, args.env, args.exp_id)
    return agent_of_run(run, choice, args.device, trust=args.trust)


def agent_of_run(path: Path, choice: Choice, device: str = "auto", *, trust: bool = False) -> Agent:
    """Return the agent of a run folder; it plays the environment of the run, by the run's protocol.

    :raises UsageError: if the folder or its model cannot be read, or there is no such model.
    """
    config = RunFolder(path).read_config()
    file, index = _find_file(path, choice, config)
    with as_usage_error(ValueError, TypeError, OSError):
        model = _find_algorithm(config["algo"], trust).load(file, device=device, trust=trust)
    policy = model.policy if index is None else model.policy.replica(index)
    kwargs = parse_overrides(config.get("eval_env_kwargs") or config.get("env_kwargs") or [], "--env-kwargs")
    return Agent(
        algo=config["algo"],
        policy=policy,
        source=file,
        env=config["env"],
        env_kwargs=kwargs,
        episodes=int(config.get("eval_episodes") or DEFAULT_EPISODES),
        seed=int(config.get("eval_seed") or DEFAULT_SEED),
        replica=int(config["seed"]),
        scoring=Scoring.recorded_in(config),
        run=path,
    )


def agent_of_file(path: Path, env: str | None, device: str = "auto", *, trust: bool = False) -> Agent:
    """Return the agent of a run folder, of a file in one, of a saved model or of a policy that was saved for acting.

    :param env: the environment, where the file does not say.
    :raises UsageError: if it cannot be read, or nothing says where it plays.
    """
    if not path.exists():
        raise UsageError(f"expected a saved model, a policy or the folder of a run, got {path}, which does not exist")
    if path.is_dir():
        return _moved(agent_of_run(path, Choice(), device, trust=trust), env)
    if path.suffix == ENDING:
        return _agent_of_policy(path, env, device)
    with as_usage_error(ValueError, OSError):
        algo = algorithm_of(path)
    if algo is None:
        raise UsageError(f"{path} does not say which algorithm it is of, as models of before 0.2 do not; save it again")
    if (path.parent / "config.yml").exists():
        choice = Choice(best=path.name == "best_model.zip")
        return _moved(agent_of_run(path.parent, choice, device, trust=trust), env)
    with as_usage_error(ValueError, TypeError, OSError):
        policy = _find_algorithm(algo, trust).load(path, device=device, trust=trust).policy
    return Agent(algo=algo, policy=policy, source=path, env=_required(env, path))


def find_run(logs: Path, algo: str, env: str, number: int = 0) -> Path:
    """Return a run folder.

    :param logs: folder of runs.
    :param number: of the run; 0: the newest.
    :raises UsageError: if there is none; the message says which there are.
    """
    algo = ALIASES.get(algo, algo)
    found = numbered_folders(logs / algo, env)
    if not found:
        raise UsageError(f"expected a run of {algo} on {env} in {logs}, found none; train one, or give -f or --trained")
    if number and number not in found:
        raise UsageError(f"`--exp-id` must be one of {', '.join(map(str, sorted(found)))}, got {number}")
    return found[number or max(found)]


def _agent_of_policy(path: Path, env: str | None, device: str) -> Agent:
    """Return the agent in a file that :func:`agents.common.sb3.acting.save_policy` wrote."""
    with as_usage_error(ValueError, OSError):
        policy, about = load_policy(path, device), read_about(path)
    own = str(_required(about.get("env") or env, path))
    if ":" in own and own != env:
        raise UsageError(f"{path} plays in `{own}`, which would import a module; give --env {own} if you trust it")
    try:
        protocol = dict(about.get("protocol") or {})
        agent = Agent(
            algo=name_of(type(policy.method)),
            policy=policy,
            source=path,
            env=own,
            env_kwargs=dict(protocol.get("env_kwargs") or {}),
            episodes=int(protocol.get("episodes") or DEFAULT_EPISODES),
            seed=int(protocol.get("seed") or DEFAULT_SEED),
            replica=int(about.get("seed") or 0),
            scoring=Scoring.read(protocol),
            stated=Score.read(about["score"]) if about.get("score") else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} says nonsense about its protocol or its score: {error!r}") from error
    return _moved(agent, env)


def _moved(agent: Agent, env: str | None) -> Agent:
    """Return an agent in another environment, if one is given; no score is stated for it there."""
    return agent if env in (None, agent.env) else replace(agent, env=str(env), stated=None, run=None)


def _required(env: str | None, path: Path) -> str:
    if env is None:
        raise UsageError(f"{path} does not say in which environment it plays; give --env")
    return env


def _find_algorithm(id: str, trust: bool) -> Any:
    """Return the class of an algorithm's models; a module that a file names is imported only if it is trusted."""
    if ":" in id and not trust and find_named_by_file(id) is None:
        raise UsageError(f"the agent is of `{id}`, which is not imported; give --trust to have the file import it")
    try:
        return find_algorithm(id).algorithm
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def _find_file(path: Path, choice: Choice, config: Mapping[str, Any]) -> tuple[Path, int | None]:
    """Return the file of a run's model, and which of its replicas is the run's; None where there is one."""
    if choice.step is not None:
        return _find_checkpoint(path, choice.step, config)
    if choice.best:
        file = path / "best_model.zip"
        if not file.is_file():
            raise UsageError(f"`--load-best` needs {file}, which does not exist; leave it out for the final model")
        return file, None
    try:
        return RunFolder(path).model if RunFolder(path).model.is_file() else find_model(path), None
    except FileNotFoundError as error:
        raise UsageError(f"{error}; it may not have been trained far enough") from error


def _find_checkpoint(path: Path, step: int, config: Mapping[str, Any]) -> tuple[Path, int | None]:
    """Return the model of a checkpoint, which has the replicas of all seeds and is in the folder of the first."""
    folders, index = list(config.get("folders") or [path.name]), None
    if len(folders) > 1:
        index = folders.index(path.name)
    found = {_step_of(each): each / "model.zip" for each in find_checkpoints(path.with_name(folders[0]) / "checkpoint")}
    if step == -1 and found:
        return found[max(found)], index
    if step not in found:
        there = ", ".join(f"{each}" for each in sorted(found)) or "none"
        raise UsageError(f"`--load-checkpoint` must be the step of a checkpoint of {path}, got {step}; there: {there}")
    return found[step], index


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_").partition(".")[0])
