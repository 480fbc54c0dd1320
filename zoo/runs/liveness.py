"""Whether a run is being trained, or its process is gone and could not say so."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.runs.claims import HIDDEN, Claims, is_locked
from zoo.runs.folder import HOST, STATES, RunFolder, UnreadableRun

DEAD = "dead"
SHOWN_STATES = (*STATES, DEAD)
WHAT_TO_DO = "its process is gone; --resume continues it"
SILENT_FOR = datetime.timedelta(days=1)
"""Age of the status at which a run of another host counts as dead."""


def state_now(folder: RunFolder, status: Mapping[str, Any]) -> str:
    """Return a run's state: the one in its ``status.json``, or ``dead``.

    A run that says ``running`` is dead if nobody holds the lock of its folder and its status was written on this host.
    Locks need not reach other hosts, and copies of a folder have none. So a run of another host, or of an older version
    that recorded no host, counts as dead only when its status is more than a day old. Where locks cannot be tested the
    status is believed. A run of a suite is dead if nobody holds the claim of its job, see `zoo.runs.claims`.

    :param status: what ``status.json`` says.
    """
    state = str(status["state"])
    if state != "running":
        return state
    claim = folder.read_claim()
    is_held = is_locked(_first(folder)) if claim is None else _is_claimed(folder, claim)
    if is_held is not False:
        return state
    is_known = claim is not None or status.get("host") == HOST
    return DEAD if is_known or _age(status) > SILENT_FOR else state


def _first(folder: RunFolder) -> Path:
    """Return the folder of a run's first seed, whose lock stands for all."""
    try:
        names = folder.read_config().get("folders")
    except UnreadableRun:
        return folder.path
    return folder.path.with_name(str(names[0])) if isinstance(names, list) and names else folder.path


def _is_claimed(folder: RunFolder, claim: Path) -> bool | None:
    """Return whether a process holds the claim of a suite's run; None if that cannot be told."""
    job = folder.path.parents[1] / HIDDEN / claim.parent.parent.name
    return Claims(job).holder() is not None if job.is_dir() else None


def _age(status: Mapping[str, Any]) -> datetime.timedelta:
    """Return how old a status is; zero if it does not say."""
    try:
        written = datetime.datetime.fromisoformat(str(status.get("updated")))
        return datetime.datetime.now(datetime.UTC) - written
    except (TypeError, ValueError):
        return datetime.timedelta(0)
