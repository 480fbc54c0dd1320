"""Load agents from runs, files, the hub and `zoo/trained`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import gymnasium
from stable_baselines3.common.policies import BasePolicy

from agents.common.model_file import (
    MODEL,
    ModelFile,
    find_checkpoints,
    find_model,
    read_about,
    read_model_file,
    step_of,
)
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.sb3.environments import available_device
from agents.common.sb3.policy import FlowPolicy
from agents.common.validation import unknown_name_message
from agents.registry import ALIASES, Entry, name_of
from zoo.algorithms.catalogue import algorithm_ids, find_algorithm, find_named_by_file
from zoo.algorithms.packages import import_environments, import_optional, load_flow
from zoo.datasets.names import gym_id
from zoo.envs.checks import check_same_spaces
from zoo.envs.make import find_spec
from zoo.models.score import Score
from zoo.runs.folder import RunFolder, UnreadableRun, file_name_of, numbered_folders
from zoo.runs.scores import REPORTED, SUCCESS, ScoringRule
from zoo.settings.layers import parse_overrides
from zoo.settings.record import RunRecord, RunSettings, named_wrappers
from zoo.terminal.errors import UsageError, as_usage_error, one_line
from zoo.terminal.messages import log

# -- trained agents ---------------------------------------------------------------------------------------------------

ENDING = ".safetensors"
FOLDER = Path(str(files("zoo") / "trained"))


def find_trained(algo: str, env: str) -> Path:
    """Return the file of a trained agent.

    :raises UsageError: if there is no such agent; the message names existing agents, or the page that lists them.
    """
    file = FOLDER / algo / f"{file_name_of(env)}{ENDING}"
    if not file.is_file():
        environments = list_trained()
        if algo not in environments:
            message = unknown_name_message("trained algorithm", algo, environments)
            raise UsageError(f"{message}; docs/mini.md lists them")
        raise UsageError(f"{algo} was trained on {', '.join(environments[algo])}; got {env}")
    return file


def list_trained() -> dict[str, list[str]]:
    """Return algorithm -> environments of its trained agents, both sorted."""
    environments: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob(f"*/*{ENDING}")):
        environments.setdefault(path.parent.name, []).append(path.stem)
    return environments


# -- agents on the Hugging Face hub -----------------------------------------------------------------------------------

POLICY = "policy.safetensors"
"""The only file that is read from a repository; see `agents.common.model_file`. Loading it does not execute code."""


def hub_library() -> Any:
    """Return the module `huggingface_hub`.

    :raises UsageError: if the package is not installed.
    """
    return import_optional("huggingface_hub", "huggingface_hub", "the hub", "huggingface_hub>=2,<3")


@contextlib.contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Convert errors of the hub's library to a UsageError with a one-line message."""
    errors = importlib.import_module("huggingface_hub.errors")  # an optional package
    try:
        yield
    # `HTTPError` of the HTTP library also covers network errors
    except (errors.HFValidationError, errors.HTTPError, OSError) as error:
        # messages of the library have several lines, including links and the HTTP request
        reason = one_line(error.__cause__ or error)
        if isinstance(error, errors.RemoteEntryNotFoundError):
            reason = f"it contains no agent of this library: expected the file {POLICY}"
        raise UsageError(
            f"cannot access {repo} on the hub ({reason}); check the name, the revision, the connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE; for private repositories and uploads, log in with `hf auth login`, or set "
            "HF_TOKEN"
        ) from error


def download_policy(name: str) -> Path:
    """Return the path of a repository's policy file; it is downloaded unless the hub's cache contains it.

    :param name: ``my-name/my-agent``, optionally followed by ``@`` and a branch, tag or commit.
    :raises UsageError: if the repository has no policy, or the hub cannot be reached.
    """
    repo, _, revision = name.partition("@")
    api = hub_library().HfApi()
    with hub_errors(repo):
        path = Path(api.hf_hub_download(repo, POLICY, revision=revision or None))
    log.info("%s from the hub, commit %s", repo, path.parent.name)
    return path


# -- agents -----------------------------------------------------------------------------------------------------------

DEFAULT_EPISODES = RunSettings().eval_episodes
"""Number of evaluation episodes for a model without a recorded protocol."""


