"""Training environments in processes of their own, which end with a clear error when one fails, dies or hangs."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.util
import time
import traceback
from collections.abc import Callable, Sequence
from ctypes import c_uint64
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from zoo import heartbeat
from zoo.envs.observations import nothing_in
from zoo.errors import EnvironmentFault
from zoo.heartbeat import Watch
from zoo.processes import CLOSE_SECONDS, WorkerError, WorkerLost, close_at_exit

FAULT = "fault"
"""Entry of an info that says why there is no transition."""

EnvFunction = Callable[[], gymnasium.Env[np.ndarray, np.ndarray]]


class WatchedVecEnv(SubprocVecEnv):
    """SB3's environments in processes; what goes wrong in one of them is raised here.

    An environment cannot be put back into the middle of an episode, so nothing is tried again: the run goes on from its
    last checkpoint.
    """

    def __init__(self, env_fns: list[EnvFunction]) -> None:
        multiprocessing.util.get_temp_dir()  # children use it too; one that is killed would leave its own behind
        try:
            super().__init__([functools.partial(TellingEnv.made_by, function) for function in env_fns])
        except (EOFError, OSError) as error:
            raise WorkerError("a training environment could not be built in its process, which says why") from error
        pairs = zip(self.remotes, self.processes, strict=True)
        self.remotes = tuple(_Watched(remote, process, index) for index, (remote, process) in enumerate(pairs))
        self._stay_at_exit = close_at_exit(self)

    def step_wait(self) -> VecEnvStepReturn:
        """Return the transitions; raise what an environment raised."""
        found = super().step_wait()
        self._raise_fault([*found[3], *self.reset_infos])
        return found

    def reset(self) -> VecEnvObs:
        """Begin an episode in every environment; raise what one raised."""
        found = super().reset()
        self._raise_fault(self.reset_infos)
        return found

    def close(self) -> None:
        """End the processes, also those that hang."""
        if self.closed:
            return
        self.closed = True
        for remote in self.remotes:
            remote.close()
        end = time.monotonic() + CLOSE_SECONDS
        for process in self.processes:
            process.join(max(end - time.monotonic(), 0.0))
            if process.is_alive():
                process.kill()
                process.join(CLOSE_SECONDS)
        self._stay_at_exit()

    @staticmethod
    def _raise_fault(infos: Sequence[dict[str, Any]]) -> None:
        for info in infos:
            if FAULT in info:
                kind, text = info[FAULT]
                raise kind(text)


class TellingEnv(gymnasium.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """Returns an exception of the environment as an entry of the info, which gets to the other process."""

    @classmethod
    def made_by(cls, function: EnvFunction) -> TellingEnv:
        """Wrap the environment that a function makes."""
        return cls(function())

    def reset(self, **how: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        try:
            return self.env.reset(**how)
        except Exception as error:
            return self._nothing(), {FAULT: _described(error)}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Take one step."""
        try:
            return self.env.step(action)
        except Exception as error:
            return self._nothing(), 0.0, False, False, {FAULT: _described(error)}

    def _nothing(self) -> Any:
        return nothing_in(self.observation_space)


def _described(error: Exception) -> tuple[type[Exception], str]:
    """Return what to raise in the other process."""
    if isinstance(error, EnvironmentFault):
        return EnvironmentFault, str(error)
    return WorkerError, f"a training environment failed in its process:\n{''.join(traceback.format_exception(error))}"


class _Watched:
    """A pipe to an environment's process that does not wait for ever."""

    def __init__(self, remote: Any, process: Any, index: int) -> None:
        self._remote, self._process, self._index = remote, process, index
        self._watch = Watch(c_uint64())  # no heartbeat: every answer is one

    def send(self, message: Any) -> None:
        """Send a message."""
        try:
            self._remote.send(message)
        except OSError as error:
            raise self._lost() from error

    def recv(self) -> Any:
        """Return the answer; raise WorkerLost if there will be none."""
        self._watch.expect()
        try:
            while not self._remote.poll(heartbeat.LOOK_SECONDS):
                self._watch.look()
                if self._watch.is_hanging:
                    self._process.kill()
                    raise self._lost(f"gave no answer for {self._watch.quiet:.0f} s")
            answer = self._remote.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        self._watch.answered()
        return answer

    def close(self) -> None:
        """Close the pipe."""
        with contextlib.suppress(OSError):
            self._remote.close()

    def _lost(self, how: str = "") -> WorkerLost:
        if not how:
            self._process.join(CLOSE_SECONDS)
            code = self._process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return WorkerLost(
            f"the process of training environment {self._index} {how} while it was needed; --resume continues from the "
            "last checkpoint"
        )
