"""Properties of single flow or diffusion algorithms that the recorded numbers of `tests/parity` do not cover."""

import math
from dataclasses import replace

import pytest
import torch

from agents.common.nets.networks import NoiseSchedule
from tests.agents.oracles import Quadratic, bare, field, networks, small_model
from tests.common.closed_forms import Gaussian
from tests.common.toys import toy_batch, toy_noise

# -- flows that clone, are distilled or maximise Q --------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("id", "setting", "loss"),
    [("ifql", "mask_value", "value_loss"), ("qgf", "mask_cloning", "bc_flow_loss")],
)
def test_a_loss_counts_crossing_sequences_unless_masked(id, setting, loss, masked):
    model = small_model(id, **{setting: masked})
    batch = toy_batch(model)
    batch = replace(batch, valid=torch.zeros_like(batch.valid))
    _, info = model.trainer.losses(batch, toy_noise(model))
    counted = {name for name in ("td_loss", "bc_flow_loss", "value_loss") if float(info[name]) > 0}
    assert counted == (set() if masked else {loss})


def test_mean_flows_targets_are_bounded():
    model = small_model("meanflowql")
    noise = toy_noise(model)
    noise["flow_e"] *= 100
    y = model.method.targets(toy_batch(model), noise, model.policy.nets, {})["y"]
    assert y.abs().max() == 5


# -- diffusion policies -----------------------------------------------------------------------------------------------


def test_the_schedule_travels_with_a_replica():
    single = small_model("qsm", seeds=[1, 2]).replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3).alpha_bars]


# -- flows guided by Q's gradient at sampling, against exact results for a Gaussian -----------------------------------

BEHAVIOUR = Gaussian(0.0, 0.5)
"""With this behaviour, all inverse temperatures are 1."""


def gaussian_end(curvature, **settings):
    """Return mean and standard deviation of the guided flow's end, which is affine in the noise for exact networks."""
    model = bare("cgql", **{"flow_steps": 10, "inverse_temperature": 1.0, **settings})
    nets = networks(behaviour_target=field(BEHAVIOUR), critic=Quadratic(curvature))
    noise = torch.tensor([[[0.0], [0.02]]])
    start, end = model.act(torch.zeros(1, 2, 1), {"action": noise}, nets)[0, :, 0].tolist()
    return start, abs(end - start) / 0.02


@pytest.mark.parametrize(
    ("curvature", "x_term", "mean", "std"),
    [(0.0, True, 0.1425, 0.5846), (2.0, False, 0.1085, 0.2709)],
)
def test_guided_flow_has_the_closed_form_of_a_gaussian(curvature, x_term, mean, std):
    actual_mean, actual_std = gaussian_end(curvature, guidance_weight=0.1, x_term=x_term)
    assert actual_mean == pytest.approx(mean, abs=6e-5)
    assert actual_std == pytest.approx(std, abs=6e-4)


@pytest.mark.parametrize("off", [{"inverse_temperature": 0.0}, {"guidance_weight": 0.0}])
def test_without_guidance_the_behaviour_flow_is_sampled(off):
    assert gaussian_end(0.0, **off) == pytest.approx((0.0, 0.4308), abs=6e-5)


@pytest.mark.parametrize("id", ["cgql", "rql"])
def test_critics_of_noisy_actions_score_clean_ones_by_their_mean(id):
    model = small_model(id, best_of_n=4)
    batch, nets = toy_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic(batch.observations, batch.actions, 1.0).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)


# -- the loss of CGQL-Linex -------------------------------------------------------------------------------------------


def linex(gap, **settings):
    """Return the losses at Q' - q = gap, for q = 0 and tau = 1."""
    model = bare("cgql_linex", inverse_temperature=1.0, **settings)
    gap = torch.tensor([[gap]])
    return model.noisy_errors(torch.zeros_like(gap), gap, {})[0, 0].tolist()


def test_beyond_the_clip_loss_is_gap_itself_or_tangent_at_clip():
    assert linex([4.99, 5.01, 300.0]) == pytest.approx([math.exp(4.99), 5.01, 300.0])
    below, at, above, far = linex([4.999, 5.0, 5.001, 7.0], linear_continuation=True)
    assert above - at == pytest.approx(at - below, rel=5e-3)
    assert far == pytest.approx(math.exp(5.0) * 3, rel=1e-5)


def test_clipped_rows_have_finite_gradient_beyond_overflow():
    model = bare("cgql_linex", inverse_temperature=10.0)
    q = torch.zeros(1, 1, 1, requires_grad=True)
    model.noisy_errors(q, torch.full((1, 1, 1), 1e3), {}).sum().backward()
    assert float(q.grad) == -10.0
