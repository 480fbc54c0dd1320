"""What is special about QAM, and stacked seeds on the example of QAM and its variants."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.sb3.model import FlowQLearning
from tests.common.toys import assert_same, parameters_of, tiny_model, toy_batch, toy_dataset, toy_noise
from tests.envs import SpacesEnv

FAMILY = ["qam", "qam_f", "qam_e"]
SEEDS = [11, 22, 33]


def row(batch: Batch, k: int) -> Batch:
    """Return one replica's share of a batch."""
    return Batch(**{field.name: getattr(batch, field.name)[k : k + 1] for field in dataclasses.fields(batch)})


def take(noise: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """Return one replica's share of the noise."""
    return {name: draw[k : k + 1] for name, draw in noise.items()}


def networks_of(model: FlowQLearning) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.policy.nets.state_dict().items()}


# -- the adjoint-matching loss ----------------------------------------------------------------------------------------


@pytest.fixture
def double() -> tuple[FlowQLearning, Batch, dict[str, Tensor]]:
    """Return a model, batch and noise in double precision, so that finite differences are exact enough."""
    model = tiny_model(inverse_temperature=2.0)
    model.policy.nets.double()
    batch = Batch(**{name: value.double() for name, value in vars(toy_batch(model)).items()})
    return model, batch, {name: draw.double() for name, draw in toy_noise(model).items()}


def adjoint_loss(
    model: FlowQLearning, batch: Batch, noise: dict[str, Tensor], targets: dict[str, Tensor] | None = None
) -> Tensor:
    nets = model.policy.nets
    if targets is None:
        with torch.no_grad():
            targets = model.targets(batch, noise, nets, {})
    return model.losses(batch, targets, noise, nets, {})["am"].sum()


def test_adjoint_matching_trains_only_the_fine_tuned_flow(
    double: tuple[FlowQLearning, Batch, dict[str, Tensor]],
) -> None:
    model = double[0]
    adjoint_loss(*double).backward()
    reached = {name.split(".")[0] for name, p in model.policy.nets.named_parameters() if p.grad is not None}
    assert reached == {"fine_tuned"}


def test_adjoint_matching_gradient_holds_states_and_adjoints_fixed(
    double: tuple[FlowQLearning, Batch, dict[str, Tensor]],
) -> None:
    model, batch, noise = double
    nets, step = model.policy.nets, 1e-5
    with torch.no_grad():
        targets = model.targets(batch, noise, nets, {})
    adjoint_loss(model, batch, noise).backward()
    through_rollout = 0.0
    for layer in range(3):
        weight = nets.fine_tuned.mlp.weights[layer]
        assert weight.grad is not None
        for index in ((0, 0, 1), (0, 3, 4)):
            values = {}
            for held in (targets, None):
                ends = []
                for sign in (1, -1):
                    with torch.no_grad():
                        weight[index] += sign * step
                        ends.append(float(adjoint_loss(model, batch, noise, held)))
                        weight[index] -= sign * step
                values[held is None] = (ends[0] - ends[1]) / (2 * step)
            assert float(weight.grad[index]) == pytest.approx(values[False], rel=1e-5, abs=1e-7)
            through_rollout = max(through_rollout, abs(values[True] - values[False]) / abs(values[False]))
    assert through_rollout > 0.01  # with a rollout that follows the weights the slope is another one


def test_weight_on_q_scales_the_adjoints() -> None:
    one, three = tiny_model(inverse_temperature=1.0), tiny_model(inverse_temperature=3.0)
    batch, noise = toy_batch(one), toy_noise(one)
    with torch.no_grad():
        first, second = (model.targets(batch, noise, model.policy.nets, {}) for model in (one, three))
    torch.testing.assert_close(second["adjoints"], 3 * first["adjoints"])
    assert torch.equal(second["states"], first["states"])


