"""Parts of a batch besides its transitions: the number of updates, and states inside chunks. Also sampled noise."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from agents.core import normal
from agents.fql import FQL
from tests.common.engine.helpers import assert_alike, loaded_model, plain_model, update
from tests.common.toys import seeded, toy_dataset


class FadingCloning(FQL):
    """FQL whose cloning weight decreases to 0 over ten updates."""

    def losses(self, batch, *arguments):
        losses = super().losses(batch, *arguments)
        return losses | {"bc_flow": losses["bc_flow"] * (1 - batch.updates / 10).clamp(min=0)}


def test_batches_count_the_updates_before_them(captured):
    models = captured(FadingCloning), plain_model(FadingCloning)
    for number in range(12):
        losses = [update(model)["bc_flow_loss"] for model in models]
        assert_close(*losses, rtol=1e-4, atol=1e-6)
        assert (losses[1].item() > 0) == (number < 10)
    assert_alike(*models)


class OneStep(FQL):
    """FQL whose batches contain the states inside chunks."""

    step_observations = True


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_batch_holds_the_states_before_and_after_each_action(chunks, scale):
    model = loaded_model(OneStep, action_chunking=chunks, observation_scale=scale)
    batch = model.trainer.draw_batch(64)
    length = 3 if chunks else 1
    assert batch.step_observations.shape == batch.step_next_observations.shape == (1, 64, length, 4)
    assert torch.equal(batch.step_observations[:, :, 0], batch.observations)
    dataset = {name: torch.from_numpy(array) for name, array in toy_dataset().items()}
    states = model.policy.preprocess(dataset["observations"])
    next_states = model.policy.preprocess(dataset["next_observations"])
    for row, step in (batch.steps_valid[0] > 0).nonzero().tolist():
        (start,) = (states == batch.observations[0, row]).all(1).nonzero().flatten().tolist()
        assert torch.equal(batch.step_observations[0, row, step], states[start + step])
        assert torch.equal(batch.step_next_observations[0, row, step], next_states[start + step])
    if chunks:
        assert not batch.steps_valid.all(), "some chunks reach beyond their trajectory"


# -- the noise table --------------------------------------------------------------------------------------------------

SIZES = {"S": 2, "B": 500, "N": 4, "K": 5, "D": 3}


def test_draws_have_the_axis_of_replicas_and_the_named_axes():
    assert normal("KBND")(SIZES, seeded(), "cpu").shape == (2, 5, 500, 4, 3)


@pytest.mark.parametrize("axes", ["BX", "SBD", "BL"])
def test_axis_that_does_not_exist_is_refused_with_those_that_do(axes):
    with pytest.raises(ValueError, match=rf"'{axes}'.*D \(flattened chunk\)"):
        normal(axes)
