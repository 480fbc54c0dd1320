"""The check of an algorithm's first update: hooks of a wrong shape are named, and the rest passes without a word."""

import random

import numpy as np
import pytest
import torch

from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.fql import FQL
from tests.common.toys import (
    SPACES,
    assert_same,
    parameters_of,
    refuses,
    tiny_model,
)


def check(**hooks):
    """Check FQL with some hooks in place of its own."""
    broken = type("Mine", (FQL,), hooks)
    check_first_update(broken(flow_steps=3, best_of_n=2), *SPACES)


def changed(hook, change):
    """Return a hook whose result is FQL's, changed."""
    return {hook: lambda self, *arguments: change(getattr(FQL, hook)(self, *arguments))}


def with_info(value):
    def losses(self, batch, targets, noise, nets, info):
        losses = FQL.losses(self, batch, targets, noise, nets, info)
        info["mine"] = value
        return losses

    return losses


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (changed("losses", lambda table: {**table, "q": table["q"] / 0}),
         r"^Mine\.losses gives loss `q` that holds NaN or infinity"),
        (changed("losses", lambda table: {k: v.unsqueeze(1).expand(2, 7) for k, v in table.items()}),
         r"^Mine\.losses must give loss `td` .* take the mean over .*; got \(2, 7\)$"),
        (changed("losses", lambda table: {k: v.detach() for k, v in table.items()}),
         r"^Mine\.losses must return losses with a gradient, got none"),
        (changed("act", lambda actions: actions[..., :-1]),
         r"^Mine\.act must give actions of shape \(2, 7, 10\) here, .*got \(2, 7, 9\)$"),
        ({"losses": with_info(torch.zeros(2, 7))}, r"^Mine\.losses must give `info\['mine'\]` .* \(2, 7\)$"),
        (changed("noise", lambda table: {"bc_x0": table["bc_x0"]}),
         r"^Mine\.targets failed: KeyError: 'unknown draw `distill_z`; choose from: bc_x0, td_action'$"),
        (changed("loss_weights", lambda table: {"distil": 3.0}),
         r"^Mine\.loss_weights names an unknown loss `distil`; closest: distill"),
    ],
)  # fmt: skip
def test_a_hook_that_breaks_its_contract_is_named(hooks, message):
    with refuses(message, AgentError):
        check(**hooks)


# -- when it is made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn", [FlowAlgorithm.learn, FlowAlgorithm.learn_offline])
def test_it_comes_before_training(learn):
    sums = changed("losses", lambda table: {name: loss.sum() for name, loss in table.items()})
    model = tiny_model(type("Wrong", (FQL,), sums))
    with refuses("loss `td`", AgentError):
        learn(model, 1)
    assert model._n_updates == model.num_timesteps == 0


def test_it_leaves_the_model_and_all_generators_alone():
    model = tiny_model("qam")

    def state():
        generators = model.trainer.generators().values()
        states = [torch.get_rng_state(), *(generator.get_state() for generator in generators)]
        numbers = random.getstate(), np.random.get_state()[1].tolist()
        return numbers, torch.cat(states).tolist(), parameters_of(model)

    *numbers, parameters = state()
    check_first_update(model.method, model.observation_space, model.action_space)
    *numbers_after, parameters_after = state()
    assert numbers_after == numbers
    assert_same(parameters_after, parameters)
