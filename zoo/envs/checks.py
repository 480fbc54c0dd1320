"""Check the spaces and returned values of environments, and make episodes depend only on their seed and actions.

:func:`zoo.envs.make.make_env` wraps every environment in a :class:`RepeatableEnv`, whose observations have the dtypes
and shapes of their spaces.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array

from agents.common.frames import channel_axis, is_image
from agents.common.streams import Purpose, stream
from zoo.terminal.errors import EnvironmentFault, UsageError

Array: TypeAlias = np.ndarray
Info: TypeAlias = dict[str, Any]
"""The ``info`` that an environment returns with each observation."""
CHOICES = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
LARGEST = float(np.finfo(np.float32).max)
"""Largest value that float32 networks and buffers can represent."""
_SUPPORTED = "a vector, an image (uint8 from 0 to 255, (H, W, C) or (C, H, W)), or a Dict of these and discrete values"


# -- before the first step --------------------------------------------------------------------------------------------


def check_spaces(env_id: str, env: gymnasium.Env[Any, Any]) -> None:
    """Reject spaces that policies cannot be trained on.

    :raises UsageError: for the first unsuitable space.
    """
    actions = env.action_space
    observations = env.observation_space
    is_line = len(actions.shape or ()) == 1
    # in a space of half precision, executed actions would be rounded, but stored actions would not
    if not isinstance(actions, spaces.Box) or actions.dtype not in ("f4", "f8") or not is_line:
        raise UsageError(
            f"`{env_id}` has the action space {_describe(actions)}, expected a one-dimensional Box of float32 or "
            "float64; convert the actions in a wrapper, or use another environment"
        )
    is_range = actions.bounded_below & actions.bounded_above & (actions.low < actions.high)
    if not is_range.all():
        coordinate = int(np.argmin(is_range))
        raise UsageError(
            f"`{env_id}` has actions from {actions.low[coordinate]:g} to {actions.high[coordinate]:g} in coordinate "
            f"{coordinate}, expected finite low < high; in a wrapper, omit fixed coordinates and bound the rest"
        )
    # A space that is not a Dict is checked like a Dict with one part.
    parts = {"": observations}
    if isinstance(observations, spaces.Dict):
        parts = observations.spaces
    for key, part in parts.items():
        if "." in key:
            raise UsageError(
                f"`{env_id}` has observations called `{key}`, which PyTorch would read as a path; rename them in a "
                "wrapper"
            )
        if is_image(part) or (isinstance(part, spaces.Box) and len(part.shape) == 1):
            continue
        if not key or not isinstance(part, CHOICES):
            suffix = f" for `{key}`" if key else ""
            raise UsageError(
                f"`{env_id}` has the observation space {_describe(part)}{suffix}, expected {_SUPPORTED}; convert it in "
                "a wrapper: gymnasium.wrappers.FlattenObservation makes a vector; "
                "`(255 * image).round().astype(np.uint8)` converts an image of numbers from 0 to 1"
            )


def check_same_spaces(
    source: object, trained: tuple[Any, Any], env_id: str, env_spaces: tuple[Any, Any]
) -> None:
    """Raise UsageError if a model's observation space or action bounds differ from the environment's.

    A policy scales its actions to the bounds it was trained with, so its actions would be wrong with other bounds.

    :param source: the model's file, for the message.
    :param trained: observation and action space of the model.
    :param env_spaces: observation and action space of the environment.
    """
    for noun, model_space, env_space in zip(
        ("observations", "actions"), trained, env_spaces, strict=True
    ):
        if _signature(model_space) != _signature(env_space):
            raise UsageError(
                f"{source} was trained with {noun} {_describe(model_space)}, got {_describe(env_space)} in {env_id}; "
                "use the environment that the model was trained in"
            )
    model_space, env_space = trained[1], env_spaces[1]
    limits = [model_space.low.tolist(), model_space.high.tolist()]
    env_limits = [env_space.low.tolist(), env_space.high.tolist()]
    if not np.allclose(limits, env_limits):
        raise UsageError(
            f"{source} was trained with actions from {limits[0]} to {limits[1]}, got {env_limits[0]} to "
            f"{env_limits[1]} in {env_id}; use the environment that the model was trained in, or, if units are equal, "
            "give this one its bounds (gymnasium.wrappers.TransformAction)"
        )


def _signature(space: spaces.Space[Any]) -> Any:
    """Return the part of a space on which networks depend: shapes (of images, channels-first) and choices."""
    if isinstance(space, spaces.Dict):
        return {key: _signature(part) for key, part in space.spaces.items()}
    # Networks do not depend on the bounds of a Box, so these may differ.
    if not isinstance(space, spaces.Box):
        return space
    if is_image(space) and channel_axis(space.shape) == -1:
        return (space.shape[-1], *space.shape[:-1])
    return space.shape


def _describe(space: spaces.Space[Any]) -> str:
    """Return a description of a space without its bounds."""
    if isinstance(space, spaces.Dict):
        parts = [f"{key}: {_describe(part)}" for key, part in space.spaces.items()]
        return f"Dict({', '.join(parts)})"
    if isinstance(space, spaces.Box):
        return f"Box{space.shape} of {space.dtype}"
    return str(space)


# -- at every step ----------------------------------------------------------------------------------------------------


def unpack_step(result: Any) -> tuple[Any, float, bool, bool, Any]:
    """Return the five values from the result of `step`, the reward as a float and both flags as booleans.

    :raises UsageError: if the result is not a tuple of five values of these types.
    """
    if not isinstance(result, tuple) or len(result) != 5:
        raise UsageError(
            f"`step` must return (observation, reward, terminated, truncated, info), got {_form(result)}"
        )
    observation, reward, terminated, truncated, info = result
    if not _is_number(reward):
        raise UsageError(f"a reward must be one number, got {_form(reward)}")
    return (
        observation,
        float(reward),
        _read_flag("terminated", terminated),
        _read_flag("truncated", truncated),
        info,
    )


def read_observation(space: spaces.Space[Any], observation: Any, name: str = "observation") -> Any:
    """Return a copy of an observation in the dtype of its space; later steps of the environment do not change the copy.

    A space of floating-point numbers accepts any numeric dtype, because networks compute in float32. Other spaces
    accept only dtypes that convert to their own without loss.

    :param name: name of the observation in messages.
    :raises UsageError: for a wrong type or shape, or a discrete value out of range.
    :raises EnvironmentFault: for a number that is not finite in float32.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict) or space.spaces.keys() - observation.keys():
            raise UsageError(
                f"an observation must have the parts of {space}, got {_form(observation)}"
            )
        return {
            key: read_observation(part, observation[key], f"{name} {key}")
            for key, part in space.spaces.items()
        }
    array = np.asarray(observation)
    dtype = np.dtype(space.dtype)
    # Conversion must be lossless, e.g. uint8 to int64, unless the space has floats, which networks round to float32.
    has_dtype = np.can_cast(array.dtype, dtype)
    if dtype.kind == "f":
        has_dtype = array.dtype.kind in "fiub"
    if not has_dtype or array.shape != space.shape:
        raise UsageError(
            f"{name} must be {space.dtype} of shape {space.shape} as in its {type(space).__name__}, got "
            f"{_form(observation)}"
        )
    if array.dtype.kind == "f":
        # The maximum of an array with NaN is NaN, so it suffices to check the maximum.
        require_finite(name, float(np.abs(array).max(initial=0)))
    elif not isinstance(space, spaces.Box) and not space.contains(array):
        raise UsageError(f"{name} must be one of {space}, got {array.tolist()}")
    # `astype` copies even if the dtype is the same; the environment may reuse its array
    return array.astype(dtype)


