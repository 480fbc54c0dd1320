"""Training options of single networks: step size, optimiser, clipping, delay and target; which networks are updated."""

import math
from itertools import pairwise
from unittest.mock import Mock

import pytest
import torch
from torch.testing import assert_close

import agents
from agents.common.common_settings import LearningRateSchedule
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.nets.specs import NetworkSpec, critic, velocity_field
from agents.rlpd import RLPD
from tests.common.engine.helpers import assert_alike, loaded_model, plain_model, update
from tests.common.toys import (
    assert_same_parameters,
    parameters_of,
    refuses,
    step,
    tiny_model,
    toy_dataset,
)

OPTIONS = {
    "critic": {"learning_rate": "cos_1e-2", "tau": 1, "target_every": 3},
    "actor": {
        "learning_rate": "lin_1e-3",
        "weight_decay": 0.1,
        "train_every": 2,
    },
    "temperature": {"learning_rate": 0.03},
}


class OwnRLPD(RLPD):
    """Declares training options for its networks."""

    options = OPTIONS

    def networks(self):
        specs = super().networks()
        for name, options in self.options.items():
            spec = specs[name]
            specs[name] = NetworkSpec(spec.build, spec.target, spec.role, **options)
        return specs


def declaring(options):
    """Return a method whose networks have these options."""
    return type("DeclaringRLPD", (OwnRLPD,), {"options": options})


def rlpd(**options):
    return tiny_model(declaring(options))


def groups(model):
    return model.policy.optimizer.param_groups


# -- step sizes -------------------------------------------------------------------------------------------------------


def test_a_function_gives_the_rate_until_the_end_of_the_phase():
    rate = LearningRateSchedule(lambda remaining: remaining / 4)
    assert rate(0.8) == 0.2
    # parallel environments may step past the end
    assert rate(-0.1) == 0


def test_rates_follow_the_phase_and_are_logged():
    model = rlpd(actor={"learning_rate": "cos_1e-3"}, critic={"learning_rate": "lin_0.01"})
    rates, logger = [], Mock()
    model.set_logger(logger)

    def note_rates(*_):
        rates.append([group["lr"] for group in groups(model)])
        return True

    model.learn_offline(4, note_rates, dataset=toy_dataset(), log_interval=4)
    common, of_critic, of_actor = zip(*rates, strict=True)
    assert common == (3e-4,) * 4
    assert of_critic == pytest.approx([0.01, 0.0075, 0.005, 0.0025])
    assert of_actor == pytest.approx([1e-3, 8.5355e-4, 5e-4, 1.46447e-4], rel=1e-4)
    logger.dump.assert_called_once_with(4)
    logged = dict(call.args for call in logger.record.call_args_list)
    assert logged["train/learning_rate"] == 3e-4
    assert logged["train/learning_rate_critic"] == pytest.approx(0.0025)
    # the schedule continues half-way, because SB3 counts the steps of both calls
    model.learn_offline(4, note_rates)
    assert rates[4][2] == pytest.approx(5e-4)
    model.method.learning_rate = 0.1  # takes effect at the next update of the phase
    step(model)
    assert groups(model)[0]["lr"] == 0.1


# -- optimiser, clip, delays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [[0], [1, 2]])
def test_a_network_with_weight_decay_takes_the_steps_of_torchs_adamw(seeds):
    options = {"weight_decay": 0.2, "learning_rate": 1e-2}
    model = tiny_model(declaring({"actor": options}), seeds=seeds)
    actor = list(model.policy.nets.actor.parameters())
    copies = [parameter.detach().clone() for parameter in actor]
    optimizer = torch.optim.AdamW(copies, lr=1e-2, weight_decay=0.2)
    for seed in range(3):
        step(model, seed)
        for copied, parameter in zip(copies, actor, strict=True):
            copied.grad = parameter.grad
        optimizer.step()
    assert_close(actor, copies, rtol=1e-5, atol=1e-7)


def test_a_delayed_network_rests_and_a_hard_target_is_copied():
    critic = {"tau": 1, "target_every": 2, "train_every": 2}
    # the first update trains nothing
    model = rlpd(actor={"train_every": 3}, critic=critic, temperature={"train_every": 2})
    states = [parameters_of(model)]
    for seed in range(6):
        step(model, seed)
        states.append(parameters_of(model))
    actor = [state["nets.actor.mean.weights.0"] for state in states]
    online = [state["nets.critic.mlp.weights.0"] for state in states]
    target = [state["nets.critic_target.mlp.weights.0"] for state in states]
    moved = [not torch.equal(*weights) for weights in pairwise(actor)]
    assert moved == [False, False, True, False, False, True]
    assert model.policy.optimizer.state[next(model.policy.nets.actor.parameters())]["step"] == 2
    for number in range(6):
        source = online if number % 2 else target
        # the weights before the step
        assert torch.equal(target[number + 1], source[number])


def test_a_part_that_the_user_froze_keeps_its_values():
    model = rlpd()
    actor = model.policy.nets.actor
    actor.trunk.requires_grad_(False)
    initial = parameters_of(model)
    step(model)
    trained = parameters_of(model)
    moved = {name for name in initial if not torch.equal(initial[name], trained[name])}
    assert not [name for name in moved if "trunk" in name]
    assert {"nets.actor.mean.weights.0", "nets.critic.mlp.weights.0"} <= moved


