"""Compiled and captured updates are compared with plain ones before they are used."""

import re
from functools import partial
from unittest.mock import Mock

import pytest
import torch

from agents.common.engine import execution, trainer
from agents.common.engine.execution import WARMUP_STEPS
from tests.common.engine.helpers import assert_alike, loaded_model, plain_model, update
from tests.common.toys import NormedFeatures, assert_same, parameters_of, warns

FEATURES = pytest.mark.parametrize("feature", ["captured", "compiled"])


@pytest.fixture
def make(monkeypatch, request):
    """Return a function that makes a model of a feature, without GPU and compiler; `spoil` changes what it computes."""

    def make(feature, id="qam", spoil=lambda info: None, **settings):
        if feature == "captured":
            model = request.getfixturevalue("captured")(id, **settings)
            record = execution.capture

            def capture(*arguments):
                replay, info = record(*arguments)
                return lambda: (replay(), spoil(info)), info

            monkeypatch.setattr(execution, "capture", capture)
            return model

        def compile_(losses, **options):
            def evaluate(*arguments):
                total, info = losses(*arguments)
                spoil(info)
                return total, info

            return evaluate

        monkeypatch.setattr(torch, "compile", compile_)
        return loaded_model(id, compile="on", **settings)

    return make


@pytest.fixture
def compare_at(monkeypatch):
    """Return a function that sets the uses before which updates are compared."""
    return partial(monkeypatch.setattr, trainer, "COMPARED_USES")


def update_to_first_use(feature, *models):
    if feature == "captured":
        for model in models:
            update(model, WARMUP_STEPS)


@FEATURES
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda info: info["td_loss"].mul_(3), "`td_loss` differs .* by 2 times its"),
        (Mock(side_effect=RuntimeError("no memory")), "RuntimeError: no memory"),
    ],
)
def test_a_wrong_or_failed_update_is_undone_named_and_recorded_and_plain_ones_follow(
    spoil, reason, feature, make
):
    model, plain = make(feature, spoil=spoil), plain_model()
    update_to_first_use(feature, model, plain)
    with warns(f"not {feature}: {reason}"):
        update(model)
    update(model, 2)
    update(plain, 3)
    assert_alike(model, plain)
    assert not getattr(model.trainer.mode, feature)
    assert re.search(reason, str(model.trainer.mode))


def test_a_step_of_parameters_that_is_wrong_is_found(make):
    def spoil(info):
        with torch.no_grad():
            next(model.policy.nets.critic.parameters()).mul_(1.01)

    model = make("captured", spoil=spoil)
    update(model, WARMUP_STEPS)
    with warns("not captured: `the step of critic` differs"):
        update(model)


@FEATURES
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"policy_kwargs": {"features_extractor_class": NormedFeatures}},
        {"id": "trqam", "pretraining_steps": 5},
        {"policy_kwargs": {"optimizer_class": torch.optim.SGD}},
    ],
    ids=["Adam", "dropout and batch statistics", "pretraining", "SGD"],
)
@pytest.mark.filterwarnings("ignore:updates are not captured. SGD")
def test_the_comparison_changes_no_bit(feature, settings, make, compare_at):
    outcomes = []
    for uses in (execution.COMPARED_USES, {1: 1, 2: 1, 3: 2}, {}):
        compare_at(uses)
        model = make(feature, **settings)
        torch.manual_seed(0)
        update(model, 10)
        outcome = parameters_of(model)
        generators = model.trainer.generators() | {"global": torch.default_generator}
        for name, generator in generators.items():
            outcome[name] = generator.get_state()
        outcomes.append(outcome)
    assert_same(*outcomes[:2])
    assert_same(*outcomes[1:])


@FEATURES
def test_after_some_updates_the_mode_says_the_speed_of_both(feature, make, compare_at):
    compare_at({1: 1, 3: 2})
    model = make(feature)
    update_to_first_use(feature, model)
    update(model, 2)
    assert "updates/s" not in str(model.trainer.mode)
    update(model)
    mode = str(model.trainer.mode)
    assert mode.startswith(feature)
    assert mode.count("updates/s, plainly") == 1


def test_a_model_that_has_diverged_is_not_taken_for_wrong_numbers(make):
    model = make("compiled")
    with torch.no_grad():
        next(model.policy.nets.critic.parameters()).fill_(torch.nan)
    update(model)
    assert model.trainer.mode.compiled
