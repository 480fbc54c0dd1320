"""Build environments from their Gymnasium ids, and try them before a run."""

import contextlib
import copy
import importlib.util
import math
import operator
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
import ogbench  # noqa: F401  registers its environments
from gymnasium.envs.registration import EnvSpec

from agents.common.frames import FrameStack
from agents.common.streams import Purpose, seed_for
from agents.common.validation import unknown_name_message
from agents.registry import import_named
from zoo.algorithms.packages import import_optional
from zoo.envs.checks import RepeatableEnv, check_spaces, env_name
from zoo.envs.rendering import explain_import, require_pictures
from zoo.envs.tasks import MAZES, ROBOTICS, SCENES, TASKS, UNKNOWN_ENV_ADVICE
from zoo.evaluation.workers import temp_folder
from zoo.settings.record import Wrappers, named_wrappers
from zoo.terminal.errors import EnvironmentFault, UsageError, as_usage_error

OGBENCH_ROBOTS = ("ogbench.locomaze", "ogbench.manipspace")

# Gymnasium-Robotics and robosuite, which simulate these tasks, are imported only when an environment is created.
for _size, (_maze, _start, _goal, _steps, _) in MAZES.items():
    gymnasium.register(
        f"d4rl-antmaze-{_size}",
        entry_point="zoo.envs.make:make_antmaze",
        kwargs={"maze": _maze, "start": _start, "goal": _goal},
        max_episode_steps=_steps,
        disable_env_checker=True,
    )
for _name, (_scene, _steps) in SCENES.items():
    gymnasium.register(
        _name,
        entry_point="zoo.envs.robomimic:RobosuiteEnv",
        kwargs={"scene": _scene},
        max_episode_steps=_steps,
        disable_env_checker=True,
    )


def make_env(
    env_id: str | EnvSpec, /, *, env_wrapper: Wrappers = (), frame_stack: int = 1, **env_kwargs: Any
) -> RepeatableEnv:
    """Return an environment in which all random numbers depend on the seed passed to ``reset``.

    ``info`` contains ``success`` (0 or 1) and SB3's ``is_success`` if the environment reports success. Other
    entries of OGBench's ``info`` are dropped, because they are a hundred times as large as the observation.

    :param env_id: Gymnasium id (``cube-double-singletask-task2-v0``, ``Pendulum-v1``, ``my_package:Mine-v0``) or spec.
    :param env_wrapper: wrappers around the environment, see `zoo.settings.record`.
    :param frame_stack: number of images stacked into one observation, see :class:`agents.FrameStack`.
    :param env_kwargs: arguments of the environment's constructor.
    :return: the environment; the dtype of observations and the id's time limit are kept.
    :raises UsageError: if the id, a wrapper or an argument is not accepted, a package is missing, the task has no
        reward, policies cannot be trained on a space, or images cannot be rendered.
    """
    spec = find_spec(env_id, **env_kwargs)
    if observes_images(spec, env_kwargs):
        require_pictures(spec.id)
    with building():
        env: Any = _build(spec, env_kwargs)
        try:
            if env_wrapper:
                env = wrap(env, env_wrapper)
            check_spaces(spec.id, env)
            if frame_stack != 1:
                with as_usage_error():
                    env = FrameStack(env, frame_stack)
            return RepeatableEnv(env, keep_info=not is_ogbench(spec))
        except BaseException:  # a simulator may hold a rendering context or a process
            env.close()
            raise


