"""Read settings files and overrides safely, and order them by precedence.

A profile is a benchmark's protocol. ``hyperparams/profiles/<name>.yml`` contains a profile's settings for all
algorithms; ``hyperparams/<algo>.yml`` contains the settings of one algorithm in every profile.
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
"""The default profile: the protocol of the QAM paper."""
PROFILES = "profiles"
"""Key in a settings file for the entries of other profiles; every other key is an entry of the default profile."""
ENTRY_NOTES = ("source", "status")

Entries = dict[str, dict[str, Any]]
File = tuple[str, Entries]
"""A source, i.e. a file's path and a profile, and its entries."""
Layer = tuple[Mapping[str, Any], str]
"""Settings and their source."""

_NUMBERS = {
    "tag:yaml.org,2002:bool": r"^(true|True|TRUE|false|False|FALSE)$",
    "tag:yaml.org,2002:int": r"^[-+]?(0|[1-9][0-9_]*)$",
    "tag:yaml.org,2002:float": r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\.(inf|Inf|INF)|Infinity)|\.(nan|NaN|NAN)|NaN)$",
    "!exponent": r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$",
}
"""Tag -> pattern of values with this tag. Other values that YAML 1.1 converts, such as `yes` and dates, remain text.

``Infinity`` and ``NaN`` are from JSON.
"""


# The C loader is ten times as fast as the Python loader, but some builds of PyYAML lack it.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, which also reads 3e-4 as a number and 1e5 as an integer, and rejects duplicate keys."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Construct a value from the bottom up, so that PyYAML rejects a value that contains itself."""
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a mapping; reject duplicate keys, of which PyYAML would keep only the last value."""
        # check before PyYAML adds the entries of `<<`, because a mapping may repeat their keys
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"duplicate key `{name}`; remove one")
        return super().construct_mapping(node, deep)

    def construct_exponent(self, node: Any) -> int | float:
        """Return the value of a number such as 3e-4; whole numbers, such as 1e5, become integers."""
        value = float(self.construct_scalar(node))
        if value.is_integer() and abs(value) < 1e15:  # floats represent such integers exactly
            return int(value)
        return value


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """YAML's safe dumper, which also quotes text that looks like a number, such as 3e-4."""


for _tag, _pattern in _NUMBERS.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(_pattern), None)
_Loader.add_constructor("!exponent", _Loader.construct_exponent)


def load_yaml(text: str, name: str) -> Any:
    """Read YAML that contains only JSON-serialisable values, and therefore no code.

    :param name: name of the text in messages, e.g. its file.
    :raises UsageError: if the text is invalid.
    """
    try:
        return copy.deepcopy(_parse(text))  # callers change the value, which is cached
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} must be valid YAML: {error}") from error


# cached, because thousands of jobs of a suite share a few files
_parse = functools.lru_cache(maxsize=256)(functools.partial(yaml.load, Loader=_Loader))


