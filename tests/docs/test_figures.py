"""The drawing of flows: its closed forms are right, and it can be drawn."""

from __future__ import annotations

from pathlib import Path

import torch

from docs.figures import flows


def test_the_velocity_carries_noise_to_the_mixture() -> None:
    noise = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.001, 0.999, 999)).unsqueeze(-1)
    ends = flows.paths_of(flows.velocity_of(*flows.tilted()), noise)[-1]
    means, weights = flows.tilted()
    assert abs((ends > 0).float().mean() - weights[1]) < 0.01
    assert abs(ends[ends > 0].mean() - means[1]) < 0.03


def test_the_tilted_density_is_behaviour_times_exp_q() -> None:
    x = torch.linspace(-1.2, 1.2, 7).numpy()
    ratio = flows.density(*flows.tilted(), x) / flows.density(flows.MEANS, flows.WEIGHTS, x)
    expected = torch.exp(torch.tensor(flows.SLOPE * x)).numpy()
    assert (abs(ratio / expected / (ratio[0] / expected[0]) - 1) < 1e-4).all()


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    flows.main(tmp_path)
    assert "<svg" in (tmp_path / "flows.svg").read_text()
