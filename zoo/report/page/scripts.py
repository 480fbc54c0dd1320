"""The scripts of the page: what is inlined, and the policy that lets a browser run these scripts and load nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "templates"
VENDOR = FOLDER / "vendor"
_OWN = ("figures.js", "report.js")


def vendored() -> list[dict[str, Any]]:
    """Return what is known of the scripts of others, in the order in which they run."""
    return list(yaml.safe_load((VENDOR / "vendored.yml").read_text(encoding="utf-8")))


@cache
def scripts() -> tuple[str, ...]:
    """Return the scripts of the page in their order; those of others have their licence in front."""
    others = [f"/*\n{_read(VENDOR / entry['licence_file'])}*/\n{_read(VENDOR / entry['file'])}" for entry in vendored()]
    return (*others, *(_read(FOLDER / name) for name in _OWN))


def content_security_policy() -> str:
    """Return a policy that forbids the network, and every script but those of the page.

    Styles may be inline, since a drawing sets them on its elements.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts()]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
