"""Parts of a batch beside its transitions: the count of updates, states inside chunks, and noise with own axes."""

from __future__ import annotations

import pytest
import torch

from agents import core
from agents.fql import FQL
from tests.common.engine.helpers import assert_same, made, made_plain
from tests.common.toys import tiny_model, toy_dataset


class FadingCloning(FQL):
    """FQL whose cloning fades out over ten updates."""

    def losses(self, batch, *arguments):
        losses = super().losses(batch, *arguments)
        return losses | {"bc_flow": losses["bc_flow"] * (1 - batch.updates / 10).clamp(min=0)}


def test_a_batch_counts_the_updates_before_it(monkeypatch):
    model, losses, counts = made(FadingCloning), FadingCloning.losses, []

    def counting(self, batch, *arguments):
        counts.append(batch.updates.tolist())
        return losses(self, batch, *arguments)

    monkeypatch.setattr(FadingCloning, "losses", counting)
    for _ in range(3):
        model.trainer.update(16)
    assert counts == [[0], [1], [2]]


def test_captured_updates_read_the_count_of_updates_as_plain_ones(captured):
    plain, replayed = made_plain(FadingCloning), captured(FadingCloning)
    for _ in range(12):
        infos = [model.trainer.update(16) for model in (replayed, plain)]
        torch.testing.assert_close(*(info["bc_flow_loss"] for info in infos), rtol=1e-4, atol=1e-6)
    assert infos[0]["bc_flow_loss"].item() == 0
    assert_same(replayed, plain)


class OneStep(FQL):
    """FQL whose batches hold the states inside of chunks, with latent noise and noise on observations."""

    step_observations = True

    def noise(self):
        return super().noise() | {"latent": core.normal("BL", L=6), "shaken": core.normal("BO")}


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_batch_holds_the_states_before_and_after_each_action(chunks, scale):
    model = made(OneStep, action_chunking=chunks, observation_scale=scale)
    batch = model.trainer.draw_batch(64)
    length = 3 if chunks else 1
    states_before, states_after, valid = (
        batch.step_observations,
        batch.step_next_observations,
        batch.steps_valid > 0,
    )
    assert states_before.shape == states_after.shape == (1, 64, length, 4)
    assert torch.equal(states_before[:, :, 0], batch.observations)
    dataset = {name: torch.from_numpy(array) for name, array in toy_dataset().items()}
    states = model.policy.preprocess(dataset["observations"])
    next_states = model.policy.preprocess(dataset["next_observations"])
    for row in range(64):
        (start,) = (states == batch.observations[0, row]).all(1).nonzero().flatten().tolist()
        for step in range(length):
            if valid[0, row, step]:
                assert torch.equal(states_before[0, row, step], states[start + step])
                assert torch.equal(states_after[0, row, step], next_states[start + step])
    assert not chunks or not valid.all()


def test_noise_has_own_axes_and_the_shape_of_observations():
    model = made(OneStep, seeds=[1, 2])
    noise = model.trainer.draw_noise(5)
    assert noise["latent"].shape == (2, 5, 6)
    assert noise["shaken"].shape == (2, 5, 4)


def test_a_setting_that_is_changed_is_checked_as_by_the_constructor():
    with pytest.raises(ValueError, match="`multiplier_max` must be at least"):
        tiny_model("trqam").multiplier_min = 1e9
