"""Batches of online training, compared with the authors' replay buffer: the same transitions and starts."""

import numpy as np
import pytest
from gymnasium import spaces

from tests.common.data.helpers import all_sequences
from tests.common.toys import tiny_model
from tests.envs import SpacesEnv
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES

FIXTURE = read_fixture(OWN_FIXTURES / "common" / "online.npz")
GAMMA = FIXTURE.meta["discount"]
STREAM = FIXTURE.below("stream/")


class RecordedEnv(SpacesEnv):
    """Returns the recorded transitions, whatever the action."""

    def __init__(self):
        super().__init__(2, 2)
        self.step_number = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return STREAM["observations"][self.step_number], {}

    def step(self, action):
        row = {name: array[self.step_number] for name, array in STREAM.items()}
        self.step_number = (self.step_number + 1) % len(STREAM["rewards"])
        terminated = row["masks"] == 0
        truncated = bool(row["terminals"]) and not terminated
        return row["next_observations"], float(row["rewards"]), terminated, truncated, {}


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("horizon", "chunked"), [(1, True), (5, True), (10, True), (5, False)])
def test_batches_after_online_steps_are_the_references(horizon, chunked, balanced, monkeypatch):
    model = tiny_model(
        env=RecordedEnv(),
        gamma=GAMMA,
        horizon_length=horizon,
        action_chunking=chunked,
        balanced_sampling=balanced,
        buffer_size=400,
        learning_starts=1_000,  # later than all of these steps, so that actions are uniform
    )
    model.load_dataset(FIXTURE.below("data/"))
    actions = iter(STREAM["actions"])
    monkeypatch.setattr(spaces.Box, "sample", lambda space: next(actions))
    buffer = model.learn(len(STREAM["rewards"])).replay_buffer
    sources = ["dataset", "online"] if balanced else ["joined"]
    parts = [FIXTURE.below(f"{source}/H{horizon}/") for source in sources]
    expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # exactly the starts that the reference samples, in the same order
    assert buffer.count_starts() == len(expected["rewards"])
    chunks = expected["actions"][:, : horizon if chunked else 1]
    pairs = {
        "observations": expected["observations"],
        "actions": chunks.reshape(len(chunks), -1),
        "rewards": expected["rewards"],
        "discounts": GAMMA**horizon * expected["masks"],
        "next_observations": expected["next_observations"],
        "valid": expected["valid"][:, -1],
        "steps_valid": expected["valid"][:, : chunks.shape[1]],
    }
    batch = vars(all_sequences(buffer))
    for name, values in pairs.items():
        # the reference sums rewards in float64, this library in float32
        np.testing.assert_allclose(batch[name][0], values, rtol=1e-6, atol=2e-6, err_msg=name)
