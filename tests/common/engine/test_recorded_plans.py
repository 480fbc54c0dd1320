"""Plans that are recorded and replayed, with a recorder of operations in place of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from agents.common.engine import capture
from agents.common.engine.capture import RecordedPlans
from agents.common.sb3.policy import FlowPolicy
from tests.common.engine.test_capture import Tape
from tests.common.toys import tiny_model


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """Record operations on a CPU, and keep the recordings."""
    found: list[Tape] = []

    def record(step: Callable[[], Any], device: torch.device, generators: Any) -> Any:
        with Tape() as tape:
            info = step()
        found.append(tape)
        return tape.replay, info

    monkeypatch.setattr(capture, "record", record)
    monkeypatch.setattr(capture, "run_aside", lambda step, device: step())
    monkeypatch.setattr(capture, "_failures", [])
    monkeypatch.setattr(capture, "may_record", lambda device: capture.earlier_failure() is None)
    return found


def policy_of(**settings: Any) -> FlowPolicy:
    policy = tiny_model(**settings).policy
    policy.set_training_mode(False)
    return policy


def question(policy: FlowPolicy, rows: int, seed: int) -> tuple[Any, Any]:
    """Return observations and noise."""
    drawn = [policy.draw_action_noise(rows, torch.Generator().manual_seed(seed + k)) for k in range(len(policy.seeds))]
    noise = {name: torch.stack([each[name] for each in drawn]) for name in drawn[0]}
    observations = np.random.default_rng(seed).normal(size=(policy.num_replicas, rows, policy.layout.size))
    return observations.astype(np.float32), noise


def assert_plans_agree(plans: RecordedPlans, policy: FlowPolicy, rows: int = 3, count: int = 6) -> None:
    for seed in range(count):
        asked = question(policy, rows, seed)
        assert np.array_equal(plans(*asked), policy.plan(*asked))


@pytest.mark.parametrize(
    "settings",
    [{}, {"seeds": [0, 1], "seed": None}, {"best_of_n": 3, "horizon_length": 1, "observation_scale": 1.0}],
)
def test_replayed_plans_are_those_that_would_have_been_made(settings: dict[str, Any], recordings: list[Tape]) -> None:
    policy = policy_of(**settings)
    assert_plans_agree(RecordedPlans(policy), policy)
    assert len(recordings) == 1


def test_parameters_change_in_place_and_others_settings_and_shapes_have_recordings_of_their_own(
    recordings: list[Tape],
) -> None:
    policy = policy_of()
    plans = RecordedPlans(policy)
    assert_plans_agree(plans, policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    assert_plans_agree(plans, policy)
    assert len(recordings) == 1
    weight = policy.nets["fine_tuned"].mlp.weights[0]
    weight.data = 2 * weight.data
    assert_plans_agree(plans, policy)
    policy.method.flow_steps += 1
    assert_plans_agree(plans, policy)
    assert_plans_agree(plans, policy, rows=4)
    assert len(recordings) == 4


def test_after_a_recording_that_fails_plans_are_plain_with_one_warning(
    recordings: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(capture, "record", fail)
    policy = policy_of()
    plans = RecordedPlans(policy)
    with pytest.warns(UserWarning, match="plans are not recorded: operation not permitted") as told:
        assert_plans_agree(plans, policy)
    assert len(told) == 1
    assert capture.earlier_failure() is not None
