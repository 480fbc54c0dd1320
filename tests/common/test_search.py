"""Where tuning looks for the value of a setting: declared beside it."""

from __future__ import annotations

import pytest

import agents
from agents.common.search import choice, linear_range, log_range
from agents.common.settings import Declared, setting
from zoo.baselines import algorithm_ids, find_algorithm, settings_of


class Base(Declared):
    weight: float = setting(default=2.0, above=0, search=log_range(0.1, 10.0), doc="Weight.")
    count: int = setting(default=1, at_least=1, search=choice(1, 4), doc="Count.")


def _one(name: str, value: object) -> int:
    if value != 1:
        raise ValueError(f"`{name}` must be 1")
    return 1


class Derived(Base):
    weight: float = setting(default=5.0)
    count: int = setting(default=1, check=_one)


def test_a_subclass_inherits_where_to_search_unless_it_has_a_check_of_its_own() -> None:
    assert Derived.declared()["weight"].search == log_range(0.1, 10.0)
    assert Derived.declared()["count"].search is None
    assert Base.declared()["count"].search == choice(1, 4)


def test_a_range_is_written_as_the_command_line_takes_it() -> None:
    assert str(log_range(0.1, 100.0)) == "0.1:100.0:log"
    assert str(linear_range(1, 8)) == "1:8"
    assert str(choice(1, None, True, "a")) == "[1, null, true, a]"


@pytest.mark.parametrize("algo", algorithm_ids())
def test_every_declared_search_keeps_to_the_bounds_of_its_setting(algo: str) -> None:
    declared = settings_of(find_algorithm(algo).algorithm)
    searched = {name: found for name, found in declared.items() if found.search is not None}
    assert "learning_rate" in searched
    for found in searched.values():
        assert [found.checked(value) for value in found.search.ends] == list(found.search.ends)


def test_the_declarations_are_at_hand_for_an_own_agent() -> None:
    assert (agents.log_range, agents.linear_range, agents.choice) == (log_range, linear_range, choice)
