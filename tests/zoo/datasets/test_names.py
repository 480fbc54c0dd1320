"""The table of datasets, and the parsing of names."""

import contextlib

import gymnasium
import pytest

from tests.zoo.outcomes import refuses
from zoo.datasets.names import (
    DATASETS,
    is_custom,
    parse_env_name,
    parse_name,
    single_task_names,
)
from zoo.datasets.ogbench import make_labelling_env


@pytest.mark.parametrize(
    ("name", "is_path"),
    [("cube-double-play-v0", False), ("cube-dobule-play-v0", False), ("minari:a/b-v0", True), ("no/folder", True),
     ("a.csv", True), ("long" * 99, False)],
)  # fmt: skip
def test_what_looks_like_a_path_is_taken_for_one(name, is_path):
    assert is_custom(name) == is_path


def test_dataset_without_task_is_refused_as_environment():
    with refuses("`scene-play-v0` is a dataset without a task; name one"):
        parse_env_name("scene-play-v0")


def test_every_task_of_ogbench_is_in_the_table():
    registered = {key for key in gymnasium.registry if "singletask" in key}
    without_dataset = {key for key in registered if "humanoidmaze-teleport" in key}
    in_table = set()
    for dataset in DATASETS:
        in_table |= {parse_env_name(name).env_id for name in single_task_names(dataset)}
    assert in_table == registered - without_dataset


@pytest.mark.slow
@pytest.mark.parametrize("environment", sorted({spec.environment for spec in DATASETS.values()}))
def test_default_task_is_ogbenchs(environment):
    spec = next(spec for spec in DATASETS.values() if spec.environment == environment)
    parsed = parse_name(single_task_names(spec.name)[0])
    with contextlib.closing(make_labelling_env(parsed.env_id)) as env:
        assert parsed.task == env.unwrapped._reward_task_id
