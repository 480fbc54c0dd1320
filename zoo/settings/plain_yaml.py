"""YAML of plain values, read and written by libyaml where it is installed; nothing in a file is ever run."""

from __future__ import annotations

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


_MOST_DEPTH = 64
_FAULTS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What PyYAML raises for text that is not valid, or whose tags do not fit their values."""


class InvalidYaml(ValueError):
    """A text is not valid YAML."""


def read(text: str, loader: Any = Loader) -> Any:
    """Return what YAML text says.

    :param loader: a safe loader.
    :raises InvalidYaml: if it is not valid.
    """
    try:
        depth = 0  # libyaml's loader calls itself at each level, without a limit
        for event in yaml.parse(text, Loader=Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH:
                raise InvalidYaml(f"it has more than {_MOST_DEPTH} levels")
        return yaml.load(text, Loader=loader)  # a subclass of SafeLoader
    except InvalidYaml:
        raise
    except _FAULTS as error:
        raise InvalidYaml(str(error) or type(error).__name__) from error


def write(values: Any) -> str:
    """Return values as YAML text, mappings in their order."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)
