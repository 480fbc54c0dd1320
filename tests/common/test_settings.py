"""Settings are declared once, and a changed setting takes effect wherever it is used."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from agents.common.method import Method
from agents.common.settings import Configurable, setting
from tests.common.toys import (
    act,
    assert_same_parameters,
    normals,
    refuses,
    tiny_model,
    toy_dataset,
)

Word = Literal["one", "two"]


class Base(Configurable):
    weight: float = setting(default=2.0, above=0, at_most=10, doc="Weight of the loss.")
    steps: int = setting(default=3, at_least=1, fixed="tables have that size", doc="Steps.")
    bound: float | None = setting(default=None, above=0, doc="Bound.")
    word: Word = setting(default="one", doc="Word.")
    flag: bool = setting(default=False, doc="Flag.")


class Derived(Base):
    weight: float = setting(default=5.0)
    share: float = setting(default=0.5, below=1, doc="Share.")


def test_a_subclass_changes_a_default_and_inherits_the_rest():
    assert (Derived().weight, Base().weight) == (5.0, 2.0)
    assert Derived.declared()["weight"].doc == "Weight of the loss."
    assert type(Base(weight=10).weight) is float
    assert Base(flag=np.bool(True)).flag is True
    line = ":param weight: Weight of the loss. Must be > 0 and <= 10. Default: 5.0."
    assert line in Derived.documentation().splitlines()


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        (
            "weight",
            "3",
            TypeError,
            r"`weight` must be a finite number > 0 and <= 10, got '3' of type str",
        ),
        ("weight", float("nan"), ValueError, "`weight` must be a finite number > 0 and <= 10"),
        ("steps", 0, ValueError, "`steps` must be an int >= 1, got 0"),
        ("steps", True, TypeError, "`steps` must be an int >= 1, got True"),
        ("word", "three", ValueError, "`word` must be one of one, two, got 'three'"),
        ("flag", 1, TypeError, "`flag` must be true or false"),
        ("share", 1.0, ValueError, "`share` must be a finite number < 1"),
    ],
)
def test_bad_values_are_refused_when_given_assigned_and_declared(name, value, error, message):
    with refuses(message, error):
        Derived(**{name: value})
    with refuses(message, error):
        setattr(Derived(), name, value)
    declaration = {name: setting(default=value)}
    annotations = {name: Derived.declared()[name].annotation}
    with refuses(message, error):
        type("Mine", (Derived,), {**declaration, "__annotations__": annotations}).declared()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bare", setting(default=1.0), "setting `bare` of Mine needs a type"),
        ("weight", 7.0, r"write `weight: float = setting\(default=...\)`"),
        ("noise", setting(default=1.0), "setting `noise` of Mine clashes"),
    ],
)
def test_a_declaration_that_would_not_act_is_refused(name, value, message):
    with refuses(message, TypeError):
        type("Mine", (Base, Method), {name: value, "__annotations__": {"noise": "float"}})


# -- settings of models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["bc", "qam", "dsrl"])
def test_a_changed_setting_acts_in_acting_and_training_alike(id):
    changed = tiny_model(id, flow_steps=1, rho=0.0, learning_rate=0.1)
    expected = tiny_model(id, flow_steps=4, rho=1.0)
    observations = normals(2, 4).numpy()
    old_actions = act(changed, observations)
    for name in ("flow_steps", "rho", "learning_rate"):
        setattr(changed.method, name, getattr(expected, name))
    actions = act(changed, observations)
    assert not np.array_equal(actions, old_actions)
    np.testing.assert_array_equal(actions, act(expected, observations))
    for model in (changed, expected):
        model.learn_offline(3, dataset=toy_dataset())
    assert_same_parameters(changed, expected)


def test_what_networks_or_buffer_were_built_with_is_fixed():
    model = tiny_model()
    with refuses("`gamma` of a finished model"):
        model.method.gamma = 0.5
    assert model.gamma == tiny_model().gamma


def test_a_change_that_does_not_fit_leaves_the_model_as_it_was():
    model = tiny_model(balanced_sampling=True)
    for owner in (model, model.method):  # SB3's name and the name of the setting
        with refuses("must be even"):
            owner.batch_size = 3
    assert model.batch_size == tiny_model().batch_size
    with refuses("assign `model.method.rho`", AttributeError):
        model.rho = 0.0
