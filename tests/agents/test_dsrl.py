from __future__ import annotations

import pytest

from tests.agents.oracles import (
    Behaviour,
    Quadratic,
    acting_depends_on,
    bandit_actions,
    bandit_model,
    learn_bandit,
    random_batch,
    random_noise,
    small_model,
)

LENGTH = 0.43078  # slope of that flow's end in its start, for 10 steps


def acts_with(network: str, **settings: object) -> bool:
    """Return whether acting depends on a network."""
    model = small_model("dsrl", **settings)
    return acting_depends_on(network, model, {"policy": random_noise(model)["td_policy"]})


def test_acting_can_follow_the_behaviour_itself() -> None:
    assert acts_with("behaviour", target_behaviour=False)
    assert not acts_with("behaviour_target", target_behaviour=False)


def test_target_entropy_enters_the_temperature_loss() -> None:
    batch_and_noise = lambda model: (random_batch(model), random_noise(model))  # noqa: E731
    default, higher = small_model("dsrl"), small_model("dsrl", target_entropy=0.0)
    loss = [float(m.trainer.losses(*batch_and_noise(m))[1]["temperature_loss"]) for m in (default, higher)]
    assert loss[0] - loss[1] == pytest.approx(1.0, abs=1e-5)  # the default is -D/2 = -1


@pytest.mark.slow
def test_learnt_policy_shifts_actions_by_the_known_amount() -> None:
    model, exact = bandit_model("dsrl", 1), Quadratic(1.0)
    learn_bandit(model, Behaviour(0.5, [[0.0]]), 3_000, critic=exact, critic_target=exact)
    actions = bandit_actions(model)
    assert float(actions.mean()) == pytest.approx(LENGTH * 0.770, abs=0.025)
    assert float(actions.std()) == pytest.approx(LENGTH * 0.249, abs=0.025)
