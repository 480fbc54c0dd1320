"""ReBRAC: the actor's optimum on a bandit, delayed updates, noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.common.nets.policies import TanhActor
from tests.agents.oracles import (
    random_batch,
    random_noise,
    small_model,
)


def step(model: Any, seed: int = 0) -> dict[str, Tensor]:
    """Take one update with a random batch."""
    return model.trainer.update_on(random_batch(model, seed=seed), random_noise(model, seed=100 + seed))


def weights(network: Any) -> Tensor:
    """Return a copy of all of a network's weights in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


def test_targets_move_at_every_second_update_and_the_actor_at_each() -> None:
    model = small_model("rebrac", bc_weight=0.1, tau=0.5)
    nets = model.policy.nets
    for update in (1, 2, 3, 4):
        before = {name: weights(net) for name, net in nets.items()}
        step(model, seed=update)
        moved = {name for name in before if not torch.equal(weights(nets[name]), before[name])}
        assert moved == {"critic", "actor"} | ({"critic_target", "actor_target"} if update % 2 == 0 else set())


def test_true_delay_holds_the_actor_still_in_spite_of_momentum() -> None:
    model = small_model("rebrac", true_delay=True, policy_delay=3)
    nets = model.policy.nets
    for update in range(1, 8):
        before, critic = weights(nets.actor), weights(nets.critic)
        step(model, seed=update)
        assert torch.equal(weights(nets.actor), before) == (update % 3 != 0)
        assert not torch.equal(weights(nets.critic), critic)
    parameter = next(nets.actor.parameters())
    assert int(model.policy.optimizer.state[parameter]["step"]) == 2


def test_phase_of_the_delay_is_saved(tmp_path: Any) -> None:
    model = small_model("rebrac", tau=0.5)
    step(model)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    target = weights(loaded.policy.nets.critic_target)
    step(loaded, seed=1)
    assert not torch.equal(weights(loaded.policy.nets.critic_target), target)


def test_best_of_n_chooses_among_the_target_actors_noisy_actions() -> None:
    model = small_model("rebrac", actor_noise=0.3, best_of_n=6)
    nets, batch, noise = model.policy.nets, random_batch(model), random_noise(model)
    nets.actor_target.mean.biases[0].add_(0.4)
    with torch.no_grad():
        got = model.next_actions(batch, noise, nets)
        shift = (0.3 * noise["td_smooth"]).clamp(-0.5, 0.5)
        candidates = (nets.actor_target(batch.next_observations).unsqueeze(2) + shift).clamp(-1, 1)  # (S, B, N, D)
        scores = [nets.critic(batch.next_observations, candidates[:, :, n]).mean(1) for n in range(6)]
        best = nets.critic(batch.next_observations, got).mean(1)
    torch.testing.assert_close(best, torch.stack(scores).amax(0))


def test_last_layer_starts_small() -> None:
    actor = TanhActor(1, 5, 3, [64], head_scale=0.01)
    actor.initialise(0, torch.Generator().manual_seed(0))
    bound = (3 * 0.01 / ((64 + 3) / 2)) ** 0.5
    assert 0.9 * bound < float(actor.mean.weights[0].detach().abs().max()) <= bound
