"""Published scores: which sets there are, their protocols, and their scores as tables.

The tables of means in ``results/published`` come with the code, in a checkout and in an installed package. Data of
single runs, which give intervals, are imported on demand (`zoo.report.published_import`).
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from agents.common.validation import unknown_name_message
from zoo.datasets.names import single_task_names
from zoo.errors import UsageError
from zoo.runs.history import PHASES
from zoo.runs.read import describe_layers, split_environment
from zoo.runs.scores import SUCCESS

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
NOT_EVALUATED = -1
"""What stands in imported counts of successes where a method was not evaluated."""


@dataclass(frozen=True)
class PublishedSet:
    """A set of published scores.

    :param about: ``title``, ``authors``, ``reference``, ``date``, ``source`` and ``notes``.
    :param protocol: fields of `zoo.runs.read.PROTOCOL` on most domains.
    :param domains: domain -> the fields that differ there.
    :param methods: method -> the fields that differ for it.
    :param raw: where the data of single runs are, or None.
    """

    name: str
    about: dict[str, Any]
    proposed: str
    protocol: dict[str, Any]
    domains: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    raw: dict[str, Any] | None

    @property
    def imported(self) -> Path:
        """Where imported data of single runs are kept: below ``$XDG_CACHE_HOME``, or ``~/.cache`` without it."""
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return folder / "flow-rl-zoo" / "published" / f"{self.name}.npz"

    def protocol_of(self, method: str, domain: str) -> dict[str, Any]:
        """Return the fields of `zoo.runs.read.PROTOCOL` of a method on a domain; None where the source does not say."""
        protocol = {**self.protocol, **self.domains.get(domain, {}), **self.methods.get(method, {})}
        return {**protocol, "net_arch": describe_layers(protocol["net_arch"])}


def load_set(name: str) -> PublishedSet:
    """Return what is known about a set of published scores; raises UsageError if there is no such set."""
    sets = _metadata()["sets"]
    if name not in sets:
        raise UsageError(unknown_name_message("set of published scores", name, sets))
    entry = sets[name]
    about: dict[str, Any] = {key: str(entry[key]) for key in ("title", "authors", "reference", "date", "source")}
    about["notes"] = list(entry["notes"])
    return PublishedSet(
        name,
        about,
        proposed=entry["proposed"],
        protocol=entry["protocol"],
        domains=entry["domains"],
        methods=entry.get("methods", {}),
        raw=entry.get("raw"),
    )


def set_names() -> list[str]:
    """Return the names of all sets."""
    return list(_metadata()["sets"])


def published_names() -> dict[str, str]:
    """Return the name under which each algorithm is published, e.g. ``"qam_e"`` -> ``"QAM-E"``."""
    return dict(_metadata()["methods"])


def tasks_of(domain: str) -> list[str]:
    """Return the environments of the tasks of a domain, e.g. of ``"scene-play"``."""
    return single_task_names(f"{domain}-v0")[1:]


def load_means(published: PublishedSet) -> pd.DataFrame:
    """Return the published means over seeds.

    The columns are ``method``, ``phase``, ``step``, ``environment`` (a task, or a domain), ``mean`` and ``sd`` (sample
    standard deviation over seeds; fractions) and ``seeds``.
    """
    return pd.read_csv(FOLDER / f"{published.name}.csv")


def load_runs(published: PublishedSet) -> pd.DataFrame | None:
    """Return the imported data of single runs, one row for each evaluation, or None if nothing was imported.

    The columns are `zoo.runs.read.EVALUATION_COLUMNS` without returns and lengths. The seed is the number of a column.
    It pairs nothing, because the columns of different tasks and methods are in different orders. Raises UsageError if
    the file is damaged.
    """
    path = published.imported
    if not path.exists():
        return None
    names = ("methods", "environments", "steps", "successes", "episodes", "offline_steps")
    try:
        with np.load(path, allow_pickle=False) as file:
            methods, environments, steps, successes, episodes, offline_steps = (file[name] for name in names)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"`{path}` cannot be read ({error}); run `zoo published import {published.name}`") from error
    where = np.nonzero(successes != NOT_EVALUATED)
    method, environment, step, seed = where
    methods = methods.astype(object)  # shares one string between all rows
    parts = np.array([split_environment(str(name)) for name in environments], dtype=object)
    count = successes[where].astype(int)
    columns = {
        "method": methods[method],
        "algorithm": methods[method],
        "source": published.name,
        **{name: parts[environment, k] for k, name in enumerate(("environment", "domain", "task"))},
        "seed": seed,
        "phase": np.where(steps[step] <= offline_steps, *PHASES),
        "step": steps[step],
        "successes": count,
        "episodes": int(episodes),
        "kind": SUCCESS.name,
        "score": count / int(episodes),
        "run": published.name,
    }
    return pd.DataFrame(columns)


def _metadata() -> dict[str, Any]:
    path = FOLDER / "sets.yml"
    if not path.exists():
        raise UsageError(f"expected the published tables in `{FOLDER}`, got no such folder; install the package again")
    return yaml.safe_load(path.read_text())
