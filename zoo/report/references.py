"""Reference scores: what a random and an expert policy return, which puts environments on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.validation import checked_pair, unknown_name_message
from zoo.errors import UsageError, as_usage_error
from zoo.runs.read import RunTables, split_environment
from zoo.runs.scores import NORMALISED_RETURN, RETURN, SUCCESS, SUCCESS_BY_RETURN, VALUE
from zoo.settings.layers import load_yaml, read_yaml_text
from zoo.terminal.messages import log

FLAG = "--reference-scores"
References = dict[str, tuple[float, float]]
"""Environment -> returns of a random and of an expert policy."""


def read_references(words: Sequence[str], own: RunTables) -> References:
    """Read reference scores, check them, and return those of the environments that have runs.

    An environment that is given on the command line must be one whose runs are scored by their return. A file may list
    others too, since one file serves many comparisons; they are named on standard error.

    Runs that record references of their own need none; what is given here wins.

    :param words: ``ENV=RANDOM,EXPERT``, or names of YAML files of ``env: [random, expert]``; later words win.
    """
    others = (SUCCESS.name, SUCCESS_BY_RETURN.name, VALUE.name)
    is_known = ~own.runs["kind"].isin(others) & own.runs["environment"].notna()
    known = set(own.runs.loc[is_known, "environment"])
    result: References = {}
    for word in words:
        is_file = Path(word).is_file()
        found = _read_file(Path(word)) if is_file else dict([_read_word(word)])
        unknown = [unknown_name_message("environment with returns", name, known) for name in found if name not in known]
        if len(unknown) == len(found):
            raise UsageError(f"`{FLAG}` {word}: {'; '.join(unknown)}")
        for problem in unknown:
            log.info("%s: %s; its reference is not used", word, problem)
        result |= {name: pair for name, pair in found.items() if name in known}
    return _recorded(own, result) | result


def _recorded(own: RunTables, given: Mapping[str, tuple[float, float]]) -> References:
    """Return the references that runs record, of environments without a given one."""
    result: References = {}
    is_known = own.runs["reference_scores"].notna() & (own.runs["kind"] == RETURN.name)
    known = own.runs[is_known & ~own.runs["environment"].isin(given)]
    for name, found in known.groupby("environment")["reference_scores"]:
        pairs = sorted({(float(random), float(expert)) for random, expert in found})
        if len(pairs) > 1:
            texts = " and ".join(f"{random:g},{expert:g}" for random, expert in pairs)
            raise UsageError(
                f"runs on `{name}` record different reference scores, {texts}; say which normalise all of them, e.g. "
                f"`{FLAG} {name}={pairs[0][0]:g},{pairs[0][1]:g}`"
            )
        result[str(name)] = pairs[0]
    return result


def normalise_returns(own: RunTables, references: Mapping[str, tuple[float, float]]) -> RunTables:
    """Return the same runs, their returns normalised where there is a reference.

    A normalised return is (return - random) / (expert - random): 0 for the random policy, 1 for the expert. Runs that
    are scored by success stay as they are.
    """
    runs, evaluations = (
        table.assign(
            kind=table["kind"].mask(
                (table["kind"] == RETURN.name) & table["environment"].isin(references), NORMALISED_RETURN.name
            )
        )
        for table in (own.runs, own.evaluations)
    )
    chosen = evaluations["kind"] == NORMALISED_RETURN.name
    pairs = np.array([references[name] for name in evaluations.loc[chosen, "environment"]]).reshape(-1, 2)
    scores = evaluations["score"].to_numpy(float, copy=True)
    scores[chosen] = (scores[chosen] - pairs[:, 0]) / (pairs[:, 1] - pairs[:, 0])
    return replace(own, runs=runs, evaluations=evaluations.assign(score=scores))


def _read_word(word: str) -> tuple[str, tuple[float, float]]:
    name, _, values = word.rpartition("=")
    parts = values.split(",")
    if not name or len(parts) != 2:
        raise UsageError(f"`{FLAG}` must be ENV=RANDOM,EXPERT or a YAML file that exists, got `{word}`")
    return _checked(name, [load_yaml(part, f"`{word}`") for part in parts], word)


def _read_file(path: Path) -> References:
    content = load_yaml(read_yaml_text(path, f"`{FLAG}`"), f"`{FLAG}` {path}")
    if not isinstance(content, dict) or not content:
        raise UsageError(f"`{FLAG}` {path} must hold `env: [random, expert]` for each environment, got {content!r}")
    return dict(_checked(str(name), pair, str(path)) for name, pair in content.items())


def _checked(name: str, pair: Any, origin: str) -> tuple[str, tuple[float, float]]:
    """Return the full name of an environment, and its numbers of a random and an expert policy."""
    with as_usage_error():
        return split_environment(name)[0], checked_pair(f"{FLAG} {name} of {origin}", pair)