@dataclass
class Agent:
    """A policy and its evaluation protocol.

    :param algo: id of the policy's algorithm.
    :param policy: the policy.
    :param source: file from which the policy was loaded.
    :param env: the environment, named as in a run's record.
    :param env_kwargs: arguments of `zoo.envs.make.make_env`; `frame_stack` is added if the policy stacks frames.
    :param episodes: episodes per evaluation.
    :param seed: seed of initial states and noise.
    :param replica: index of the noise stream, which is the policy's training seed.
    :param scoring: rule that scores the agent's episodes.
    :param stated: score recorded in the policy's file, or None.
    :param run: the policy's run folder; None if its file is not in a run folder, or it acts in another environment.
    :param versions: versions of the packages used for training, as far as known.
    :param trust: whether modules named only in the agent's file may be imported.
    """

    algo: str
    policy: BasePolicy
    source: Path
    env: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    episodes: int = DEFAULT_EPISODES
    seed: int = 0
    replica: int = 0
    scoring: ScoringRule = REPORTED
    stated: Score | None = None
    run: Path | None = None
    versions: dict[str, Any] = field(default_factory=dict)
    trust: bool = False

    def __post_init__(self) -> None:
        replicas = getattr(self.policy, "num_replicas", 1)
        if replicas > 1:
            raise UsageError(
                f"{self.source} must have one replica, got {replicas}; save `model.replica(k)`"
            )
        # policies of other libraries have no `method`
        frames = getattr(getattr(self.policy, "method", None), "frame_stack", 1)
        if frames > 1:
            self.env_kwargs = {**self.env_kwargs, "frame_stack": frames}

    @property
    def imports(self) -> list[tuple[str, str, str]]:
        """Modules that the environment needs, each with a noun for messages and the flag that imports it."""
        imports = []
        if ":" in self.env:
            imports = [(self.env.rpartition(":")[0], f"`{self.env}`", f"--env {self.env}")]
        for path, _ in named_wrappers(self.env_kwargs.get("env_wrapper", ())):
            module = path.partition(":")[0]
            imports.append((module, f"the wrapper {path}", f"--gym-packages {module}"))
        return imports

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment.

        :raises UsageError: if the environment or a wrapper needs the import of a module named only in a file.
        """
        for module, noun, flag in self.imports:
            if module not in sys.modules and not self.trust:
                raise UsageError(
                    f"{self.source} needs {noun}, which a file may not import: pass {flag} and run in the folder that "
                    f"contains {module.partition('.')[0]}, or pass --trust if you trust the file's author"
                )
        return gym_id(self.env)

    def with_protocol(self, episodes: int | None, seed: int | None) -> Self:
        """Return this agent with this number of episodes and this seed; None keeps the current value."""
        return replace(
            self,
            episodes=self.episodes if episodes is None else episodes,
            seed=self.seed if seed is None else seed,
        )

    def flow_policy(self) -> FlowPolicy:
        """Return the policy; raise UsageError if it is one of Stable-Baselines3."""
        if isinstance(self.policy, FlowPolicy):
            return self.policy
        raise UsageError(
            f"this command needs an algorithm of this zoo, got {self.algo} of Stable-Baselines3; see SB3's "
            "documentation for export and upload"
        )

    def check_spaces(self, spaces: tuple[gymnasium.Space[Any], gymnasium.Space[Any]]) -> None:
        """Raise UsageError if an environment's spaces differ from those the policy was trained with.

        :param spaces: the environment's observation and action space.
        """
        trained = (self.policy.observation_space, self.policy.action_space)
        check_same_spaces(self.source, trained, self.env, spaces)


def find_agent(args: argparse.Namespace) -> Agent:
    """Return the agent that the flags of :mod:`zoo.models.agent_flags` name.

    Modules named by the user are imported; modules named by a file must be imported already or trusted.
    """
    # import the packages first, because files may name environments that these packages register
    import_environments(args.gym_packages or ())
    with as_usage_error():
        available_device(args.device)
    # the environment's module may be imported, because the user names it
    if ":" in (args.env or ""):
        find_spec(args.env)
    algo = ALIASES.get(args.algo, args.algo)
    # the user names the algorithm's module too; its import registers the algorithm's id
    if ":" in (algo or ""):
        algo = find_algorithm(algo).id
    if args.from_hub is not None:
        path = download_policy(args.from_hub)
    elif args.trained:
        path = find_trained(algo, args.env)
    else:
        path = args.model or find_run(args.folder, algo, args.env)
    behaviour = None if args.behaviour is None else load_flow(args.behaviour)
    if path.is_dir():
        name = RunFolder(path).best_model.name if args.load_best else None
        agent = agent_of_run(
            path,
            args.device,
            name=name,
            step=args.load_checkpoint,
            behaviour=behaviour,
            trust=args.trust,
        )
    else:
        agent = agent_of_file(path, args.env, args.device, behaviour=behaviour, trust=args.trust)
    if algo not in (None, agent.algo):
        raise UsageError(
            f"{agent.source} is an agent of {agent.algo}, got --algo {algo}; omit --algo"
        )
    if args.env in (None, agent.env):
        return agent
    scoring = agent.scoring
    if scoring.score == "success":  # the environment of `--env` may not report success
        scoring = replace(scoring, score=None)
    # the score stated in the file is for the file's environment
    return replace(agent, env=args.env, scoring=scoring, stated=None, run=None)


def agent_of_run(
    path: Path,
    device: str = "auto",
    *,
    name: str | None = None,
    step: int | None = None,
    behaviour: PretrainedFlow | None = None,
    trust: bool = False,
) -> Agent:
    """Return the agent of a run folder, with the environment and the protocol of the run.

    :param name: name of the model file to load instead of the final model, e.g. the best model's.
    :param step: step of a checkpoint to load instead of the final model; -1 loads the last checkpoint.
    :param behaviour: custom pretrained flow that the model was trained with.
    :raises UsageError: if the folder or its model cannot be read, or there is no such model.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise UsageError(
            f"expected the folder of a run, such as logs/qam/ENV_1, got {path} without {folder.config.name}"
        )
    config = folder.read_config()
    scoring = ScoringRule.from_run(config)
    with contextlib.suppress(UnreadableRun):
        if "successes" in folder.read_evaluations():
            scoring = scoring.with_success()
    env_kwargs = parse_overrides(config.evaluation_env_kwargs, "--env-kwargs")
    if config.run.env_wrapper:
        env_kwargs["env_wrapper"] = config.run.env_wrapper
    replica = None
    if step is not None:
        file, replica = _find_checkpoint(path, step, config)
    elif name is None:
        with as_usage_error(FileNotFoundError):
            file = find_model(path)
    else:
        file = path / name
        if not file.is_file():
            raise UsageError(f"`--load-best` needs {file}, which does not exist; omit --load-best")
    plug_in = config.agent or {}  # empty for built-in algorithms
    algo = config.algo
    # a custom algorithm's id is registered only if its package is installed
    if algo not in algorithm_ids():
        algo = plug_in.get("class", algo)
    entry = find_named_by_file(algo, path, plug_in.get("package"), trust=trust)
    if config.behaviour is not None and behaviour is None:
        function = config.behaviour["function"]
        if not trust:
            raise UsageError(
                f"{path} was trained with the flow of {function}, which a file may not import: pass "
                f"--behaviour {function}, or --trust if you trust the file's author"
            )
        behaviour = load_flow(function)
    return Agent(
        algo=entry.id,
        policy=_load_policy(entry, file, device, behaviour, replica),
        source=file,
        env=config.env,
        env_kwargs=env_kwargs,
        episodes=config.run.eval_episodes,
        seed=config.eval_seed,
        replica=config.seed,
        scoring=scoring,
        run=path,
        versions=folder.known_versions()["packages"],
        trust=trust,
    )


