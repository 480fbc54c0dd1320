"""Where a run's data are from: a benchmark's files, a set of the user's own, or nowhere."""

from dataclasses import dataclass
from typing import Any

import gymnasium

from agents.common.data.arrays import Transitions
from zoo.datasets.benchmarks import find_data
from zoo.datasets.custom import load_custom
from zoo.datasets.formats.base import Dataset
from zoo.datasets.formats.read import has_rewards
from zoo.datasets.load import SOURCES, load_dataset
from zoo.datasets.names import gym_id, parse_env_name
from zoo.datasets.shards import ShardedDataset
from zoo.envs.make import find_spec, is_ogbench
from zoo.envs.tasks import TASKS, Task
from zoo.settings.config import NO_BENCHMARK, Benchmark
from zoo.settings.record import RunRecord
from zoo.terminal.errors import UsageError
from zoo.training.request import TrainRequest


@dataclass(frozen=True)
class NoData:
    """An environment without a dataset."""

    def load(
        self, config: RunRecord, request: TrainRequest, env_id: str, env: gymnasium.Env[Any, Any]
    ) -> None:
        """Return None."""


@dataclass(frozen=True)
class OGBenchData:
    """The files of an OGBench environment, whose rewards follow from the task."""

    def load(
        self, config: RunRecord, request: TrainRequest, env_id: str, env: gymnasium.Env[Any, Any]
    ) -> Dataset | ShardedDataset:
        """Return the dataset, made first if need be."""
        return load_dataset(
            config.env,
            dataset_dir=request.dataset_dir,
            dataset=request.dataset,
            dataset_size=config.run.dataset_size,
            sparse=config.settings["sparse"],
            replace_interval=config.run.dataset_replace_interval,
        )


@dataclass(frozen=True)
class DataWithRewards:
    """A set with rewards: of OCBench, robomimic or D4RL, or of the user's own.

    :param task: of the benchmark that has it; None for the user's own, which ``--dataset`` names.
    :param content: the set, where it was read for its spaces.
    """

    task: Task | None = None
    content: Transitions | None = None

    def load(
        self, config: RunRecord, request: TrainRequest, env_id: str, env: gymnasium.Env[Any, Any]
    ) -> Dataset:
        """Return the dataset, fetched first if need be; refuse one that does not fit the environment."""
        if config.settings.get("sparse"):
            raise UsageError(
                "`sparse` belongs to OGBench's rewards, and --dataset has its own; set it to false"
            )
        source = request.dataset
        if self.task is not None:
            source = find_data(self.task, request.dataset_dir, source)
        return load_custom(
            source,
            env_id,
            {},
            size=config.run.dataset_size,
            action_range=config.run.action_range,
            reward_from=config.run.reward_from,
            content=self.content,
            env=env,
        )


DataSource = NoData | OGBenchData | DataWithRewards


def find_source(request: TrainRequest) -> tuple[DataSource, Benchmark, str]:
    """Return where the data of a run are from, what a benchmark says of its environment, and the Gymnasium id of that.

    :raises UsageError: for an unknown environment, or one whose simulator is not installed.
    """
    task = TASKS.get(request.env)
    source: DataSource = NoData()
    if request.dataset not in SOURCES:
        if has_rewards(request.dataset, request.env):
            source = DataWithRewards()
    elif task is not None:
        source = DataWithRewards(task)
    env_id = gym_id(request.env)
    if task is not None:
        find_spec(env_id)  # refuses it if its simulator is not installed
        return source, Benchmark(task.domain, task.entries), env_id
    if request.no_env:
        return source, NO_BENCHMARK, env_id
    # OGBench's names are those that Gymnasium need not know
    must_be_known = ":" in request.env or isinstance(source, DataWithRewards)
    spec = find_spec(env_id) if must_be_known else gymnasium.registry.get(request.env)
    if spec is not None and not is_ogbench(spec):
        return source, NO_BENCHMARK, env_id
    name = parse_env_name(request.env, gymnasium.registry)
    groups = ("visual",) if name.spec.is_visual else ()
    if isinstance(source, NoData):
        source = OGBenchData()
    return source, Benchmark(name.domain, groups, name.spec.name), name.env_id
