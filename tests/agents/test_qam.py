"""What is special about QAM, and stacked seeds on the example of QAM and its variants."""

from __future__ import annotations

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
    return batch.map(lambda value: value[k : k + 1])


def take(noise: dict[str, Tensor], k: int) -> dict[str, Tensor]:
    """Return one replica's share of the noise."""
    return {name: draw[k : k + 1] for name, draw in noise.items()}


def networks_of(model: FlowQLearning) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.policy.nets.state_dict().items()}


# -- stacked seeds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", FAMILY)
def test_replica_starts_as_a_single_run_with_its_seed(id: str) -> None:
    stack = networks_of(tiny_model(id, seeds=SEEDS))
    for k, seed in enumerate(SEEDS):
        alone = networks_of(tiny_model(id, seed=seed))
        assert_same({name: value[k : k + 1] for name, value in stack.items()}, alone)


def test_learning_of_a_replica_leaves_the_stack_alone() -> None:
    taken, untouched = tiny_model(seeds=SEEDS), tiny_model(seeds=SEEDS)
    for step in range(4):
        if step == 2:
            single = taken.replica(1)
            single.trainer.update_on(row(toy_batch(taken), 1), take(toy_noise(taken), 1))
        for model in (taken, untouched):
            model.trainer.update_on(toy_batch(model, seed=step), toy_noise(model, seed=step))
    assert_same(networks_of(taken), networks_of(untouched))


def test_replica_draws_noise_of_its_own() -> None:
    stack = tiny_model(seeds=SEEDS)
    before = stack.trainer.generator.get_state()
    single = stack.replica(2)
    single.replay_buffer = tiny_model().replay_buffer
    assert single.replay_buffer is not None
    single.replay_buffer.load_dataset(toy_dataset())
    single.trainer.update(8)
    assert torch.equal(stack.trainer.generator.get_state(), before)


def test_replica_can_be_saved_and_loaded(tmp_path: Any) -> None:
    stack = tiny_model(seeds=SEEDS)
    stack.trainer.update_on(toy_batch(stack), toy_noise(stack))
    single = stack.replica(2)
    single.save(tmp_path / "replica")
    loaded = type(single).load(tmp_path / "replica", device="cpu")
    assert_same(parameters_of(loaded), parameters_of(single))
    assert loaded.policy.seeds == [33]


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
