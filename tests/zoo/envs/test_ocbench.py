"""OCBench's names, which are known without the package; and what its environments become."""

import sys

import numpy as np
import pytest

from zoo.datasets.benchmarks import gpu_name
from zoo.datasets.names import parse_env_name, parse_name
from zoo.envs.make import find_spec, is_ocbench, make_env
from zoo.envs.snapshot import ResumableEnv
from zoo.envs.tasks import OCBENCH
from zoo.runs.read import split_environment
from zoo.terminal.errors import UsageError

NAME = "block-cpu-lite-double-task2-v0"


def test_the_table_is_that_of_the_package():
    ocbench = pytest.importorskip("ocbench", reason="needs OCBench")
    from gymnasium import registry

    registered = {}
    for name, spec in registry.items():
        if is_ocbench(spec) and not name.startswith("visual-"):
            registered[name] = (spec.max_episode_steps, bool(spec.kwargs.get("lite")))
    ours = {task.name: (task.steps, "-lite" in task.name) for task in OCBENCH.values()}
    assert ours == registered
    for task in OCBENCH.values():
        family, backend, kwargs, steps = ocbench.parse_env_spec(gpu_name(task))
        assert family == task.domain.partition("-")[0]
        assert backend == "mjwarp"
        assert steps == task.steps
        assert split_environment(task.name)[2] == f"task{kwargs['task_id']}"


def test_a_task_has_a_domain_and_a_number():
    task = OCBENCH[NAME]
    assert task.domain == "block-cpu-lite-double"
    assert split_environment(NAME) == (NAME, "block-cpu-lite-double", "task2")


@pytest.mark.parametrize("use", [find_spec, parse_env_name])
def test_a_task_for_gpus_is_refused_with_the_one_to_use(use):
    with pytest.raises(
        UsageError, match=f"unknown .*`block-lite-double-task2-v0`.*closest: .*{NAME}"
    ):
        use("block-lite-double-task2-v0")


@pytest.mark.parametrize("parse", [parse_env_name, parse_name])
def test_ogbenchs_data_are_not_sought_for_its_tasks(parse):
    with pytest.raises(UsageError, match="a task of OCBench, not of OGBench"):
        parse(NAME)


def test_without_the_package_its_tasks_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ocbench", None)
    with pytest.raises(UsageError, match=f"`{NAME}` needs OCBench; install it with `pip install"):
        find_spec(NAME)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [NAME, "chamber-cpu-hard-task2-v0", "hanoi-cpu-lite-single-task1-v0"]
)
def test_its_environments_repeat_and_are_restored_within_an_episode(name):
    pytest.importorskip("ocbench", reason="needs OCBench")
    first, second = (ResumableEnv(make_env(name)) for _ in range(2))
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 7)).astype(np.float32)
    observation, info = first.reset(seed=3)
    assert info == {"success": 0, "is_success": False}  # and nothing of OCBench's own
    np.testing.assert_array_equal(observation, second.reset(seed=3)[0])
    for action in actions[:10]:
        first.step(action)
    snapshot = first.snapshot()
    assert snapshot is not None, first.obstacle
    assert second.restore(snapshot) is None
    for action in actions[10:]:
        np.testing.assert_array_equal(first.step(action)[0], second.step(action)[0])
