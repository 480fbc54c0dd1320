"""YAML of plain values, read and written by libyaml where it is installed; nothing in a file is ever run.

A text may be from anyone, so its size, its depth and what its aliases expand to are bounded before values are made.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a mapping that says one name twice, of which YAML would forget the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping."""
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode):
                raise InvalidYaml(f"it says `{key.value}` twice in one mapping; give each name once")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


MOST_CHARACTERS = 1 << 20  # the settings of a run take some thousand
_MOST_VALUES = 100_000
_MOST_DEPTH = 64
_LONGEST_VALUE = 1 << 16
_LONGEST_NUMBER = 1000  # Python shows none of more than 4300 digits, which hexadecimal and base 60 reach in fewer
_NUMBER = re.compile(r"[-+]?\.?[0-9][-+.:_0-9a-fA-FxX]*")

_FAULTS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises for text that is not valid, or whose tags do not fit their values."""


class InvalidYaml(ValueError):
    """A text is not valid YAML, or larger than anything that the zoo writes."""


def read(text: str, loader: Any = Loader) -> Any:
    """Return what YAML text says.

    :param loader: a safe loader.
    :raises InvalidYaml: if it is not valid, or too large.
    """
    try:
        _require_small(text)
        return yaml.load(text, Loader=loader)  # a subclass of SafeLoader
    except InvalidYaml:
        raise
    except _FAULTS as error:
        raise InvalidYaml(str(error) or type(error).__name__) from error


def write(values: Any) -> str:
    """Return values as YAML text, mappings in their order."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)


def _require_small(text: str) -> None:
    """Refuse a text that is long, deep or expands to many values, before any of them is made."""
    _require("characters", len(text), MOST_CHARACTERS)
    sizes: dict[str | None, int] = {}  # of what each anchor stands for
    opened: list[tuple[str | None, int]] = []  # anchor, and how many values there were before
    total = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise InvalidYaml(f"its alias *{event.anchor} stands for nothing before it, or for what it is part of")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            _require("characters in one value", len(event.value), _LONGEST_VALUE)
            if _NUMBER.fullmatch(event.value):
                _require("characters in a number", len(event.value), _LONGEST_NUMBER)
            total += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            total += 1
            _require("levels", len(opened), _MOST_DEPTH)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor] = total - before
        _require("values after its aliases are expanded", total, _MOST_VALUES)


def _require(what: str, found: int, most: int) -> None:
    if found > most:
        raise InvalidYaml(f"it has {found:,} {what}, expected at most {most:,}")
