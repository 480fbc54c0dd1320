"""Training environments in processes of their own, which end with a clear error when one fails, dies or hangs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from zoo.processes.serving import ServingProcess, WorkerLost, close_all, close_at_exit

EnvFunction = Callable[[], gymnasium.Env[np.ndarray, np.ndarray]]


class WatchedVecEnv(SubprocVecEnv):
    """SB3's environments in processes; what goes wrong in one of them is raised here.

    An environment cannot be put back into the middle of an episode, so nothing is tried again: the run goes on from its
    last checkpoint.
    """

    def __init__(self, env_fns: list[EnvFunction]) -> None:
        self.waiting = self.closed = False
        self.processes = [
            ServingProcess(
                functools.partial(_Served, function),
                "answer",
                what="environment",
                name=f"training environment {index}",
                is_watched=True,
            )
            for index, function in enumerate(env_fns)
        ]
        self.remotes = tuple(map(_Remote, self.processes))
        self._stay_at_exit = close_at_exit(self)
        try:
            spaces, *_ = [remote.recv() for remote in self.remotes]  # of all: each is owed
        except BaseException:
            self.close()
            raise
        VecEnv.__init__(self, len(env_fns), *spaces)

    def close(self) -> None:
        """End the processes, also those that hang."""
        if not self.closed:
            self.closed = True
            close_all(self.processes)
            self._stay_at_exit()


class _Remote:
    """Sends SB3's messages to a process, and returns its answers, under the names that a pipe has for it."""

    def __init__(self, process: ServingProcess) -> None:
        self._process = process

    def send(self, message: tuple[str, Any]) -> None:
        self._reworded(self._process.send, *message)

    def recv(self) -> Any:
        return self._reworded(self._process.receive)

    def _reworded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except WorkerLost as error:
            raise WorkerLost(f"{error}; --resume continues from the last checkpoint") from error


class _Served:
    """An environment in its process, which answers the messages of SB3's vector environment."""

    def __init__(self, function: EnvFunction) -> None:
        self._env = function()
        self._reset_info: dict[str, Any] = {}
        self.spaces = self._env.observation_space, self._env.action_space

    def answer(self, command: str, data: Any) -> Any:
        """Do what a message asks for."""
        match command:
            case "step":
                return self._step(data)
            case "reset":
                seed, options = data
                return self._env.reset(seed=seed, **({"options": options} if options else {}))
            case "render":
                return self._env.render()
            case "env_method":
                name, arguments, named = data
                return self._env.get_wrapper_attr(name)(*arguments, **named)
            case "get_attr":
                return self._env.get_wrapper_attr(data)
            case "has_attr":
                return self._env.has_wrapper_attr(data)
            case "set_attr":
                return setattr(self._env, *data)
            case "is_wrapped":
                return is_wrapped(self._env, data)
        raise NotImplementedError(f"SB3 sends `{command}`, which this version does not know")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _step(self, action: np.ndarray) -> tuple[Any, SupportsFloat, bool, dict[str, Any], dict[str, Any]]:
        """Take a step, and begin the next episode where one ends."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        ended = terminated or truncated
        info["TimeLimit.truncated"] = truncated and not terminated
        if ended:
            info["terminal_observation"] = observation
            observation, self._reset_info = self._env.reset()
        return observation, reward, ended, info, self._reset_info
