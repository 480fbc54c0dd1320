"""FQL: the one-step policy is where distillation and critic balance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.agents.oracles import (
    FOUR_MODES,
    TILT,
    Field,
    Quadratic,
    assert_stacked_equals_single,
    bandit_actions,
    bare,
    learn_bandit,
    mode_masses,
    networks,
    normal_quantiles,
    random_batch,
    random_noise,
    routes,
    rows_of,
    small_model,
)
from tests.common.closed_forms import Gaussian


class Affine(nn.Module):
    """One-step policy a F(z) + b, with F the teacher's map z -> std z + m."""

    def __init__(self, std: float, m: float, a: float, b: float) -> None:
        super().__init__()
        self.std, self.m = std, m
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, observations: Tensor, z: Tensor) -> Tensor:
        return self.a * (self.m + self.std * z) + self.b


def gradients(student: Affine, behaviour: Gaussian, value: Quadratic, weight: float, size: int) -> list[Tensor]:
    """Return the gradient of FQL's policy losses in the student's two numbers."""
    model = bare("fql", distill_weight=weight, flow_steps=10)
    z = (0.5 * normal_quantiles()).view(1, -1, 1).expand(1, -1, size)  # narrow: nothing reaches the box's border
    nets = networks(critic=value, critic_target=value, behaviour=Field(behaviour), one_step=student)
    batch = rows_of(torch.zeros(z.shape[1], size))
    draws = {"distill_z": z, "td_action": z, "bc_x0": z, "bc_t": torch.zeros(1, z.shape[1])}
    with torch.no_grad():
        targets = model.targets(batch, draws, nets, {})
    losses = model.losses(batch, targets, draws, nets, {})
    total = model.loss_weights()["distill"] * losses["distill"] + losses["q"]
    return list(torch.autograd.grad(total.sum(), [student.a, student.b]))


@pytest.mark.parametrize(("weight", "size", "shift"), [(10.0, 2, 0.1), (3.0, 1, 1 / 6), (20.0, 4, 0.1)])
def test_linear_value_shifts_the_teacher_by_d_g_over_two_weights(weight: float, size: int, shift: float) -> None:
    student = Affine(std=0.43079, m=0.0, a=1.0, b=shift)
    for gradient in gradients(student, Gaussian(0.0, 0.5), Quadratic(1.0), weight, size):
        assert abs(float(gradient)) < 2e-4
    away = Affine(std=0.43079, m=0.0, a=1.0, b=2 * shift)
    assert abs(float(gradients(away, Gaussian(0.0, 0.5), Quadratic(1.0), weight, size)[1])) > 0.1


def test_quadratic_value_narrows_the_teacher() -> None:
    # k = 2 weight / D = 6: mu = (k F + g) / (k + p), of mean .125 and standard deviation .3231
    student = Affine(std=0.43079, m=0.0, a=0.3231 / 0.43079, b=0.125)
    for gradient in gradients(student, Gaussian(0.0, 0.5), Quadratic(1.0, curvature=2.0), weight=3.0, size=1):
        assert abs(float(gradient)) < 3e-4


def test_each_loss_trains_its_own_network() -> None:
    assert routes(small_model("fql")) == {
        "td": {"critic"},
        "bc_flow": {"behaviour"},
        "distill": {"one_step"},
        "q": {"one_step"},
    }


def test_teacher_is_clipped_and_student_is_not() -> None:
    model = bare("fql", flow_steps=1)
    far = networks(
        critic=Quadratic(0.0),
        critic_target=Quadratic(0.0),
        behaviour=Field(lambda x, t: torch.full_like(x, 5.0) - x),
        one_step=lambda observations, z: torch.full_like(z, 2.5),
    )
    batch, zeros = rows_of(torch.zeros(4, 1)), torch.zeros(1, 4, 1)
    draws = {"distill_z": zeros, "td_action": zeros, "bc_x0": zeros, "bc_t": torch.zeros(1, 4)}
    targets = model.targets(batch, draws, far, {})
    assert float(model.losses(batch, targets, draws, far, {})["distill"]) == pytest.approx((2.5 - 1.0) ** 2)
    assert float(targets["next_actions"].max()) == 1.0


def test_stacked_replicas_equal_single_runs() -> None:
    assert_stacked_equals_single("fql")


def test_best_of_n_plays_the_candidate_with_the_highest_mean_value() -> None:
    model = small_model("fql", best_of_n=5)
    batch, noise = random_batch(model), random_noise(model)
    with torch.no_grad():
        nets = model.policy.nets
        chosen = model.sample_actions(batch.observations, {"action": noise["td_action"]}, nets)
        each = [model.act(batch.observations, {"action": noise["td_action"][:, :, n]}, nets) for n in range(5)]
        scores = torch.stack([nets.critic(batch.observations, actions).mean(1) for actions in each])
        best = nets.critic(batch.observations, chosen).mean(1)
    torch.testing.assert_close(best, scores.amax(0))


def test_distill_weight_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`distill_weight` must be a finite number > 0, got 0"):
        small_model("fql", distill_weight=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("weight", "masses", "mean"),
    [(10.0, [0.122, 0.390, 0.283, 0.205], [-0.107, 0.031]), (3.0, [0.218, 0.317, 0.205, 0.260], [0.126, 0.101])],
)
def test_learnt_policy_shifts_a_mixture(weight: float, masses: list[float], mean: list[float]) -> None:
    model = small_model(
        "fql", observations=1, distill_weight=weight, net_arch=[128] * 3, flow_steps=10, learning_rate=1e-3
    )
    learn_bandit(model, FOUR_MODES, steps=6000, critic=Quadratic(TILT), critic_target=Quadratic(TILT))
    actions = bandit_actions(model)
    assert float((mode_masses(actions) - torch.tensor(masses)).abs().max()) < 0.04
    torch.testing.assert_close(actions.mean(0), torch.tensor(mean), rtol=0, atol=0.04)
