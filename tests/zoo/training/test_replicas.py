"""Where values stop being those of a healthy run."""

from __future__ import annotations

import math

import pytest

from agents.common.replicas import PerReplica
from zoo.training.replicas import STOP, TELL, bound_of_q, find_excess


@pytest.mark.parametrize(
    ("reward", "gamma", "expected"), [(1.0, 0.99, 101.0), (0.0, 0.99, 1.0), (2.0, 0.0, 3.0), (1.0, 1.0, 10001.0)]
)
def test_the_bound_is_that_of_a_discounted_sum(reward: float, gamma: float, expected: float) -> None:
    assert bound_of_q(reward, gamma) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [
        ("q_max", 99 * 3.0, []),
        ("q_max", TELL * 3.1, [("Q", False)]),
        ("q_min", -TELL * 3.1, [("Q", False)]),
        ("q_max", STOP * 3.1, [("Q", True)]),
        ("q_max", math.inf, [("Q", True)]),
        ("td_loss", (10 * TELL * 2.9) ** 2, []),
        ("td_loss", (10 * TELL * 3.1) ** 2, [("loss", False)]),
        ("td_loss", (10 * STOP * 3.1) ** 2, [("loss", True)]),
        ("total_loss", math.nan, []),  # found elsewhere
        ("grad_norm", 0.0, [("gradient", False)]),
        ("grad_norm", 1e-30, []),
        ("temperature", 1e30, []),
    ],
)
def test_only_the_replica_with_the_value_is_named(name: str, value: float, kinds: list[tuple[str, bool]]) -> None:
    found = find_excess({name: PerReplica([1.0, value])}, bound_of_q(2.0, 0.0))
    assert 0 not in found
    assert [(excess.kind, excess.is_final) for excess in found.get(1, [])] == kinds
