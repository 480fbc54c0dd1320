"""What methods are called and in which order they stand, as the command line asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from agents.common.validation import unknown_name_message
from zoo.errors import UsageError
from zoo.report.inputs import Inputs
from zoo.runs.read import RunTables
from zoo.texts import check_label


def read_labels(words: Sequence[str], methods: Collection[str]) -> dict[str, str]:
    """Return what each method is called: its label, or else its name.

    :param words: such as ``"qam=Ours"``. A name may contain an equals sign itself, so the longest known one counts.
    """
    names = {name: name for name in methods}
    for word in words:
        known = [name for name in methods if word.startswith(f"{name}=")]
        if not known:
            name, sign, _ = word.partition("=")
            if not sign:
                raise UsageError(f"`--labels` must be NAME=TEXT, got `{word}`; write e.g. `{min(methods)}=Ours`")
            raise UsageError(unknown_name_message("method", name, methods))
        name = max(known, key=len)
        names[name] = word[len(name) + 1 :].strip()
        check_label(names[name])
        if not names[name]:
            raise UsageError(f"`--labels` must be NAME=TEXT, got no text for `{name}`; write e.g. `{name}=Ours`")
    shared = [label for label, times in Counter(names.values()).items() if times > 1]
    if shared:
        raise UsageError(f"`--labels` must give each method a name of its own, got `{shared[0]}` twice; change one")
    return names


def read_order(wanted: Sequence[str], methods: Collection[str]) -> list[str]:
    """Return the methods that come first, each once, by their names before `read_labels`."""
    for name in wanted:
        if name not in methods:
            raise UsageError(unknown_name_message("method", name, methods))
    return list(dict.fromkeys(wanted))


def relabelled(inputs: Inputs, names: Mapping[str, str]) -> Inputs:
    """Return inputs whose methods have new names; colours follow the algorithm and stay."""

    def renamed(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(method=table["method"].replace(names)) if len(table) else table

    evaluations = inputs.own.evaluations
    own = RunTables(renamed(inputs.own.runs), None if evaluations is None else renamed(evaluations))
    methods = {names[name]: replace(method, name=names[name]) for name, method in inputs.methods.items()}
    return replace(
        inputs, methods=methods, evaluations=renamed(inputs.evaluations), means=renamed(inputs.means), own=own
    )
