"""Published scores: the available sets, their protocols, and their scores as tables.

They are in ``results/published``, in a checkout and in an installed package: ``sets.yml`` describes them. The scores
of a set are single runs, which give intervals, or means if only these were published.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from agents.common.files import read_text
from agents.common.validation import unknown_name_message
from zoo.datasets.names import single_task_names
from zoo.report.comparison import ComparedMethod, joined
from zoo.report.scores_file import ScoreTables, read_scores
from zoo.runs.protocol import describe_layers
from zoo.runs.versions import simulator
from zoo.settings.layers import load_yaml
from zoo.terminal.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
_INSTALL_AGAIN = "install the package again"


@dataclass(frozen=True)
class PublishedSet:
    """A set of published scores, the fields of its entry in ``sets.yml``.

    :param suite: name of its list of tasks.
    :param protocol: fields of `zoo.runs.read.PROTOCOL` on most domains.
    :param scoring: definition of its scores; None for the last evaluation.
    :param domains: domain -> its different fields.
    :param methods: method -> its different fields, and under ``domains`` the fields that differ on a domain.
    :param equal_settings: method -> domain -> methods with equal settings, whose runs are shared.
    """

    name: str
    title: str
    authors: str
    reference: str
    date: Any
    source: str
    suite: str
    protocol: dict[str, Any]
    notes: Sequence[str] = ()
    scoring: str | None = None
    domains: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    equal_settings: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def protocol_of(self, method: str, domain: str) -> dict[str, Any]:
        """Return the fields of `zoo.runs.read.PROTOCOL` of a method on a domain; None if not stated."""
        protocol = self.protocol | self.domains.get(domain, {})
        protocol |= self.methods.get(method, {})
        protocol |= protocol.pop("domains", {}).get(domain, {})
        return protocol | {
            "net_arch": describe_layers(protocol.get("net_arch")),
            "mujoco": simulator(domain, protocol.get("mujoco")),
        }

    @cached_property
    def scores(self) -> ScoreTables:
        """Its scores, with the protocol of each method; raises UsageError if its file is damaged.

        Seeds are not paired: their order differs between tasks and methods.
        """
        path = FOLDER / f"{self.name}.csv"
        if not path.exists():
            path = FOLDER / f"{self.name}.csv.gz"
        tables = read_scores(path, self.name)
        domains = sorted({*tables.evaluations["domain"], *tables.means["domain"]})
        methods = {}
        for name in sorted(tables.methods):
            protocols = {domain: self.protocol_of(name, domain) for domain in domains}
            methods[name] = ComparedMethod(name, name, self.name, protocols, scoring=self.scoring)
        return ScoreTables(methods, tables.evaluations, tables.means)

    @property
    def pooled(self) -> ScoreTables:
        """Its scores, with the runs of methods with equal settings shared."""
        runs = self.scores.evaluations
        parts = [runs]
        for method, domains in self.equal_settings.items():
            for domain, equal_methods in domains.items():
                for number, equal_method in enumerate(equal_methods, start=1):
                    same = runs[(runs["method"] == equal_method) & (runs["domain"] == domain)]
                    # separate runs, although the seeds have the same numbers
                    seeds = same["seed"] + number * (1 + runs["seed"].max())
                    parts.append(same.assign(method=method, algorithm=method, seed=seeds))
        return replace(self.scores, evaluations=joined(parts, runs.columns))


def load_set(name: str) -> PublishedSet:
    """Return a set of published scores; raises UsageError if there is no such set."""
    sets = _metadata()["sets"]
    if name not in sets:
        raise UsageError(unknown_name_message("set of published scores", name, sets))
    return PublishedSet(name, **sets[name])


def set_names() -> list[str]:
    """Return the names of all sets."""
    return list(_metadata()["sets"])


def suite_tasks(name: str) -> tuple[str, ...]:
    """Return the environments of a suite, sorted; raises UsageError if there is no such suite."""
    suites = _metadata()["suites"]
    if name not in suites:
        raise UsageError(unknown_name_message("suite of tasks", name, suites))
    return tuple(sorted(chain.from_iterable(map(tasks_of, suites[name]))))


def suite_of(tasks: Collection[str]) -> str | None:
    """Return the suite that consists of some tasks, or None."""
    for name in _metadata()["suites"]:
        if set(suite_tasks(name)) == set(tasks):
            return name
    return None


def published_names() -> dict[str, str]:
    """Return the name under which each algorithm is published, e.g. ``"qam_e"`` -> ``"QAM-E"``."""
    return dict(_metadata()["methods"])


def tasks_of(name: str) -> list[str]:
    """Return the tasks of a domain, e.g. ``"scene-play"``; the name of a task stands for itself."""
    if "-singletask-" in name:
        return [name]
    return single_task_names(f"{name}-v0")[1:]  # the first name is an alias


def _metadata() -> dict[str, Any]:
    path = FOLDER / "sets.yml"
    if not path.exists():
        raise UsageError(
            f"expected the published tables in `{FOLDER}`, got no such folder; {_INSTALL_AGAIN}"
        )
    return _parsed(read_text(path), str(path))


# cached by text, so that a changed file is read again
@cache
def _parsed(text: str, name: str) -> dict[str, Any]:
    return dict(load_yaml(text, name))
