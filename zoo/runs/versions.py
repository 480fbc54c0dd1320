"""Versions of the software and hardware that produced a run."""

import contextlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.common.processor import cpuinfo

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy",
)  # fmt: skip


def processor() -> str | None:
    """Return the name of this machine's processor, or None where the system does not say."""
    return cpuinfo("model name") or platform.processor() or None


def describe_versions(device: str, dataset_fingerprint: str | None) -> dict[str, Any]:
    """Return the software, device and data of a run, as plain values for ``versions.json``."""
    packages: dict[str, str | None] = dict.fromkeys(RECORDED_PACKAGES)
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "packages": packages,
        "git_commit": git_commit(),
        "device": device,
        "dataset_fingerprint": dataset_fingerprint,
    }


def git_commit() -> str | None:
    """Return the commit of the zoo's own checkout, with ``-dirty`` if files differ; None for an installed package."""
    root = Path(__file__).resolve().parents[2]  # of zoo/runs/versions.py
    # within a hook, git's variables name the repository of the hook
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def ask(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env=variables
        ).stdout.strip()

    try:
        # a repository around an installed package
        if Path(ask("rev-parse", "--show-toplevel")) != root:
            return None
        return ask("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
