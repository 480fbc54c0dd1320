"""Environments with a repeatable reset: those of OGBench, robomimic and D4RL, any other, and none at all."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import gymnasium
import numpy as np
import ogbench  # noqa: F401  registers its environments
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from agents.common.frames import FrameStack
from agents.common.streams import Purpose, stream
from agents.common.validation import unknown_name_message
from agents.registry import import_named
from zoo.algorithms.packages import import_optional, import_user_object
from zoo.envs.border import (
    Info,
    ReturnError,
    check_spaces,
    read_observation,
    read_success,
    require_finite,
    unpack_reset,
    unpack_step,
)
from zoo.envs.rendering import require_pictures
from zoo.envs.tasks import MAZES, ROBOMIMIC, ROBOTICS, SCENES, TASKS
from zoo.evaluation.workers import temp_folder
from zoo.settings.layers import read_yaml
from zoo.settings.record import Wrappers, named_wrappers
from zoo.terminal.errors import EnvironmentApiFault, EnvironmentFault, UsageError, as_usage_error

if TYPE_CHECKING:  # processes of environments do without PyTorch
    from agents.common.data.arrays import Transitions

OGBENCH_ROBOTS = ("ogbench.locomaze", "ogbench.manipspace")
Array: TypeAlias = np.ndarray

# Their simulators, Gymnasium-Robotics and robosuite, are imported when one is built.
for _size, (_maze, _start, _goal, _steps, _) in MAZES.items():
    gymnasium.register(
        f"d4rl-antmaze-{_size}",
        entry_point=f"{__name__}:make_antmaze",
        kwargs={"maze": _maze, "start": _start, "goal": _goal},
        max_episode_steps=_steps,
        disable_env_checker=True,
    )
for _name, _scene in SCENES.items():
    gymnasium.register(
        _name,
        entry_point="zoo.envs.robosuite:RobosuiteEnv",
        kwargs={"scene": _scene},
        max_episode_steps=ROBOMIMIC[_name].steps,
        disable_env_checker=True,
    )


def make_env(
    env_id: str | EnvSpec, *, env_wrapper: Wrappers = (), frame_stack: int = 1, **env_kwargs: Any
) -> RepeatableEnv:
    """Return an environment whose every random number follows from the seed given to ``reset``.

    ``info`` has ``success`` (0 or 1) and SB3's ``is_success`` wherever the environment knows success; of OGBench's
    own entries nothing else is kept, since they are a hundred times the size of the observation.

    :param env_id: Gymnasium id (``cube-double-singletask-task2-v0``, ``Pendulum-v1``, ``my_package:Mine-v0``) or spec.
    :param env_wrapper: wrappers around it, see `zoo.settings.record`.
    :param frame_stack: images of which an observation is a stack, see :class:`agents.FrameStack`.
    :param env_kwargs: passed to the environment's constructor.
    :return: the environment, with its own observation dtype and a time limit if its id has one.
    :raises UsageError: if the id is unknown, an argument is, the task has no reward of its own, a space cannot be
        trained on, or nothing can draw the images.
    """
    spec = find_spec(env_id, **env_kwargs)
    if observes_images(spec, env_kwargs):
        require_pictures(spec.id)
    with building():
        try:
            env = gymnasium.make(spec, disable_env_checker=True, **env_kwargs)
        except gymnasium.error.DependencyNotInstalled as error:
            raise UsageError(
                f"`{spec.id}` needs a package that is not installed: {error}"
            ) from error
        except TypeError as error:
            if not env_kwargs:
                raise
            raise UsageError(
                f"`{spec.id}` does not take these arguments, got {env_kwargs}: {error}"
            ) from error
        env = wrap(env, env_wrapper)
        check_spaces(spec.id, env)
        with as_usage_error():
            if frame_stack != 1:
                env = FrameStack(env, frame_stack)
        return RepeatableEnv(env, keep_info=not is_ogbench(spec))


def wrap(env: gymnasium.Env[Any, Any], wrappers: Wrappers) -> gymnasium.Env[Any, Any]:
    """Return an environment inside wrappers, whose modules are imported.

    :raises UsageError: if there is no such wrapper, or it does not take the environment or its arguments.
    """
    for path, kwargs in named_wrappers(wrappers):
        wrapper = import_user_object("env_wrapper", "classes", path)
        # a class of another kind could do anything with the environment
        if not isinstance(wrapper, type) or not issubclass(wrapper, gymnasium.Wrapper):
            raise UsageError(f"`env_wrapper` must name subclasses of gymnasium.Wrapper, got {path}")
        try:
            env = wrapper(env, **kwargs)
        except (TypeError, ValueError, AssertionError, AttributeError) as error:
            raise UsageError(
                f"{path} does not take {env} with the arguments {dict(kwargs)}: {error}"
            ) from error
    return env


def find_spec(env_id: str | EnvSpec, **env_kwargs: Any) -> EnvSpec:
    """Return the registered description of an environment; nothing is built.

    :raises UsageError: if the id is unknown, a task of another benchmark whose simulator is not installed, or an
        OGBench environment that with these arguments is not a single task with state observations.
    """
    if isinstance(env_id, EnvSpec):
        spec = env_id
    else:
        module, _, name = env_id.rpartition(":")
        try:
            if module:
                import_named(module)
            require_simulator(name)
            spec = gymnasium.spec(name)
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            if env_id.startswith("data-"):
                message = f"`{env_id}` stands for data without an environment: nothing can play there; give another"
                raise UsageError(message) from error
            message = unknown_name_message("environment", env_id, [*gymnasium.registry, *TASKS])
            raise UsageError(f"{message} ({error})") from error
    if is_ogbench(spec):
        kwargs = {**spec.kwargs, **env_kwargs}
        if kwargs.get("reward_task_id") is None and kwargs.get("mode") != "data_collection":
            prefix = spec.id.rpartition("-v")[0] + "-singletask"
            tasks = sorted(name for name in gymnasium.registry if name.startswith(prefix))
            raise UsageError(
                f"`{spec.id}` is a goal-conditioned task without a reward of its own; "
                f"use one of its single tasks: {', '.join(tasks)}"
            )
    return spec


def require_simulator(env_id: str) -> None:
    """Register the environments of the package that simulates one, where it is optional.

    :raises UsageError: if the package is not installed.
    """
    if env_id in ROBOMIMIC and importlib.util.find_spec("robosuite") is None:
        # robosuite itself is not imported yet, which takes seconds
        install = "`pip install 'flow-rl-zoo[robomimic]'`"
        raise UsageError(f"`{env_id}` is simulated by robosuite, which is not installed; {install}")
    elif env_id in ROBOTICS:
        import_robotics("gymnasium_robotics", env_id)


def import_robotics(module: str, env_id: str) -> Any:
    """Return a module of Gymnasium-Robotics, or raise UsageError where it is not installed."""
    return import_optional(module, "Gymnasium-Robotics", f"`{env_id}`", "flow-rl-zoo[d4rl]")


def is_ogbench(spec: EnvSpec) -> bool:
    """Return whether an environment is one of OGBench's mazes or manipulation scenes."""
    return str(spec.entry_point).startswith(OGBENCH_ROBOTS)


