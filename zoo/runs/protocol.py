"""How a run was made: the fields of its protocol, its settings, where two runs differ, and what methods are called."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from itertools import count as numbers
from string import ascii_lowercase
from typing import Any

import pandas as pd

from agents.common.common_settings import CommonSettings
from zoo.runs.folder import PHASES
from zoo.runs.scores import OWN_SCALE
from zoo.settings.layers import flatten

PROTOCOL = (
    "profile", "offline_steps", "online_steps", "eval_episodes", "sparse", "dataset_size", "dataset_fingerprint",
    "net_arch", "pretraining_steps", "pretrained_actor", "success_return", "success_at",
    "action_range",
)  # fmt: skip
"""What must agree before two runs of an algorithm may share a row.

Runs that began with a saved behaviour flow are set apart from others and by its number of updates, but not by the
file, since each seed may have its own.
"""
SUCCESS_AT_END = "end"
"""What ``success_at`` says of runs whose episodes succeed or fail at their last step, as they do unless it is set."""

_NOT_SHOWN = {*PROTOCOL} & CommonSettings.declared().keys() | {*CommonSettings.with_role("machine")}


def describe_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of an algorithm that may change a score, flat and as texts; `PROTOCOL` has the others."""
    own = {name: value for name, value in settings.items() if name not in _NOT_SHOWN}
    return {name: show(value) for name, value in sorted(flatten(own)) if value != {}}