def read_success(info: Info) -> int | None:
    """Return ``success`` or SB3's ``is_success`` of an info; None if it has neither."""
    success = info.get("success")
    if success is None:  # the key is missing, or its value is None
        success = info.get("is_success")
    if success is None:
        return None
    return int(_read_flag("success", success))


def require_finite(name: str, magnitude: float) -> None:
    """Raise EnvironmentFault for NaN, infinity and numbers that are too large for float32.

    A policy may never cause such a value, which random actions may cause.
    """
    if not magnitude <= LARGEST:  # also true for NaN
        raise EnvironmentFault(
            f"an environment's values must be finite in float32, got {name} {magnitude}"
        )


def _read_flag(name: str, flag: Any) -> bool:
    if not _is_number(flag) or flag not in (0, 1):
        raise UsageError(f"`{name}` must be 0 or 1, got {_form(flag)}")
    return bool(flag)


def _is_number(value: Any) -> bool:
    """Return whether a value is one real number; an array is one only if its shape is ()."""
    if isinstance(value, np.ndarray):
        return value.shape == () and value.dtype.kind in "fiub"
    return isinstance(value, int | float | np.bool_ | np.integer | np.floating)


def _form(value: Any) -> str:
    """Return a description of a value for messages: its type, and the shape of an array or tuple."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, tuple):
        return f"{len(value)} values ({', '.join(type(item).__name__ for item in value)})"
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(str, value)) or 'nothing'}"
    if _is_number(value) or value is None:
        return repr(value)
    return f"an object of type {type(value).__name__}"


# -- observations of a space -------------------------------------------------------------------------------------------


def policy_name(space: spaces.Space[Any]) -> str:
    """Return the name of SB3's policy class for an observation space."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    if is_image(space):
        return "CnnPolicy"
    return "MlpPolicy"


