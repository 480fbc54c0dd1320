"""A suite: a file with algorithms, environments and seeds, whose combinations are the suite's runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, get_origin

from agents.common.validation import unknown_name_message
from agents.registry import ALIASES
from zoo.algorithms.catalogue import SB3, find_algorithm
from zoo.datasets.names import tasks_of
from zoo.report.scores import load_set
from zoo.settings.layers import DEFAULT_PROFILE, read_yaml
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import match_names, parse_seeds

ALL = "all"
KINDS: Mapping[Any, tuple[type, str]] = {
    Sequence: (list, "a list"),
    str: (str, "text"),
    bool: (bool, "true or false"),
}
"""Annotation of a `Suite` field -> its type in a file, and the type's name; other annotations are checked on use."""


@dataclass(frozen=True)
class Run:
    """One call of ``zoo train``: an algorithm on an environment, with one seed or several trained together.

    A run without an environment represents a method of a suite: an algorithm with settings and a label.

    :param label: name of the method's row in the report; empty: name of the algorithm.
    :param params: settings that override those of the suite.
    """

    algo: str
    env: str = ""
    seeds: tuple[int, ...] = ()
    label: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the method in the suite's file."""
        return self.label or self.algo

    def __str__(self) -> str:
        """Return method, environment and seeds in words."""
        noun = "seeds" if len(self.seeds) > 1 else "seed"
        return f"{self.name} on {self.env}, {noun} {', '.join(map(str, self.seeds))}"


@dataclass(frozen=True)
class Suite:
    """The content of a suite's file.

    :param profile: profile of settings, as for ``zoo train``.
    :param quick: use the algorithms' small settings, as ``zoo train --quick`` does.
    :param conf: file of settings that override the shipped ones, as for ``zoo train``.
    :param algorithms: ids, ``module:Class``, or mappings with ``algo`` and, for a variant, ``label`` and ``params``.
    :param environments: environments or domains; a domain is expanded to all its tasks.
    :param seeds: numbers or ranges, e.g. ``0-11``.
    :param seeds_at_once: number of seeds that a run trains together, or ``all``. A suite fixes this number,
        because seeds trained together sample other batches than seeds trained alone.
    :param params: settings of all runs; the ``params`` of a variant override them.
    :param dataset: source of a missing dataset: ``auto``, ``download`` or ``generate``.
    :param dataset_dir: folder of the datasets; empty: the benchmark's default folder.
    :param env_kwargs: arguments of the environments.
    :param gym_packages: packages to import, which register environments.
    :param published: sets of published scores to show in the report.
    :param focus: label or id of the method that the report's verdicts compare with every other method.
    """

    algorithms: Sequence[Any]
    environments: Sequence[str]
    seeds: str | int | Sequence[int | str]
    profile: str = DEFAULT_PROFILE
    quick: bool = False
    conf: str = ""
    seeds_at_once: int | str = ALL
    params: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "auto"
    dataset_dir: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    gym_packages: Sequence[str] = ()
    published: Sequence[str] = ()
    focus: str = ""

    def runs(self) -> list[Run]:
        """Return all runs, grouped by environment, so that an interrupted suite is complete on some environments."""
        methods = self._methods()
        # without duplicates, because the file may list both a domain and one of its tasks
        environments = dict.fromkeys(chain.from_iterable(map(tasks_of, self.environments)))
        runs = []
        for env in environments:
            for method in methods:
                for seeds in self._seed_groups(method.algo):
                    runs.append(replace(method, env=env, seeds=seeds))
        return runs

    def _seed_groups(self, algo: str) -> list[tuple[int, ...]]:
        """Return the groups of seeds that are trained together; for algorithms of SB3, each seed is a group."""
        words = self.seeds if isinstance(self.seeds, list | tuple) else [self.seeds]
        seeds = parse_seeds(list(map(str, words)), "seeds")
        size = self.seeds_at_once
        if size == ALL:
            size = len(seeds)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UsageError(f"`seeds_at_once` must be a number of seeds or `{ALL}`, got {size!r}")
        if find_algorithm(algo).id in SB3:
            size = 1
        return [tuple(seeds[first : first + size]) for first in range(0, len(seeds), size)]

    def _methods(self) -> list[Run]:
        """Return the methods of the suite; reject duplicate names and an unknown focus."""
        methods = list(map(_read_method, self.algorithms))
        names = [method.name for method in methods]
        counts = Counter(ALIASES.get(name, name) for name in names)
        name, count = counts.most_common(1)[0]
        if count > 1:
            raise UsageError(
                f"algorithms of a suite must have different names, got {name} twice; add a `label`"
            )
        if self.focus and self.focus not in names:
            raise UsageError(unknown_name_message("algorithm for `focus`", self.focus, names))
        return methods


def _read_method(entry: Any) -> Run:
    """Return the method that an entry of a suite's `algorithms` describes."""
    if isinstance(entry, str):
        return Run(entry)
    _check_keys(entry, ("algo", "label", "params"), "an algorithm of the suite")
    if not isinstance(entry.get("algo"), str):
        raise UsageError(
            f"an algorithm of the suite must be an id or a mapping with `algo`, got {entry!r}"
        )
    return Run(**{**entry, "label": str(entry.get("label") or "")})


def read_suite(path: Path) -> Suite:
    """Read a suite's file; raise UsageError if a name, type or value in it is wrong."""
    content = read_yaml(path, "a suite")
    _check_keys(content, [field.name for field in fields(Suite)], f"the suite {path}")
    for name in ("algorithms", "environments", "seeds"):
        if content.get(name) in (None, []):
            raise UsageError(f"the suite {path} lacks `{name}`")
    for entry in fields(Suite):
        kind, noun = KINDS.get(get_origin(entry.type) or entry.type, (object, ""))
        value = content.get(entry.name)
        if entry.name in content and not isinstance(value, kind):
            raise UsageError(f"`{entry.name}` of the suite {path} must be {noun}, got {value!r}")
        if entry.type == Sequence[str] and not all(isinstance(item, str) for item in value or ()):
            raise UsageError(f"`{entry.name}` of the suite {path} must list names, got {value!r}")
    for name in content.get("published", ()):
        load_set(name)  # an unknown set is rejected now, not when the report is written
    return Suite(**content)


def select(
    runs: Sequence[Run], algorithms: Sequence[str], environments: Sequence[str]
) -> list[Run]:
    """Return the runs whose method and environment match the patterns; an empty list of patterns matches everything.

    :raises UsageError: if a pattern matches no run.
    """
    noun = "algorithm or environment of the suite"
    methods = match_names(algorithms, {run.name for run in runs}, noun)
    envs = match_names(environments, {run.env for run in runs}, noun)
    return [run for run in runs if run.env in envs and run.name in methods]


def _check_keys(values: Any, keys: Sequence[str], noun: str) -> None:
    """Reject unknown keys, and values that are not a mapping."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{noun} must be a mapping, got {values!r}")
    for key, value in values.items():
        if key not in keys:
            raise UsageError(unknown_name_message(f"key of {noun}", str(key), keys))
        if key in ("params", "env_kwargs") and not isinstance(value, Mapping):
            raise UsageError(f"`{key}` of {noun} must be a mapping, got {value!r}")
