"""How a run was made: the fields of its protocol, its settings, where two runs differ, and what methods are called."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from agents.common.common_settings import CommonSettings
from zoo.runs.folder import PHASES
from zoo.settings.layers import flatten

PROTOCOL = (
    "profile", "offline_steps", "online_steps", "eval_episodes", "sparse", "dataset_size", "dataset_fingerprint",
    "net_arch", "pretraining_steps", "pretrained_actor", "success_return", "action_range", "mujoco",
)  # fmt: skip
"""What must agree before two runs of an algorithm may share a row.

Runs that began with a saved behaviour flow are set apart from others and by its number of updates, but not by the
file, since each seed may have its own.
"""

_NOT_SHOWN = {*PROTOCOL} & CommonSettings.declared().keys() | {*CommonSettings.with_role("machine")}


def describe_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of an algorithm that may change a score, flat and as texts; `PROTOCOL` has the others."""
    texts = {}
    for name, value in sorted(flatten(settings).items()):
        # What is nested in a setting is shown where the setting is; an empty mapping sets nothing.
        if name.partition(".")[0] not in _NOT_SHOWN and value != {}:
            # an algorithm of one's own may have a setting with the name of a field of the protocol
            texts[f"settings.{name}" if name in PROTOCOL else name] = show(value)
    return texts


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


def describe_layers(value: Any) -> str | None:
    """Return layer widths in short, e.g. ``512x4``; None where nothing is stated.

    :param value: a list of widths, a mapping of such lists, or None.
    """
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


def name_methods(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label, and in brackets all settings in which runs of that label differ.

    Settings are compared on each environment, since the papers have other ones for each; the algorithm on all of them.
    If all finished runs of a label are alike, they keep the label as it is.

    :param runs: the table of `zoo.runs.read.RunTables`; its column ``problem`` is missing for finished runs.
    """
    methods = runs["label"].astype(object)  # floats where no run can be read
    kinds = kinds_of(runs)
    for label, group in runs[methods.notna()].groupby("label"):
        table = pd.DataFrame([*group["settings"]], group.index).assign(score=kinds).fillna("None")
        differs = table.groupby(group["environment"]).nunique().max() > 1
        differs["algorithm"] = table["algorithm"].nunique() > 1
        fields = table.columns[differs]
        if fields.empty:
            continue
        variants = pd.Series(map(tuple, table[fields].to_numpy()), group.index)
        names = {}
        for variant in variants.unique():
            texts = [f"{field}={value}" for field, value in zip(fields, variant, strict=True)]
            names[variant] = f"{label} ({', '.join(texts)})"
        finished = variants[group["problem"].isna()].unique()
        if len(finished) == 1:  # runs that did not finish give way to those that did
            names[finished[0]] = str(label)
        methods[group.index] = variants.map(names)
    return methods


def kinds_of(runs: pd.DataFrame) -> pd.Series:
    """Return the kind of each run's scores; without evaluations, that of other runs on its environment."""
    return runs["kind"].fillna(runs.groupby("environment")["kind"].transform("first"))