def dump_yaml(values: Any) -> str:
    """Return JSON-serialisable values as YAML; mappings keep their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def parse_overrides(words: Sequence[str], flag: str = "-params") -> dict[str, Any]:
    """Read a flag's words, ``key=value`` or ``key:value``, into one nested mapping; later words override earlier ones.

    :param words: e.g. ``["net_arch=[128, 128]", "policy_kwargs.activation_fn=ReLU"]``.
    """
    merged: dict[str, Any] = {}
    for word in words:
        match = re.fullmatch(r"\s*([A-Za-z_][\w.]*)\s*[=:](.+)", word, flags=re.DOTALL)
        if match is None:
            raise UsageError(
                f"`{flag}` expects key=value (or key:value), got {word!r}; e.g. {flag} key=3e-4"
            )
        value = load_yaml(match[2].strip(), f"the value of `{match[1]}`")
        merged = merge(merged, nested({match[1]: value}))
    return merged


def as_words(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return settings as words of ``-params``, ``KEY=VALUE``."""
    # JSON is valid YAML, and quotes text such as "no"
    return tuple(f"{name}={json.dumps(value)}" for name, value in values.items())


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings recursively; values in ``over`` override values in ``base``."""
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[name] = value
    return merged


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with nested mappings instead of dotted names; names inside of values are not changed."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        for part in reversed(str(name).split(".")):
            value = {part: value}
        result = merge(result, value)
    return result


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as a flat mapping with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        # an empty mapping counts as a value
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def read_profiles(algo: str, path: str | Path | None = None) -> dict[str, Entries]:
    """Read an algorithm's settings file, with its entries for each profile.

    :return: profile -> entry name -> settings, the default profile first. An algorithm without a file has no entries.
    """
    file = Path(path or FOLDER / f"{algo}.yml")
    if path is None and not file.exists():
        return {DEFAULT_PROFILE: {}}
    content = read_yaml(file, "`-conf`")
    _check_entries(file, "the file", content)
    profiles = content.pop(PROFILES, {})
    if DEFAULT_PROFILE in profiles:
        raise UsageError(
            f"profile `{DEFAULT_PROFILE}` is not allowed in `{PROFILES}`; move its entries to the top level of {file}"
        )
    for name, entries in profiles.items():
        _check_entries(file, f"profile `{name}`", entries)
    profiles = {DEFAULT_PROFILE: content, **profiles}
    return {name: _with_notes(entries) for name, entries in profiles.items()}


def _check_entries(file: Path, location: str, entries: Any) -> None:
    """Raise UsageError for entries that are not mappings of settings.

    :param location: location of the entries, for messages.
    """
    values = {location: entries}
    if isinstance(entries, dict):
        values = {f"`{name}`": settings for name, settings in entries.items()}
    for location, value in values.items():
        if not isinstance(value, dict):
            content = "nothing" if value is None else repr(value)
            raise UsageError(
                f"{file} must map entry names to settings, e.g. `default: {{gamma: 0.99}}`, got {content} in {location}"
            )


def _with_notes(entries: Entries) -> Entries:
    """Return the entries, each with a source and a status; entries without these notes get those of ``default``."""
    default = entries.get("default", {})
    notes = {note: default[note] for note in ENTRY_NOTES if note in default}
    return {name: notes | entry for name, entry in entries.items()}


def shared_profile(name: str) -> Entries:
    """Return the settings of a profile for all algorithms: entry name -> settings."""
    if name not in shared_profiles():
        return {}  # only algorithms' own files contain the profile
    return _with_notes(read_yaml(FOLDER / PROFILES / f"{name}.yml", "a profile"))


def shared_profiles() -> list[str]:
    """Return the names of the profiles with settings for all algorithms, the default profile first."""
    names = {file.stem for file in (FOLDER / PROFILES).glob("*.yml")}
    return [DEFAULT_PROFILE, *sorted(names - {DEFAULT_PROFILE})]


def describe_profiles(algo: str, settings: Collection[str]) -> dict[str, Entries]:
    """Return the settings of an algorithm in every profile, the default profile first.

    :param settings: names of the algorithm's settings.
    :return: profile -> entry name -> settings. The algorithm's own entries override those that the profile has for
        all algorithms. The profile's settings for a domain are omitted if the algorithm's ``default`` overrides them.
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
            # the algorithm's `default` overrides what the profile sets for all algorithms on a domain
            if name != "default":
                visible = shown - (overridden - algorithm_entries.get(name, {}).keys())
            profiles[profile][name] = {
                key: value for key, value in values.items() if key in visible
            }
    return profiles


def layers_of(files: Sequence[File], names: Sequence[str]) -> list[Layer]:
    """Return the settings and sources of named entries, ordered by file and then by the order of the names."""
    layers: list[Layer] = []
    for origin, entries in files:
        for name in names:
            if name not in entries:
                continue
            values = dict(entries[name])  # a copy, because notes are removed
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

    :param profile: name of the profile; its entries override the default profile's.
    :param conf: a file of the user, which overrides all shipped files.
    :param settings: names of the algorithm's settings; other settings of a profile are omitted.
    :return: shipped files, and files of the user.
    :raises UsageError: if the profile does not exist or a file cannot be read.
    """
    profiles = read_profiles(algo)
    users = {} if conf is None else read_profiles(algo, conf)
    keys = {*settings, *ENTRY_NOTES}
    shipped_files: list[File] = []
    user_files: list[File] = []
    for name in dict.fromkeys([DEFAULT_PROFILE, profile]):  # later profiles override earlier ones
        suffix = "" if name == DEFAULT_PROFILE else f" {PROFILES}.{name}"
        shared = shared_profile(name)
        if name not in {*profiles, *users} and not shared:
            names = dict.fromkeys([*shared_profiles(), *profiles, *users])
            raise UsageError(f"`{algo}` has no profile `{profile}`, only {', '.join(names)}")
        for values in shared.values():
            for key in values.keys() - keys:  # settings of other algorithms
                del values[key]
        # the algorithm's file is more specific than the profile's file for all algorithms, and therefore overrides it
        shipped_files.append((f"hyperparams/{PROFILES}/{name}.yml", shared))
        shipped_files.append((f"hyperparams/{algo}.yml{suffix}", profiles.get(name, {})))
        user_files.append((f"{conf}{suffix}", users.get(name, {})))
    return shipped_files, user_files


def read_yaml(path: Path, name: str) -> Any:
    """Return the value in a YAML file; raises UsageError if the file cannot be read or is invalid.

    :param name: kind of the file, for messages.
    """
    try:
        text = read_text(path)
    except (OSError, DamagedFileError) as error:
        raise UsageError(
            f"{name} must be a readable YAML file in UTF-8, got {path}: {error}"
        ) from error
    return load_yaml(text, f"{name} {path}")
