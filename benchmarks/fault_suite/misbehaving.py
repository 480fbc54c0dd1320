"""An environment that does something wrong, which none should do, at a step or reset of its choice."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ENV = "benchmarks.fault_suite.misbehaving:Misbehaving-v0"
VALUES = {"observation": 1e300, "reward": -1e300, "success": 0.9999}


class MisbehavingEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A walk on a line, with episodes of eight steps.

    :param wrong: what it does: ``"hang"``, ``"exit"``, ``"os._exit"``, send itself the signal of that name, return
        what `VALUES` has; None: nothing.
    :param at: in ``"step"`` or ``"reset"``.
    :param mark: a file that exists as soon as it was done, and then it is not done again; None: it is done each time.
    :param wide: a file; while it exists, actions go from -2 to 2 in place of -1 to 1.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, wrong: str | None = None, at: str = "step", mark: str | None = None, wide: str = "") -> None:
        self.wrong, self.at, self.mark = wrong, at, mark
        bound = 2.0 if wide and Path(wide).exists() else 1.0
        self.action_space = spaces.Box(-bound, bound, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.place, self.time = self.np_random.standard_normal(), 0
        self._misbehave("reset")
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        self.place += float(action[0])
        self.time += 1
        is_wrong = self._misbehave("step") if self.time == 3 else False
        wrong = {self.wrong: VALUES[self.wrong]} if is_wrong and self.wrong in VALUES else {}
        observation = self._observation()
        observation[1] = wrong.get("observation", observation[1])
        info = {"success": wrong.get("success", float(abs(self.place) < 1))}
        return observation, wrong.get("reward", -abs(self.place)), False, self.time == 8, info

    def _observation(self) -> np.ndarray:
        return np.array([self.place, float(self.time)])

    def _misbehave(self, where: str) -> bool:
        """Do what is wrong, if it is to be done here and now; return whether it is."""
        if self.wrong is None or where != self.at or (self.mark and Path(self.mark).exists()):
            return False
        if self.mark:
            Path(self.mark).touch()
        if self.wrong == "hang":
            time.sleep(3600)
        elif self.wrong == "exit":
            sys.exit(0)
        elif self.wrong == "os._exit":
            os._exit(0)
        elif self.wrong not in VALUES:
            os.kill(os.getpid(), getattr(signal, self.wrong))
        return True


gymnasium.register("Misbehaving-v0", entry_point="benchmarks.fault_suite.misbehaving:MisbehavingEnv")
