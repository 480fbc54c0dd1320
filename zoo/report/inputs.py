"""Collect the inputs of a comparison: the user's runs, published scores, and the methods of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pandas as pd

from agents.common.validation import checked_pair, unknown_name_message
from zoo.datasets.names import split_environment
from zoo.report.comparison import OWN_RUNS, ComparedMethod, Tally, by_place, joined
from zoo.report.request import CompareRequest
from zoo.report.scores import (
    PublishedSet,
    ScoreTables,
    load_set,
    published_names,
    read_scores,
)
from zoo.runs.folder import DIVERGED
from zoo.runs.protocol import PROTOCOL, phase_ends
from zoo.runs.read import EVALUATION_COLUMNS, RunTables, read_runs
from zoo.runs.scores import NORMALISED_RETURN, SUCCESS
from zoo.settings.layers import load_yaml
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.terminal.parser import match_names

References = dict[str, tuple[float, float]]
"""Environment -> returns of a random and of an expert policy."""


@dataclass(frozen=True)
class Inputs(ScoreTables):
    """The scores to compare.

    :param own_runs: the user's runs, including skipped ones; their scores are in `evaluations`, not in this attribute.
    """

    own_runs: RunTables
    sets: Sequence[PublishedSet]
    references: References

    def focus(self, wished: str) -> str | None:
        """Return the subject of the verdicts, or None for the leading method of each phase.

        The subject is the requested method if it exists, otherwise the user's only method if there are also other
        methods.
        """
        if wished in self.methods:
            return wished
        own_methods = [name for name, method in self.methods.items() if method.is_own]
        if len(own_methods) == 1 < len(self.methods):
            return own_methods[0]
        return None


def collect(request: CompareRequest) -> Inputs:
    """Read runs and published scores, each method under a unique name; raises UsageError if there are no scores.

    Skipped runs are logged.
    """
    sets = [load_set(name) for name in dict.fromkeys(request.published)]
    own_runs = read_runs(request.paths)
    for entry in own_runs.skipped():
        log.info("skipped %s: %s", entry["path"], entry["reason"])
    references = read_references(request.reference_scores, own_runs)
    evaluations_of_runs = normalise_returns(own_runs.evaluations, references)
    own_runs = replace(own_runs, evaluations=evaluations_of_runs)
    counted = own_runs.counted()
    if request.paths and counted.empty:
        reasons = [f"{entry['path']}: {entry['reason']}" for entry in own_runs.skipped()]
        raise UsageError(
            f"expected finished runs below {', '.join(map(str, request.paths))}, got "
            f"{reasons[0] if reasons else 'no run folder'}; `zoo monitor` shows their states"
        )
    counted = joined([counted, _failed_scores(own_runs)], EVALUATION_COLUMNS)
    # as in files, where means have no seed
    counted = counted.astype({"seed": "Int64"})
    parts = {published.name: published.scores for published in sets}
    for path in request.scores:
        # name the source by its path, because every report has a file scores.csv
        part = _read_file(path)
        parts[str(path)] = replace(part, table=normalise_returns(part.table, references))
    if request.paths:
        parts = {source: _restricted_to(counted, part) for source, part in parts.items()}
    methods = _own_methods(own_runs, counted)
    # the user's methods keep their names; the source is added to other methods' names that are not unique
    sourced = {
        source: {name: f"{name} ({source})" for name in part.methods}
        for source, part in parts.items()
    }
    # the file of another report may contain names with sources already
    times = Counter(chain(methods, *sourced.values(), *map(dict.values, sourced.values())))
    tables = [counted]
    for source, part in parts.items():
        if not part.methods:
            log.warning("%s has no scores for the environments and phases of your runs", source)
        names = {n: longer if times[n] > 1 else n for n, longer in sourced[source].items()}
        renamed = part.renamed(names)
        methods |= renamed.methods
        tables.append(renamed.table)
    table = joined(tables, [*EVALUATION_COLUMNS, "seeds"])
    # evaluations may take hundreds of megabytes, so do not keep a second copy
    own_runs = replace(own_runs, evaluations=table.iloc[:0])
    inputs = Inputs(methods, table, own_runs, sets, references)
    return _chosen(inputs, request)


def _own_methods(tables: RunTables, counted: pd.DataFrame) -> dict[str, ComparedMethod]:
    """Return the methods of the counted runs, with their protocol on each environment."""
    runs = tables.runs[tables.runs["run"].isin(counted["run"])]
    algorithms = runs.groupby("method")["algorithm"].first().replace(published_names())
    # all runs of a method on an environment have the same settings
    first_runs = runs.drop_duplicates(["method", "environment"])
    # restore integers, which pandas converts to floats in columns with missing values
    fields = first_runs[[*PROTOCOL]].convert_dtypes().astype(object)
    fields = fields.where(fields.notna(), None)
    protocols = by_place(first_runs, lambda part: fields.loc[part.index[0]].to_dict())
    departures = by_place(first_runs, lambda part: part["departures"].iloc[0])
    tallies_by_method = _tallies(tables)  # includes unfinished runs
    methods = {}
    for name, algorithm in algorithms.items():
        methods[name] = ComparedMethod(
            algorithm,
            OWN_RUNS,
            protocols[name],
            departures[name],
            tallies=tallies_by_method[name],
        )
    return methods


def _read_file(path: Path) -> ScoreTables:
    """Return the scores of a file, with the steps and episodes of each method as its protocol."""
    scores = read_scores(path, str(path))
    methods = dict(scores.methods)
    for name, protocols in by_place(scores.evaluations, _protocol_of_rows).items():
        methods[name] = replace(methods[name], protocols=protocols)
    return replace(scores, methods=methods)


def _protocol_of_rows(evaluations: pd.DataFrame) -> dict[str, int]:
    """Return the steps and episodes of a method's runs on an environment.

    Online scores alone do not show how many of their steps were offline.
    """
    protocol = {"eval_episodes": int(evaluations["episodes"].min())}
    ends = evaluations.groupby("phase")["step"].max()
    if "offline" in ends:
        offline = int(ends["offline"])
        protocol["offline_steps"] = offline
        protocol["online_steps"] = int(ends.get("online", offline)) - offline
    else:
        protocol["last_step"] = int(ends["online"])
    return protocol


def _restricted_to(own_scores: pd.DataFrame, scores: ScoreTables) -> ScoreTables:
    """Return scores restricted to the environments, phases and kinds of the user's scores."""
    # never compare a return with a success rate
    places = own_scores[["environment", "domain", "phase", "kind"]].drop_duplicates()
    # a published mean may be over a domain
    by_domain = places.assign(environment=places["domain"])
    table = scores.table.merge(pd.concat([places, by_domain]).drop_duplicates())
    return replace(scores, table=table).restricted(places["environment"])


