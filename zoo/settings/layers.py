"""Read settings files and overrides safely, and order them by precedence.

A profile is a benchmark's protocol. What it says to every algorithm (``hyperparams/profiles/<name>.yml``) is declared
once; an algorithm's file (``hyperparams/<algo>.yml``) holds the algorithm's own settings.
"""

import copy
import functools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

import hyperparams
from agents.common.files import DamagedFileError, read_text
from zoo.terminal.errors import UsageError

FOLDER = Path(hyperparams.__path__[0])
DEFAULT_PROFILE = "qam"
"""The profile of a run that names none: the protocol of the QAM paper."""
PROFILES = "profiles"
"""The one name in a settings file that is not an entry: below it are the entries of each profile."""
ENTRY_NOTES = ("source", "status")

Entries = dict[str, dict[str, Any]]
File = tuple[str, Entries]
"""Where entries are from: path and profile, for messages and records; and the entries for that profile."""
Layer = tuple[Mapping[str, Any], str]
"""Settings, and where they are from."""

_NUMBERS = {
    "tag:yaml.org,2002:bool": r"^(true|True|TRUE|false|False|FALSE)$",
    "tag:yaml.org,2002:int": r"^[-+]?(0|[1-9][0-9_]*)$",
    "tag:yaml.org,2002:float": r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\.(inf|Inf|INF))|\.(nan|NaN|NAN))$",
    "!exponent": r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$",
}
"""Tag -> texts that are values of it; YAML 1.1 reads more: yes, no, on and off, dates, numbers to the base 8 and 60."""


# The loader in C is ten times as fast; not every build of PyYAML has it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader with decimal numbers, of which 3e-4 is one and 1e5 an integer, and no name twice."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return a value from the bottom up, so that PyYAML refuses one that contains itself."""
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping; refuse one that gives a name twice, of which YAML would forget the first."""
        # Before YAML's own construction, which puts the entries of `<<` among them: those may be overridden.
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"it says `{name}` twice in one mapping; give each name once")
        return super().construct_mapping(node, deep)

    def construct_exponent(self, node: Any) -> int | float:
        """Return a number such as 3e-4; a whole one is an integer."""
        value = float(self.construct_scalar(node))
        if value.is_integer() and abs(value) < 1e15:  # a float of this size has every digit
            return int(value)
        return value


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """YAML's safe dumper, which quotes a text such as 3e-4."""


for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), None)
_Dumper.add_implicit_resolver("!exponent", re.compile(_NUMBERS["!exponent"]), None)
_Loader.add_constructor("!exponent", _Loader.construct_exponent)


def load_yaml(text: str, name: str) -> Any:
    """Read YAML of plain values; nothing in it is ever run.

    :param name: of the text in messages, e.g. its file.
    :raises UsageError: if it is not valid.
    """
    try:
        return copy.deepcopy(_parse(text))  # callers change the value
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} must be valid YAML: {error}") from error


# Cached, since a suite reads the settings of thousands of jobs from the same few files.
_parse = functools.lru_cache(maxsize=256)(functools.partial(yaml.load, Loader=_Loader))


