"""Which settings a study searches, and where."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

import agents
from agents.common.search import Choice, Range, linear_range, log_range
from zoo.baselines import algorithm_ids, find_algorithm, settings_of
from zoo.config import find_entry
from zoo.errors import UsageError
from zoo.tuning.space import Space, own_searches, read_space


def read(*words: str, algo: str = "qam", fixed: tuple[str, ...] = ()) -> Space:
    return read_space(find_entry(algo), words, fixed)


def suggested(space: Space, **params: Any) -> dict[str, Any]:
    return space.suggest(optuna.trial.FixedTrial(params))  # type: ignore[arg-type]


def test_the_settings_that_an_algorithm_declares_are_searched() -> None:
    assert read().searches == {"inverse_temperature": log_range(0.1, 100.0)}
    assert set(read(algo="qam_f").searches) == {"inverse_temperature", "distill_weight"}
    assert set(read(algo="ifql").searches) == {"expectile", "best_of_n"}
    assert {"learning_rate", "noise_std"} <= set(read(algo="td3").searches)


def test_all_algorithms_but_cloning_declare_what_to_search() -> None:
    without = [id for id in algorithm_ids() if not own_searches(settings_of(find_algorithm(id).algorithm))]
    assert without == ["bc"]


def test_an_algorithm_without_a_declared_search_says_how_to_give_one() -> None:
    with pytest.raises(UsageError, match=r"`bc` declares no setting to search; declare one, .*search=log_range"):
        read(algo="bc")


def test_a_fixed_setting_is_not_searched() -> None:
    assert set(read(algo="qam_f", fixed=("distill_weight",)).searches) == {"inverse_temperature"}
    with pytest.raises(UsageError, match=r"-params fixes all that `qam` searches \(inverse_temperature\)"):
        read(fixed=("inverse_temperature",))
    with pytest.raises(UsageError, match="`inverse_temperature` is both searched and fixed"):
        read("inverse_temperature", fixed=("inverse_temperature",))


def test_named_settings_take_the_place_of_the_declared_ones() -> None:
    assert read("learning_rate").searches == {"learning_rate": log_range(3e-5, 3e-3)}


def test_a_word_gives_a_range_or_a_choice() -> None:
    space = read("rho=0:1", "tau=1e-3:1e-1:log", "batch_size=[64, 128]", "flow_steps=2:20")
    assert space.searches == {
        "rho": linear_range(0.0, 1.0),
        "tau": log_range(0.001, 0.1),
        "batch_size": Choice((64, 128)),
        "flow_steps": Range(2, 20),
    }
    assert space.describe()["tau"] == "0.001:0.1:log"


def test_suggestions_have_the_type_of_their_setting() -> None:
    space = read("rho=0:1", "flow_steps=2:20", "net_arch=[[64, 64], [128]]")
    values = suggested(space, rho=0.5, flow_steps=7, net_arch="[64, 64]")
    assert values == {"rho": 0.5, "flow_steps": 7, "net_arch": [64, 64]}
    assert isinstance(space.searches["rho"].low, float)
    assert isinstance(space.searches["flow_steps"].low, int)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("inverse_temp=1:2", "unknown setting of qam `inverse_temp`; closest: inverse_temperature"),
        ("sparse", "`sparse` has no declared range; give one, e.g. --search sparse=low:high"),
        ("rho=1", r"`--search rho=` expects low:high, low:high:log or \[a,b,c\], got '1'"),
        ("rho=0:1:lin", "expects low:high, low:high:log"),
        ("rho=a:b", "expects low:high, low:high:log"),
        ("rho=0:1:log:2", "expects low:high, low:high:log"),
        ("rho=1:0", "a range must go from a lower to a higher bound, got 1 and 0"),
        ("rho=0:1:log", "a logarithmic range must begin above 0, got 0"),
        ("rho=[1]", "at least two different values"),
        ("rho=-1:1", "the search of `rho` in -1:1 leaves what is allowed: `rho` must be a finite number >= 0"),
        ("tau=0.1:2", "the search of `tau` in 0.1:2 leaves what is allowed"),
        ("flow_steps=[1, 2.5]", "`flow_steps` must be an int"),
        ("rho=[1, [", "must be valid YAML"),
    ],
)
def test_a_bad_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(word)


def test_given_settings_are_parameters_if_they_are_inside() -> None:
    space = read("rho=0:1", "batch_size=[64, 128]")
    assert space.params_of({"rho": 0.5, "batch_size": 64}) == {"rho": 0.5, "batch_size": "64"}
    assert space.params_of({"rho": 2.0, "batch_size": 64}) is None
    assert space.params_of({"rho": 0.5, "batch_size": 256}) is None
    assert read("learning_rate").params_of({"learning_rate": "lin_1e-3"}) is None


def test_an_own_agent_is_tuned_by_what_it_declares() -> None:
    class Mine(agents.Method):
        weight: float = agents.setting(default=1.0, above=0, search=agents.log_range(0.1, 10.0), doc="Weight.")

    assert own_searches(Mine.declared()) == {"weight": log_range(0.1, 10.0)}