def _chosen(inputs: Inputs, request: CompareRequest) -> Inputs:
    """Keep the requested methods and environments."""
    for name in request.methods:
        if name not in inputs.methods:
            raise UsageError(unknown_name_message("method", name, inputs.methods))
    chosen = inputs
    # select methods first, because the environments depend on them
    if request.methods:
        chosen = chosen.only("method", request.methods)
    # include environments without a finished run, for the tallies
    evaluated = {*chosen.table["environment"], *inputs.own_runs.runs["environment"].dropna()}
    environments = match_names(request.envs, evaluated, "environment")
    chosen = chosen.only("environment", environments).restricted(environments)
    if not chosen.methods:
        raise UsageError(
            f"expected scores on {', '.join(sorted(environments))}, got none; choose other --methods or --envs"
        )
    table = chosen.table
    normalised = {*table.loc[table["kind"] == NORMALISED_RETURN.name, "environment"]}
    references = {name: pair for name, pair in inputs.references.items() if name in normalised}
    return replace(chosen, references=references)


# -- runs that did not finish -----------------------------------------------------------------------------------------


def _tallies(tables: RunTables) -> dict[str, dict[str, Tally]]:
    """Return method -> environment -> the numbers of started, finished and failed runs; replaced runs do not count."""

    def tally(runs: pd.DataFrame) -> Tally:
        finished = int(runs["problem"].isna().sum())
        return Tally(len(runs), finished, int(_has_failed(runs).sum()))

    return by_place(tables.runs[tables.runs["replaced_by"].isna()], tally)


