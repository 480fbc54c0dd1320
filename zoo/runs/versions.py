"""A run's software versions, hardware and simulator group: MuJoCo before 3.5.0, or 3.5.0 and later."""

import contextlib
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.common.processor import cpuinfo
from zoo.terminal.messages import log

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy", "robosuite",
    "gymnasium-robotics",
)  # fmt: skip
_MOVED = re.compile(r"(visual-)?(cube|scene|puzzle|antmaze|antsoccer)-")
"""Environments whose simulation changed with MuJoCo 3.5.0; see docs/datasets.md."""


def simulator(environment: str, mujoco: str | None) -> str | None:
    """Return the group of a MuJoCo version: before 3.5.0, or 3.5.0 and later.

    The result is None if both groups simulate the environment in the same way, or the version is unknown.

    :param environment: name of an environment or a domain.
    """
    numbers = [int(number) for number in re.findall(r"\d+", str(mujoco or ""))]
    if not numbers or not _MOVED.match(environment):
        return None
    return "before 3.5" if numbers[:2] < [3, 5] else "from 3.5"


def warn_of_simulator(environment: str, noun: str, mujoco: str | None) -> None:
    """Warn if the installed MuJoCo simulates an environment differently from the recorded version.

    :param noun: plural noun for the recorded data or scores, e.g. ``the data``.
    :param mujoco: the recorded version; None if unknown.
    """
    installed = version("mujoco")
    if simulator(environment, mujoco) not in (None, simulator(environment, installed)):
        log.warning(
            "%s were recorded with MuJoCo %s; the installed %s simulates this robot differently (docs/datasets.md)",
            noun,
            mujoco,
            installed,
        )


def processor() -> str | None:
    """Return the name of this machine's processor, or None if it is unknown."""
    return cpuinfo("model name") or platform.processor() or None


def package_versions() -> dict[str, str | None]:
    """Return the installed versions of `RECORDED_PACKAGES`; None for a missing package."""
    packages: dict[str, str | None] = dict.fromkeys(RECORDED_PACKAGES)
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    return packages


def describe_versions(device: str) -> dict[str, Any]:
    """Return a run's software and device, as JSON-serialisable values for ``versions.json``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "packages": package_versions(),
        "git_commit": git_commit(),
        "device": device,
    }


def git_commit() -> str | None:
    """Return the commit of the checkout, with ``-dirty`` if files differ from it; None for an installed package."""
    root = Path(__file__).resolve().parents[2]  # this file is zoo/runs/versions.py
    # without this check, an installed package might report another project's repository
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
