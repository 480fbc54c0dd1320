"""Batches of online training against those of the authors' replay buffer: the same transitions, the same starts."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.common.data.helpers import all_sequences, empty_buffer, loaded_buffer
from tests.common.toys import tiny_model
from tests.envs import SpacesEnv
from tests.parity.reference import OWN_FIXTURES


@cache
def arrays():
    with np.load(OWN_FIXTURES / "common" / "online.npz") as archive:
        return dict(archive)


def recorded(prefix):
    """Return the arrays below a prefix, by the rest of their key."""
    return {
        key.removeprefix(prefix): array for key, array in arrays().items() if key.startswith(prefix)
    }


GAMMA = json.loads(str(arrays()["meta"]))["discount"]


def feed(buffer):
    """Add the online transitions, as Stable-Baselines3's loop does."""
    online = recorded("stream/")
    truncated = (online["terminals"] * online["masks"]).astype(bool)
    for row in range(len(truncated)):
        names = ("observations", "next_observations", "actions", "rewards", "terminals")
        columns = [online[name][[row]] for name in names]
        buffer.add(*columns, [{"TimeLimit.truncated": truncated[row]}])
    return buffer


class RecordedEnv(SpacesEnv):
    """Answers with the recorded transitions, whatever is played."""

    def __init__(self):
        super().__init__(2, 2)
        self.step_number = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return recorded("stream/")["observations"][self.step_number], {}

    def step(self, action):
        row = {name: array[self.step_number] for name, array in recorded("stream/").items()}
        self.step_number = (self.step_number + 1) % len(recorded("stream/")["rewards"])
        terminated = row["masks"] == 0
        truncated = bool(row["terminals"]) and not terminated
        return row["next_observations"], float(row["rewards"]), terminated, truncated, {}


def collect(monkeypatch, settings):
    """Return the buffer of a model that collected the recorded transitions itself, its actions the recorded ones."""
    # uniform actions precede the first update, and all of these steps do
    model = tiny_model(
        env=RecordedEnv(), gamma=GAMMA, learning_starts=1_000, buffer_size=400, **settings
    )
    model.load_dataset(recorded("data/"))
    actions = iter(recorded("stream/")["actions"])
    monkeypatch.setattr(spaces.Box, "sample", lambda space: next(actions))
    return model.learn(len(recorded("stream/")["rewards"])).replay_buffer


def require_recorded(batch, expected, horizon, chunked):
    """Compare a batch of one replica with the recorded sequences."""
    actions = expected["actions"][:, : horizon if chunked else 1]
    ours = {name: tensor[0].numpy() for name, tensor in batch.tensors().items()}
    pairs = {
        "observations": expected["observations"],
        "actions": actions.reshape(len(actions), -1),
        "rewards": expected["rewards"],
        "discounts": GAMMA**horizon * expected["masks"],
        "next_observations": expected["next_observations"],
        "valid": expected["valid"][:, -1],
        "steps_valid": expected["valid"][:, : actions.shape[1]],
    }
    for name, values in pairs.items():
        # rewards are float64 sums there, float32 sums here
        np.testing.assert_allclose(ours[name], values, rtol=1e-6, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("collected", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("horizon", "chunked"), [(1, True), (5, True), (10, True), (5, False)])
def test_batches_after_online_steps_are_the_references(
    horizon, chunked, balanced, collected, monkeypatch
):
    settings = {"horizon_length": horizon, "action_chunking": chunked}
    if collected:
        buffer = collect(monkeypatch, {**settings, "balanced_sampling": balanced})
    else:
        dataset = recorded("data/")
        buffer = feed(loaded_buffer(dataset, size=400, gamma=GAMMA, balanced=balanced, **settings))
    sources = ["dataset", "online"] if balanced else ["joined"]
    parts = [recorded(f"{source}/H{horizon}/") for source in sources]
    expected = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # every start that the reference draws, in its order, and none beside
    assert buffer.count_starts() == len(expected["rewards"])
    require_recorded(all_sequences(buffer), expected, horizon, chunked)


@pytest.mark.parametrize("horizon", [1, 5, 10])
def test_a_full_ring_differs_only_where_the_reference_joins_its_newest_to_its_oldest(horizon):
    size = json.loads(str(arrays()["meta"]))["buffer_sizes"]["wrapped"]
    settings = {"size": size, "observations": 2, "actions": 2, "gamma": GAMMA}
    buffer = feed(empty_buffer(**settings, horizon_length=horizon))
    expected = recorded(f"wrapped/H{horizon}/")
    places = np.arange(len(expected["rewards"]))
    joins = (places < buffer.pos) & (places + horizon > buffer.pos)
    ages = (places[~joins] - buffer.pos) % size
    batch = buffer.batch_of(buffer.sequence_rows(torch.from_numpy(ages)[None]))
    require_recorded(
        batch, {name: array[~joins] for name, array in expected.items()}, horizon, True
    )
    # those of the reference without the joins, and those over the end of its arrays, which never reach the last row
    assert buffer.count_starts() == (~joins).sum() + horizon