def dump_yaml(values: Any) -> str:
    """Return plain values as YAML, mappings in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def parse_overrides(words: Sequence[str], flag: str = "-params") -> dict[str, Any]:
    """Read ``key=value`` or ``key:value`` words of a flag into one nested mapping; later words win.

    :param words: e.g. ``["net_arch=[128, 128]", "policy_kwargs.n_critics=2"]``.
    """
    merged: dict[str, Any] = {}
    for word in words:
        match = re.fullmatch(r"\s*([A-Za-z_][\w.]*)\s*[=:](.+)", word, flags=re.DOTALL)
        if match is None:
            raise UsageError(
                f"`{flag}` expects key=value (or key:value), got {word!r}; e.g. {flag} learning_rate=3e-4"
            )
        merged = merge(
            merged, {match[1]: load_yaml(match[2].strip(), f"the value of `{match[1]}`")}
        )
    return merged


def as_words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings as ``-params`` takes them, ``KEY=VALUE``."""
    # YAML, as which flags are read, takes JSON as it is; a text such as "no" keeps its quotes.
    return tuple(f"{name}={json.dumps(value)}" for name, value in flatten(values).items())


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return two mappings merged deeply; where both have a value, that of ``over`` wins.

    :param over: a name with dots stands for nested mappings, as :func:`flatten` writes it.
    """
    merged = dict(base)
    for name, value in over.items():
        if isinstance(name, str) and "." in name:
            # The rest may have dots too, which the call below unfolds.
            name, _, nested_name = name.partition(".")
            value = {nested_name: value}
        if isinstance(value, Mapping):
            below = merged.get(name)
            if not isinstance(below, Mapping):
                below = {}
            value = merge(below, value)
        merged[name] = value
    return merged


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        # An empty mapping is a value: without it, the setting would be lost.
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def read_profiles(algo: str, path: str | Path | None = None) -> dict[str, Entries]:
    """Read an algorithm's settings file, with its entries for each profile.

    :return: profile -> entry name -> settings, the default profile first; empty for an algorithm that has no file.
    """
    file = Path(path or FOLDER / f"{algo}.yml")
    if path is None and not file.exists():
        return {DEFAULT_PROFILE: {}}
    content = read_yaml(file, "`-conf`")
    _check_entries(file, "the file", content)
    profiles = content.pop(PROFILES, {})
    if DEFAULT_PROFILE in profiles:
        raise UsageError(
            f"profile `{DEFAULT_PROFILE}` must stand outside `{PROFILES}`; move its entries to the top of {file}"
        )
    for name, entries in profiles.items():
        _check_entries(file, f"profile `{name}`", entries)
    profiles = {DEFAULT_PROFILE: content, **profiles}
    return {name: _with_notes(entries) for name, entries in profiles.items()}


def _check_entries(file: Path, place: str, entries: Any) -> None:
    """Refuse entries that are not mappings of settings.

    :param place: where the entries stand, for the message about what is no mapping at all.
    """
    values = {place: entries}
    if isinstance(entries, dict):
        values = {f"`{name}`": settings for name, settings in entries.items()}
    for place, value in values.items():
        if not isinstance(value, dict):
            content = "nothing" if value is None else repr(value)
            raise UsageError(
                f"{file} must map entry names to settings, e.g. `default: {{gamma: 0.99}}`, got {content} in {place}"
            )


def _with_notes(entries: Entries) -> Entries:
    """Return entries, each with the source and the status of ``default`` where it names none."""
    default = entries.get("default", {})
    notes = {note: default[note] for note in ENTRY_NOTES if note in default}
    return {name: notes | entry for name, entry in entries.items()}


def shared_profile(name: str) -> Entries:
    """Return the settings that a profile gives all algorithms: entry name -> settings."""
    file = FOLDER / PROFILES / f"{name}.yml"
    if not file.exists():
        return {}  # a profile of one algorithm alone
    return _with_notes(read_yaml(file, "a profile"))


def shared_profiles() -> list[str]:
    """Return the names of the profiles with settings for all algorithms, the default one first."""
    names = {file.stem for file in (FOLDER / PROFILES).glob("*.yml")}
    return [DEFAULT_PROFILE, *sorted(names - {DEFAULT_PROFILE})]


def describe_profiles(algo: str, settings: Collection[str]) -> dict[str, Entries]:
    """Return every profile that an algorithm has settings for, the default one first.

    :param settings: names of the algorithm's settings.
    :return: profile -> entry name -> settings: the profile's settings for all algorithms, overridden by the
        algorithm's own entries. Settings for all in a domain are left out where the algorithm's ``default`` overrides
        them.
    """
    shown = {*settings, *ENTRY_NOTES, "dataset"}
    profiles: dict[str, Entries] = {}
    for profile, algorithm_entries in read_profiles(algo).items():
        overridden = algorithm_entries.get("default", {}).keys() - set(ENTRY_NOTES)
        profiles[profile] = {}
        for name, values in merge(shared_profile(profile), algorithm_entries).items():
            if name == "quick":
                continue
            visible = shown
            # the algorithm's own default overrides a domain's settings for all algorithms
            if name != "default":
                visible = shown - (overridden - algorithm_entries.get(name, {}).keys())
            profiles[profile][name] = {
                key: value for key, value in values.items() if key in visible
            }
    return profiles


def layers_of(files: Sequence[File], names: Sequence[str]) -> list[Layer]:
    """Return the settings of some entries of files, by file and then in the order of the names, and their sources."""
    layers: list[Layer] = []
    for origin, entries in files:
        for name in names:
            if name not in entries:
                continue
            values = dict(entries[name])  # the notes are taken out of it
            source = f"{origin} {name}"
            notes = [str(values.pop(note)) for note in ENTRY_NOTES if note in values]
            if notes:
                source += f" ({'; '.join(notes)})"
            layers.append((values, source))
    return layers


def read_files(
    algo: str, profile: str, conf: str | Path | None, settings: Collection[str]
) -> tuple[list[File], list[File]]:
    """Read the settings files that may apply to an algorithm in a profile, lowest precedence first.

    :param profile: its entries lie over the algorithm's own; the default one lies below them.
    :param conf: a file of the user's, over everything that is shipped.
    :param settings: names of the algorithm's settings; others of a profile for all algorithms are left out.
    :return: the files that are shipped, and those of the user.
    :raises UsageError: if there is no such profile, or a file cannot be read.
    """
    of_algorithm = read_profiles(algo)
    users = {} if conf is None else read_profiles(algo, conf)
    keys = {*settings, *ENTRY_NOTES}
    shipped_files: list[File] = []
    user_files: list[File] = []
    for name in dict.fromkeys([DEFAULT_PROFILE, profile]):  # later ones win
        place = "" if name == DEFAULT_PROFILE else f" {PROFILES}.{name}"
        shared = shared_profile(name)
        if name not in {*of_algorithm, *users} and not shared:
            names = dict.fromkeys([*shared_profiles(), *of_algorithm, *users])
            raise UsageError(f"`{algo}` has no profile `{profile}`; it has: {', '.join(names)}")
        for values in shared.values():
            for key in values.keys() - keys:  # of other algorithms
                del values[key]
        # below the algorithm's own file, which is more specific than a protocol for all
        shipped_files.append((f"hyperparams/{PROFILES}/{name}.yml", shared))
        shipped_files.append((f"hyperparams/{algo}.yml{place}", of_algorithm.get(name, {})))
        user_files.append((f"{conf}{place}", users.get(name, {})))
    return shipped_files, user_files


def read_yaml(path: Path, name: str) -> Any:
    """Return the value of a YAML file; raise UsageError if it cannot be read or is not valid.

    :param name: of the kind of file, for the message.
    """
    try:
        text = read_text(path)
    except (OSError, DamagedFileError) as error:
        raise UsageError(
            f"{name} must be a readable YAML file in UTF-8, got {path}: {error}"
        ) from error
    return load_yaml(text, f"{name} {path}")
