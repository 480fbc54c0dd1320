"""Which settings a study searches, and where: as declared beside the settings, or as the command line says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import Trial

from agents.common.method import Method
from agents.common.search import Choice, Range, Search
from agents.common.settings import Setting
from agents.common.validation import unknown_name_message
from agents.models import Entry
from zoo.baselines import settings_of
from zoo.errors import UsageError, as_usage_error
from zoo.layers import load_yaml


@dataclass(frozen=True)
class Space:
    """The settings that are searched.

    :param searches: where to look for the value of each, by name.
    """

    searches: Mapping[str, Search]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Return values of all settings for a trial."""
        return {name: _suggest(trial, name, search) for name, search in self.searches.items()}

    def params_of(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the parameters of a trial with the given settings, or None if one of them is outside."""
        params = {}
        for name, search in self.searches.items():
            value = settings[name]
            if isinstance(search, Choice):
                if value not in search.values:
                    return None
                params[name] = _label(value)
            else:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if not is_number or not search.low <= value <= search.high:
                    return None
                params[name] = value
        return params

    def describe(self) -> dict[str, str]:
        """Return where each setting is searched, as the command line takes it."""
        return {name: str(search) for name, search in self.searches.items()}


def read_space(entry: Entry, words: Sequence[str], fixed: Collection[str]) -> Space:
    """Return what ``--search`` asks for; without a word, what the algorithm declares beside its own settings.

    :param words: ``NAME``, ``NAME=low:high``, ``NAME=low:high:log`` or ``NAME=[a,b,c]``.
    :param fixed: settings that ``-params`` fixes, which are not searched.
    :raises UsageError: for an unknown setting, a range outside its bounds, or if nothing is left to search.
    """
    declared = settings_of(entry.algorithm)
    if not words:
        searches = {name: search for name, search in own_searches(declared).items() if name not in fixed}
        if not searches:
            raise UsageError(_nothing_to_search(entry, declared, fixed))
    else:
        searches = dict(_read_word(entry, declared, word) for word in words)
        for name in searches:
            if name in fixed:
                raise UsageError(f"`{name}` is both searched and fixed by -params; leave out one of the two")
    return Space({name: _checked(declared[name], search) for name, search in searches.items()})


def own_searches(declared: Mapping[str, Setting]) -> dict[str, Search]:
    """Return the searches that an algorithm declares itself, without those that all algorithms share."""
    shared = Method.declared()
    return {
        name: setting.search
        for name, setting in declared.items()
        if setting.search is not None and (name not in shared or setting.search is not shared[name].search)
    }


def _nothing_to_search(entry: Entry, declared: Mapping[str, Setting], fixed: Collection[str]) -> str:
    """Return why there is nothing to search, and what to do."""
    if own := own_searches(declared):
        return f"-params fixes all that `{entry.id}` searches ({', '.join(own)}); name other settings with --search"
    return (
        f"`{entry.id}` declares no setting to search; declare one, e.g. `weight: float = setting(default=1.0, "
        "search=log_range(0.1, 10.0))`, or name settings, e.g. `--search learning_rate weight=0.1:10:log`"
    )


def _read_word(entry: Entry, declared: Mapping[str, Setting], word: str) -> tuple[str, Search]:
    """Return the setting that a word of ``--search`` names, and where to search."""
    name, equals, text = word.partition("=")
    if name not in declared:
        raise UsageError(unknown_name_message(f"setting of {entry.id}", name, declared))
    if equals:
        return name, _read_search(name, text)
    search = declared[name].search
    if search is None:
        raise UsageError(f"`{name}` has no declared range; give one, e.g. --search {name}=low:high or {name}=[a,b]")
    return name, search


def _read_search(name: str, text: str) -> Search:
    """Read ``low:high``, ``low:high:log`` or ``[a,b,c]``."""
    problem = f"`--search {name}=` expects low:high, low:high:log or [a,b,c], got {text!r}"
    with as_usage_error():
        if text.lstrip().startswith("["):
            values = load_yaml(text, f"`--search {name}`")
            return Choice(tuple(values))
        words = text.split(":")
        bounds, scale = [load_yaml(word, f"`--search {name}`") for word in words[:2]], words[2:]
        is_right = all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds)
        if len(bounds) < 2 or not is_right or scale not in ([], ["log"], ["linear"]):
            raise UsageError(problem)
        return Range(*bounds, log=scale == ["log"])


def _checked(setting: Setting, search: Search) -> Search:
    """Return a search whose values have the type of the setting; refuse one outside the setting's bounds."""
    try:
        values = [setting.checked(value) for value in search.ends]
    except (TypeError, ValueError) as error:
        raise UsageError(f"the search of `{setting.name}` in {search} leaves what is allowed: {error}") from error
    if isinstance(search, Choice):
        return Choice(tuple(values))
    if isinstance(setting.default, float):
        values = [float(value) for value in values]
    return Range(*values, log=search.log)


def _suggest(trial: Trial, name: str, search: Search) -> Any:
    """Return a value of one setting for a trial."""
    if isinstance(search, Choice):  # by its text: Optuna stores plain values only, and some are lists
        values = {_label(value): value for value in search.values}
        return values[trial.suggest_categorical(name, list(values))]
    if isinstance(search.low, int) and isinstance(search.high, int):
        return trial.suggest_int(name, search.low, search.high, log=search.log)
    return trial.suggest_float(name, search.low, search.high, log=search.log)


def _label(value: Any) -> str:
    return str(value)