def protocol_differences(phase: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return where two protocols differ, e.g. ``["offline_steps 10,000 against 1,000,000"]``.

    A field of `PROTOCOL` that one of them does not state is not compared, nor are online steps for offline scores.
    """
    result = []
    for field in PROTOCOL:
        a = ours.get(field)
        b = theirs.get(field)
        if a is None or b is None or a == b or (phase == "offline" and field == "online_steps"):
            continue
        if field == "dataset_size" and isinstance(a, int) and abs(a - b) <= 0.01 * b:
            continue  # the last state of each trajectory is counted or not
        result.append(f"{field} {show(a)} against {show(b)}")
    return result


def phase_ends(protocol: Mapping[str, Any]) -> dict[str, int]:
    """Return the step at which each phase of a run ends; phases without steps are left out."""
    ends = {}
    end = 0
    for phase in PHASES:
        steps = int(protocol.get(f"{phase}_steps") or 0)
        end += steps
        if steps:
            ends[phase] = end
    return ends


def setting_differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return where two sets of `describe_settings` differ, e.g. ``["gamma 0.5 against 0.99"]``.

    Settings that ours does not state, as older runs do not state newer settings, are not compared.
    """
    names = [name for name in sorted(ours) if ours[name] != theirs.get(name)]
    return [f"{name} {ours[name]} against {theirs.get(name, 'none')}" for name in names]


def describe_layers(value: Any, own: str = "") -> str | None:
    """Return layer widths in short, e.g. ``512x4``; None where nothing is stated.

    :param value: a list of widths, a mapping of such lists, or None.
    :param own: the networks that have layers of their own, ``own`` for all and ``own actor`` for one.
    """
    if own:
        return own if own == "own" else f"{describe_layers(value)}, {own}"
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {describe_layers(widths)}" for name, widths in sorted(value.items()))
    if isinstance(value, list | tuple) and value:
        same = len(set(map(str, value))) == 1
        return f"{value[0]}x{len(value)}" if same else "-".join(map(str, value))
    return str(value)


def show(value: Any) -> str:
    """Return a value of a protocol or setting as text, with thousands separated."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def count(number: int | str, noun: str) -> str:
    """Return a number of things in words, e.g. ``1 task`` or ``2 tasks``."""
    return f"{number} {noun}{'s' * (str(number) != '1')}"


def shortened(phrases: Iterable[str], most: int = 6) -> list[str]:
    """Return the first phrases, and how many more there are."""
    phrases = list(phrases)
    more = len(phrases) - most
    return [*phrases[:most], f"and {more} more"] if more > 1 else phrases


# -- names of methods -------------------------------------------------------------------------------------------------


LONGEST_DIFFERENCE = 28
"""A name says what differs if that is one value of at most so many characters; else it ends in a letter."""

_SAME_ON_ALL_TASKS = ("algorithm", "profile", "offline_steps", "online_steps", "eval_episodes")
_SAME_FOR_RETURNS = ("algorithm", "profile")  # each environment has a scale, and a usual number of steps, of its own

Variant = tuple[str, ...]


def name_methods(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label, and in short what sets it apart from others of that label.

    If all finished runs of a label have the same settings, they keep the label as it is.

    :param runs: the table of `zoo.runs.read.RunTables`; its column ``problem`` is missing for finished runs.
    """
    methods = labels_by_kind(runs)
    taken = set(methods.dropna())
    has_returns = kinds_of(runs).isin(OWN_SCALE)
    for (label, is_return), group in runs[runs["label"].notna()].groupby([methods, has_returns]):
        same = _SAME_FOR_RETURNS if is_return else _SAME_ON_ALL_TASKS
        text = _texts(group)
        apart = _find_apart(text, group["environment"], same)
        variants: list[Variant] = [tuple(row) for row in text[apart].to_numpy()]
        finished = {variant for variant, is_done in zip(variants, group["problem"].isna(), strict=True) if is_done}
        names = {}
        if len(finished or set(variants)) == 1:
            names[min(finished or variants)] = str(label)
        names |= _names(str(label), apart, sorted(set(variants) - set(names)), taken)
        taken |= set(names.values())
        methods.loc[group.index] = [names[variant] for variant in variants]
    return methods


def labels_by_kind(runs: pd.DataFrame) -> pd.Series:
    """Return the label of each run, with another ending for returns where a label also has success.

    Scores of two kinds never meet in a method on an environment.
    """
    labels = runs["label"].copy()
    has_returns = kinds_of(runs).isin(OWN_SCALE)
    for _, group in runs[runs["label"].notna()].groupby("label"):
        is_return = has_returns[group.index]
        if (is_return.groupby(group["environment"]).nunique() > 1).any():
            labels[is_return[is_return].index] += " (by return)"
    return labels


def kinds_of(runs: pd.DataFrame) -> pd.Series:
    """Return the kind of each run's scores; without evaluations, that of other runs on its environment."""
    return runs["kind"].fillna(runs.groupby("environment")["kind"].transform("first"))


def what_differs(runs: pd.DataFrame, methods: Collection[str]) -> dict[str, dict[str, str]]:
    """Return method -> field or setting -> its values, for methods that share a label, where these differ.

    Values are compared on the environments that the methods share, and everywhere if they share none.

    :param runs: the table of `zoo.runs.read.RunTables`.
    :param methods: the methods to look at.
    """
    result: dict[str, dict[str, str]] = {}
    shown = runs[runs["method"].isin(list(methods)) & runs["problem"].isna()]
    for _, group in shown.groupby("label"):
        places = {name: set(part["environment"]) for name, part in group.groupby("method")}
        if len(places) < 2:
            continue
        shared = set.intersection(*places.values())
        group = group[group["environment"].isin(shared)] if shared else group
        text = _texts(group)
        values = {
            name: {field: " / ".join(part[field].unique()) for field in part}
            for name, part in text.groupby(group["method"])
        }
        differ = [field for field in text if len({found[field] for found in values.values()}) > 1]
        result |= {str(name): {field: found[field] for field in differ} for name, found in values.items()}
    return result


def _texts(group: pd.DataFrame) -> pd.DataFrame:
    """Return the algorithm, every field of `PROTOCOL`, every setting and the kind of scores of runs as text."""
    settings = pd.DataFrame(list(group["settings"]), index=group.index)
    settings = settings.rename(columns={field: f"{field}_" for field in group})
    table = pd.concat([group[["algorithm", *PROTOCOL]], settings, kinds_of(group).rename("kind")], axis=1)
    return table.astype(object).where(table.notna(), None).map(_as_text)


def _as_text(value: Any) -> str:
    """Return a table's value as text; numbers that pandas made floats are whole again."""
    whole = isinstance(value, float) and value.is_integer()
    return show(int(value)) if whole else show(value)


def _find_apart(text: pd.DataFrame, environments: pd.Series, same: Collection[str]) -> list[str]:
    """Return the fields that set runs apart.

    A field that divides the runs no further than those before it is left out.

    :param same: fields that must be the same on all environments.
    """
    apart: list[str] = []
    for field in text.columns:
        differs = (text.groupby(environments)[field].nunique() > 1).any()
        differs = differs or (field in same and text[field].nunique() > 1)
        if differs and (not apart or text.duplicated([*apart, field]).sum() < text.duplicated(apart).sum()):
            apart.append(field)
    return apart


def _names(label: str, apart: Sequence[str], variants: Sequence[Variant], taken: Collection[str]) -> dict[Variant, str]:
    """Return the names of variants of a label: what differs where that is short, else letters."""
    if len(apart) == 1:
        differences = [f"{apart[0]}={variant[0]}" for variant in variants]
        names = [f"{label} ({difference})" for difference in differences]
        if all(len(difference) <= LONGEST_DIFFERENCE for difference in differences) and not set(names) & set(taken):
            return dict(zip(variants, names, strict=True))
    endings = chain(ascii_lowercase, numbers(len(ascii_lowercase) + 1))
    free = (name for name in (f"{label} {ending}" for ending in endings) if name not in taken)
    return dict(zip(variants, free, strict=False))
