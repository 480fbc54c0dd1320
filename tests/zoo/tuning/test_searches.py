"""The settings that a study searches, and their ranges."""

from __future__ import annotations

import optuna
import pytest

from agents.common.settings import Choice, Range, linear_range, log_range
from tests.zoo.outcomes import refuses
from zoo.algorithms.catalogue import find_algorithm
from zoo.tuning.searches import params_of, read_searches, suggest


def read(*words, algo="qam", fixed=()):
    return read_searches(find_algorithm(algo), words, fixed)


def test_the_settings_that_an_algorithm_declares_are_searched():
    assert read() == {"inverse_temperature": log_range(0.1, 100.0)}
    assert set(read(algo="qam_f")) == {"inverse_temperature", "distill_weight"}
    assert {"learning_rate", "tau"} <= set(read(algo="td3"))
    # its own check refuses the inherited values
    assert find_algorithm("bc").method.declared()["best_of_n"].search is None


def test_a_fixed_setting_is_not_searched():
    assert set(read(algo="qam_f", fixed=("distill_weight",))) == {"inverse_temperature"}
    for words in ((), ("inverse_temperature",)):
        with refuses("-params"):
            read(*words, fixed=("inverse_temperature",))


def test_a_word_gives_a_range_or_a_choice():
    assert read("rho=0:1", "tau=1e-3:1e-1:log", "batch_size=[64, 128]", "flow_steps=2:20") == {
        "rho": linear_range(0.0, 1.0),
        "tau": log_range(0.001, 0.1),
        "batch_size": Choice((64, 128)),
        "flow_steps": Range(2, 20),
    }


def test_suggestions_have_the_type_and_scale_of_their_setting():
    space = read("rho=1:2:log", "flow_steps=2:20:log", "net_arch=[[64, 64], [128]]")
    trial = optuna.trial.FixedTrial({"rho": 1.5, "flow_steps": 7, "net_arch": "[64, 64]"})
    assert suggest(trial, space) == {"rho": 1.5, "flow_steps": 7, "net_arch": [64, 64]}
    assert all(trial.distributions[name].log for name in ("rho", "flow_steps"))
    assert isinstance(space["rho"].low, float)
    assert isinstance(read("ent_coef=0:1", algo="sac")["ent_coef"].low, float)
    assert isinstance(space["flow_steps"].low, int)


@pytest.mark.parametrize(
    ("word", "named"),
    {
        "inverse_temp=1:2": "inverse_temperature",
        "sparse": "sparse",
        "rho=1": "low:high",
        "rho=0:b": "low:high",
        "rho=1:0": "lower",
        "rho=[1, 1.0]": "two different",
        "tau=0.1:2": "tau",
        "rho=[1, [": "YAML",
    }.items(),
)
def test_a_bad_word_is_refused(word, named):
    with refuses(named):
        read(word)


def test_given_settings_are_parameters_if_they_are_inside():
    space = read("rho=0:1", "batch_size=[64, 128]")
    assert params_of({"rho": 1.0, "batch_size": 64}, space) == {"rho": 1.0, "batch_size": "64"}
    assert params_of({"rho": 2.0, "batch_size": 64}, space) == {"batch_size": "64"}
    assert params_of({"rho": 0.5, "batch_size": 256}, space) == {"rho": 0.5}
    assert params_of({"learning_rate": "lin_1e-3"}, read("learning_rate")) == {}
