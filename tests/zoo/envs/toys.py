"""Environments that are fast, chaotic and fail on demand; worker processes can import them."""

import os
import signal
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

TOY = "tests.zoo.envs.toys:Toy-v0"
SPRING = "tests.zoo.envs.toys:Spring-v0"
SQUARE = spaces.Box(-1.0, 1.0, (2,), np.float32)


class Seeded(gymnasium.Env[np.ndarray, np.ndarray]):
    """Starts each episode with random numbers from the reset's seed."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.begin(), {}


class ToyEnv(Seeded):
    """Chaotic, so that a single wrong bit of an action shows; the number of steps, 5 to 29, is sampled at reset.

    :param failure: what ``step`` does while `failure_file` exists: ``"raise"``, call ``"os._exit"``, return `wrong` as
        ``"observation"``, ``"reward"`` or ``"success"``, or send this process the named signal.
    :param failure_file: path of the file that triggers the failure.
    :param wrong: the wrong number.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    action_space = SQUARE

    def __init__(self, failure=None, failure_file=os.devnull, wrong=np.nan):
        self.failure, self.wrong = failure, wrong
        self.failure_file = Path(failure_file)

    def begin(self):
        self.state = self.np_random.standard_normal(3)
        self.remaining = int(self.np_random.integers(5, 30))
        return self.state.copy()

    def step(self, action):
        assert self.remaining > 0, "stepped after the end"
        assert (action.shape, action.dtype) == ((2,), np.float32)
        x, y, z = self.state
        push, pull = map(float, action)
        self.state = np.array([np.sin(27 * y + push), np.cos(35 * z + pull), np.sin(29 * x)])
        self.remaining -= 1
        observation, reward = self.state.copy(), float(self.state.sum())
        info = {"success": float(self.state[0] > 0)}
        match self.failure if self.failure_file.exists() else None:
            case None:
                pass
            case "observation":
                observation[1] = self.wrong
            case "reward":
                reward = self.wrong
            case "success":
                info["success"] = self.wrong
            case "raise":
                raise ArithmeticError("the toy broke")
            case "os._exit":
                os._exit(0)
            case name:
                os.kill(os.getpid(), getattr(signal, name))
        return observation, reward, self.remaining == 0, False, info


class SpringEnv(Seeded):
    """A mass on a spring in a plane, pushed by its actions; its state is linear in earlier states and actions.

    :param folder: folder to which the process changes.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Box(-2.0, 2.0, (2,), np.float32)

    def __init__(self, limit=None, folder="."):
        os.chdir(folder)
        if limit is not None:
            self.action_space = spaces.Box(-limit, limit, (2,), np.float32)

    def begin(self):
        self.position, self.speed = self.np_random.uniform(2.0, 4.0, 2), np.zeros(2)
        return np.r_[self.position, self.speed]

    def step(self, action):
        self.speed = 0.9 * self.speed + 0.1 * (action - self.position)
        self.position = self.position + 0.5 * self.speed
        reward = -float(np.square(self.position).sum())
        return np.r_[self.position, self.speed], reward, False, False, {"is_success": reward > -0.1}


class OdometerEnv(Seeded):
    """Returns the same array, updated in place, at every step; reports success only when it is true."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = SQUARE

    def begin(self):
        self.driven = np.full(1, 0.5)
        return self.driven

    def step(self, action):
        self.driven += action[0]
        arrived = bool(self.driven[0] > 2.5)
        return self.driven, -1.0, arrived, False, {"is_success": True} if arrived else {}


def normalized(is_frozen=False):
    """Return the spring, normalised with running statistics, which depend on earlier episodes, or with fixed ones."""
    env = gymnasium.wrappers.NormalizeObservation(SpringEnv())
    env.update_running_mean = not is_frozen
    return env


for _name, _class, _steps in (
    ("Odometer", "OdometerEnv", 5),
    ("Spring", "SpringEnv", 20),
    ("Toy", "ToyEnv", None),
):
    gymnasium.register(f"{_name}-v0", f"{__name__}:{_class}", max_episode_steps=_steps)
