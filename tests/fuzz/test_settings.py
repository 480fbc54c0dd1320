"""Any value of a setting is kept and survives a settings file, or is refused by an error that names the setting."""

import math
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

import agents
from zoo.errors import UsageError
from zoo.settings.config import load_config
from zoo.settings.layers import dump_yaml, load_yaml

ENV = "cube-double-play-singletask-task1-v0"
DECLARED = [
    (id, declared) for id in agents.algorithm_ids() for declared in agents.get(id).method.declared().values()
]  # fmt: skip
OF_RUN = (
    "pretraining_steps", "offline_steps", "online_steps", "eval_freq", "eval_episodes", "save_freq", "log_interval",
    "dataset_size", "dataset_replace_interval", "offline_data",
)  # fmt: skip

NUMBERS = st.one_of(
    st.sampled_from([10**400, -(10**400), 2**63, 1e308, 1e5, -0.0]), st.integers(-3, 3), st.integers(), st.floats()
)
WORDS = st.one_of(st.text(max_size=6), st.sampled_from(["auto", "1e5", "none", "null", "mean", "preload", "no", "~"]))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
NESTED_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=6
)
VALUES = st.one_of(NUMBERS, SCALARS, NESTED_VALUES)


def same(one, other):
    """Return whether two values are equal; a number that is none equals itself, a list the tuple of its values."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


@given(st.sampled_from(DECLARED), VALUES)
def test_a_configuration_keeps_a_value_or_names_its_setting(of, value):
    id, declared = of
    assert_kept_or_refused(id, declared.name, value)


@given(st.sampled_from(OF_RUN), VALUES)
def test_a_configuration_keeps_what_a_run_does_or_names_it(name, value):
    assert_kept_or_refused("qam", name, value)


def assert_kept_or_refused(id, name, value):
    try:
        config = load_config(id, ENV, "cube-double-play", flags={name: value})
    except UsageError as error:
        assert name in str(error)
        return
    record = load_yaml(dump_yaml(config.plain()), "a record")
    assert same(record, config.plain())
    kept = record.get(name) if name in OF_RUN else record["settings"][name]
    again = load_config(id, ENV, "cube-double-play", flags={name: kept})
    assert same(again.settings, config.settings)
    assert again.run.settings() == config.run.settings()