@pytest.mark.parametrize(
    ("setting", "used", "unused"),
    [
        ({"target_behaviour": True, "target_gradient": True}, ["behaviour_target", "critic_target"], ["behaviour"]),
        ({"target_behaviour": False, "target_gradient": False}, ["behaviour", "critic"], ["behaviour_target"]),
    ],
    ids=["averages", "online"],
)
def test_prior_and_guide_are_the_chosen_copies(setting: dict[str, bool], used: list[str], unused: list[str]) -> None:
    model = tiny_model(inverse_temperature=1.0, **setting)
    batch, noise, nets = toy_batch(model), toy_noise(model), model.policy.nets

    def adjoints() -> Tensor:
        with torch.no_grad():
            return model.targets(batch, noise, nets, {})["adjoints"]

    start = adjoints()
    for name, matters in [*((name, True) for name in used), *((name, False) for name in unused)]:
        before = nets[name].mlp.weights[1].detach().clone()
        with torch.no_grad():
            nets[name].mlp.weights[1].mul_(1.5)
        assert torch.equal(adjoints(), start) != matters, name
        with torch.no_grad():
            nets[name].mlp.weights[1].copy_(before)


# -- stacked seeds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", FAMILY)
def test_replica_starts_as_a_single_run_with_its_seed(id: str) -> None:
    stack = networks_of(tiny_model(id, seeds=SEEDS))
    for k, seed in enumerate(SEEDS):
        alone = networks_of(tiny_model(id, seed=seed))
        assert_same({name: value[k : k + 1] for name, value in stack.items()}, alone)


def test_replicas_start_differently() -> None:
    weights = networks_of(tiny_model(seeds=SEEDS))["critic.mlp.weights.0"]
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("id", FAMILY)
def test_stacked_replicas_learn_like_single_runs(id: str) -> None:
    stack, singles = tiny_model(id, seeds=SEEDS), [tiny_model(id, seed=seed) for seed in SEEDS]
    for step in range(4):
        batch, noise = toy_batch(stack, seed=step), toy_noise(stack, seed=step)
        together = stack.update(batch, noise)
        for k, single in enumerate(singles):
            alone = single.update(row(batch, k), take(noise, k))
            for name, value in alone.items():
                torch.testing.assert_close(together[name][k : k + 1], value, rtol=1e-4, atol=1e-5, msg=name)
    after = networks_of(stack)
    for k, single in enumerate(singles):
        for name, value in networks_of(single).items():
            torch.testing.assert_close(after[name][k : k + 1], value, rtol=0, atol=1e-5, msg=name)


@pytest.mark.parametrize("id", FAMILY)
def test_replica_goes_on_learning_like_the_stack(id: str) -> None:
    stack = tiny_model(id, seeds=SEEDS)
    for step in range(3):
        stack.update(toy_batch(stack, seed=step), toy_noise(stack, seed=step))
    single = stack.replica(1)
    for step in range(3, 6):
        batch, noise = toy_batch(stack, seed=step), toy_noise(stack, seed=step)
        single.update(row(batch, 1), take(noise, 1))
        stack.update(batch, noise)
    for name, value in networks_of(single).items():
        torch.testing.assert_close(networks_of(stack)[name][1:2], value, rtol=0, atol=1e-5, msg=name)


def test_taking_a_replica_leaves_the_stack_alone() -> None:
    taken, untouched = tiny_model(seeds=SEEDS), tiny_model(seeds=SEEDS)
    for step in range(4):
        for model in (taken, untouched):
            model.update(toy_batch(model, seed=step), toy_noise(model, seed=step))
        if step == 1:
            taken.replica(1)
    assert_same(networks_of(taken), networks_of(untouched))


def test_learning_of_a_replica_leaves_the_stack_alone() -> None:
    taken, untouched = tiny_model(seeds=SEEDS), tiny_model(seeds=SEEDS)
    for step in range(4):
        if step == 2:
            single = taken.replica(1)
            single.update(row(toy_batch(taken), 1), take(toy_noise(taken), 1))
        for model in (taken, untouched):
            model.update(toy_batch(model, seed=step), toy_noise(model, seed=step))
    assert_same(networks_of(taken), networks_of(untouched))


def test_replica_draws_noise_of_its_own() -> None:
    stack = tiny_model(seeds=SEEDS)
    before = stack._generator.get_state()
    single = stack.replica(2)
    single.replay_buffer = tiny_model().replay_buffer
    assert single.replay_buffer is not None
    single.replay_buffer.load_dataset(toy_dataset())
    single.sample_and_update(8)
    assert torch.equal(stack._generator.get_state(), before)


