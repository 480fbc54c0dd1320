"""Actions in other units or out of bounds: rejected, clipped if they exceed a bound by a rounding error, or scaled."""

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.data import arrays as module
from agents.common.data.arrays import ROUNDING, ActionRange
from tests.common.data.helpers import empty_buffer
from tests.common.toys import refuses, toy_dataset

UNIT = spaces.Box(-1, 1, (2,), np.float32)


def refuse(actions, space=UNIT):
    ActionRange.of(space).require_inside("`actions`", np.asarray(actions))


def stored_actions(actions, action_range=None):
    """Return the actions that a buffer stores for a dataset's actions, with action bounds -1 and 1."""
    buffer = empty_buffer(observations=4, actions=2)
    buffer.load_dataset({**toy_dataset(), "actions": actions}, action_range)
    return buffer.actions[:60].numpy()


# -- rejected actions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [8, 1 << 16])
def test_first_value_outside_is_named_by_row_and_coordinate(piece, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", piece)
    refuse([[-1.0, 1.0], [0.0, -0.5]])
    actions = np.zeros((50, 2), np.float32)
    actions[21, 1], actions[44, 0] = 1.5, -8.0
    message = "[-1, 1], got 1.5 in row 21, coordinate 1. The actions are between -8.0 and 1.5: "
    with refuses(re.escape(message)):
        refuse(actions)


def test_tolerance_is_relative_to_half_the_width_of_the_box():
    space = spaces.Box(np.float32([-1, -300]), np.float32([1, 100]))
    half_widths = np.float32([1, 200])
    within_rounding = space.high + 0.9 * ROUNDING * half_widths
    beyond = space.high + 1.2 * ROUNDING * half_widths
    refuse([within_rounding, space.low], space)
    for coordinate in range(2):
        actions = np.stack([space.low, within_rounding])
        actions[1, coordinate] = beyond[coordinate]
        with refuses(f"row 1, coordinate {coordinate}"):
            refuse(actions, space)


# -- scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action_range", [(-5, 5.0), ([-5, -5], np.full(2, 5.0)), (torch.tensor(-5.0), 5)]
)
def test_action_range_stands_for_the_box_of_the_environment(action_range):
    actions = toy_dataset()["actions"]
    np.testing.assert_allclose(stored_actions(5 * actions, action_range), actions, atol=1e-6)


@pytest.mark.parametrize(
    "action_range",
    [(1, -1), (-1, np.inf), (-1, 1, 2), ("a", "b")],
)
def test_range_that_is_none_is_refused(action_range):
    with refuses("`action_range`"):
        ActionRange.of(UNIT, action_range)


def test_rounding_errors_are_clipped():
    actions = toy_dataset()["actions"]
    actions[[4, 5, 9], 0] = [1 + 2e-6, -1 - 8e-6, 1]
    np.testing.assert_array_equal(stored_actions(actions), np.clip(actions, -1, 1))
    assert actions[4, 0] > 1  # the user's array is unchanged
