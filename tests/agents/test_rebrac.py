"""ReBRAC: the actor's optimum on a bandit, delayed updates, noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.common.nets.heads import TanhActor
from tests.agents.oracles import (
    Quadratic,
    assert_stacked_equals_single,
    bare,
    networks,
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)


class Constant(nn.Module):
    """One action for every state."""

    def __init__(self, action: float) -> None:
        super().__init__()
        self.action = nn.Parameter(torch.tensor(action))

    def forward(self, observations: Tensor) -> Tensor:
        return self.action.expand(*observations.shape[:-1], 1)


def step(model: Any, seed: int = 0) -> dict[str, Tensor]:
    """Take one update with a random batch."""
    return model.update(random_batch(model, seed=seed), random_noise(model, seed=100 + seed))


def weights(network: Any) -> Tensor:
    """Return a copy of all of a network's weights in one row."""
    return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()


@pytest.mark.parametrize(
    ("bc_weight", "mean", "action"), [(1.0, 0.2, 0.81414), (2.0, 0.0, 0.5), (5.0, 0.2, 0.43166), (10.0, 0.1, 0.27913)]
)
@pytest.mark.parametrize("slope", [0.3, 1.0, 40.0])
def test_actor_balances_value_and_data_whatever_the_values_scale(
    bc_weight: float, mean: float, action: float, slope: float
) -> None:
    model, actor = bare("rebrac", bc_weight=bc_weight), Constant(action)
    nets = networks(critic=Quadratic(slope), critic_target=Quadratic(slope), actor=actor)
    batch = rows_of(torch.tensor([[mean - 0.3], [mean + 0.3]]))
    losses = model.losses(batch, {"td": torch.zeros(1, 2)}, {}, nets, {})
    total = losses["actor"] + model.loss_weights()["bc"] * losses["bc"]
    gradient = torch.autograd.grad(total.sum(), actor.action)[0]
    assert abs(float(gradient)) < 2e-4


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("rebrac", bc_weight=0.1)) == {"td": {"critic"}, "actor": {"actor"}, "bc": {"actor"}}


def test_targets_move_at_every_second_update_and_the_actor_at_each() -> None:
    model = small_model("rebrac", bc_weight=0.1, tau=0.5)
    nets = model.policy.nets
    for update in (1, 2, 3, 4):
        before = {name: weights(net) for name, net in nets.items()}
        step(model, seed=update)
        moved = {name for name in before if not torch.equal(weights(nets[name]), before[name])}
        assert moved == {"critic", "actor"} | ({"critic_target", "actor_target"} if update % 2 == 0 else set())


def test_targets_follow_the_weights_from_before_the_step() -> None:
    model = small_model("rebrac", tau=0.25)
    nets = model.policy.nets
    step(model)
    online, target = weights(nets.actor), weights(nets.actor_target)
    step(model, seed=1)
    torch.testing.assert_close(weights(nets.actor_target), 0.25 * online + 0.75 * target)


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


def test_resting_actor_takes_no_part_in_the_gradient_norm() -> None:
    model = small_model("rebrac", true_delay=True)
    batch, noise = random_batch(model), random_noise(model)
    total, _ = model.compute_losses(batch, noise)
    grads = torch.autograd.grad(total.sum(), list(model.policy.nets.critic.parameters()))
    expected = torch.cat([g.flatten() for g in grads]).norm()
    torch.testing.assert_close(model.update(batch, noise)["grad_norm"][0], expected)


def test_phase_of_the_delay_is_saved(tmp_path: Any) -> None:
    model = small_model("rebrac", tau=0.5)
    step(model)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", device="cpu")
    target = weights(loaded.policy.nets.critic_target)
    step(loaded, seed=1)
    assert not torch.equal(weights(loaded.policy.nets.critic_target), target)


def test_noise_on_actions_is_scaled_and_clipped() -> None:
    model = bare("rebrac", actor_noise=0.2, actor_noise_clip=0.5)
    draws = {"smooth": torch.tensor([0.0, 1.0, -2.0, 9.0, -9.0]).view(1, 5, 1)}
    actions = model.act(torch.zeros(1, 5, 1), draws, networks(actor=Constant(0.1)))
    assert actions.flatten().tolist() == pytest.approx([0.1, 0.3, -0.3, 0.6, -0.4])


def test_next_action_is_the_target_actors() -> None:
    model = small_model("rebrac", actor_noise=0.0)
    nets, batch = model.policy.nets, random_batch(model)
    nets.actor_target.mean.biases[0].add_(0.4)
    with torch.no_grad():
        got = model.targets(batch, random_noise(model), nets, {})["next_actions"]
        expected = nets.actor_target(batch.next_observations)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, nets.actor(batch.next_observations))


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


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("rebrac", bc_weight=0.1, true_delay=True)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"bc_weight": -1.0}, "`bc_weight` must be a finite number >= 0, got -1"),
        ({"actor_noise": -0.1}, "`actor_noise` must be a finite number >= 0, got -0.1"),
        ({"actor_noise_clip": -0.1}, "`actor_noise_clip` must be a finite number >= 0, got -0.1"),
        ({"policy_delay": 0}, "`policy_delay` must be an int >= 1, got 0"),
        ({"head_scale": 0}, "`head_scale` must be a finite number > 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small_model("rebrac", **settings)
