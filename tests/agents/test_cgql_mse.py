from __future__ import annotations

import pytest
from torch import Tensor

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
)
from tests.agents.test_cgql import BASES, gaussian_end


def expected_q(behaviour: Behaviour, curvature: float) -> Quadratic:
    """Return Q(a) = a - p a^2 / 2 with, at noisy actions, its mean over the clean actions behind them."""

    def noisy(x: Tensor, t: float) -> Tensor:
        shares, means, variance = behaviour.posterior(x, t)
        q = (means - 0.5 * curvature * (means.square() + variance)).sum(-1)
        return (shares * q).sum(-1)

    return Quadratic(1.0, curvature, noisy)


@pytest.mark.parametrize(
    ("base", "weight", "x_term", "mean", "std"),
    [
        ("a", 0.1, True, 0.0254, 0.5846),
        ("a", 0.1, False, 0.0238, 0.4308),
        ("a", 1.0, True, 0.485, 5.282),
        ("a", 1.0, False, 0.238, 0.4308),
        ("b", 0.1, True, 0.2213, 0.2130),
        ("b", 0.1, False, 0.2118, 0.1542),
        ("c", 0.1, True, 0.0250, 0.5696),
        ("c", 0.1, False, 0.0234, 0.4195),
        ("c", 1.0, True, 0.411, 4.21),
        ("c", 1.0, False, 0.204, 0.329),
    ],
)
def test_guided_flow_has_the_closed_form_of_a_gaussian(
    base: str, weight: float, x_term: bool, mean: float, std: float
) -> None:
    behaviour, tau, curvature = BASES[base]
    settings = {"inverse_temperature": tau, "guidance_weight": weight, "x_term": x_term}
    got = gaussian_end("cgql_mse", behaviour, expected_q(behaviour, curvature), **settings)
    assert got[0] == pytest.approx(mean, abs=6e-5 if weight < 1 else 6e-4)
    assert got[1] == pytest.approx(std, abs=6e-5 if weight < 1 else 6e-3)
