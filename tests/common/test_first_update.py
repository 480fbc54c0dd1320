"""The check of an algorithm's first update: hooks of a wrong shape are named, and the rest passes without a word."""

import random
import warnings

import numpy as np
import pytest
import torch

import agents
from agents.common.method import normal
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.fql import FQL
from tests.common.toys import SPACES, assert_same, parameters_of, tiny_model, toy_dataset


def check(**hooks):
    """Check FQL with some hooks in place of its own."""
    broken = type("Mine", (FQL,), hooks)
    check_first_update(broken(flow_steps=3), *SPACES)


def changed(hook, change):
    """Return a hook whose result is FQL's, changed."""
    return {hook: lambda self, *arguments: change(getattr(FQL, hook)(self, *arguments))}


@pytest.mark.few
@pytest.mark.parametrize(
    "settings", [{}, {"best_of_n": 3}, {"horizon_length": 1}, {"action_chunking": False}]
)
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_every_algorithm_passes_without_a_word(id, settings):
    if id == "bc" and "best_of_n" in settings:
        pytest.skip("BC has no critic to choose with")
    method = agents.get(id).method(**settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial = check_first_update(method, *SPACES)
    assert not any(trial.policy.own_layers.values())


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (changed("losses", lambda table: {k: v.unsqueeze(1).expand(2, 7) for k, v in table.items()}),
         r"^Mine\.losses must give loss `td` .* take the mean over .*; got a tensor of shape \(2, 7\)$"),
        (changed("losses", lambda table: table["td"]), r"^Mine\.losses must return a dict .* -> loss, got a tensor"),
        (changed("losses", lambda found: {}), r"^Mine\.losses must return a dict of name -> loss, got dict {}"),
        (changed("losses", lambda table: {k: v.detach() for k, v in table.items()}),
         r"^Mine\.losses must return losses with a gradient, got none"),
        (changed("act", lambda table: table[..., :-1]),
         r"^Mine\.act must give actions as a tensor of shape \(2, 7, 10\) here, .*got .* \(2, 7, 9\)$"),
        (changed("networks", lambda table: table | {"x": None}),
         r"^Mine\.networks must return a dict of name -> NetworkSpec; got dict"),
        (changed("noise", lambda table: {"bc_x0": table["bc_x0"]}),
         r"^Mine\.targets failed: KeyError: 'distill_z'$"),
        (changed("networks", lambda table: {k: v for k, v in table.items() if k != "one_step"}),
         r"^Mine\.act failed: AttributeError: .*`?one_step"),
        (changed("loss_weights", lambda found: {"distill": "3"}),
         r"^Mine\.loss_weights must return a dict of name -> Real; got dict {'distill': '3'}$"),
        (changed("loss_weights", lambda found: {"distil": 3.0}),
         r"^Mine\.loss_weights names an unknown loss `distil`; closest: distill"),
        ({"action_noise_table": lambda self: {"action": normal("D")}},
         r"^Mine\.action_noise_table must give the draw `action` the axis B \(rows\), got the axes 'D'$"),
    ],
)  # fmt: skip
def test_a_hook_that_breaks_its_contract_is_named(hooks, message):
    with pytest.raises(AgentError, match=message):
        check(**hooks)


def with_info(value):
    def losses(self, batch, targets, noise, nets, info):
        losses = FQL.losses(self, batch, targets, noise, nets, info)
        info["mine"] = value
        return losses

    return losses


@pytest.mark.parametrize(
    ("value", "got"), [(3.0, "float 3.0"), (torch.zeros(2, 7), r"a tensor of shape \(2, 7\)")]
)
def test_diagnostics_must_be_one_number_a_seed(value, got):
    with pytest.raises(
        AgentError, match=rf"Mine\.losses must give `info\['mine'\]` as a tensor .*; got {got}"
    ):
        check(losses=with_info(value))


def test_a_score_of_another_shape_is_named():
    broken = type("Mine", (FQL,), {"score": lambda self, observations, actions, nets: actions})
    with pytest.raises(
        AgentError, match=r"^Mine\.score must give scores as a tensor of shape \(2, 7\)"
    ):
        check_first_update(broken(best_of_n=2), *SPACES)


# -- when it is made --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", ["learn_offline", "learn"])
def test_it_comes_before_training(begin):
    wrong = type(
        "Wrong",
        (FQL,),
        changed("losses", lambda table: {name: loss.sum() for name, loss in table.items()}),
    )
    model = tiny_model(wrong)
    with pytest.raises(AgentError, match="loss `td`"):
        model.learn_offline(1, dataset=toy_dataset()) if begin == "learn_offline" else model.learn(
            1
        )
    assert model._n_updates == 0
    assert model.replay_buffer.dataset_size == model.replay_buffer.size() == 0


def test_it_leaves_the_model_and_all_generators_alone():
    model = tiny_model("qam")
    parameters = parameters_of(model)
    states = [generator.get_state() for generator in model.trainer.generators().values()]
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    check_first_update(model.method, model.observation_space, model.action_space)
    assert_same(parameters, parameters_of(model))
    for generator, state in zip(model.trainer.generators().values(), states, strict=True):
        assert torch.equal(generator.get_state(), state)
    assert python == random.getstate()
    np.testing.assert_array_equal(numpy[1], np.random.get_state()[1])
    assert torch.equal(torchs, torch.get_rng_state())
