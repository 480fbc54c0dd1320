"""A suite: algorithms x environments x seeds in one file, and the runs that this means."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agents.common.validation import unknown_name_message
from agents.registry import ALIASES
from zoo.algorithms.baselines import Baseline, find_algorithm
from zoo.datasets.names import DATASETS, single_task_names
from zoo.envs.tasks import TASKS
from zoo.report.published_scores import load_set
from zoo.settings.layers import DEFAULT_PROFILE, merge, read_yaml
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import parse_seeds

ALL = "all"
KINDS: Mapping[str, tuple[type, str]] = {
    **dict.fromkeys(("algorithms", "environments", "overrides", "gym_packages", "published"), (list, "a list")),
    **dict.fromkeys(("title", "profile", "dataset", "dataset_dir", "focus"), (str, "text")),
    "quick": (bool, "true or false"),
}
"""What the keys of a suite's file must hold; the others are checked where they are used."""


@dataclass(frozen=True)
class Run:
    """One start of the training program: an algorithm on an environment, with one seed or several at once.

    :param label: name of its row in the report; empty: the algorithm's.
    :param params: settings over those of the profile, nested.
    """

    algo: str
    env: str
    seeds: tuple[int, ...]
    label: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return what is trained, in a few words."""
        seeds = ", ".join(map(str, self.seeds))
        return f"{self.label or self.algo} on {self.env}, seed{'s' * (len(self.seeds) > 1)} {seeds}"


@dataclass(frozen=True)
class Suite:
    """What a suite's file says.

    :param title: one line.
    :param profile: protocol of the settings, as for ``train.py``.
    :param quick: use the algorithms' small settings.
    :param algorithms: ids, ``module:Class``, or mappings with ``algo`` and, for a variant, ``label`` and ``params``.
    :param environments: environments, or domains for all of their tasks.
    :param seeds: numbers or ranges, e.g. ``0-11``.
    :param seeds_at_once: how many seeds a run trains together, or ``all``. Part of the suite, since seeds that are
        trained together draw other batches than each alone.
    :param params: settings of all runs.
    :param overrides: mappings with ``params`` and the ``algorithms`` and ``environments`` (patterns) that they are for;
        later ones win.
    :param dataset: what to do about a missing dataset: ``auto``, ``download`` or ``generate``.
    :param dataset_dir: folder of the datasets; None: OGBench's.
    :param env_kwargs: arguments of the environments.
    :param gym_packages: packages to import, for their environments.
    :param published: sets of published scores that the report shows beside the runs.
    :param focus: the algorithm, by its label or id, that the report gives a verdict on.
    """

    algorithms: Sequence[Any]
    environments: Sequence[str]
    seeds: str | int | Sequence[int | str]
    title: str = ""
    profile: str = DEFAULT_PROFILE
    quick: bool = False
    seeds_at_once: int | str = ALL
    params: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Mapping[str, Any]] = ()
    dataset: str = "auto"
    dataset_dir: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    gym_packages: Sequence[str] = ()
    published: Sequence[str] = ()
    focus: str = ""

    def runs(self) -> list[Run]:
        """Return every run, environment by environment, so that a suite that is stopped has finished some of them."""
        groups = self._seed_groups()
        variants = self._variants()
        single = [(seed,) for group in groups for seed in group]  # SB3's own algorithms train no seeds together
        runs = [
            Run(algo, env, group, label, merge({}, self.params))
            for env in self._environments()
            for algo, label, _ in variants
            for group in (single if issubclass(find_algorithm(algo).algorithm, Baseline) else groups)
        ]
        for override in self.overrides:
            _check_keys(override, ("algorithms", "environments", "params"), "an override of the suite")
            patterns = [override.get(name, "*") for name in ("algorithms", "environments")]
            chosen = select(runs, *(pattern if isinstance(pattern, list) else [pattern] for pattern in patterns))
            for number, run in enumerate(runs):
                if run in chosen:
                    runs[number] = replace(run, params=merge(run.params, override.get("params", {})))
        own = {label or algo: params for algo, label, params in variants}
        return [replace(run, params=merge(run.params, own[run.label or run.algo])) for run in runs]

    def _seed_groups(self) -> list[tuple[int, ...]]:
        words = self.seeds if isinstance(self.seeds, list | tuple) else [self.seeds]
        seeds = parse_seeds([str(word) for word in words], "seeds")
        size = len(seeds) if self.seeds_at_once == ALL else self.seeds_at_once
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UsageError(f"`seeds_at_once` must be a number of seeds or `{ALL}`, got {size!r}")
        return [tuple(seeds[first : first + size]) for first in range(0, len(seeds), size)]

    def _environments(self) -> list[str]:
        """Return the environments, those of each domain in place of it."""
        found: dict[str, None] = {}
        for name in self.environments:
            tasks = [task.name for task in TASKS.values() if task.domain == name]
            if f"{name}-v0" in DATASETS:
                tasks = single_task_names(f"{name}-v0")[1:]
            found |= dict.fromkeys(tasks or [name])
        return list(found)

    def _variants(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Return id, label and own settings of each algorithm."""
        found = []
        for entry in self.algorithms:
            values: Mapping[str, Any] = {"algo": entry} if isinstance(entry, str) else entry
            _check_keys(values, ("algo", "label", "params"), "an algorithm of the suite")
            if "algo" not in values:
                raise UsageError(f"an algorithm of the suite must be an id or have `algo`, got {entry!r}")
            found.append((values["algo"], str(values.get("label", "")), values.get("params", {})))
        names = [label or algo for algo, label, _ in found]
        ids = [ALIASES.get(name, name) for name in names]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise UsageError(f"algorithms of a suite must have different names, got {twice[0]} twice; give a `label`")
        if self.focus and self.focus not in names:
            raise UsageError(unknown_name_message("algorithm of the suite as its `focus`", self.focus, names))
        return found


