"""FAN: a policy that is anchored to the flow, and a critic with noise whose next action is penalised off the flow."""

from __future__ import annotations

import dataclasses

import torch

from tests.agents.oracles import bare, random_batch, random_noise, small_model


def test_the_way_of_the_map_that_a_straight_flow_leads_to_is_at_no_distance() -> None:
    z, actions = torch.randn(2, 1, 6, 2, generator=torch.Generator().manual_seed(0))
    model, t = bare("fan"), torch.linspace(0, 0.9, 6).view(1, 6)
    assert float(model.distance(lambda x, t: (actions - x) / (1 - t), z, actions, t).max()) < 1e-9
    away = model.distance(lambda x, t: actions - z + 2, z, actions, t)
    torch.testing.assert_close(away, torch.full_like(away, 4.0))


def test_the_target_falls_by_the_weighted_distance_of_the_next_action() -> None:
    targets = []
    for weight in (0.0, 1.0, 3.0):
        model = small_model("fan", critic_anchor_weight=weight)
        batch = random_batch(model)
        with torch.no_grad():
            targets.append(model.targets(batch, random_noise(model), model.policy.nets, {})["td"])
    assert bool((targets[0] > targets[1]).all())
    torch.testing.assert_close(targets[0] - targets[2], 3 * (targets[0] - targets[1]))


def test_the_next_action_s_noise_is_the_critic_s() -> None:
    model = small_model("fan")
    batch, noise = random_batch(model), random_noise(model)
    batch = dataclasses.replace(batch, discounts=torch.zeros_like(batch.discounts))  # the target is the reward alone
    losses = []
    for shift in (0.0, 1.0):
        draws = {**noise, "next_z": noise["next_z"] + shift}
        targets = model.targets(batch, draws, model.policy.nets, {})
        losses.append(model.losses(batch, targets, draws, model.policy.nets, {})["td"].item())
    assert losses[0] != losses[1]
