"""Refuse a misspelt algorithm or environment before PyTorch and the simulators are imported, which takes seconds."""

from __future__ import annotations

import argparse
import glob
from pathlib import Path

import gymnasium

import zoo.envs.make  # noqa: F401  registers the environments of the benchmarks
from agents.registry import ALIASES, BUILT_IN
from zoo.algorithms import SB3, require_algorithm
from zoo.datasets.names import is_own, parse_env_name
from zoo.envs.tasks import TASKS
from zoo.errors import UsageError


def refuse_unknown(args: argparse.Namespace) -> None:
    """Refuse a command line whose ``algo`` or ``env`` surely does not exist.

    :raises UsageError: for the first unknown name; the message names the closest.
    """
    try:
        require_algorithm(args.algo)
    except KeyError as error:
        raise UsageError(error.args[0]) from error
    asked = vars(args)
    env = asked.get("env")
    # what the user's packages, an algorithm's module or a dataset say of environments is known later
    is_ours = args.algo in (*BUILT_IN, *ALIASES, *SB3)
    if not env or ":" in env or not is_ours or asked.get("gym_packages") or is_own(asked.get("dataset", "auto")):
        return
    has_run = any(Path(asked.get("folder", "."), args.algo).glob(f"{glob.escape(env)}_*"))
    if not has_run and env not in {*gymnasium.registry, *TASKS}:
        parse_env_name(env, gymnasium.registry)
