"""Reference scores: what a random and an expert policy return, which puts environments on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agents.common.validation import checked_pair, unknown_name_message
from zoo.runs.read import RunTables, split_environment
from zoo.runs.scores import NORMALISED_RETURN, RETURN
from zoo.settings.layers import load_yaml, read_yaml
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import say_once

FLAG = "--reference-scores"
References = dict[str, tuple[float, float]]
"""Environment -> returns of a random and of an expert policy."""


def read_references(words: Sequence[str], tables: RunTables) -> References:
    """Read reference scores, check them, and return those of the environments that have runs.

    An environment that is given on the command line must be one whose runs are scored by their return. A file may list
    others too, since one file serves many comparisons; they are named on standard error.

    Runs that record references of their own need none; what is given here wins.

    :param words: ``ENV=RANDOM,EXPERT``, or names of YAML files of ``env: [random, expert]``; later words win.
    """
    has_returns = tables.runs["kind"].isin((RETURN.name, NORMALISED_RETURN.name))
    environments = set(tables.runs.loc[has_returns, "environment"].dropna())
    result: References = {}
    for word in words:
        pairs = _read(word)
        unknown = []
        for name, pair in pairs.items():
            if name in environments:
                result[name] = pair
            else:
                unknown.append(unknown_name_message("environment with returns", name, environments))
        if len(unknown) == len(pairs):
            raise UsageError(f"`{FLAG}` {word}: {'; '.join(unknown)}")
        for problem in unknown:
            # `zoo monitor --watch` asks again and again.
            say_once(f"{word}: {problem}; its reference is not used")
    return _recorded(tables, result) | result


def _read(word: str) -> References:
    """Return the references of a word of the command line, or of the YAML file that it names."""
    content = None
    name, _, values = word.rpartition("=")
    if Path(word).is_file():
        content = read_yaml(Path(word), f"`{FLAG}`")
    elif name:
        numbers = [load_yaml(part, f"`{word}`") for part in values.split(",")]
        if len(numbers) == 2:
            content = {name: numbers}
    if not isinstance(content, dict) or not content:
        raise UsageError(
            f"`{FLAG}` must be ENV=RANDOM,EXPERT or a file of `env: [random, expert]`, got `{word}`"
        )
    with as_usage_error():
        return {
            split_environment(str(name))[0]: checked_pair(f"{FLAG} {word}: {name}", pair)
            for name, pair in content.items()
        }


def _recorded(tables: RunTables, given_pairs: References) -> References:
    """Return the references that runs record, of environments without a given one."""
    result: References = {}
    is_known = tables.runs["reference_scores"].notna() & (tables.runs["kind"] == RETURN.name)
    recorded = tables.runs[is_known & ~tables.runs["environment"].isin(given_pairs)]
    for name, pairs_of_runs in recorded.groupby("environment")["reference_scores"]:
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
    if not references:
        return tables

    def normalised(table: pd.DataFrame) -> pd.DataFrame:
        is_chosen = (table["kind"] == RETURN.name) & table["environment"].isin(references)
        return table.assign(kind=table["kind"].mask(is_chosen, NORMALISED_RETURN.name))

    evaluations = normalised(tables.evaluations)
    pairs = pd.DataFrame(references, ["random", "expert"])
    random, expert = pairs.reindex(columns=evaluations["environment"]).to_numpy(float)
    scores = evaluations["score"].astype(float)
    is_chosen = evaluations["kind"] == NORMALISED_RETURN.name
    scores = scores.mask(is_chosen, (scores - random) / (expert - random))
    return RunTables(normalised(tables.runs), evaluations.assign(score=scores))
