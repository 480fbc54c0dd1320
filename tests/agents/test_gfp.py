"""GFP: actions are cloned with the weight that a softmax of Q gives them beside the policy's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.agents.oracles import Field, bare, networks, random_batch, random_noise, small_model


def guidance(data: float, policy: float, flow: float, **settings: Any) -> tuple[float, float]:
    """Return weight of cloning and TD target where Q(s, a) = a, and all policies are constants."""
    model = bare("gfp", flow_steps=1, **settings)

    def q(observations: Tensor, actions: Tensor) -> Tensor:
        return actions.sum(-1).unsqueeze(1)

    nets = networks(
        critic=q,
        critic_target=q,
        one_step=lambda observations, z: torch.full_like(z, policy),
        behaviour=Field(lambda x, t: flow - x),
    )
    one = torch.ones(1, 1)
    batch: Any = SimpleNamespace(
        observations=one[..., None], next_observations=one[..., None], actions=data * one[..., None], rewards=one,
        discounts=0.5 * one,
    )  # fmt: skip
    noise = {"next_z": torch.zeros(1, 1, 1), "distill_z": torch.zeros(1, 1, 1)}
    found = model.targets(batch, noise, nets, {})
    return float(found["guidance"]), float(found["td"])


def test_weights_are_those_of_a_softmax_of_q_in_units_of_its_mean_size() -> None:
    weight, _ = guidance(0.3, 0.5, 0.1, guidance_temperature=2.0)
    scaled = torch.tensor([0.3, 0.5]) / 0.5 / 2.0
    assert weight == pytest.approx(float(scaled.softmax(0)[0]))


def test_the_flow_can_be_the_rival_and_take_part_in_the_target() -> None:
    weight, target = guidance(0.3, 0.5, 0.1, guidance_temperature=2.0, rival="smaller", target="mean")
    scaled = torch.tensor([0.3, 0.1]) / 0.5 / 2.0
    assert weight == pytest.approx(float(scaled.softmax(0)[0]))
    assert target == pytest.approx(1 + 0.5 * 0.3)


def test_a_high_temperature_clones_every_action_alike() -> None:
    model = small_model("gfp", guidance_temperature=1e6)
    with torch.no_grad():
        found = model.targets(random_batch(model), random_noise(model), model.policy.nets, {})
    torch.testing.assert_close(found["guidance"], torch.full_like(found["guidance"], 0.5), rtol=0, atol=1e-4)
