from __future__ import annotations

import pytest
import torch

from tests.agents.oracles import (
    Behaviour,
    Field,
    Quadratic,
    acting_depends_on,
    bare,
    networks,
    random_batch,
    random_noise,
    small_model,
)


def gaussian_end(id: str, behaviour: Behaviour, critic: Quadratic, **settings: object) -> tuple[float, float]:
    """Return mean and standard deviation of the guided flow's end: with exact networks it is affine in the noise."""
    model = bare(id, **{"flow_steps": 10, **settings})
    nets = networks(behaviour_target=Field(behaviour.velocity), critic=critic)
    noise = torch.tensor([[[0.0], [0.02]]])
    start, end = model.act(torch.zeros(1, 2, 1), {"action": noise}, nets)[0, :, 0].tolist()
    return start, abs(end - start) / 0.02


BASES = {
    "a": (Behaviour(0.5, [[0.0]]), 1.0, 0.0),
    "b": (Behaviour(0.2, [[0.2]]), 3.0, 0.0),
    "c": (Behaviour(0.5, [[0.0]]), 1.0, 2.0),
}


@pytest.mark.parametrize(
    ("base", "weight", "x_term", "mean", "std"),
    [
        ("a", 0.01, True, 0.0126, 0.4445),
        ("a", 0.01, False, 0.0124, 0.4308),
        ("a", 0.1, True, 0.1425, 0.5846),
        ("a", 0.1, False, 0.1244, 0.4308),
        ("b", 0.1, True, 0.3799, 0.2130),
        ("b", 0.1, False, 0.3484, 0.1542),
        ("c", 0.1, True, 0.1242, 0.3806),
        ("c", 0.1, False, 0.1085, 0.2709),
        ("c", 1.0, False, 0.374, 0.007),
    ],
)
def test_guided_flow_has_the_closed_form_of_a_gaussian(
    base: str, weight: float, x_term: bool, mean: float, std: float
) -> None:
    behaviour, tau, curvature = BASES[base]
    settings = {"inverse_temperature": tau, "guidance_weight": weight, "x_term": x_term}
    got = gaussian_end("cgql", behaviour, Quadratic(1.0, curvature), **settings)
    assert got == pytest.approx((mean, std), abs=6e-4 if weight == 1.0 else 6e-5)


@pytest.mark.parametrize("off", [{"inverse_temperature": 0.0}, {"guidance_weight": 0.0}])
def test_without_guidance_the_behaviour_flow_is_sampled(off: dict[str, float]) -> None:
    got = gaussian_end("cgql", Behaviour(0.5, [[0.0]]), Quadratic(1.0), **off)
    assert got == pytest.approx((0.0, 0.4308), abs=6e-5)


def acts_with(network: str, **settings: object) -> bool:
    """Return whether acting depends on a network."""
    model = small_model("cgql", **settings)
    return acting_depends_on(network, model, {"action": random_noise(model)["td_action"]})


def test_sampling_can_follow_the_behaviour_itself() -> None:
    assert acts_with("behaviour", target_behaviour=False)
    assert not acts_with("behaviour_target", target_behaviour=False)


def test_best_of_n_scores_clean_actions_by_the_mean_critic() -> None:
    model = small_model("cgql", best_of_n=4)
    batch, nets = random_batch(model), model.policy.nets
    with torch.no_grad():
        expected = nets.critic(batch.observations, batch.actions, 1.0).mean(1)
        assert torch.equal(model.score(batch.observations, batch.actions, nets), expected)
