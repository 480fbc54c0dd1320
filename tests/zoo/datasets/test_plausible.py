"""What can be read but is wrong: each check finds it in a set broken that way, and nothing in the sound set."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
import pytest

from tests.zoo.datasets.own import ENV, Arrays, episodes
from tests.zoo.envs.toys import SpringEnv
from zoo.datasets.check import Finding
from zoo.datasets.formats.episodes import checked_episode, join
from zoo.datasets.generate.rollouts import collect
from zoo.datasets.plausible import check_set

Change = Callable[[Arrays], None]
NAMES = ("observations", "actions", "rewards")


def compact(count: int = 30) -> Arrays:
    """Return episodes of random actions in the compact layout."""
    parts = [
        checked_episode(f"episode {k}", *(part[name] for name in NAMES), 1 - part["terminated"])
        for k, part in enumerate(episodes(count))
    ]
    return join("set", parts)


def findings(change: Change = lambda arrays: None, env: str = ENV) -> list[Finding]:
    arrays = compact()
    change(arrays)
    return check_set(arrays, env, {})


def rows_before_last(arrays: Arrays) -> np.ndarray:
    return np.flatnonzero(arrays["valids"] == 0) - 1


def scale(name: str, factor: float) -> Change:
    return lambda arrays: arrays.update({name: arrays[name] * np.float32(factor)})


def normalise(arrays: Arrays) -> None:
    observations = arrays["observations"]
    arrays["observations"] = (observations - observations.mean(0)) / observations.std(0)


def shift(rows: int) -> Change:
    return lambda arrays: arrays.update(actions=np.roll(arrays["actions"], rows, 0))


def repeat_last(arrays: Arrays) -> None:
    last = rows_before_last(arrays) + 1
    arrays["observations"][last] = arrays["observations"][last - 1]


def take_next(arrays: Arrays) -> None:
    last = rows_before_last(arrays)[:-1] + 1
    arrays["observations"][last] = arrays["observations"][last + 1]


def terminate_at_limits(arrays: Arrays) -> None:
    arrays["masks"][rows_before_last(arrays)] = 0


def cut_in_the_middle(arrays: Arrays) -> None:
    """Mark an end in the middle of each trajectory, as a flag of success would."""
    first = np.flatnonzero(arrays["valids"] == 0)[:-1] + 1
    rows = np.insert(np.arange(len(arrays["valids"])), first + 10, first + 10)
    for name in list(arrays):
        arrays[name] = arrays[name][rows]
    middle = first + 10 + np.arange(len(first))
    arrays["valids"][middle] = 0
    arrays["terminals"][np.r_[middle, middle - 1]] = 1


BROKEN: dict[str, tuple[Change, str, str]] = {
    "actions beyond": (scale("actions", 50), "error", "if they are in other units, add `--action-range"),
    "actions small": (scale("actions", 0.01), "warning", "1.0% of the environment's range"),
    "observations in millimetres": (scale("observations", 1000), "warning", "in other units"),
    "observations in kilometres": (scale("observations", 0.001), "warning", "in other units"),
    "normalised": (normalise, "error", "they were normalised"),
    "late": (shift(1), "warning", "stored one step late"),
    "early": (shift(-1), "warning", "stored one step early"),
    "repeated last": (repeat_last, "warning", "equals the one before in all 29 trajectories"),
    "next trajectory's first": (take_next, "warning", "is the first one of the next"),
    "ends in the middle": (cut_in_the_middle, "warning", "is the first one of the next"),
    "limits terminate": (terminate_at_limits, "warning", "29 of 30 trajectories end after 20 steps"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_set_is_found(case: str) -> None:
    change, severity, text = BROKEN[case]
    found = findings(change)
    assert [finding.severity for finding in found if text in finding.message] == [severity], found


def test_nothing_is_found_in_a_sound_set() -> None:
    assert findings() == []


def test_mixed_trajectories_are_found() -> None:
    arrays, _ = collect("random", DRIFT, {}, episodes=30)
    assert check_set(arrays, DRIFT, {}) == []
    valid = np.flatnonzero(arrays["valids"] > 0)
    order = np.random.default_rng(0).permutation(valid)
    for name in ("observations", "actions"):
        arrays[name][valid] = arrays[name][order]
    assert any("trajectories are mixed" in finding.message for finding in check_set(arrays, DRIFT, {}))


def test_terminations_that_are_not_marked_are_found() -> None:
    cut = []
    for k, part in enumerate(episodes(30)):
        steps = 10 + k % 5
        arrays = (part["observations"][: steps + 1], part["actions"][:steps], part["rewards"][:steps])
        cut.append(checked_episode("a", *arrays, np.ones(steps)))
    found = check_set(join("set", cut), ENV, {})
    assert "no trajectory terminates, and 30 of 30 end before" in found[0].message


def test_a_shift_is_told_from_a_policy_that_looks_at_the_state() -> None:
    """A policy's next action tells the next state, which deceives any test that looks at the set alone."""
    policy = "tests.zoo.datasets.test_plausible:towards_zero"
    arrays, _ = collect(policy, ENV, {}, episodes=30)
    assert check_set(arrays, ENV, {}) == []


def towards_zero(observation: np.ndarray) -> np.ndarray:
    return np.clip(-observation[:2] - 3 * observation[2:] + 0.5 * np.sin(50 * observation[:2]), -2, 2)


def test_a_set_of_another_size_is_found_first() -> None:
    assert [finding.array for finding in findings(env="Pendulum-v1")] == ["observations", "actions"]


def test_an_environment_without_limits_of_actions_asks_for_them() -> None:
    assert any("say what stands for them" in finding.message for finding in findings(env=UNBOUNDED))


class DriftEnv(SpringEnv):
    """Hardly moves from where it starts."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.speed = 0.001 * action
        self.position = self.position + self.speed
        return np.r_[self.position, 1000 * self.position], 0.0, False, False, {}


def make_unbounded() -> gymnasium.Env:
    box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    return gymnasium.wrappers.TransformAction(gymnasium.make("tests.zoo.envs.toys:Spring-v0"), lambda a: a, box)


DRIFT, UNBOUNDED = "Drift-v0", "Unbounded-v0"
gymnasium.register(DRIFT, entry_point=DriftEnv, max_episode_steps=20)
gymnasium.register(UNBOUNDED, entry_point=make_unbounded)
