"""The comparison of precisions: TF32 without a GPU, the maze, and what the table says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import precision
from tests.common.toys import tiny_model, toy_batch, toy_noise

ULP = 2.0**-10  # of TF32 between 1 and 2
VALUES = {1.0: 1.0, 1 + 0.49 * ULP: 1.0, 1 + 0.51 * ULP: 1 + ULP, -1 - 0.51 * ULP: -1 - ULP, 0.0: 0.0}


@pytest.mark.parametrize(("value", "expected"), [*VALUES.items(), (float("inf"), float("inf"))])
def test_tf32_has_ten_bits(value: float, expected: float) -> None:
    assert float(precision.to_tf32(torch.tensor(value))) == pytest.approx(expected, rel=1e-7)


def test_factors_are_rounded_forwards_and_backwards() -> None:
    x = torch.full((2, 3), 1 + 0.4 * ULP, requires_grad=True)
    weight = torch.full((3, 4), 2 + 0.8 * ULP, requires_grad=True)
    with precision.emulated("fp32"):
        assert torch.equal(x @ weight, x.detach() @ weight.detach())
    with precision.emulated("tf32"):
        product = x @ weight
        product.sum().backward()
    assert torch.equal(product, torch.full((2, 4), 6.0))
    assert x.grad is not None
    assert weight.grad is not None
    assert torch.equal(x.grad, torch.full((2, 3), 8.0))
    assert torch.equal(weight.grad, torch.full((3, 4), 2.0))


@pytest.mark.parametrize("onednn", [False, True])
def test_the_products_of_an_update_are_rounded(onednn: bool, request: pytest.FixtureRequest) -> None:
    if onednn:
        request.getfixturevalue("onednn")
    model = tiny_model(net_arch=[48, 48])
    batch, noise = toy_batch(model), toy_noise(model)
    exact = float(model.trainer.losses(batch, noise)[0].detach())
    with precision.emulated("tf32"):
        rounded = float(model.trainer.losses(batch, noise)[0].detach())
    assert 1e-7 < abs(rounded - exact) / abs(exact) < 1e-2


def test_the_wall_stops_what_would_cross_it_and_nothing_else() -> None:
    starts = np.array([[-0.1, 0.0], [-0.1, 0.7], [0.1, -0.59], [-0.5, 0.0], [0.9, 0.0]])
    ends = precision.move(starts, np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    expected = [[-0.001, 0.0], [0.1, 0.7], [0.001, -0.59], [-0.3, 0.0], [1.0, 0.0]]
    np.testing.assert_allclose(ends, expected, atol=1e-9)
    assert precision.arrived(ends).tolist() == [False, False, False, False, True]


def test_the_committed_comparison_finds_no_difference() -> None:
    text = (precision.RESULTS / "precision.md").read_text(encoding="utf-8")
    rows = json.loads((precision.RESULTS / "precision.json").read_text(encoding="utf-8"))
    assert text == precision.TEXT + precision.table(rows)
    assert {row["precision"] for row in rows} == set(precision.PRECISIONS)
    last = text.splitlines()[-2:]
    assert not any("differs" in line for line in last)