def test_replica_can_be_saved_and_loaded(tmp_path: Any) -> None:
    stack = tiny_model(seeds=SEEDS)
    stack.update(toy_batch(stack), toy_noise(stack))
    single = stack.replica(2)
    single.save(tmp_path / "replica")
    loaded = type(single).load(tmp_path / "replica", device="cpu")
    assert_same(parameters_of(loaded), parameters_of(single))
    assert loaded.policy.seeds == [33]


@pytest.mark.parametrize("index", [3, -1])
def test_replica_that_is_not_there_is_refused(index: int) -> None:
    with pytest.raises((IndexError, ValueError), match="3 replicas"):
        tiny_model(seeds=SEEDS).replica(index)


def test_replicas_collect_and_learn_online_together() -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv

    env = DummyVecEnv([lambda: SpacesEnv(4, 2, episode_length=7)] * 4)
    model = tiny_model(env=env, seeds=[1, 2], learning_starts=20)
    model.learn(80)
    assert model._n_updates > 0
    assert all(value.isfinite().all() for value in parameters_of(model).values())


# -- settings ---------------------------------------------------------------------------------------------------------


SETTINGS: list[tuple[str, str, object, type[Exception], str]] = [
    ("qam", "inverse_temperature", -1, ValueError, "`inverse_temperature` must be a finite number >= 0, got -1"),
    ("qam", "inverse_temperature", "1", TypeError, "`inverse_temperature` must be a number >= 0, got '1' of type str"),
    ("qam", "target_behaviour", 1, TypeError, "`target_behaviour` must be true or false, got 1 of type int"),
    ("qam", "target_gradient", None, TypeError, "`target_gradient` must be true or false, got None"),
    ("qam", "clip_adjoint", "no", TypeError, "`clip_adjoint` must be true or false, got 'no' of type str"),
    ("qam", "residual", 0, TypeError, "`residual` must be true or false, got 0 of type int"),
    ("qam", "max_grad_norm", 0, ValueError, "`max_grad_norm` must be a finite number > 0, got 0"),
    ("qam_f", "distill_weight", 0.0, ValueError, "`distill_weight` must be a finite number > 0, got 0.0"),
    ("qam_e", "edit_scale", 0, ValueError, "`edit_scale` must be a finite number > 0, got 0"),
    ("qam_e", "target_entropy", "auto", TypeError, "`target_entropy` must be a number, got 'auto' of type str"),
    ("qam", "learning_rate", 0, ValueError, "`learning_rate` must be a finite number > 0, got 0"),
    ("qam", "buffer_size", 0, ValueError, "`buffer_size` must be an int >= 1, got 0"),
    ("qam", "learning_starts", -1, ValueError, "`learning_starts` must be an int >= 0, got -1"),
    ("qam", "batch_size", 0, ValueError, "`batch_size` must be an int >= 1, got 0"),
    ("qam", "batch_size", 16.5, TypeError, "`batch_size` must be an int >= 1, got 16.5 of type float"),
    ("qam", "tau", -0.1, ValueError, "`tau` must be a finite number >= 0 and <= 1, got -0.1"),
    ("qam", "tau", 1.5, ValueError, "`tau` must be a finite number >= 0 and <= 1, got 1.5"),
    ("qam", "gamma", 1.01, ValueError, "`gamma` must be a finite number >= 0 and <= 1, got 1.01"),
    ("qam", "gamma", float("nan"), ValueError, "`gamma` must be a finite number >= 0 and <= 1, got nan"),
    ("qam", "gradient_steps", -2, ValueError, "`gradient_steps` must be an int >= 0, got -2"),
    ("qam", "horizon_length", 0, ValueError, "`horizon_length` must be an int >= 1, got 0"),
    ("qam", "action_chunking", "False", TypeError, "`action_chunking` must be true or false, got 'False' of type str"),
    ("qam", "ensemble_size", 0, ValueError, "`ensemble_size` must be an int >= 1, got 0"),
    ("qam", "rho", -0.5, ValueError, "`rho` must be a finite number >= 0, got -0.5"),
    ("qam", "flow_steps", 0, ValueError, "`flow_steps` must be an int >= 1, got 0"),
    ("qam", "flow_steps", True, TypeError, "`flow_steps` must be an int >= 1, got True of type bool"),
    ("qam", "best_of_n", 0, ValueError, "`best_of_n` must be an int >= 1, got 0"),
    (
        "qam",
        "net_arch",
        "[]",
        ValueError,
        "`net_arch` must be a list of hidden widths or {'pi': [...], 'qf': [...]}, got '[]'",
    ),
    ("qam", "net_arch", {"pi": [8]}, ValueError, "`net_arch` must be a list of hidden widths or"),
    ("qam", "net_arch", [8, 0], ValueError, "`net_arch` must be an int >= 1, got 0"),
    ("qam", "actor_layer_norm", 1, TypeError, "`actor_layer_norm` must be true or false, got 1 of type int"),
    ("qam", "critic_layer_norm", None, TypeError, "`critic_layer_norm` must be true or false, got None"),
    ("qam", "observation_scale", 0, ValueError, "`observation_scale` must be a finite number > 0, got 0"),
    ("qam", "sparse", "yes", TypeError, "`sparse` must be true or false, got 'yes' of type str"),
    ("qam", "precision", "fp16", ValueError, "`precision` must be one of fp32, tf32, bf16, got 'fp16'"),
    ("qam", "compile", True, ValueError, "`compile` must be one of auto, on, off, got True"),
    ("qam", "seeds", [1, 2.5], TypeError, "`seeds` must be an int, got 2.5 of type float"),
    ("qam", "seeds", [], ValueError, "`seeds` must"),
]


