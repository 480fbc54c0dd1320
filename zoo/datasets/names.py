"""Table of OGBench's datasets with their sizes, parsing of their names, and tasks of all benchmarks' domains.

Source: OGBench (Park et al., arXiv 2410.20092), `data_gen_scripts/commands.sh` and README, version 1.2.
"""

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from agents.common.validation import unknown_name_message
from zoo.envs.rendering import VISUAL
from zoo.envs.tasks import TASKS, UNKNOWN_ENV_ADVICE
from zoo.terminal.errors import UsageError

NUM_TASKS = 5  # every OGBench environment below has tasks 1 to 5

# Families whose data OGBench collects with a scripted oracle; other families need trained expert policies.
_ORACLE_FAMILIES = ("pointmaze", "cube", "scene", "puzzle")

# Columns: environments, kinds, files, training episodes per file, transitions per episode. Datasets of several files
# have 100 million transitions.
_TABLE = """
pointmaze-medium,pointmaze-large,pointmaze-teleport                   navigate     1   1000  1000
pointmaze-giant                                                       navigate     1    500  2000
pointmaze-medium,pointmaze-large,pointmaze-giant,pointmaze-teleport   stitch       1   5000   200
antmaze-medium,antmaze-large,antmaze-teleport                         navigate     1   1000  1000
antmaze-giant                                                         navigate     1    500  2000
antmaze-medium,antmaze-large,antmaze-giant,antmaze-teleport           stitch       1   5000   200
antmaze-medium,antmaze-large,antmaze-teleport                         explore      1  10000   500
humanoidmaze-medium,humanoidmaze-large                                navigate     1   1000  2000
humanoidmaze-giant                                                    navigate     1   1000  4000
humanoidmaze-medium,humanoidmaze-large                                stitch       1   5000   400
humanoidmaze-giant                                                    stitch       1  10000   400
antsoccer-arena                                                       navigate     1   1000  1000
antsoccer-medium                                                      navigate     1   4000  1000
antsoccer-arena                                                       stitch       1   5000   200
antsoccer-medium                                                      stitch       1   8000   500
cube-single,cube-double,scene,puzzle-3x3,puzzle-4x4                   play,noisy   1   1000  1000
cube-triple,puzzle-4x5                                                play,noisy   1   3000  1000
cube-quadruple,puzzle-4x6                                             play,noisy   1   5000  1000
cube-octuple                                                          play,noisy   1   1000  1000
cube-double,cube-triple,cube-quadruple,cube-octuple,scene             play       100   1000  1000
puzzle-3x3,puzzle-4x4,puzzle-4x5,puzzle-4x6                           play       100   1000  1000
cube-quadruple                                                        noisy      100   1000  1000
humanoidmaze-giant                                                    navigate    25   1000  4000
"""

# OGBench has the environment and the oracle of these datasets, but does not host the datasets. Here they have as many
# episodes (1000) as a file of the environment's large dataset.
_GENERATED_ONLY = ("cube-octuple-play-v0", "cube-octuple-noisy-v0")

# Families whose datasets also exist with image observations, under names that start with `visual-`.
_VISUAL_FAMILIES = ("antmaze", "humanoidmaze", "cube", "scene", "puzzle")


@dataclass(frozen=True)
class DatasetSpec:
    """OGBench's description of one dataset.

    :param name: file name without extension, e.g. ``"cube-double-play-v0"``.
    :param environment: environment without version, e.g. ``"cube-double"``.
    :param kind: how the data were collected: ``"play"``, ``"noisy"``, ``"navigate"``, ``"stitch"`` or ``"explore"``.
    :param episodes: training episodes per file; the ``-val`` file has a tenth of them.
    :param steps: transitions per episode; an episode has one more row.
    :param files: number of training files; if above 1, the dataset is a folder of shards.
    :param hosted: whether the dataset can be downloaded.
    """

    name: str
    environment: str
    kind: str
    episodes: int
    steps: int
    files: int
    hosted: bool

    @property
    def env_id(self) -> str:
        """Gymnasium id of the goal-conditioned environment in which the data were collected."""
        return f"{self.environment}-v0"

    @property
    def family(self) -> str:
        """The environment without the prefix `visual-`, which changes neither oracles nor tasks."""
        return self.environment.removeprefix(VISUAL)

    @property
    def is_visual(self) -> bool:
        """Whether observations are images of 64 x 64 pixels."""
        return self.name.startswith(VISUAL)

    @property
    def task_env_ids(self) -> dict[int, str]:
        """Number of a task -> Gymnasium id of its single-task environment."""
        return dict(enumerate(single_task_names(self.env_id)[1:], start=1))

    @property
    def transitions(self) -> int:
        """Training transitions in all files."""
        return self.files * self.episodes * self.steps

    @property
    def default_task(self) -> int:
        """The task that OGBench 1.2 uses if a name contains no task number."""
        if self.family.startswith(("puzzle-3x3", "puzzle-4x4", "antsoccer")):
            return 4
        return 2 if self.family.startswith(("puzzle", "cube", "scene")) else 1

    @property
    def is_generatable(self) -> bool:
        """Whether OGBench has a scripted oracle for the dataset, and the dataset is a single file."""
        return self.files == 1 and self.family.startswith(_ORACLE_FAMILIES)


@dataclass(frozen=True)
class DatasetName:
    """A parsed name of a dataset or single-task environment.

    :param spec: OGBench's description of the dataset.
    :param env_id: Gymnasium id of the environment, e.g. ``"cube-double-singletask-task2-v0"``.
    :param task: the task, 1 to 5, or OGBench's default task if the name has no number; None for a dataset name.
    """

    spec: DatasetSpec
    env_id: str
    task: int | None

    @property
    def domain(self) -> str:
        """Environment and kind, a key in hyperparameter files, e.g. ``"cube-double-play"``."""
        return f"{self.spec.environment}-{self.spec.kind}"


