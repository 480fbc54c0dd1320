"""Own scores beside the published ones of the same algorithm, with a verdict."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from zoo.report.comparison import OWN_RUNS, ComparedMethod, Methods
from zoo.report.compute import episodes_of, final_scores
from zoo.report.published_scores import PublishedSet, load_means, published_names, tasks_of
from zoo.report.statistics.estimates import Estimate, welch_mean
from zoo.report.statistics.means import Episodes, Scores, seed_variances
from zoo.runs.folder import PHASES
from zoo.runs.protocol import describe_settings, protocol_differences, setting_differences
from zoo.runs.read import split_environment
from zoo.runs.scores import SUCCESS
from zoo.settings.layers import DEFAULT_PROFILE, merge, shared_profile
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError


def reproduce(
    methods: Methods,
    evaluations: pd.DataFrame,
    sets: Sequence[PublishedSet],
    tolerance: float,
) -> pd.DataFrame:
    """Return own scores beside published ones: for each task, each complete domain, and all published domains.

    The interval of the difference is Welch's, from the spread over seeds on both sides: that of own runs is at least
    that of their episodes, that of published ones is as published. Own and published seeds are not paired. The verdict
    is ``"agrees"`` where the whole interval is within the tolerance, and ``"differs"`` where all of it is outside.

    :param evaluations: evaluations of runs; published scores are success rates, so returns are ignored.
    :param tolerance: the largest difference that still agrees, as a fraction.
    :return: a row for each ``phase``, ``method``, ``source`` and ``where``: a task, a domain, or ``all`` domains. Its
        columns are what `_compared` returns; ``verdict``, which is also ``open`` (more seeds would tell) or ``no
        interval``; ``protocol``, where protocols and settings differ, in words; and the ``tally`` of own runs.
    """
    runs = evaluations[(evaluations["source"] == OWN_RUNS) & (evaluations["kind"] == SUCCESS.name)]
    if not sets or runs.empty:
        return pd.DataFrame()
    tables = [(published, load_means(published)) for published in sets]
    rows = []
    for phase in PHASES:
        runs_of_phase = runs[runs["phase"] == phase]
        own_scores = final_scores(runs_of_phase)
        played = episodes_of(runs_of_phase)  # a success rate varies at least as its episodes do
        for published, table in tables:
            for name, scores in own_scores.items():
                method = methods[name]
                is_same = (table["phase"] == phase) & (table["method"] == method.algorithm)
                means = table[is_same].set_index("environment")
                for where, places in _places(scores, means).items():
                    tasks = sorted(chain(*map(tasks_of, places)))
                    numbers = _compared(
                        {task: scores[task] for task in tasks}, means.loc[places], played[name]
                    )
                    row = {
                        "phase": phase,
                        "where": where,
                        "method": name,
                        "source": published.name,
                        "verdict": _verdict(numbers["difference"], tolerance),
                        "protocol": _departures(phase, method, tasks, published),
                        "tally": method.tally(tasks),
                    }
                    rows.append(row | numbers)
    return pd.DataFrame(rows)


def _places(scores: Scores, means: pd.DataFrame) -> dict[str, list[str]]:
    """Return where both have scores: place -> the published places that it consists of."""
    places = {}
    domains = []
    for name in means.index:
        tasks = tasks_of(name)
        if scores.keys() >= set(tasks):
            places[name] = [name]
        if len(tasks) > 1:
            domains.append(name)
    # an average over some of the domains is no published number
    if domains and places.keys() >= set(domains):
        places["all"] = domains
    return places


def _compared(scores: Scores, published: pd.DataFrame, episodes: Episodes) -> dict[str, Any]:
    """Return means and seeds of both sides, and the difference own minus published mean.

    The own seeds are the smallest and the largest number of runs of a task.

    :param published: its rows.
    """
    variances = seed_variances(scores, episodes)[:, 0]
    seeds = [*map(len, scores.values())]
    rows = len(published)
    means = np.array([scores[task].mean() for task in sorted(scores)])
    return {
        "published_mean": float(published["mean"].mean()),
        "published_seeds": int(published["seeds"].min()),
        "own_mean": float(means.mean()),
        "own_seeds": (min(seeds), max(seeds)),
        # one sum of independent means: own tasks count positively, published places negatively
        "difference": welch_mean(
            [*means / len(means), *-published["mean"] / rows],
            [*variances / len(means) ** 2, *published["sd"] ** 2 / rows**2],
            [*seeds, *published["seeds"]],
            limits=(-1.0, 1.0),  # of a difference of success rates
        ),
    }


def _departures(
    phase: str, method: ComparedMethod, tasks: Sequence[str], published: PublishedSet
) -> list[str]:
    """Return where protocols and settings differ on some tasks, in words, and how the published scores were taken."""
    phrases = set()
    for task in method.protocols:
        if task in tasks:
            phrases.update(set_differences(phase, method, task, published))
    departures = sorted(phrases)
    if published.scoring:
        departures.append(f"scoring {published.scoring}")
    return departures


def set_differences(
    phase: str, method: ComparedMethod, task: str, published: PublishedSet
) -> list[str]:
    """Return where a method's protocol and settings on a task are not those of a set of published scores.

    They are compared with those of the same algorithm in the set; where the set lacks it, with what the set's protocol
    says to every algorithm.
    """
    published_protocol = published.protocol_of(method.algorithm, split_environment(task)[1])
    differences = protocol_differences(phase, method.protocols[task], published_protocol)
    settings = expected_settings(method.algorithm, task, published_protocol.get("profile"))
    if settings is None:
        return [*differences, "settings not compared"]
    own_settings = method.settings.get(task, {})
    # an algorithm of one's own shares only some settings with what the profile says to all
    if method.algorithm not in published_names().values():
        own_settings = {name: value for name, value in own_settings.items() if name in settings}
        settings = {name: settings[name] for name in own_settings}
    return differences + setting_differences(own_settings, settings)


def _verdict(difference: Estimate, tolerance: float) -> str:
    """Return what an interval says about a tolerance."""
    if difference.interval is None:
        return "no interval"
    low, high = difference.interval
    if low > tolerance or high < -tolerance:
        return "differs"
    if low >= -tolerance and high <= tolerance:
        return "agrees"
    return "open"


@cache
def expected_settings(
    published: str, environment: str, profile: str | None
) -> dict[str, str] | None:
    """Return the settings of a published algorithm, in the form of `zoo.runs.protocol.describe_settings`.

    The algorithm's class knows the settings that no file states.

    :param published: the name under which it is published.
    :param profile: the profile of the published scores; None: the default one.
    :return: None for a profile that does not exist; for an algorithm that this zoo does not have, what the profile says
        to all of them.
    """
    ids = {name: algorithm for algorithm, name in published_names().items()}
    domain = split_environment(environment)[1]
    profile = profile or DEFAULT_PROFILE
    if published not in ids:
        settings: dict[str, Any] = {}
        for name in (DEFAULT_PROFILE, profile):
            for entry in ("default", domain):
                settings = merge(settings, shared_profile(name).get(entry, {}))
        return describe_settings(settings)
    # here, since it imports PyTorch, which only own runs beside published ones need
    config = importlib.import_module("zoo.settings.config")
    try:
        request = TrainRequest(algo=ids[published], env=environment, profile=profile, device="cpu")
        merged = config.load_config(request, config.Benchmark(domain))
    except UsageError:
        return None
    return describe_settings(merged.settings)
