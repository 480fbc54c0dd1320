"""Environments whose random numbers all depend on the seed of ``reset``, and whose returned values are checked."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any, TypeAlias

import gymnasium
import numpy as np

from agents.common.streams import Purpose, stream
from zoo.envs.checks import (
    Info,
    ReturnError,
    read_observation,
    read_success,
    require_finite,
    unpack_reset,
    unpack_step,
)
from zoo.terminal.errors import EnvironmentApiFault, EnvironmentFault

Array: TypeAlias = np.ndarray


@contextlib.contextmanager
def global_numpy_seed(seed: int | Array) -> Iterator[None]:
    """Seed NumPy's global generator, from which OGBench and robosuite draw, and restore it afterwards.

    :param seed: one or more unsigned 32-bit words.
    """
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


class RepeatableEnv(gymnasium.Wrapper[Array, Array, Array, Array]):
    """Environment whose ``reset(seed=s)`` determines the whole episode, without touching the global generator.

    OGBench draws start positions and teleports from NumPy's global generator, and steps with actions of an unseeded
    action space while it resets. Here both depend on the seed; without a seed they depend on the environment's
    ``np_random``, so a seeded sequence of resets is repeatable too. The global generator is left as it was found.

    `zoo.envs.checks` checks its returned values and raises :class:`zoo.terminal.errors.EnvironmentFault`.

    :param keep_info: whether to keep all of the environment's ``info`` or only the success.
    """

    def __init__(self, env: gymnasium.Env[Array, Array], *, keep_info: bool) -> None:
        super().__init__(env)
        raw = env.unwrapped
        # OGBench's manipulation scenes build both spaces at each access, and draw actions from them in a reset.
        self.observation_space = env.observation_space
        self._reset_actions = env.action_space
        # The samples of a reset must not affect the samples of the space that users see.
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
        """Add the environment, the step and a remedy to an error."""
        try:
            yield
        except ReturnError as error:
            kind = EnvironmentApiFault if error.is_form else EnvironmentFault
            raise kind(
                f"{error} from `{env_name(self.env)}`{self._called} at step {self._steps} of its episode; this is a "
                f"fault of the environment: correct it, or {error.remedy}"
            ) from error

    def _select(self, info: Info) -> Info:
        """Return the part of an info that is kept, with success under both names."""
        success = read_success(info)
        selected = {}
        # A copy without `episode`: SB3 writes the totals of a finished episode there, and reads them after each step.
        if self._keep_info:
            selected = {name: value for name, value in info.items() if name != "episode"}
        if success is not None:
            selected |= {"success": success, "is_success": bool(success)}
        return selected

    @contextlib.contextmanager
    def _own_global_generator(self) -> Iterator[None]:
        """Replace the state of NumPy's global generator by this environment's."""
        callers_state = np.random.get_state()
        np.random.set_state(self._global_state)
        try:
            yield
        finally:
            self._global_state = np.random.get_state()
            np.random.set_state(callers_state)


def env_name(env: gymnasium.Env[Any, Any]) -> str:
    """Return the id of an environment; of one that is not registered its text."""
    if env.spec is None:
        return str(env.unwrapped)
    return env.spec.id