@pytest.mark.parametrize(
    ("id", "setting", "value", "error", "message"),
    SETTINGS,
    ids=[f"{case[0]}-{case[1]}-{case[2]!r}" for case in SETTINGS],
)
def test_bad_setting_is_refused_by_name(
    id: str, setting: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tiny_model(id, **{setting: value})


def test_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="inverse_temprature"):
        tiny_model("qam", inverse_temprature=1.0)


def test_replay_buffer_without_sequences_is_refused() -> None:
    from stable_baselines3.common.buffers import ReplayBuffer

    with pytest.raises(
        TypeError, match="`replay_buffer_class` must be a subclass of SequenceReplayBuffer, got ReplayBuff"
    ):
        tiny_model(replay_buffer_class=ReplayBuffer)


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="`device` is 'cuda', but PyTorch finds no CUDA device here"):
        tiny_model(device="cuda")


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_learned_policy_moves_along_the_gradient_of_the_reward() -> None:
    """A bandit with behaviour N((.2, -.1), .3^2 I) and reward x + .3 y; critic and both flows are learnt from data.

    The shift itself grows as the behaviour flow sharpens near t = 1, so only its direction and order are checked.
    """
    draw, rows = np.random.default_rng(0), 20_000
    actions = (np.array([0.2, -0.1]) + 0.3 * draw.standard_normal((rows, 2))).clip(-1, 1).astype(np.float32)
    nothing = np.zeros((rows, 1), np.float32)
    dataset = {
        "observations": nothing,
        "next_observations": nothing,
        "actions": actions,
        "rewards": (actions @ np.array([1.0, 0.3])).astype(np.float32),
        "masks": np.zeros(rows, np.float32),
        "terminals": np.ones(rows, np.float32),
    }
    settings = {"horizon_length": 1, "flow_steps": 10, "net_arch": [64, 64], "batch_size": 128, "rho": 0.0}
    model = tiny_model(
        env=SpacesEnv(1, 2), inverse_temperature=1.0, learning_rate=lambda remaining: 2e-3 * remaining, **settings
    )
    model.learn_offline(700, dataset=dataset)
    samples, _ = model.predict(np.zeros((20_000, 1), np.float32))
    shift = samples.mean(0) - actions.mean(0)
    assert 0.03 < shift[0] < 0.12
    assert shift[1] == pytest.approx(0.3 * shift[0], abs=0.015)
    assert samples.std(0).tolist() == pytest.approx([0.27, 0.27], abs=0.04)
