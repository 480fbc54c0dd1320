"""YAML of plain values, read and written by libyaml where it is installed; nothing in a file is ever run."""

from __future__ import annotations

from typing import Any

import yaml

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read(text: str) -> Any:
    """Return what YAML text says."""
    return yaml.load(text, Loader=Loader)


def write(values: Any) -> str:
    """Return values as YAML text, mappings in their order."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)
