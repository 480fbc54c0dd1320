"""Protocols and settings of runs, differences between protocols, and names of methods."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from agents.common.common_settings import CommonSettings
from zoo.runs.folder import PHASES
from zoo.settings.layers import flatten
from zoo.settings.record import RunSettings

PROTOCOL = (
    "profile", *RunSettings.with_role("protocol"), "sparse", "dataset_fingerprint", "net_arch", "pretrained_actor",
    "success_return", "action_range", "mujoco",
)  # fmt: skip
"""Fields in which all runs of a method on one environment agree.

Runs that started from a saved behaviour flow are distinguished by the flow's number of updates, but not by its file,
because each seed may have its own file.
"""

_NOT_SHOWN = {*PROTOCOL} & CommonSettings.declared().keys() | {*CommonSettings.with_role("machine")}


def describe_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return settings that may affect scores, as dotted name -> text, without fields of `PROTOCOL`."""
    texts = {}
    for name, value in sorted(flatten(settings).items()):
        # A nested setting is shown if the setting that contains it is shown; empty mappings are skipped.
        if name.partition(".")[0] not in _NOT_SHOWN and value != {}:
            # a custom algorithm may have a setting with the name of a protocol field
            texts[f"settings.{name}" if name in PROTOCOL else name] = show(value)
    return texts


def protocol_differences(protocol: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Return the differences between two protocols, e.g. ``["offline_steps 10,000 against 1,000,000"]``.

    Only fields that both protocols state are compared, and online steps only if both protocols have some.
    """
    differences = []
    for field in PROTOCOL:
        value = protocol.get(field)
        expected = reference.get(field)
        # Published protocols do not state all fields.
        if value is None or expected is None or value == expected:
            continue
        if field == "online_steps" and 0 in (value, expected):
            continue  # one of the two has only offline scores, which come before online steps
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
    """Return layer sizes as text, e.g. ``512x4``; None if they are not stated.

    :param value: a list of layer sizes, a mapping of such lists, or None.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {describe_layers(sizes)}" for name, sizes in sorted(value.items())
        )
    if isinstance(value, list) and value:
        if len(set(map(str, value))) == 1:
            return f"{value[0]}x{len(value)}"
        return "-".join(map(str, value))
    return str(value)


def show(value: Any) -> str:
    """Return a value of a protocol or setting as text, with thousands separators."""
    if isinstance(value, int) and not isinstance(value, bool):  # `True` is an instance of int
        return f"{value:,}"
    return str(value)


# -- names of methods -------------------------------------------------------------------------------------------------


def name_methods(runs: pd.DataFrame) -> pd.Series:
    """Return the method of each run: its label and, in brackets, all settings in which runs with this label differ.

    Settings are compared within an environment, because the papers' settings differ between environments; algorithms
    are compared over all environments. If all finished runs of a label have equal settings, the label is their name.

    :param runs: the table of `zoo.runs.read.RunTables`; its column ``problem`` is None for finished runs.
    """
    methods = runs["label"].astype(object)  # without readable runs, the dtype is float
    # without evaluations, the kind of a run's scores is that of other runs on the same environment
    kinds = runs["kind"].fillna(runs.groupby("environment")["kind"].transform("first"))
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
        # finished runs with equal settings have the plain label, even if unfinished runs differ
        if len(finished) == 1:
            names[finished[0]] = str(label)
        methods[group.index] = variants.map(names)
    return methods