def stack(space: spaces.Space[Any], observations: Sequence[Any]) -> Any:
    """Return observations as one array, (B, ...), or one array for each part of a Dict."""
    batch: Any = create_empty_array(space, len(observations))
    return concatenate(space, observations, batch)


# -- environment wrapper -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def global_numpy_seed(seed: int | Array) -> Iterator[None]:
    """Seed NumPy's global generator, which OGBench, robosuite and rliable use, and restore its state afterwards.

    :param seed: one or more unsigned 32-bit words.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


class RepeatableEnv(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Environment in which ``reset(seed=s)`` and the actions determine the whole episode.

    OGBench samples start positions and teleports from NumPy's global generator, and its resets execute actions sampled
    from an unseeded action space. Here the generator and the space are seeded from the seed of the reset or, without
    one, from the environment's ``np_random``, so resets without a seed are also repeatable after a reset with a seed.
    The state of the global generator is restored after each call.

    Returned values are checked; an invalid one raises :class:`zoo.terminal.errors.EnvironmentFault`.

    :param keep_info: whether to keep the environment's whole ``info`` or only the success.
    """

    def __init__(self, env: gymnasium.Env[Array, Array], *, keep_info: bool) -> None:
        super().__init__(env)
        raw = env.unwrapped
        # OGBench's manipulation scenes create new spaces at each access, and a reset samples actions from one of them.
        self.observation_space = env.observation_space
        self._reset_actions = env.action_space
        # A copy, so that samples during a reset do not affect samples that users take from the space.
        self.action_space = copy.deepcopy(env.action_space)
        if isinstance(getattr(type(raw), "action_space", None), property):
            raw.__class__ = type(
                type(raw).__name__, (type(raw),), {"action_space": self._reset_actions}
            )
        self._keep_info = keep_info
        # Only OGBench's mazes with teleports sample during steps; elsewhere, setting the state only costs time.
        self._draws_while_stepping = getattr(raw, "_teleport_info", None) is not None
        self._global_state = np.random.RandomState(0).get_state()
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Info]:
        """Start an episode, which depends only on the actions and the seed or, without a seed, on ``np_random``."""
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
            if not isinstance(result, tuple) or len(result) != 2:
                raise UsageError(f"`reset` must return (observation, info), got {_form(result)}")
            observation, info = result
            return read_observation(self.observation_space, observation), self._select(info)

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
        """Add the environment, the step and what to do to errors about returned values."""
        try:
            yield
        except (UsageError, EnvironmentFault) as error:
            raise EnvironmentFault(
                f"{error} from `{env_name(self.env)}` at step {self._steps} of its episode; this is a fault of the "
                "environment: correct it, or convert the value in a `gymnasium.Wrapper`"
            ) from error

    def _select(self, info: Any) -> Info:
        """Return the part of an info that is kept, with ``success`` and ``is_success`` if success is reported."""
        if not isinstance(info, dict):
            raise UsageError(f"an info must be a dict, got {_form(info)}")
        success = read_success(info)
        selected = {}
        # Omit `episode`, because SB3 itself writes and reads the totals of finished episodes under this key.
        if self._keep_info:
            selected = {name: value for name, value in info.items() if name != "episode"}
        if success is not None:
            selected |= {"success": success, "is_success": bool(success)}
        return selected

    @contextlib.contextmanager
    def _own_global_generator(self) -> Iterator[None]:
        """Give NumPy's global generator this environment's own state within a ``with`` block."""
        callers_state = np.random.get_state()
        np.random.set_state(self._global_state)
        try:
            yield
        finally:
            self._global_state = np.random.get_state()
            np.random.set_state(callers_state)


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """Return the id of an environment, or its ``str()`` if it is not registered."""
    if env.spec is None:
        return str(env.unwrapped)
    return env.spec.id