def _load_policy(
    entry: Entry,
    file: Path | ModelFile,
    device: str,
    behaviour: PretrainedFlow | None,
    replica: int | None = None,
) -> BasePolicy:
    """Return the policy of a saved model, or of one of its replicas.

    :param behaviour: custom flow, only for algorithms of this library.
    """
    flow = {} if behaviour is None else {"behaviour": behaviour}
    with as_usage_error(ValueError, TypeError, OSError):
        model: Any = entry.algorithm.load(file, device=device, **flow)
        policy: BasePolicy = model.policy
        if replica is not None:
            policy = model.policy.replica(replica)
    # the policy normalises observations itself, because evaluation environments do not
    policy.normalization = model.normalization
    return policy


def agent_of_file(
    path: Path,
    env: str | None,
    device: str = "auto",
    *,
    behaviour: PretrainedFlow | None = None,
    trust: bool = False,
) -> Agent:
    """Return the agent of a file: a model in a run folder, another saved model, or a policy saved for acting.

    :param env: the environment, if the file does not name one.
    :param behaviour: as for :func:`agent_of_run`.
    :raises UsageError: if the file cannot be read, or neither it nor ``env`` names an environment.
    """
    if path.suffix not in (".zip", ENDING) or not path.exists():
        problem = "is none of these" if path.exists() else "does not exist"
        raise UsageError(
            f"expected a saved model (.zip), a policy ({ENDING}) or the folder of a run, got {path}, which {problem}"
        )
    if path.suffix == ENDING:
        if behaviour is not None:
            raise UsageError(f"`--behaviour` is for saved models, got the policy {path}; omit it")
        return _agent_of_policy(path, env, device, trust)
    # a model in a run folder is evaluated under the run's protocol
    if RunFolder(path.parent).config.exists():
        return agent_of_run(path.parent, device, name=path.name, behaviour=behaviour, trust=trust)
    with as_usage_error(ValueError, OSError):
        file = read_model_file(path)
    entry = find_named_by_file(file.described["algorithm_id"], path, trust=trust)
    policy = _load_policy(entry, file, device, behaviour)
    return Agent(entry.id, policy, path, _required(env, path))