def observes_images(spec: EnvSpec, env_kwargs: Mapping[str, Any]) -> bool:
    """Return whether an environment is one of OGBench's whose observations MuJoCo draws."""
    return is_ogbench(spec) and {**spec.kwargs, **env_kwargs}.get("ob_type") == "pixels"


def ignore_startup_warnings() -> None:
    """Ignore the warnings that OGBench causes whatever the user does."""
    # MuJoCo's viewer is imported, and there may be no display.
    warnings.filterwarnings("ignore", module="glfw")
    # OGBench gives bounds of actions in float64.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting")


@contextlib.contextmanager
def no_startup_noise() -> Iterator[None]:
    """Ignore these warnings in a ``with`` block."""
    with warnings.catch_warnings():
        ignore_startup_warnings()
        yield


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Ignore these warnings, and remove the temporary files that a construction leaves behind, such as OGBench's mazes.

    They are made where multiprocessing has its own, which the program's main process removes when it ends: so nothing
    is left of a process that is killed meanwhile.
    """
    configured = tempfile.tempdir
    with (
        no_startup_noise(),
        tempfile.TemporaryDirectory(dir=temp_folder(), ignore_cleanup_errors=True) as folder,
    ):
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = configured


@contextlib.contextmanager
def global_numpy_seed(seed: int | Array) -> Iterator[None]:
    """Seed NumPy's global generator, which OGBench and robosuite draw from, and put it back afterwards.

    :param seed: one or more unsigned 32-bit words.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