# -- the declaration --------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_refused_by_name():
    with refuses("'learnig_rate'; closest: learni", TypeError):
        rlpd(critic={"learnig_rate": 1})
    with refuses("`tau` and `target_every`"):
        rlpd(actor={"tau": 0.1})


def test_a_network_gets_no_optimiser_of_its_own_later():
    model = rlpd()
    model.method.options = OPTIONS
    with refuses("no separate group for network `critic`"):
        model.trainer.prepare()


# -- equal results in every mode of execution -------------------------------------------------------------------------


def test_replayed_updates_follow_the_rates_of_all_groups(captured):
    models = [make(OwnRLPD) for make in (captured, plain_model)]
    for model in models:
        model.learn_offline(24)
    assert any(update.replay for update in models[0].trainer.graphs.updates.values())
    assert_alike(*models)


def test_training_goes_on_from_a_checkpoint_and_a_file_to_bit(tmp_path):
    model, resumed = (loaded_model(OwnRLPD) for _ in range(2))
    model.learn_offline(5)
    saved = save_checkpoint(model, tmp_path / "checkpoints")
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    model.learn_offline(4)
    load_checkpoint(resumed, saved)
    resumed.learn_offline(4)
    assert_same_parameters(model, resumed)
    for restored in (loaded, model.replica(0)):
        names = [group["network"] for group in groups(restored)]
        assert names == ["critic", "actor", "temperature"]


def test_loaded_optimiser_keeps_options_of_this_models_settings():
    model = rlpd(critic={"weight_decay": 0.5})
    saved = rlpd(critic={"weight_decay": 0.1}).get_parameters()
    saved["policy.optimizer"]["param_groups"][0]["lr"] = torch.tensor(0.5)  # as on CUDA
    model.set_parameters(saved)
    assert [group["weight_decay"] for group in groups(model)] == [0, 0.5]
    assert type(groups(model)[0]["lr"]) is float
    model.method.options = {"critic": {"weight_decay": 0.3}}
    model.method.rho = 0.1  # a changed setting may change options
    step(model)
    assert [group["weight_decay"] for group in groups(model)] == [0, 0.3]
    with refuses(r"all others, critic, but the saved ones are all others, actor"):
        model.set_parameters(rlpd(actor={"weight_decay": 0.1}).get_parameters())


# -- networks and their targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed", "behaviour_target", "only_target"])
def test_a_network_that_no_loss_trains_stays_as_it_is(name, monkeypatch):
    method = agents.get("fql").method
    networks = method.networks
    monkeypatch.setattr(method, "networks", lambda self: {**networks(self), name: velocity_field()})
    model = tiny_model(
        "fql", learning_rate=0.1, policy_kwargs={"optimizer_class": torch.optim.AdamW}
    )
    start = parameters_of(model)
    step(model)
    weights = parameters_of(model).items()
    changed = {key.split(".")[1] for key, value in weights if (value != start[key]).any()}
    # targets track the weights before the step, which equal the targets' initial weights
    assert changed == {"critic", "behaviour", "one_step"}


def test_a_network_with_the_name_of_a_moving_average_is_refused(monkeypatch):
    networks = {"critic": critic(), "critic_target": critic()}
    monkeypatch.setattr(agents.get("bc").method, "networks", lambda method: networks)
    with refuses("`critic_target`"):
        tiny_model("bc")


# -- clipping ---------------------------------------------------------------------------------------------------------


def test_each_replica_is_clipped_alone():
    model = tiny_model(seeds=[1, 2, 3], max_grad_norm=1.0)
    model.trainer.draw_noise(1)  # this plans the update
    parameters = model.trainer.plan.parameters
    scales = torch.tensor([1.0, 1e-3, 0.0])  # scales of the replicas' gradients
    gradients = [scales.view(-1, *[1] * (p.ndim - 1)).expand_as(p) for p in parameters]
    info = {}
    model.trainer.apply_gradients(gradients, info)
    norms = torch.stack([p.grad.reshape(3, -1).norm(dim=1) for p in parameters]).norm(dim=0)
    expected = scales * math.sqrt(sum(p.numel() for p in parameters) / 3)
    assert_close(info["grad_norm"], expected)
    assert_close(norms, expected.clamp(max=1.0))


def test_gradients_that_share_memory_are_not_scaled_twice():
    model = tiny_model(max_grad_norm=1e-3)
    model.trainer.draw_noise(1)  # this plans the update
    parameters = model.trainer.plan.parameters
    number = torch.ones(1)
    of_shape = {parameter.shape: torch.ones_like(parameter) for parameter in parameters}
    factor = 1e-3 / math.sqrt(sum(parameter.numel() for parameter in parameters))
    for gradients in (map(number.expand_as, parameters), (of_shape[p.shape] for p in parameters)):
        model.trainer.apply_gradients(list(gradients), {})
        for parameter in parameters:
            assert_close(parameter.grad, torch.full_like(parameter, factor))
    assert number.item() == 1


def test_an_unknown_network_to_skip_is_refused(monkeypatch):
    method = agents.get("bc").method
    monkeypatch.setattr(method, "skipped_networks", lambda self: {"behavior"})
    with refuses("`behavior`; closest: behaviour"):
        update(tiny_model("bc"))