def read_suite(path: Path) -> Suite:
    """Read a suite's file; raise UsageError if a name, type or value in it is wrong."""
    content = read_yaml(path, "a suite")
    _check_keys(content, [each.name for each in fields(Suite)], f"the suite {path}")
    for name in ("algorithms", "environments", "seeds"):
        if content.get(name) in (None, []):
            raise UsageError(f"the suite {path} lacks `{name}`")
    for name, (kind, noun) in KINDS.items():
        if not isinstance(content.get(name, kind()), kind):
            raise UsageError(f"`{name}` of the suite {path} must be {noun}, got {content[name]!r}")
    if content.get("quick") and "profile" in content:
        raise UsageError(f"`quick` and `profile` of the suite {path} both say which settings; give one of them")
    for name in content.get("published", ()):
        load_set(name)  # refused now, not when the report is written
    return Suite(**content)


def select(runs: Sequence[Run], algorithms: Sequence[str], environments: Sequence[str]) -> list[Run]:
    """Return the runs whose algorithm and environment match one of some patterns; no patterns match all."""
    chosen = list(runs)
    for patterns, fields_of in ((algorithms, ("algo", "label")), (environments, ("env",))):
        names = {getattr(run, name) for run in runs for name in fields_of} - {""}
        wanted: set[str] = set()
        for pattern in patterns:
            found = fnmatch.filter(names, pattern)
            if not found:
                raise UsageError(unknown_name_message("algorithm or environment of the suite", pattern, names))
            wanted.update(found)
        if patterns:
            chosen = [run for run in chosen if wanted & {getattr(run, name) for name in fields_of}]
    return chosen


def _check_keys(values: Any, known: Sequence[str], what: str) -> None:
    """Refuse what is no mapping or has other keys, and settings that are no mapping."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{what} must be a mapping, got {values!r}")
    for key, value in values.items():
        if key not in known:
            raise UsageError(unknown_name_message(f"key of {what}", str(key), known))
        if key in ("params", "env_kwargs") and not isinstance(value, Mapping):
            raise UsageError(f"`{key}` of {what} must be a mapping, got {value!r}")