class RepeatableEnv(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Environment whose ``reset(seed=s)`` decides everything that follows, without touching the global generator.

    OGBench draws start positions and teleports from NumPy's global generator, and steps with actions of an unseeded
    action space while it resets. Here both follow the seed; without a seed they follow the environment's own
    ``np_random``, so a seeded sequence of resets is repeatable too. The global generator is left as it was found.

    What it returns passes `zoo.envs.border`; what does not raises :class:`zoo.terminal.errors.EnvironmentFault`.

    :param keep_info: whether to keep all of the environment's ``info`` or only the success.
    """

    copies_observations = True  # so that a model does not copy them again

    def __init__(self, env: gymnasium.Env[Array, Array], *, keep_info: bool) -> None:
        super().__init__(env)
        raw = env.unwrapped
        # OGBench's manipulation scenes build both spaces at each access, and draw actions from them in a reset.
        self.observation_space = env.observation_space
        self._reset_actions = env.action_space
        # What a reset draws must not change the samples of the space that users see.
        self.action_space = copy.deepcopy(env.action_space)
        if isinstance(getattr(type(raw), "action_space", None), property):
            raw.__class__ = type(
                type(raw).__name__, (type(raw),), {"action_space": self._reset_actions}
            )
        self._keep_info = keep_info
        # Only mazes with teleports do; changing the global generator costs each step of the others time.
        self._draws_while_stepping = getattr(raw, "_teleport_info", None) is not None
        self._global_state = np.random.RandomState(0).get_state()
        self._called = ""
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Info]:
        """Start an episode, which the seed and the actions decide; None continues from the last seed."""
        entropy = seed
        if entropy is None:
            entropy = int(self.env.np_random.integers(2**63))
        action_seed, global_seed = stream(Purpose.ENVIRONMENT, entropy).generate_state(2)
        self._reset_actions.seed(int(action_seed))
        self._global_state = np.random.RandomState(global_seed).get_state()
        self._steps = 0
        with self._own_global_generator():
            result = self.env.reset(seed=seed, options=options)
        with self._naming_faults():
            observation, info = unpack_reset(result)
            return read_observation(self.observation_space, observation), self._select(info)

    def set_name(self, name: str) -> None:
        """Set the name for messages, e.g. ``training environment 3``."""
        self._called = f", {name},"

    def step(self, action: Array) -> tuple[Array, float, bool, bool, Info]:
        """Take one step with an action in the environment's own units, shape (A,)."""
        self._steps += 1
        if self._draws_while_stepping:
            with self._own_global_generator():
                result = self.env.step(action)
        else:
            result = self.env.step(action)
        with self._naming_faults():
            observation, reward, terminated, truncated, info = unpack_step(result)
            observation = read_observation(self.observation_space, observation)
            require_finite("reward", abs(reward))
            return observation, reward, terminated, truncated, self._select(info)

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        """Say in an error which environment is at fault, when, and what to do."""
        try:
            yield
        except ReturnError as error:
            kind = EnvironmentApiFault if error.is_form else EnvironmentFault
            raise kind(
                f"{error} from `{name_of(self.env)}`{self._called} at step {self._steps} of its episode; this is a "
                f"fault of the environment: correct it, or {error.remedy}"
            ) from error

    def _select(self, info: Info) -> Info:
        """Return the part of an info that is kept, with success under both names."""
        success = read_success(info)
        if not self._keep_info:
            info = {}
        if success is None:
            return info
        return {**info, "success": success, "is_success": bool(success)}

    @contextlib.contextmanager
    def _own_global_generator(self) -> Iterator[None]:
        """Replace the state of NumPy's global generator by that of this environment."""
        callers_state = np.random.get_state()
        np.random.set_state(self._global_state)
        try:
            yield
        finally:
            self._global_state = np.random.get_state()
            np.random.set_state(callers_state)


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """Return the id of an environment; of one that is not registered its text."""
    if env.spec is None:
        return str(env.unwrapped)
    return env.spec.id


def make_raw_env(env_id: str, **settings: Any) -> Any:
    """Return an OGBench environment with Gymnasium's time limit and no rendering context."""
    with building():
        return gymnasium.make(env_id, disable_env_checker=True, **settings)


def env_spaces(env: Any) -> tuple[Any, Any]:
    """Return observation and action space; OGBench's manipulation environments build new ones at each access."""
    with no_startup_noise():
        return env.observation_space, env.action_space


def make_antmaze(
    maze: str, start: tuple[int, int], goal: tuple[int, int], **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Return an ant in a maze with one start and one goal, which ends the episode.

    Observations are one vector: the position, the goal's, and the ant's coordinates and velocities.
    """
    maps = import_robotics("gymnasium_robotics.envs.maze.maps", maze)
    ants = import_robotics("gymnasium_robotics.envs.maze.ant_maze_v4", maze)
    cells = copy.deepcopy(getattr(maps, maze))
    cells[start[0]][start[1]] = maps.RESET
    cells[goal[0]][goal[1]] = maps.GOAL
    return gymnasium.wrappers.FlattenObservation(
        ants.AntMazeEnv(maze_map=cells, continuing_task=False, **kwargs)
    )


class DatasetOnlyEnv(gymnasium.Env[Array, Array]):
    """Has the spaces of some data, and cannot be stepped."""

    def __init__(self, observations: Box, actions: Box) -> None:
        self.observation_space = observations
        self.action_space = actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Array, Info]:
        """Return an observation of zeros, which SB3 asks for before any training."""
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape or (), np.float32), {}

    def step(self, action: Array) -> NoReturn:
        """Refuse.

        :raises UsageError: always.
        """
        raise UsageError("there is no environment to play in: the run was trained with --no-env")


def dataset_only_id(name: str) -> str:
    """Return the id of what stands for the environment of the data with a name."""
    return re.sub(r"[^\w.-]", "-", f"data-{name}")


def register_dataset_only_env(
    env_id: str,
    content: Transitions,
    limits: tuple[float, float] | None,
    spaces: Path | None = None,
) -> None:
    """Register what stands for the environment of some data.

    :param content: these data.
    :param limits: the lowest and the highest action; None takes -1 and 1 if all actions are inside, else what each
        coordinate of the data reaches.
    :param spaces: a YAML file with the limits of observations and actions, which override the others.
    :raises UsageError: for images, which no policy is judged by, and for limits that do not fit the data.
    """
    observations = content.arrays["observations"]
    actions = content.arrays["actions"].astype(np.float32)
    if observations.ndim > 2:
        raise UsageError(
            "`--no-env` judges policies by vectors, got images; train with an environment, or embed them"
        )
    ends: Any = limits or (-1, 1)
    if not limits and np.abs(actions).max() > 1:
        # 0, no motion, is an action too.
        ends = np.minimum(actions.min(0), 0), np.maximum(actions.max(0), 0)
    low, high = (np.full(actions.shape[1:], end, np.float32) for end in ends)
    high = np.where(high > low, high, low + 1)  # of a coordinate that never changes
    boxes: dict[str, Box] = {
        "observations": Box(-np.inf, np.inf, observations.shape[1:]),
        "actions": Box(low, high),
    }
    if spaces is not None:
        boxes |= _read_spaces(spaces, boxes)
    box = boxes["observations"]
    rows = np.concatenate([observations, content.final_observations])
    if ((rows < box.low) | (rows > box.high)).any():
        raise UsageError(
            f"{spaces} must give `observations` limits that hold in the data; widen or leave them out"
        )
    # The same data may come again with other limits in one process, which Gymnasium would warn of.
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(
        env_id,
        entry_point=f"{__name__}:DatasetOnlyEnv",
        kwargs=boxes,
        max_episode_steps=1,
        disable_env_checker=True,
    )


def _read_spaces(path: Path, boxes: Mapping[str, Box]) -> dict[str, Box]:
    """Return the boxes whose limits a YAML file gives.

    :param boxes: those of observations and actions.
    """
    content = read_yaml(path, "`--spaces`")
    limited: dict[str, Box] = {}
    try:
        for name, limits in content.items():
            shape = boxes[name].shape
            ends = []
            for limit in (limits["low"], limits["high"]):
                values = np.array(limit)
                # `false` would be 0, and a list of one would be repeated.
                if values.dtype.kind not in "iuf" or values.shape not in ((), shape):
                    raise ValueError
                ends.append(np.broadcast_to(values.astype(np.float32), shape))
            low, high = ends
            if not (low < high).all():
                raise ValueError
            limited[name] = Box(low, high)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} must give `observations` or `actions` a `low` below a `high`, each a number or a list of as many "
            f"as in the data, got {content}; write e.g. `actions: {{low: [-1, 0], high: [1, 50]}}`"
        ) from error
    return limited
