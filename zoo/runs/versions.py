"""What produced a run: software, data, device, command."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.processes.rounding import processor

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy",
)  # fmt: skip


def describe_versions(device: str, dataset_fingerprint: str | None) -> dict[str, Any]:
    """Return what software and data a run used, as plain values for ``versions.json``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "packages": {name: _version_of(name) for name in RECORDED_PACKAGES},
        "git_commit": git_commit(),
        "device": device,
        "dataset_fingerprint": dataset_fingerprint,
    }


def git_commit() -> str | None:
    """Return the commit that the zoo runs from, followed by ``-dirty`` if files differ; None outside a checkout."""
    root = Path(__file__).resolve().parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def command_line() -> str:
    """Return the command that started the program, quoted for a shell."""
    return shlex.join(sys.orig_argv)


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
