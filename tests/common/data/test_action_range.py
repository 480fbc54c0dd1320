"""Actions in other units or outside their box: refused, clipped where a rounding error put them there, or scaled."""

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.data import arrays as module
from agents.common.data.arrays import ROUNDING, ActionRange
from tests.common.data.helpers import all_rows, assert_same_batches
from tests.common.toys import tiny_model, toy_dataset, toy_shards
from tests.envs import space_env_of


def box(low=(-1, -1), high=(1, 1)):
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def refuse(actions, space=None):
    ActionRange.of(space or box()).require_inside("`actions`", np.asarray(actions))


def model_in(space):
    return tiny_model(env=space_env_of(spaces.Box(-1, 1, (4,), np.float32), space))


WIDE = box([-2, 0], [6, 10])


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [8, 1 << 16])
def test_first_value_outside_is_named_by_row_and_coordinate(piece, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", piece)
    refuse([[-1.0, 1.0], [0.0, -0.5]])
    actions = np.zeros((50, 2), np.float32)
    actions[21, 1], actions[44, 0] = 1.5, -8.0
    message = "`actions` must lie in [-1, 1], got 1.5 in row 21, coordinate 1. The actions reach from -8.0 to 1.5: "
    with pytest.raises(ValueError, match=re.escape(message)):
        refuse(actions)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_value_that_is_no_finite_number_is_outside(value):
    with pytest.raises(ValueError, match="row 1, coordinate 0"):
        refuse([[0.0, 0.0], [value, 0.0]])


def test_tolerance_is_relative_to_half_the_width_of_the_box():
    space = box([-1, -300], [1, 100])  # half widths 1 and 200
    within_rounding = space.high + 0.9 * ROUNDING * np.array([1, 200], np.float32)
    beyond = space.high + 1.2 * ROUNDING * np.array([1, 200], np.float32)
    refuse([within_rounding, space.low], space)
    for coordinate in range(2):
        actions = np.stack([space.low, within_rounding])
        actions[1, coordinate] = beyond[coordinate]
        with pytest.raises(ValueError, match=f"row 1, coordinate {coordinate}"):
            refuse(actions, space)


# -- scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action_range", [(-5, 5.0), ([-5, -5], np.full(2, 5.0)), (torch.tensor(-5.0), 5)]
)
def test_action_range_stands_for_the_box_of_the_environment(action_range):
    model, dataset = model_in(WIDE), toy_dataset()
    model.load_dataset({**dataset, "actions": dataset["actions"] * 5}, action_range=action_range)
    np.testing.assert_allclose(model.replay_buffer.actions[:60], dataset["actions"], atol=1e-6)


@pytest.mark.parametrize(
    "action_range",
    [(1, -1), (-1, np.inf), ([-1, 0], [1, 0]), (-1, 1, 2), ("a", "b"), ([-1] * 3, [1] * 3)],
)
def test_range_that_is_none_is_refused(action_range):
    with pytest.raises(ValueError, match="`action_range`"):
        model_in(box()).load_dataset(toy_dataset(), action_range=action_range)


def test_dataset_with_actions_in_other_units_is_refused_and_the_range_is_suggested():
    dataset = toy_dataset()
    dataset["actions"] = np.linspace(-5.25, 4.5, 120).reshape(60, 2)
    model = model_in(box())
    with pytest.raises(ValueError, match=re.escape("`action_range=(-5.25, 4.5)`")):
        model.load_dataset(dataset)
    model.load_dataset(dataset, action_range=(-5.25, 4.5))  # as suggested


def test_rounding_errors_are_clipped():
    dataset = toy_dataset()
    dataset["actions"][[4, 5, 9], 0] = [1 + 2e-6, -1 - 8e-6, 1]
    model = model_in(box())
    model.load_dataset(dataset)
    stored = model.replay_buffer.actions[:60].numpy()
    np.testing.assert_array_equal(stored, np.clip(dataset["actions"], -1, 1))
    assert dataset["actions"][4, 0] > 1  # the user's array is left alone


# -- datasets of several parts ----------------------------------------------------------------------------------------


def test_actions_of_every_part_are_checked_when_the_dataset_is_loaded(tmp_path):
    first, second = toy_dataset(seed=1), toy_dataset(seed=2)
    second["actions"][31, 1] = -7
    model = model_in(box())
    model.load_dataset(first)
    old_batch = model.replay_buffer.batch_of(all_rows(model.replay_buffer))
    with pytest.raises(
        ValueError, match=r"1-observations\.npy cannot be used: .* row 31, coordinate 1"
    ):
        model.load_dataset(toy_shards(tmp_path, first, second))
    assert_same_batches(old_batch, model.replay_buffer.batch_of(all_rows(model.replay_buffer)))
