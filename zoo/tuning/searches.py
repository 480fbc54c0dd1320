"""Search space of a study, from ``--search`` or declared by the algorithm, and Optuna's suggestions."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from optuna.trial import BaseTrial

from agents.common.method import Method
from agents.common.settings import Choice, Range, Search, Setting
from agents.registry import Entry
from zoo.algorithms.catalogue import settings_of
from zoo.settings.config import require_setting
from zoo.settings.layers import load_yaml
from zoo.terminal.errors import UsageError, as_usage_error


def suggest(trial: BaseTrial, searches: Mapping[str, Search]) -> dict[str, Any]:
    """Return the values of all searched settings that Optuna suggests for a trial, or has suggested for an old one."""
    settings: dict[str, Any] = {}
    for name, search in searches.items():
        if isinstance(search, Choice):
            # pass choices to Optuna as strings, because it stores only scalars, and some choices are lists
            values = {str(value): value for value in search.values}
            settings[name] = values[trial.suggest_categorical(name, list(values))]
        elif isinstance(search.low, int) and isinstance(search.high, int):
            settings[name] = trial.suggest_int(name, search.low, search.high, log=search.log)
        else:
            settings[name] = trial.suggest_float(name, search.low, search.high, log=search.log)
    return settings


def params_of(settings: Mapping[str, Any], searches: Mapping[str, Search]) -> dict[str, Any]:
    """Return settings as Optuna parameters; values outside the search space are left out."""
    params: dict[str, Any] = {}
    for name, search in searches.items():
        value = settings.get(name)
        if isinstance(search, Choice):
            if value in search.values:
                params[name] = str(value)
        elif isinstance(value, int | float) and search.low <= value <= search.high:
            params[name] = value
    return params


def read_searches(entry: Entry, words: Sequence[str], fixed: Collection[str]) -> dict[str, Search]:
    """Return setting name -> search, as given by ``--search`` or, without words, as declared by the algorithm.

    :param words: arguments of ``--search``: ``NAME``, ``NAME=low:high``, ``NAME=low:high:log`` or ``NAME=[a,b,c]``.
    :param fixed: settings fixed by ``-params``, which are not searched.
    :raises UsageError: for an unknown setting, a range outside a setting's bounds, or an empty search space.
    """
    declared = settings_of(entry)
    searches: dict[str, Search] = {}
    for word in words:
        name, search = _read_word(entry, declared, word)
        if name in fixed:
            raise UsageError(f"`{name}` is both searched and fixed by -params; omit one of the two")
        searches[name] = search
    if not words:
        # settings shared by all algorithms are left out, because a search over ten settings needs hundreds of trials
        searches = declared_searches(declared)
        for name in fixed:
            searches.pop(name, None)
    if not searches:
        raise UsageError(
            f"there is no setting to search: `{entry.id}` declares none, or -params fixes all; add settings, e.g. "
            "`--search learning_rate gamma=0.9:0.999`"
        )
    return {name: _checked(declared[name], search) for name, search in searches.items()}


def declared_searches(declared: Mapping[str, Setting]) -> dict[str, Search]:
    """Return the searches that an algorithm declares itself, without searches that all algorithms share."""
    shared = Method.declared()
    searches = {}
    for name, setting in declared.items():
        is_shared = name in shared and setting.search is shared[name].search
        if setting.search is not None and not is_shared:
            searches[name] = setting.search
    return searches


def _read_word(entry: Entry, declared: Mapping[str, Setting], word: str) -> tuple[str, Search]:
    """Return the name and the search of the setting in one argument of ``--search``."""
    name, equals, text = word.partition("=")
    require_setting(entry, name, declared)
    if equals:
        return name, _read_search(name, text)
    search = declared[name].search
    if search is None:
        raise UsageError(
            f"`{name}` has no declared range; set one, e.g. --search {name}=low:high or {name}=[a,b]"
        )
    return name, search


def _read_search(name: str, text: str) -> Search:
    """Read ``low:high``, ``low:high:log`` or ``[a,b,c]``."""
    with as_usage_error():
        if text.lstrip().startswith("["):
            return Choice(tuple(load_yaml(text, f"`--search {name}`")))
        words = text.split(":")
        bounds = [load_yaml(word, f"`--search {name}`") for word in words[:2]]
        scale = words[2:]
        are_numbers = {type(bound) for bound in bounds} <= {int, float}
        if len(bounds) < 2 or not are_numbers or scale not in ([], ["log"]):
            raise UsageError(
                f"`--search {name}=` expects low:high, low:high:log or [a,b,c], got {text!r}"
            )
        return Range(bounds[0], bounds[1], log=scale == ["log"])


def _checked(setting: Setting, search: Search) -> Search:
    """Convert the values of a search to the setting's type; reject values outside the setting's bounds."""
    with as_usage_error():
        values = [setting.checked(value) for value in search.ends]
        if isinstance(search, Choice):
            return Choice(tuple(values))
    if "float" in setting.annotation:  # as integers, 0:1 would search only 0 and 1
        values = list(map(float, values))
    return Range(values[0], values[1], log=search.log)