def _agent_of_policy(path: Path, env: str | None, device: str, trust: bool) -> Agent:
    """Return the agent of a policy that was saved for acting; for the arguments see :func:`agent_of_file`."""
    with as_usage_error(ValueError, OSError):
        policy = FlowPolicy.load(path, device, trust=trust)
        about = read_about(path)
    protocol = about.get("protocol") or {}
    env_kwargs = protocol.get("env_kwargs") or {}
    if not trust:
        require_plain_arguments(path, env_kwargs)
    scoring = ScoringRule.read(protocol)
    stated = None
    with contextlib.suppress(KeyError, TypeError):  # users may write scores of any form, or none
        stated = Score(**about["score"])
    if stated is not None and stated.kind == SUCCESS.name:
        scoring = scoring.with_success()
    return Agent(
        algo=find_named_by_file(name_of(type(policy.method)), path).id,
        policy=policy,
        source=path,
        env=_required(about.get("env") or env, path),
        env_kwargs=env_kwargs,
        episodes=protocol.get("episodes") or DEFAULT_EPISODES,
        seed=protocol.get("seed") or 0,
        replica=about.get("seed") or 0,
        scoring=scoring,
        stated=stated,
        versions=about.get("versions") or {},
        trust=trust,
    )


def require_plain_arguments(path: Path, env_kwargs: object) -> None:
    """Reject paths and modules that a file would pass to an environment and its wrappers.

    :raises UsageError: unless `env_kwargs` maps names to numbers, booleans, words, or lists and mappings of these.
    """
    if not isinstance(env_kwargs, dict):
        raise UsageError(
            f"`env_kwargs` of {path} must be a mapping of names to values, got {env_kwargs!r}"
        )
    arguments = dict(env_kwargs)
    wrappers = arguments.pop("env_wrapper", ())
    with as_usage_error(TypeError):
        pending = [arguments, *(kwargs for _, kwargs in named_wrappers(wrappers))]
    while pending:  # not recursive, because values in a file may be nested arbitrarily deep
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        # without `/` and `:`, text can name neither a file in another folder nor a `module:Class`
        elif isinstance(value, str) and not re.fullmatch(r"[\w .+-]*", value):
            raise UsageError(
                f"{path} passes {value!r} to the environment, but an agent's file may not select files or modules; add "
                "--trust if you trust the file's author"
            )


def find_run(logs: Path, algo: str, env: str) -> Path:
    """Return the folder of the newest run of an algorithm in an environment.

    :param logs: folder of runs.
    :raises UsageError: if there is no such run.
    """
    folders = numbered_folders(logs / algo, env)
    if not folders:
        find_algorithm(algo)  # for an unknown algorithm, raises a more helpful error
        raise UsageError(
            f"found no run of {algo} on {env} in {logs}; train one, name another folder with -f, or pass a MODEL"
        )
    return folders[max(folders)]


def _required(env: str | None, path: Path) -> str:
    if env is None:
        raise UsageError(f"{path} does not name an environment; pass --env")
    return env


def _find_checkpoint(path: Path, step: int, config: RunRecord) -> tuple[Path, int | None]:
    """Return a checkpoint's model file, and the index of the run's replica in the model; None if it has one replica.

    A checkpoint contains the replicas of all seeds that are trained together, and is in the folder of the first seed.
    """
    path = path.resolve()  # a path such as `.` has no name
    replica = config.seeds.index(config.seed) if config.seeds else None
    first = RunFolder(path)  # may have been renamed
    if replica:
        first = first.trained_together(config)[0]
    models = {}
    # start with the oldest, so that the newest of several checkpoints at a step is kept
    for checkpoint in reversed(find_checkpoints(first.checkpoints)):
        models[step_of(checkpoint)] = checkpoint / MODEL
    if step == -1:
        step = max(models, default=step)
    if step not in models:
        steps = ", ".join(map(str, sorted(models))) or "none"
        raise UsageError(
            f"`--load-checkpoint` must be the step of a checkpoint of {path}, got {step}; existing steps: {steps}"
        )
    return models[step], replica
