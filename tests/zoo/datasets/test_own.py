"""What `zoo dataset check` finds in a set that can be read: what training would refuse or warn of."""

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from tests.zoo.datasets.own import ENV, episodes, regular, write_minari
from zoo.datasets.own import check_own, load_own
from zoo.errors import UsageError


def written(folder, change=lambda arrays: None):
    arrays = regular(episodes(3))
    change(arrays)
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def constant(arrays):
    arrays["rewards"][:] = -1


def without_success(arrays):
    constant(arrays)
    arrays["timeouts"] |= arrays["terminals"]
    arrays["terminals"][:] = False


def limits_terminate_too(arrays):
    arrays["terminals"][-1] = True


def far_actions(arrays):
    arrays["actions"] *= 50


FOUND = {
    "far actions": (far_actions, "error", "say what stands for its limits with `--action-range`"),
    "no success": (without_success, "warning", "every reward is -1, and no step ends the task"),
    "constant rewards": (constant, "warning", "only the 1 steps after which the task ends"),
    "limits": (limits_terminate_too, "warning", "1 of 2 time limits are marked as terminations too"),
}


@pytest.mark.parametrize("case", list(FOUND))
def test_a_fault_is_found(tmp_path, case):
    change, severity, text = FOUND[case]
    _, (finding,) = check_own(written(tmp_path, change), ENV, {})
    assert finding.severity == severity
    assert text in finding.message


@pytest.mark.parametrize("case", ["no success", "constant rewards", "limits"])
def test_training_warns_of_it_too(tmp_path, case):
    change, _, text = FOUND[case]
    with pytest.warns(UserWarning, match=re.escape(text)):
        load_own(written(tmp_path, change), ENV, {})


def test_nothing_is_found_in_a_sound_set(tmp_path):
    assert check_own(written(tmp_path), ENV, {})[1] == []


def test_actions_in_the_units_that_are_said_are_no_fault(tmp_path):
    assert check_own(written(tmp_path, far_actions), ENV, {}, action_range=(-100.0, 100.0))[1] == []


def test_a_set_of_another_size_is_found(tmp_path):
    _, found = check_own(written(tmp_path), "Pendulum-v1", {})
    assert [finding.array for finding in found] == ["observations", "actions"]


class FlatEnv(gymnasium.Env[Any, Any]):
    """Observes two vectors, z before a."""

    observation_space = Dict([("z", Box(-np.inf, np.inf, (2,))), ("a", Box(-np.inf, np.inf, (2,)))])
    action_space = Box(-2, 2, (2,), np.float32)


def make_flat():
    return gymnasium.wrappers.FlattenObservation(FlatEnv())


FLAT = "Flat-v0"
gymnasium.register(FLAT, entry_point=f"{__name__}:make_flat")


def test_parts_in_another_order_than_the_environment_flattens_them_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = episodes()
    for part in parts:
        part["observations"] = {"z": part["observations"][:, 2:], "a": part["observations"][:, :2]}
    same = write_minari(tmp_path, parts, "flat/same-v0", env=FLAT, observation_space=FlatEnv.observation_space)
    space = Dict(dict(FlatEnv.observation_space.spaces))  # which sorts its parts
    other = write_minari(tmp_path, parts, "flat/other-v0", env=FLAT, observation_space=space)
    assert load_own(same, FLAT, {}).num_transitions == 39
    with pytest.raises(UsageError, match=r"order observations/a, observations/z, and Flat-v0 flattens .*/z, .*/a"):
        load_own(other, FLAT, {})
