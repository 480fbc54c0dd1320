"""Reference scores: what a random and an expert policy return, which puts environments on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from agents.common.validation import checked_pair, unknown_name_message
from zoo.runs.read import RunTables, split_environment
from zoo.runs.scores import NORMALISED_RETURN, RETURN
from zoo.settings.layers import load_yaml
from zoo.terminal.errors import UsageError, as_usage_error

FLAG = "--reference-scores"
References = dict[str, tuple[float, float]]
"""Environment -> returns of a random and of an expert policy."""


def read_references(words: Sequence[str], tables: RunTables) -> References:
    """Return the references that runs record, and those of the command line, which win.

    :param words: ``ENV=RANDOM,EXPERT``.
    """
    environments = {*tables.runs["environment"].dropna()}
    of_user: References = {}
    for word in words:
        name, _, values = word.rpartition("=")
        environment = split_environment(name)[0]
        # before the first run begins, nothing says which environments there will be
        if environments and environment not in environments:
            message = unknown_name_message("environment", name, environments)
            raise UsageError(f"`{FLAG}` must be ENV=RANDOM,EXPERT, got `{word}`: {message}")
        with as_usage_error():
            numbers = [load_yaml(part, f"`{word}`") for part in values.split(",")]
            of_user[environment] = checked_pair(f"{FLAG} {word}", numbers)
    return _recorded(tables, of_user) | of_user


def _recorded(tables: RunTables, of_user: References) -> References:
    """Return the references that runs record, of environments for which the user states none."""
    result: References = {}
    is_known = tables.runs["reference_scores"].notna() & ~tables.runs["environment"].isin(of_user)
    for name, pairs_of_runs in tables.runs[is_known].groupby("environment")["reference_scores"]:
        pairs = sorted({(float(random), float(expert)) for random, expert in pairs_of_runs})
        if len(pairs) > 1:
            raise UsageError(
                f"runs on `{name}` record different reference scores, {pairs}; give `{FLAG}` for it"
            )
        result[name] = pairs[0]
    return result


def normalise_returns(tables: RunTables, references: References) -> RunTables:
    """Return the same runs, their returns normalised where there is a reference.

    A normalised return is (return - random) / (expert - random): 0 for the random policy, 1 for the expert. Runs that
    are scored by success stay as they are.
    """

    def normalised(table: pd.DataFrame) -> pd.DataFrame:
        is_chosen = (table["kind"] == RETURN.name) & table["environment"].isin(references)
        return table.assign(kind=table["kind"].mask(is_chosen, NORMALISED_RETURN.name))

    if not references:
        return tables
    evaluations = normalised(tables.evaluations)
    pairs = pd.DataFrame(references, ["random", "expert"])
    random, expert = pairs.reindex(columns=evaluations["environment"]).to_numpy(float)
    is_chosen = evaluations["kind"] == NORMALISED_RETURN.name
    scores = evaluations["score"].mask(
        is_chosen, (evaluations["score"] - random) / (expert - random)
    )
    return RunTables(normalised(tables.runs), evaluations.assign(score=scores))
