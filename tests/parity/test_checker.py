"""Each planted mistake is reported by the quantity that it affects."""

from dataclasses import replace

import pytest
import torch

from agents import fawac
from agents.common.engine.trainer import Trainer
from agents.core import normal, uniform
from agents.qam import QAM
from tests.parity import reference
from tests.parity.checker import compare
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, Agent, OurAgents


def setting(name, factor):
    """Plant a mistake: one of our settings multiplied by a factor."""

    def plant(patch):
        translate = reference.our_settings

        def translate_wrongly(fixture):
            settings = translate(fixture)
            return {**settings, name: factor * settings[name]}

        patch.setattr(reference, "our_settings", translate_wrongly)

    return plant


def losses_without_numbers(patch):
    losses = Agent.losses
    patch.setattr(
        Agent, "losses", lambda self: {k: 0 * loss / 0 for k, loss in losses(self).items()}
    )


def draw(name, make):
    """Plant other noise in QAM; ``make`` creates it from the algorithm."""

    def plant(patch):
        noise = QAM.noise
        patch.setattr(QAM, "noise", lambda self: {**noise(self), name: make(self)})

    return plant


def squared_weight(patch):
    weight = fawac.advantage_weight
    patch.setattr(fawac, "advantage_weight", lambda *arguments: weight(*arguments).square())


def targets_after_the_step(patch):
    apply = Trainer.apply_gradients

    def late(trainer, gradients, info):
        plan = trainer.plan
        trainer.plan = replace(plan, polyak_pairs=[])
        apply(trainer, gradients, info)
        with torch.no_grad():
            for weight, online, target in plan.polyak_pairs:
                torch._foreach_lerp_(target, online, weight)

    patch.setattr(Trainer, "apply_gradients", late)


PLANTS = {
    # the parameters after Adam's step hardly change
    "bound of the gradient": ("qam", setting("max_grad_norm", 0.5), "adam after update 1"),
    "moving average": ("qam", setting("tau", 2), "targets after update 1"),
    "learning rate": ("fql", setting("learning_rate", 0.5), "share off after update 1"),
    "weight of a loss": ("fql", setting("distill_weight", 1.1), "gradient of actor_onestep_flow"),
    "no numbers": ("fql", losses_without_numbers, "loss td"),
    "uniform steps": ("qam", draw("am_eps", lambda _: uniform("KBD")), "draw am_eps"),
    "half the adjoint steps": (
        "qam",
        draw("am_eps", lambda method: normal("LBD", L=method.flow_steps // 2)),
        "draw am_eps",
    ),
    "exponent of a weight": ("fawac", squared_weight, "loss actor"),
    "late targets": ("qam", targets_after_the_step, "targets after update 1"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_mistake_is_told(name, monkeypatch):
    fixture, plant, message = PLANTS[name]
    plant(monkeypatch)
    rows = compare(read_fixture(OWN_FIXTURES / "open" / f"{fixture}.npz"), OurAgents())
    assert message in " ".join(row.quantity for row in rows if not row.holds)
