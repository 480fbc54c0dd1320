"""How a run was made: the fields of its protocol, its settings, where two runs differ, and what methods are called."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, count
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
    described = {}
    for name, value in sorted(flatten(settings)):
        # What is nested in a setting is shown where the setting is; an empty mapping sets nothing.
        if name.partition(".")[0] not in _NOT_SHOWN and value != {}:
            described[name] = show(value)
    return described


def protocol_differences(
    phase: str, protocol: Mapping[str, Any], reference: Mapping[str, Any]
) -> list[str]:
    """Return where two protocols differ, e.g. ``["offline_steps 10,000 against 1,000,000"]``.

    A field of `PROTOCOL` that one of them does not state is not compared, nor are online steps for offline scores.
    """
    differences = []
    for field in PROTOCOL:
        value = protocol.get(field)
        expected = reference.get(field)
        # Published scores and runs of older releases leave fields out.
        if value is None or expected is None or value == expected:
            continue
        if phase == "offline" and field == "online_steps":
            continue  # they come after the offline scores
        # Some count the last state of each trajectory as a transition, and some do not.
        if (
            field == "dataset_size"
            and isinstance(value, int)
            and abs(value - expected) <= 0.01 * expected
        ):
            continue
        differences.append(f"{field} {show(value)} against {show(expected)}")
    return differences


def phase_ends(protocol: Mapping[str, Any]) -> dict[str, int]:
    """Return the step at which each phase of a run ends; phases without steps are left out."""
    ends = {}
    end = 0
    for phase in PHASES:
        steps = int(protocol.get(f"{phase}_steps") or 0)
        if steps:
            end += steps
            ends[phase] = end
    return ends


def setting_differences(settings: Mapping[str, str], reference: Mapping[str, str]) -> list[str]:
    """Return where two sets of `describe_settings` differ, e.g. ``["gamma 0.5 against 0.99"]``.

    :param reference: its further settings are not compared.
    """
    differences = []
    for name, value in sorted(settings.items()):
        if value != reference.get(name):
            differences.append(f"{name} {value} against {reference.get(name, 'none')}")
    return differences


def describe_layers(value: Any, own_layers: str = "") -> str | None:
    """Return layer widths in short, e.g. ``512x4``; None where nothing is stated.

    :param value: a list of widths, a mapping of such lists, or None.
    :param own_layers: the networks that have layers of their own, ``own`` for all and ``own actor`` for one.
    """
    if own_layers == "own":
        return own_layers
    if own_layers:
        return f"{describe_layers(value)}, {own_layers}"
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {describe_layers(widths)}" for name, widths in sorted(value.items())
        )
    if isinstance(value, list | tuple) and value:
        if len(set(map(str, value))) == 1:
            return f"{value[0]}x{len(value)}"
        return "-".join(map(str, value))
    return str(value)


def show(value: Any) -> str:
    """Return a value of a protocol or setting as text, with thousands separated."""
    if isinstance(value, int) and not isinstance(value, bool):  # for isinstance, `True` is an int
        return f"{value:,}"
    return str(value)


def shortened(phrases: Iterable[str], limit: int = 6) -> list[str]:
    """Return the first phrases, and how many more there are."""
    phrases = list(phrases)
    rest_count = len(phrases) - limit
    if rest_count <= 1:  # the last one is as long as saying that there is one
        return phrases
    return [*phrases[:limit], f"and {rest_count} more"]


# -- names of methods -------------------------------------------------------------------------------------------------


LONGEST_DIFFERENCE = 28
"""A name says what differs if that is one value of at most so many characters; else it ends in a letter."""

# Returns of environments differ in scale anyway, and their usual numbers of steps differ too.
_SAME_FOR_RETURNS = ("algorithm", "profile")
_SAME_ON_ALL_TASKS = (*_SAME_FOR_RETURNS, "offline_steps", "online_steps", "eval_episodes")

Variant = tuple[str, ...]


def name_methods(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label, and in short what sets it apart from others of that label.

    If all finished runs of a label have the same settings, they keep the label as it is.

    :param runs: the table of `zoo.runs.read.RunTables`; its column ``problem`` is missing for finished runs.
    """
    methods = labels_by_kind(runs)
    used_names = set(methods.dropna())
    has_returns = kinds_of(runs).isin(OWN_SCALE)
    for (label, is_return), group in runs[runs["label"].notna()].groupby([methods, has_returns]):
        group = group.assign(kind=kinds_of(group))
        # Seeds share what is looked at here: a tenth of the rows says the same in a tenth of the time.
        alike = list(zip(map(id, group["settings"]), group["kind"].fillna(""), strict=True))
        distinct = group[~pd.Series(alike, index=group.index).duplicated()]
        text = _differing_texts(distinct)
        same_fields: tuple[str, ...] = _SAME_ON_ALL_TASKS
        if is_return:
            same_fields = _SAME_FOR_RETURNS
        fields = _distinguishing_fields(text, distinct["environment"], same_fields)
        variant_of = dict(
            zip(dict.fromkeys(alike), map(tuple, text[fields].to_numpy()), strict=True)
        )
        variants = pd.Series(map(variant_of.get, alike), group.index)
        names: dict[Variant, str] = {}
        candidates = set(variants[group["problem"].isna()]) or set(variants)
        if len(candidates) == 1:  # runs that did not finish give way to the one that did
            names[candidates.pop()] = str(label)
        # In order, so that the same runs get the same letters in every report.
        unnamed = sorted(set(variants) - set(names))
        names |= _name_variants(str(label), fields, unnamed, used_names)
        used_names.update(names.values())
        methods.loc[group.index] = [names[variant] for variant in variants]
    return methods


