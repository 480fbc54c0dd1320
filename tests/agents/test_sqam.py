"""SQAM: bridge, closed-form adjoints, and the critic's penalty."""

from __future__ import annotations

import torch

from tests.agents.oracles import (
    random_noise,
    small_model,
)

SLOPE = torch.tensor([0.8, -0.5])


def test_bridge_has_as_many_noises_as_states() -> None:
    assert random_noise(small_model("sqam", bridge_states=4, flow_steps=6))["bridge_eps"].shape == (1, 4, 8, 2)
