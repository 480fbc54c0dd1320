"""The number of updates in a batch, and sampled noise."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from agents.core import normal
from agents.fql import FQL
from tests.common.engine.helpers import assert_alike, plain_model, update
from tests.common.toys import seeded


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


# -- the noise table --------------------------------------------------------------------------------------------------

SIZES = {"S": 2, "B": 500, "N": 4, "K": 5, "D": 3}


def test_draws_have_the_axis_of_replicas_and_the_named_axes():
    assert normal("KBND")(SIZES, seeded(), "cpu").shape == (2, 5, 500, 4, 3)


@pytest.mark.parametrize("axes", ["BX", "SBD", "BL"])
def test_axis_that_does_not_exist_is_refused_with_those_that_do(axes):
    with pytest.raises(ValueError, match=rf"'{axes}'.*D \(flattened chunk\)"):
        normal(axes)