def _build(spec: EnvSpec, env_kwargs: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(spec, disable_env_checker=True, **env_kwargs)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise UsageError(
            f"`{spec.id}` cannot be created with the installed packages: {error}"
        ) from error
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        if not env_kwargs:  # without arguments, the error is in the constructor itself
            raise
        raise UsageError(
            f"`{spec.id}` does not accept the arguments {env_kwargs}: {error}"
        ) from error


def wrap(env: gymnasium.Env[Any, Any], wrappers: Wrappers) -> gymnasium.Env[Any, Any]:
    """Return a wrapped environment; the modules of the wrappers are imported.

    :raises UsageError: if a wrapper does not exist, or does not accept the environment or the arguments.
    """
    for path, kwargs in named_wrappers(wrappers):
        module, _, name = path.partition(":")
        try:
            wrapper = operator.attrgetter(name)(import_named(module))
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(
                f"`env_wrapper` must name classes that Python can import, got {path!r}: {error}"
            ) from error
        # reject all other objects, because calling them could have any effect
        if not isinstance(wrapper, type) or not issubclass(wrapper, gymnasium.Wrapper):
            raise UsageError(f"`env_wrapper` must name subclasses of gymnasium.Wrapper, got {path}")
        try:
            env = wrapper(env, **kwargs)
        except (
            TypeError,
            ValueError,
            AssertionError,
            AttributeError,
            gymnasium.error.Error,  # e.g. for a package that is not installed
        ) as error:
            raise UsageError(
                f"{path} does not accept {env} with the arguments {dict(kwargs)}: {error}"
            ) from error
    return env


def find_spec(env_id: str | EnvSpec, /, **env_kwargs: Any) -> EnvSpec:
    """Return the registered spec of an environment, without creating it.

    :raises UsageError: if the id is unknown, its simulator is not installed, or it is one of OGBench's goal-conditioned
        environments, which have no rewards.
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
        except (gymnasium.error.Error, ImportError) as error:
            if env_id.startswith("data-"):
                raise UsageError(
                    f"`{env_id}` is a placeholder for data without an environment, and cannot be simulated; `zoo "
                    "evaluate RUN --fitted-q` estimates the value of a run's policy"
                ) from error
            names = [*gymnasium.registry, *TASKS]
            message = unknown_name_message("environment", env_id, names) + UNKNOWN_ENV_ADVICE
            raise UsageError(f"{message} ({error})") from error
    task = {**spec.kwargs, **env_kwargs}.get("reward_task_id")
    if is_ogbench(spec) and task is None:
        prefix = spec.id.rpartition("-v")[0] + "-singletask"
        tasks = sorted(name for name in gymnasium.registry if name.startswith(prefix))
        raise UsageError(
            f"`{spec.id}` is goal-conditioned and has no rewards; "
            f"use one of its single-task environments: {', '.join(tasks)}"
        )
    return spec


def require_simulator(env_id: str) -> None:
    """Check that the package that simulates an environment is installed; import it if it registers the environment.

    :raises UsageError: if the package is not installed.
    """
    if env_id in SCENES and importlib.util.find_spec("robosuite") is None:
        # robosuite itself is not imported yet, because its import takes seconds
        install = "`pip install 'flow-rl-zoo[robomimic]'`"
        raise UsageError(f"`{env_id}` is simulated by robosuite, which is not installed; {install}")
    if env_id in ROBOTICS:
        import_robotics("gymnasium_robotics", env_id)


def import_robotics(module: str, env_id: str) -> Any:
    """Return a module of Gymnasium-Robotics, or raise UsageError if it is not installed."""
    return import_optional(module, "Gymnasium-Robotics", f"`{env_id}`", "flow-rl-zoo[d4rl]")


def make_antmaze(
    maze: str, start: tuple[int, int], goal: tuple[int, int], **kwargs: Any
) -> gymnasium.Env[Any, Any]:
    """Return D4RL's ant in a maze with one start and one goal; reaching the goal ends the episode.

    An observation is one vector: the positions of the ant and the goal, and the ant's other coordinates and velocities.
    """
    maps = import_robotics("gymnasium_robotics.envs.maze.maps", maze)
    ants = import_robotics("gymnasium_robotics.envs.maze.ant_maze_v4", maze)
    cells = copy.deepcopy(getattr(maps, maze))
    cells[start[0]][start[1]] = maps.RESET
    cells[goal[0]][goal[1]] = maps.GOAL
    return gymnasium.wrappers.FlattenObservation(
        ants.AntMazeEnv(maze_map=cells, continuing_task=False, **kwargs)
    )


def is_ogbench(spec: EnvSpec) -> bool:
    """Return whether an environment is one of OGBench's mazes or manipulation scenes."""
    return str(spec.entry_point).startswith(OGBENCH_ROBOTS)


def observes_images(spec: EnvSpec, env_kwargs: Mapping[str, Any]) -> bool:
    """Return whether an environment is one of OGBench's, and its observations are images that MuJoCo renders."""
    return is_ogbench(spec) and {**spec.kwargs, **env_kwargs}.get("ob_type") == "pixels"


# -- a trial before a run ----------------------------------------------------------------------------------------------

TRIAL_STEPS = 1000
TRIAL_SECONDS = 0.3
"""Limits of the first episode in `try_env`, in steps and seconds."""
TOLERANCE = 1e-4  # earlier episodes may change a simulator's values by this much


def try_env(env: RepeatableEnv) -> None:
    """Raise UsageError if an environment violates Gymnasium's API, or its episodes depend on earlier ones.

    An episode is run, then one with another seed, then the first one again, with the same actions. This takes about a
    second. OGBench's environments without custom wrappers are skipped, because they are slow to reset and covered by
    the zoo's tests.

    :param env: a new environment; it may be left in the middle of an episode.
    """
    spec = env.spec
    if spec is not None and is_ogbench(spec):
        wrappers = [wrapper.entry_point for wrapper in spec.additional_wrappers]
        if all(name.startswith(("agents.", "zoo.")) for name in wrappers):
            return
    name = env_name(env)
    try:
        first = _run_episode(env, 0, seconds=TRIAL_SECONDS)
        _run_episode(env, 1, len(first))
        repeated = _run_episode(env, 0, len(first))
    except EnvironmentFault as error:
        # a wrong type or shape occurs with any actions, but NaN perhaps only after random ones
        if isinstance(error.__cause__, UsageError):
            raise UsageError(str(error)) from error
        return
    except Exception as error:
        # faults that the checks do not find: `reset` takes no seed, or a wrapper cannot unpack the result of `step`
        if isinstance(error, TypeError) or "values to unpack" in str(error):
            raise UsageError(
                f"`{name}` must follow Gymnasium's API, got {error}; correct it, or wrap an environment of the old Gym "
                "API in shimmy's `GymV21CompatibilityV0`"
            ) from error
        # A policy might never take these random actions; a fault that matters will occur again during the run.
        return
    if spec is not None and spec.nondeterministic:
        return
    for step, (expected, actual) in enumerate(zip(first, repeated, strict=False)):
        if not np.allclose(expected, actual, TOLERANCE, TOLERANCE):
            raise UsageError(
                f"an episode of `{name}` must depend only on its reset seed and actions, but step {step} differed "
                "after another episode; sample from `self.np_random`, scale observations by the data "
                "(`observation_scale`) instead of running statistics, make the stage of a curriculum an argument "
                "(--env-kwargs), or register the environment with `nondeterministic=True`"
            )


def _run_episode(
    env: RepeatableEnv, episode: int, max_rows: int = TRIAL_STEPS, seconds: float = math.inf
) -> list[np.ndarray]:
    """Simulate the start of an episode; its number determines the seed, and all episodes have the same actions.

    :param max_rows: maximum number of rows, including the reset.
    :return: the numbers that the reset and each step returned, one array per call.
    """
    # a copy, so that the trial does not change samples that users take from the environment's own space
    space = copy.deepcopy(env.action_space)
    space.seed(seed_for(Purpose.CHECKS, 0))
    observation, _ = env.reset(seed=seed_for(Purpose.CHECKS, 1, episode))
    rows = [_numbers(observation)]
    end = time.monotonic() + seconds
    is_over = False
    while not is_over and len(rows) < max_rows and time.monotonic() <= end:
        observation, reward, terminated, truncated, info = env.step(space.sample())
        is_over = terminated or truncated
        success = info.get("success") or 0
        rows.append(_numbers(observation, reward, terminated, truncated, success))
    return rows


def _numbers(observation: Any, *values: float) -> np.ndarray:
    parts = observation.values() if isinstance(observation, dict) else [observation]
    return np.concatenate([np.ravel(part) for part in (*parts, *values)])


# -- environments for OGBench's data ----------------------------------------------------------------------------------


def make_raw_env(env_id: str, **settings: Any) -> Any:
    """Return an OGBench environment with Gymnasium's time limit, without this zoo's checks and wrappers."""
    with building():
        return gymnasium.make(env_id, disable_env_checker=True, **settings)


# -- side effects of creating environments ---------------------------------------------------------------------------


def ignore_startup_warnings() -> None:
    """Ignore warnings that OGBench causes and users cannot avoid."""
    # OGBench imports MuJoCo's viewer, which warns if there is no display.
    warnings.filterwarnings("ignore", module="glfw")
    # OGBench passes action bounds in float64.
    warnings.filterwarnings("ignore", message=".*precision lowered by casting")


@contextlib.contextmanager
def no_startup_noise() -> Iterator[None]:
    """Ignore the warnings of `ignore_startup_warnings` in a ``with`` block."""
    with warnings.catch_warnings():
        ignore_startup_warnings()
        yield


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Ignore startup warnings, and remove temporary files that constructors leave behind, such as OGBench's mazes.

    The files are created in multiprocessing's temporary folder. The main process removes this folder when it ends,
    even if the process that created the files was killed.
    """
    configured = tempfile.tempdir
    with (
        no_startup_noise(),
        tempfile.TemporaryDirectory(dir=temp_folder(), ignore_cleanup_errors=True) as folder,
    ):
        tempfile.tempdir = folder
        try:
            yield
        except Exception as error:
            explain_import(error)
            raise
        finally:
            tempfile.tempdir = configured