def _build_table() -> dict[str, DatasetSpec]:
    specs = []
    visual = []
    for line in _TABLE.strip().splitlines():
        environments, kinds, *numbers = line.split()
        files, episodes, steps = map(int, numbers)
        size = "-100m" if files > 1 else ""
        for environment, kind in itertools.product(environments.split(","), kinds.split(",")):
            name = f"{environment}-{kind}{size}-v0"
            is_hosted = name not in _GENERATED_ONLY
            spec = DatasetSpec(name, environment, kind, episodes, steps, files, is_hosted)
            specs.append(spec)
            if is_hosted and files == 1 and environment.startswith(_VISUAL_FAMILIES):
                visual.append(replace(spec, name=VISUAL + name, environment=VISUAL + environment))
    return {spec.name: spec for spec in specs + visual}


DATASETS = _build_table()


def single_task_names(dataset: str) -> list[str]:
    """Return the names of a dataset's single-task environments: the default task, then tasks 1 to 5."""
    prefix = f"{dataset.removesuffix('-v0')}-singletask"
    return [f"{prefix}-v0", *(f"{prefix}-task{task}-v0" for task in range(1, NUM_TASKS + 1))]


def parse_name(name: str, kind: str = "dataset", registered: Iterable[str] = ()) -> DatasetName:
    """Parse a dataset name or a single-task environment name.

    For a dataset name, which has no task, ``env_id`` is the id of the goal-conditioned environment.

    :param kind: kind of name, for the message.
    :param registered: names of other environments, for the message.
    :raises UsageError: if the name is not OGBench's; for an unknown name, the message suggests the closest names.
    """
    parts = _parse(name)
    if parts is not None:
        return parts
    if name in TASKS:
        benchmark = TASKS[name].benchmark
        raise UsageError(
            f"`{name}` is a task of {benchmark}, not of OGBench; docs/{benchmark.lower()}.md explains how to load its "
            "data"
        )
    names = itertools.chain(DATASETS, *map(single_task_names, DATASETS), registered, TASKS)
    advice = UNKNOWN_ENV_ADVICE if kind == "environment" else ""
    raise UsageError(unknown_name_message(kind, name, [*names], "zoo dataset list") + advice)


def parse_env_name(name: str, registered: Iterable[str] = ()) -> DatasetName:
    """Parse the name of a single-task environment; only single-task environments have rewards.

    :raises UsageError: if the name is unknown, or is a dataset name without a task.
    """
    parts = parse_name(name, "environment", registered)
    if parts.task is None:
        alias, first, *_, last = single_task_names(name)
        raise UsageError(
            f"`{name}` is a dataset without a task; name one of its tasks: "
            f"{first} to {last}, or {alias} for OGBench's default task"
        )
    return parts


@cache
def split_environment(name: str) -> tuple[str, str]:
    """Return an environment's full name and domain.

    In OGBench, a task has several names: the number of the default task can be omitted
    (``scene-play-singletask-v0`` is ``scene-play-singletask-task2-v0``), and the name of a larger dataset contains its
    size (``scene-play-100m-...``). All these names have the same full name; the data's size is part of the protocol.

    :return: full name, domain (``cube-double-play``). Outside all benchmarks, the domain is the full name.
    """
    if name in TASKS:
        return name, TASKS[name].domain
    if not is_single_task(name):
        id = name.rpartition(":")[2]  # the module before the colon only registers the environment
        return id, id
    parsed = parse_name(name)
    return f"{parsed.domain}-singletask-task{parsed.task}-v0", parsed.domain


def tasks_of(name: str) -> list[str]:
    """Return the tasks of a domain, e.g. ``"scene-play"``; for any other name, this name alone."""
    tasks = [task.name for task in TASKS.values() if task.domain == name]
    if f"{name}-v0" in DATASETS:
        # the first name is left out, because it is an alias of the default task
        tasks = single_task_names(name)[1:]
    return tasks or [name]


def is_custom(name: str) -> bool:
    """Return whether a name is the path of a dataset or a Minari id, not the name of an OGBench dataset."""
    if name in DATASETS:
        return False
    path = Path(name)
    # a name that looks like a path counts as one even if it does not exist, so that errors mention a path
    return (
        name.startswith("minari:")
        or len(path.parts) > 1
        or path.suffix != ""
        or os.path.exists(name)
    )


def is_single_task(name: str) -> bool:
    """Return whether a name is that of a single-task environment of OGBench."""
    parts = _parse(name)
    return parts is not None and parts.task is not None


def gym_id(name: str) -> str:
    """Return the Gymnasium id for an environment's name, which for benchmark tasks also names the dataset."""
    if name in TASKS:
        return TASKS[name].env_id
    parts = _parse(name)
    if parts is None or parts.task is None:
        return name
    return parts.env_id


def _parse(name: str) -> DatasetName | None:
    """Return the parts of a name, or None if its dataset or task does not exist."""
    match = re.fullmatch(r"(?P<stem>.+?)(?P<single>-singletask(?:-task(?P<task>[1-5]))?)?-v0", name)
    if match is None or f"{match['stem']}-v0" not in DATASETS:
        return None
    spec = DATASETS[f"{match['stem']}-v0"]
    if not match["single"]:
        return DatasetName(spec, spec.env_id, task=None)
    task = int(match["task"] or spec.default_task)
    return DatasetName(spec, f"{spec.environment}{match['single']}-v0", task)