def labels_by_kind(runs: pd.DataFrame) -> pd.Series:
    """Return the label of each run, with another ending for returns where a label also has success.

    Scores of two kinds never meet in a method on an environment.
    """
    labels = runs["label"].astype(object)  # floats where no run can be read
    has_returns = kinds_of(runs).isin(OWN_SCALE)
    counts = has_returns.groupby([labels, runs["environment"]]).nunique()
    has_both = labels.isin(counts[counts > 1].index.get_level_values("label"))
    labels[has_both & has_returns] += " (by return)"
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
    finished = runs[runs["method"].isin(list(methods)) & runs["problem"].isna()]
    for _, group in finished.groupby("label"):
        environments = group.groupby("method")["environment"].agg(set)
        if len(environments) < 2:
            continue
        shared = set.intersection(*environments)
        if shared:
            group = group[group["environment"].isin(shared)]
        texts = _differing_texts(group).groupby(group["method"])
        table = texts.agg(lambda column: " / ".join(column.unique()))
        table = table.loc[:, table.nunique() > 1]
        result |= table.to_dict("index")
    return result


def _differing_texts(group: pd.DataFrame) -> pd.DataFrame:
    """Return the algorithm, fields of `PROTOCOL`, settings and kind of scores of runs as text, where these differ."""
    fields = ["algorithm", *PROTOCOL]
    columns = set(group)
    rows = []
    for values, settings in zip(group[fields].to_numpy().tolist(), group["settings"], strict=True):
        texts = dict(zip(fields, map(_as_text, values), strict=True))
        for name, text in settings.items():
            # A setting may have the name of a column, such as `profile`.
            texts[f"{name}_" if name in columns else name] = text
        rows.append(texts)
    # Most fields are the same in all rows; making columns of all of them takes ten times as long.
    names = dict.fromkeys(chain.from_iterable(rows))
    differing = [name for name in names if len({texts.get(name) for texts in rows}) > 1]
    # NaN is a setting that other runs of the group have.
    table = pd.DataFrame(rows, group.index, differing)
    return table.assign(kind=kinds_of(group)).fillna("None")


def _as_text(value: Any) -> str:
    """Return a table's value as text; numbers that pandas made floats are whole again, and NaN is None."""
    if isinstance(value, float) and value.is_integer():
        return show(int(value))
    if pd.isna(value):
        return "None"
    return show(value)


def _distinguishing_fields(
    text: pd.DataFrame, environments: pd.Series, same_fields: Collection[str]
) -> list[str]:
    """Return the fields that set runs apart.

    A field that divides the runs no further than those before it is left out.

    :param same_fields: fields that must be the same on all environments.
    """
    fields: list[str] = []
    for field in text:
        differs = (text[field].groupby(environments).nunique() > 1).any()
        # Each environment may agree with itself and differ from the others.
        if field in same_fields:
            differs = True
        divides = (
            not fields or text.duplicated([*fields, field]).sum() < text.duplicated(fields).sum()
        )
        if differs and divides:
            fields.append(field)
    return fields


def _name_variants(
    label: str, fields: Sequence[str], variants: Sequence[Variant], used_names: Collection[str]
) -> dict[Variant, str]:
    """Return the names of variants of a label: what differs where that is short, else letters."""
    if len(fields) == 1:
        names = {}
        for variant in variants:
            difference = f"{fields[0]}={variant[0]}"
            if len(difference) <= LONGEST_DIFFERENCE:
                names[variant] = f"{label} ({difference})"
        # All or none: values beside letters would hide what the letters stand for.
        if len(names) == len(variants) and not {*names.values()} & {*used_names}:
            return names
    # Numbers go on where the letters of the alphabet are used up.
    endings = chain(ascii_lowercase, count(len(ascii_lowercase) + 1))
    names_with_letters = (f"{label} {ending}" for ending in endings)
    free_names = (name for name in names_with_letters if name not in used_names)
    return dict(zip(variants, free_names, strict=False))
