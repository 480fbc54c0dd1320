"""Collect what a comparison is made from: own runs, published scores and their methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from agents.common.validation import unknown_name_message
from zoo.report.comparison import MEAN_COLUMNS, OWN, ComparedMethod, by_place, joined
from zoo.report.published_scores import (
    PublishedSet,
    load_means,
    load_runs,
    load_set,
    published_names,
    set_names,
    suite_tasks,
)
from zoo.report.references import References, normalise_returns, read_references
from zoo.report.request import CompareRequest
from zoo.report.scores_file import Scored, places_of_scores, read_scores, with_names
from zoo.report.survival import failed_scores, tallies
from zoo.runs.protocol import PROTOCOL, show
from zoo.runs.read import EVALUATION_COLUMNS, RunTables, read_runs, split_environment
from zoo.runs.scores import NORMALISED_RETURN, SUCCESS
from zoo.terminal.errors import UsageError
from zoo.terminal.messages import log


@dataclass(frozen=True)
class Inputs(Scored):
    """What was found to compare.

    :param own: the tables of own runs, those that do not count included.
    :param failed: what failed runs count for, see `zoo.report.survival.failed_scores`.
    :param uncovered: the published sets and files of scores that have none of the environments of own runs, in words.
    """

    own: RunTables
    sets: Sequence[PublishedSet]
    references: References
    failed: str = "last"
    uncovered: str = ""

    def default_baseline(self) -> str:
        """Return the method that the first published set names, or else the first method of all."""
        for published in self.sets:
            for name, method in self.methods.items():
                if (method.source, method.algorithm) == (published.name, published.baseline):
                    return name
        return min(self.methods)

    def default_focus(self, baseline: str, wished: str = "") -> str | None:
        """Return the method that the report is about unless a user says which.

        It is the one that is wished for, if it is there; else one's own, if there is exactly one beside others; else
        the last of two own ones that is not the baseline.
        """
        if wished in self.methods:
            return wished
        own = [name for name, method in self.methods.items() if method.is_own]
        if len(own) == 2:
            return next(name for name in reversed(own) if name != baseline)
        return own[0] if len(own) == 1 < len(self.methods) else None


def collect(request: CompareRequest) -> Inputs:
    """Read runs and published scores, each method under a unique name; raises UsageError if there are none.

    Runs that do not count are named on standard error.
    """
    sets = [load_set(name, request.expected) for name in dict.fromkeys(request.published)]
    own = read_runs(request.paths, request.merge_protocols)
    skipped = own.skipped()
    for entry in skipped:
        log.info("skipped %s: %s", entry["path"], entry["reason"])
    if request.strict and skipped:
        raise UsageError(f"--strict allows no skipped run, got {len(skipped)}, e.g. {_first_skipped(own)}")
    references = read_references(request.reference_scores, own)
    own = normalise_returns(own, references)
    counted = own.counted()
    if request.paths and counted.empty:
        raise UsageError(nothing_counts(own, request.paths))
    counted = joined([counted, failed_scores(own, request.failed)], EVALUATION_COLUMNS)
    found = {published.name: _read_published(published) for published in sets}
    found |= {source: read_scores(path, source) for path, source in _sources(request.scores, list(found)).items()}
    uncovered = ""
    if request.paths:
        found = {source: _beside(counted, part) for source, part in found.items()}
        if lacking := [source for source, part in found.items() if not part.methods]:
            uncovered = _describe_uncovered(lacking, counted)
            log.info("%s", uncovered)
    methods = _own_methods(own, counted)
    times = Counter([*methods, *(name for part in found.values() for name in part.methods)])
    evaluations = [counted]
    means = []
    for source, part in found.items():
        names = {name: f"{name} ({source})" if times[name] > 1 else name for name in part.methods}
        renamed = part.renamed(names)
        methods |= renamed.methods
        evaluations.append(renamed.evaluations)
        means.append(renamed.means)
    table = joined(evaluations, EVALUATION_COLUMNS)
    means_table = joined(means, MEAN_COLUMNS)
    return _chosen(Inputs(methods, table, means_table, own, sets, references, request.failed, uncovered), request)


def read_labels(words: Sequence[str], methods: Collection[str]) -> dict[str, str]:
    """Return what each method is called: its label, or else its name.

    :param words: such as ``"qam=Ours"``. A name may contain an equals sign itself, a label may not.
    """
    names = {name: name for name in methods}
    for word in words:
        name, _, label = word.rpartition("=")
        if not name or not label.strip():
            raise UsageError(f"`--labels` must be NAME=TEXT, got `{word}`; write e.g. `{min(methods)}=Ours`")
        if name not in names:
            raise UsageError(unknown_name_message("method", name, methods))
        names[name] = label.strip()
    shared = [label for label, times in Counter(names.values()).items() if times > 1]
    if shared:
        raise UsageError(f"`--labels` must give each method a name of its own, got `{shared[0]}` twice; change one")
    return names


def relabelled(inputs: Inputs, names: Mapping[str, str]) -> Inputs:
    """Return inputs whose methods have new names; colours follow the algorithm and stay."""
    runs, evaluations = (with_names(table, names) for table in (inputs.own.runs, inputs.own.evaluations))
    return replace(inputs.renamed(names), own=RunTables(runs, evaluations))


def nothing_counts(own: RunTables, paths: Sequence[Path]) -> str:
    """Return the message for paths without a run that counts."""
    places = ", ".join(str(path) for path in paths)
    if own.runs.empty:
        return f"expected run folders below {places}, got none; a run folder holds the status.json that train.py writes"
    return (
        f"expected finished runs below {places}, got {len(own.runs)} that cannot be counted, e.g. "
        f"{_first_skipped(own)}; zoo/monitor.py shows how far they are"
    )


def _first_skipped(own: RunTables) -> str:
    return "{path}: {reason}".format(**own.skipped()[0])


def _own_methods(own: RunTables, counted: pd.DataFrame) -> dict[str, ComparedMethod]:
    """Return the methods of the runs that count, with the protocol on each environment."""
    runs = own.runs[own.runs["run"].isin(counted["run"])]
    algorithms = runs.groupby("method")["algorithm"].first().replace(published_names())
    protocols = by_place(runs, lambda part: {field: _common(part[field]) for field in PROTOCOL})
    departures = by_place(runs, lambda part: tuple(dict.fromkeys(part["departures"].explode().dropna())))
    settings = by_place(runs, lambda part: _common_settings(part["settings"]))
    found = tallies(own)
    return {
        name: ComparedMethod(
            name,
            algorithms[name],
            OWN,
            protocols[name],
            departures[name],
            tallies=found[name],
            settings=settings[name],
        )
        for name in protocols
    }


def _common_settings(settings: pd.Series) -> dict[str, str]:
    """Return the settings of runs; one that differs between them has all its values."""
    table = pd.DataFrame(list(settings)).fillna("not recorded")
    return {str(name): " or ".join(sorted(set(table[name]))) for name in table}


def _common(values: pd.Series) -> Any:
    """Return what runs share, or all their values as text."""
    found = values.dropna().convert_dtypes().unique().tolist()
    return found[0] if len(found) == 1 else ("; ".join(sorted(map(show, found))) or None)


def _read_published(published: PublishedSet) -> Scored:
    """Return the scores of a set."""
    runs = load_runs(published)
    means = pd.DataFrame(columns=MEAN_COLUMNS)
    if runs is None:
        runs = pd.DataFrame(columns=EVALUATION_COLUMNS)
        means = load_means(published)
        means["domain"] = [split_environment(name)[1] for name in means["environment"]]
        log.info("%s: means without intervals (single runs are not published)", published.name)
    domains = sorted({*runs["domain"], *means["domain"]})
    methods = {
        name: ComparedMethod(
            name,
            name,
            published.name,
            {domain: published.protocol_of(name, domain) for domain in domains},
            scoring=published.scoring,
        )
        for name in sorted({*runs["method"], *means["method"]})
    }
    return Scored(methods, runs, means)


def _beside(own: pd.DataFrame, found: Scored) -> Scored:
    """Return the scores of others on the environments of own runs, where both are of one kind."""
    pairs = own[["environment", "kind"]].drop_duplicates()
    runs = found.evaluations.merge(pairs)
    rated = places_of_scores(pairs.loc[pairs["kind"] == SUCCESS.name, "environment"])
    means = found.means[found.means["environment"].isin(rated)]
    return Scored(found.methods, runs, means).restricted(pairs["environment"])


def _describe_uncovered(sources: Sequence[str], own: pd.DataFrame) -> str:
    """Return which sources have no scores beside own ones, and which published sets have some."""
    wanted = set(own.loc[own["kind"] == SUCCESS.name, "environment"])
    others = [name for name in set_names() if wanted.intersection(suite_tasks(load_set(name).suite))]
    covering = f"`--published {' '.join(others)}` covers some" if others else "no published set covers any"
    return f"{', '.join(sources)} covers none of your environments; {covering}."


def _sources(paths: Sequence[Path], taken: Sequence[str]) -> dict[Path, str]:
    """Return what tables call each file of scores: its folder or name, or its path where that is taken."""
    short = {}
    for path in map(Path.resolve, paths):
        short[path] = path.parent.name if path.stem == "scores" else path.stem
    times = Counter([*short.values(), *taken])
    return {path: name if times[name] == 1 else str(path) for path, name in short.items()}


def _chosen(inputs: Inputs, request: CompareRequest) -> Inputs:
    """Keep the methods and environments that were asked for."""
    asked = {"--baseline": request.baseline, "--focus": request.focus}
    for name in [*request.methods, *request.order, *filter(None, asked.values())]:
        if name not in inputs.methods:
            raise UsageError(unknown_name_message("method", name, inputs.methods))
    chosen = inputs
    wanted = None
    if request.methods:
        chosen = chosen.only("method", request.methods)
    if request.envs:
        known = {*chosen.evaluations["environment"], *chosen.means["environment"]}
        known |= {*inputs.own.runs["environment"].dropna()}
        wanted = {name for name in known if any(fnmatchcase(name, pattern) for pattern in request.envs)}
        chosen = chosen.only("environment", wanted)
    own = chosen.evaluations[chosen.evaluations["source"] == OWN]
    if request.paths and len(own):
        # A phase that no own run has reached says nothing about own runs.
        phases = set(own.loc[own["kind"] == SUCCESS.name, "phase"])
        table = chosen.evaluations
        means = chosen.means
        table = table[table["phase"].isin(phases) | (table["kind"] != SUCCESS.name)]
        chosen = replace(chosen, evaluations=table, means=means[means["phase"].isin(phases)])
    chosen = chosen.restricted(wanted)
    if not chosen.methods:
        raise UsageError(f"expected scores on environments like {', '.join(request.envs or ['any'])}, got none")
    for flag, method in asked.items():
        if method is not None and method not in chosen.methods:
            raise UsageError(f"`{flag}` must be a method of the comparison, got `{method}`, which has no scores in it")
    evaluations = chosen.evaluations
    normalised = set(evaluations.loc[evaluations["kind"] == NORMALISED_RETURN.name, "environment"])
    references = {name: pair for name, pair in inputs.references.items() if name in normalised}
    return replace(chosen, references=references)
