"""H-step sequences against recorded numbers of the reference sampler, for every start index."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.common.data.buffer import SequenceReplayBuffer
from tests.parity.reference import OWN_FIXTURES

PATH = OWN_FIXTURES / "common" / "sequence_sampling.npz"


def buffer_of(dataset, horizon_length, gamma):
    observations = spaces.Box(-np.inf, np.inf, dataset["observations"].shape[1:], np.float32)
    actions = spaces.Box(-1, 1, dataset["actions"].shape[1:], np.float32)
    count = len(dataset["terminals"])
    buffer = SequenceReplayBuffer(count, observations, actions, "cpu", horizon_length=1, gamma=gamma)
    # The reference's next observations are no row's observation, so that it can be seen where they come from. In a
    # dataset of a user's that ends the trajectory, which the reference does not know: the others lie in the empty ring.
    with pytest.warns(UserWarning, match="end only because `next_observations` is not the next row's observation"):
        buffer.load_dataset(dataset)
    inside = np.flatnonzero(dataset["terminals"][:-1] == 0)
    buffer.observations[count + inside] = torch.from_numpy(dataset["next_observations"][inside])
    buffer.next_row[inside] = torch.from_numpy(count + inside).int()
    buffer.dones[inside] = False
    buffer.horizon_length = horizon_length
    return buffer


def rows_from(starts, horizon_length):
    return torch.from_numpy(starts[:, None] + np.arange(horizon_length))


@pytest.fixture(params=[(h, g) for h in (1, 3, 5) for g in (0.9, 0.995)], ids=lambda param: f"H{param[0]}_g{param[1]}")
def case(request):
    horizon_length, gamma = request.param
    with np.load(PATH) as arrays:
        dataset = {key.removeprefix("data/"): arrays[key] for key in arrays.files if key.startswith("data/")}
        prefix = f"H{horizon_length}_g{gamma}/"
        expected = {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
    return buffer_of(dataset, horizon_length, gamma), expected


def test_every_position_equals_the_reference(case):
    buffer, expected = case
    rows = rows_from(expected["start"], buffer.horizon_length)
    found = buffer.sequences(rows)
    np.testing.assert_allclose(found.rewards.numpy(), expected["rewards"], rtol=0, atol=1e-6)
    exact = {
        "observations": buffer.observations[rows[:, 0]],
        "actions": buffer.actions[found.rows],
        "masks": found.masks,
        "terminals": found.terminals,
        "valid": found.valid,
        "next_observations": buffer.observations[found.next_rows],
    }
    assert {*exact, "rewards", "start"} == set(expected)  # every recorded field is compared
    for name, got in exact.items():
        np.testing.assert_array_equal(got.numpy(), expected[name], err_msg=name)


def test_every_recorded_start_can_be_drawn(case):
    buffer, expected = case
    assert buffer.count_starts() == len(expected["start"])
    drawn = buffer.draw_rows((1, 4000), torch.Generator().manual_seed(0))[0, :, 0]
    assert set(drawn.tolist()) == set(expected["start"].tolist())
