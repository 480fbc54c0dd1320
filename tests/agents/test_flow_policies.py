"""Properties of single flow or diffusion algorithms that the recorded numbers of `tests/parity` do not cover."""

import math
from dataclasses import replace

import pytest
import torch

from agents.common.nets.networks import NoiseSchedule
from tests.agents.oracles import (
    Quadratic,
    bare,
    field,
    networks,
    rows_of,
    small_model,
    zero_noise,
)
from tests.common.closed_forms import Gaussian
from tests.common.toys import normals, toy_batch, toy_noise

BEHAVIOUR = Gaussian(0.0, 0.5)

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


def exact_mean_flow(x, t):
    """Return x minus the mean velocity from x at time t to the action at time 0; noise is at time 1."""
    action = BEHAVIOUR.s * x / BEHAVIOUR.variance(1 - t) ** 0.5
    return x - (x - action) / t


def test_the_exact_mean_flow_is_its_own_target():
    model = bare("meanflowql", best_of_n=1)
    x, t = normals(8, 1), torch.linspace(0.1, 1, 8).unsqueeze(1)
    # the mean action and noise on the paths through x, since targets are linear in them
    velocity = -BEHAVIOUR(x, 1 - t)
    noise = zero_noise(model, 8)
    noise |= {"flow_e": (x + (1 - t) * velocity)[None], "flow_t": t.T}
    nets = networks(policy=field(exact_mean_flow), critic=Quadratic())
    targets = model.targets(rows_of(x - t * velocity), noise, nets, {})
    torch.testing.assert_close(targets["y"][0], exact_mean_flow(x, t))


# -- policies whose optimum for a value of slope 1 is known ------------------------------------------------------------

ROWS = 0.3 * normals(8, 1)
"""Dataset actions, or the noise that a diffusion adds to them."""


def one_step(output):
    """Return FQL's inputs: a teacher's actions, of which the student's optimum is 1 / 2w."""
    return {"teacher": ROWS[None]}, {}, {"one_step": lambda *_: output}


def flow(output):
    """Return RQL's inputs: noise at 0 and time 0, so the velocity of cloning is the action."""
    return {"partial": ROWS[None], "time": 1.0}, {}, {"flow": field(lambda x, t: output)}


def denoiser(output):
    """Return the inputs of diffusions: noisy actions with half of the signal's variance."""
    targets = {"noisy": ROWS[None], "alpha_bar": torch.tensor(0.5), "gradient": torch.ones(())}
    noise = {"diffusion_eps": ROWS[None]}
    return targets, noise, {"denoiser": field(lambda x, t: output)}


@pytest.mark.parametrize(
    ("id", "inputs", "optimum", "settings"),
    [
        ("fql", one_step, ROWS + 1 / 6, {"distill_weight": 3.0}),
        # a step of 1/10 changes the value by a tenth of the velocity
        ("rql", flow, ROWS + 0.1 / 6, {"bc_weight": 3.0}),
        ("dac", denoiser, ROWS - 0.5**0.5 / 6, {"bc_weight": 3.0}),
        ("qsm", denoiser, (3 * ROWS - 2) / 4, {"bc_weight": 3.0, "inverse_temperature": 2.0}),
    ],
)
def test_the_optimum_of_the_paper_is_stationary(id, inputs, optimum, settings):
    model = bare(id, **settings)
    output = optimum[None].clone().requires_grad_()
    targets, noise, nets = inputs(output)
    batch = rows_of(ROWS)
    nets = networks(critic=Quadratic(), behaviour=field(BEHAVIOUR), **nets)
    losses = model.losses(
        batch, {"td": batch.rewards, **targets}, zero_noise(model, 8) | noise, nets, {}
    )
    total = sum(model.loss_weights().get(name, 1.0) * loss for name, loss in losses.items())
    (gradient,) = torch.autograd.grad(total.sum(), output)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


# -- diffusion policies -----------------------------------------------------------------------------------------------


def test_the_schedule_travels_with_a_replica():
    single = small_model("qsm", seeds=[1, 2]).replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3).alpha_bars]


# -- flows guided by Q's gradient at sampling, against exact results for a Gaussian -----------------------------------


def gaussian_end(curvature, id="cgql", **settings):
    """Return mean and standard deviation of the guided flow's end, which is affine in the noise for exact networks."""
    model, flow = bare(id, flow_steps=10, **settings), field(BEHAVIOUR)
    nets = networks(behaviour=flow, behaviour_target=flow, critic=Quadratic(curvature))
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


@pytest.mark.parametrize(
    ("gradient", "mean"), [("clean", 0.08112), ("noisy", 0.08112), ("jacobian", 0.04308)]
)
def test_guidance_by_a_linear_value_shifts_the_flow(gradient, mean):
    end = gaussian_end(0.0, "qgf", gradient=gradient, guidance_weight=0.1)
    assert end == pytest.approx((mean, 0.4308), abs=6e-5)


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
