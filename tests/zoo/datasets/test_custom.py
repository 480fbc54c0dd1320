"""What `zoo dataset check` finds in a set that can be read: what training would refuse or warn of."""

import re
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from tests.zoo.datasets.samples import ENV, episodes, in_two, regular, write_minari
from zoo.dataset import main
from zoo.datasets.custom import load_custom
from zoo.datasets.files import DatasetError
from zoo.terminal.errors import UsageError


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


WARNED = {
    "no success": (without_success, "every reward is -1, and 0 steps end the task"),
    "constant rewards": (constant, "every reward is -1, and 1 steps end the task"),
    "limits": (limits_terminate_too, "1 of 2 time limits are marked as terminations too"),
}


@pytest.mark.parametrize("case", WARNED)
def test_what_is_probably_a_mistake_is_warned_of(tmp_path, case):
    change, text = WARNED[case]
    with pytest.warns(UserWarning, match=re.escape(text)):
        load_custom(written(tmp_path, change), ENV, {})


def test_actions_in_other_units_are_refused_unless_the_range_is_said(tmp_path, recwarn):
    path = written(tmp_path, far_actions)
    with pytest.raises(DatasetError, match="`--action-range"):
        load_custom(path, ENV, {})
    load_custom(path, ENV, {}, action_range=(-100.0, 100.0))
    load_custom(written(tmp_path), ENV, {})
    assert not recwarn.list


def test_a_set_of_another_size_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"`observations` must have rows of .* as in Pendulum-v1") as caught:
        load_custom(written(tmp_path), "Pendulum-v1", {})
    assert caught.value.array == "observations"


def test_a_check_tells_errors_and_warnings(tmp_path, call):
    words = "check", written(tmp_path, lambda arrays: (far_actions(arrays), constant(arrays))), "--env", ENV
    result, _ = call(main, *words, code=2)
    assert [(row["severity"], row["array"]) for row in result["findings"]] == [
        ("error", "actions"),
        ("warning", "file"),
    ]
    assert result["transitions"] == 59
    assert call(main, *words, "--action-range=-100,100")[0]["sound"]


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
    parts = in_two(episodes())
    same = write_minari(tmp_path, parts, "flat/same-v0", env=FLAT, observation_space=FlatEnv.observation_space)
    space = Dict(dict(FlatEnv.observation_space.spaces))  # which sorts its parts
    other = write_minari(tmp_path, parts, "flat/other-v0", env=FLAT, observation_space=space)
    assert load_custom(same, FLAT, {}).num_transitions == 39
    with pytest.raises(UsageError, match=r"order observations/a, observations/z, and Flat-v0 flattens .*/z, .*/a"):
        load_custom(other, FLAT, {})