def _failed_scores(tables: RunTables) -> pd.DataFrame:
    """Return the evaluations of failed runs, each run's last one carried forward, columns `EVALUATION_COLUMNS`.

    If failed runs were left out, a method would look better than it is. The last score is repeated at the end of each
    phase, and at each later step at which finished runs of the same method on the same environment were evaluated. A
    run has no score if it was not evaluated after step 0.
    """
    runs = tables.runs
    failed = runs[runs["replaced_by"].isna() & _has_failed(runs)]
    counted = tables.counted()
    parts = []
    for row in failed.to_dict("records"):
        evaluations = tables.evaluations[tables.evaluations["run"] == row["run"]]
        if not (evaluations["step"] > 0).any():
            continue
        finished = counted[
            (counted["method"] == row["method"]) & (counted["environment"] == row["environment"])
        ]
        due = {*phase_ends(row).items(), *zip(finished["phase"], finished["step"], strict=True)}
        last = evaluations.iloc[-1].to_dict()
        carried = [
            {**last, "phase": phase, "step": step}
            for phase, step in sorted(due)
            if (phase, step) > (last["phase"], last["step"])
        ]
        parts += [evaluations, pd.DataFrame(carried, columns=EVALUATION_COLUMNS)]
    return joined(parts, EVALUATION_COLUMNS)


def _has_failed(runs: pd.DataFrame) -> pd.Series:
    return runs["state"].isin(["failed", DIVERGED])


# -- returns of a random and an expert policy, which give environments a common scale --------------------------------


def read_references(words: Sequence[str], tables: RunTables) -> References:
    """Return the references that the runs recorded, overridden by the command line's references.

    :param words: references of the command line, each ``ENV=LOW,HIGH``.
    """
    environments = {*tables.runs["environment"].dropna()}
    from_user: References = {}
    for word in words:
        name, _, values = word.rpartition("=")
        environment = split_environment(name)[0]
        # without runs, the environments are unknown
        if environments and environment not in environments:
            message = unknown_name_message("environment", name, environments)
            raise UsageError(f"`--reference-scores` must be ENV=LOW,HIGH, got `{word}`: {message}")
        with as_usage_error():
            numbers = [load_yaml(part, f"`{word}`") for part in values.split(",")]
            from_user[environment] = checked_pair(f"--reference-scores {word}", numbers)
    return _recorded(tables, from_user) | from_user


def _recorded(tables: RunTables, from_user: References) -> References:
    """Return the references that the runs recorded, for environments without a reference from the user."""
    result: References = {}
    is_known = tables.runs["reference_scores"].notna() & ~tables.runs["environment"].isin(from_user)
    for name, pairs_of_runs in tables.runs[is_known].groupby("environment")["reference_scores"]:
        pairs = sorted({(float(random), float(expert)) for random, expert in pairs_of_runs})
        if len(pairs) > 1:
            raise UsageError(
                f"runs on `{name}` have different reference scores, {pairs}; set `--reference-scores {name}=LOW,HIGH`"
            )
        result[name] = pairs[0]
    return result


def normalise_returns(evaluations: pd.DataFrame, references: References) -> pd.DataFrame:
    """Return evaluations, with returns normalised on environments that have a reference.

    A normalised return is (return - random) / (expert - random): 0 for the random policy, 1 for the expert. Success is
    unchanged. The returns of another report may have been normalised with other references, so they are normalised
    again, from the column ``return``.
    """
    pairs = pd.DataFrame(references, ["random", "expert"])
    random, expert = pairs.reindex(columns=evaluations["environment"]).to_numpy(float)
    scores, kinds = evaluations["score"], evaluations["kind"]
    returns = scores.mask(kinds == NORMALISED_RETURN.name, evaluations["return"])
    # NaN without a reference or a return
    normalised = (returns - random) / (expert - random)
    is_chosen = (kinds != SUCCESS.name) & normalised.notna()
    return evaluations.assign(
        kind=kinds.mask(is_chosen, NORMALISED_RETURN.name),
        score=scores.mask(is_chosen, normalised),
    )
