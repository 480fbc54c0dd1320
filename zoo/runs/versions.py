"""Versions of the software and hardware that produced a run, and on which side of a change of MuJoCo they are."""

import contextlib
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agents.common.processor import cpuinfo
from zoo.terminal.messages import log

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy",
)  # fmt: skip
_MOVED = re.compile(r"(visual-)?(cube|scene|puzzle|antmaze|antsoccer)-")
"""Environments whose robots move otherwise from MuJoCo 3.5.0 on: docs/datasets.md has by how much."""


def simulator(environment: str, mujoco: str | None) -> str | None:
    """Return on which side of MuJoCo 3.5.0 a version is; None if both move the robot alike, or it is not known.

    :param environment: its name, or that of a domain.
    """
    numbers = [int(number) for number in re.findall(r"\d+", str(mujoco or ""))]
    if not numbers or not _MOVED.match(environment):
        return None
    return "before 3.5" if numbers[:2] < [3, 5] else "from 3.5"


def warn_of_simulator(environment: str, noun: str, mujoco: str | None) -> None:
    """Warn if the robot of an environment moves otherwise here than where something was made.

    :param noun: the thing that was made, in the plural.
    :param mujoco: the version in which it was made; None if that is not known.
    """
    installed = version("mujoco")
    if simulator(environment, mujoco) not in (None, simulator(environment, installed)):
        log.warning(
            "%s were made in MuJoCo %s; %s, which is installed, moves this robot otherwise (docs/datasets.md)",
            noun,
            mujoco,
            installed,
        )


def processor() -> str | None:
    """Return the name of this machine's processor, or None where the system does not say."""
    return cpuinfo("model name") or platform.processor() or None


def describe_versions(device: str, data: Any = None) -> dict[str, Any]:
    """Return the software, device and data of a run, as plain values for ``versions.json``.

    :param data: a `zoo.datasets.formats.base.Dataset`, or None.
    """
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
        "dataset_fingerprint": getattr(data, "fingerprint", None),
        "data": dict(getattr(data, "origin", {})),
    }


def git_commit() -> str | None:
    """Return the commit of the zoo's own checkout, with ``-dirty`` if files differ; None for an installed package."""
    root = Path(__file__).resolve().parents[2]  # of zoo/runs/versions.py
    if not (root / ".git").exists():  # there may be a repository around an installed package
        return None
    # within a hook, git's variables name the repository of the hook
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=10, check=True, env=variables
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
