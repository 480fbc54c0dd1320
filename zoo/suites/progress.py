"""How far the jobs of a suite are while they are trained: a line for each that runs, and how many have ended."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Group
from rich.live import Live

from zoo.runs.folder import UnreadableRun
from zoo.runs.read import read_speed
from zoo.runs.resume import StoredRun, describe_step
from zoo.runs.scores import SUCCESS
from zoo.suites.jobs import Job, State
from zoo.terminal.messages import log
from zoo.terminal.tables import line, terminal

SECONDS_BETWEEN_LOOKS = 5.0
SHARE_OF_LOOKING = 0.1
"""How much of its time a program may spend on reading run folders: of a large suite on slow storage, a long time."""


def follow(jobs: Sequence[Job], has_ended: Callable[[float], bool]) -> None:
    """Say how far jobs are until their tasks have ended: in a terminal again and again, elsewhere what has changed.

    :param has_ended: waits for some seconds; returns whether all tasks have ended.
    """
    left, told, pause = list(jobs), "", 0.0
    console = terminal()
    with (
        Live(console=console, auto_refresh=False, transient=True)
        if console.is_terminal
        else contextlib.nullcontext() as live
    ):
        while not has_ended(pause):
            begin = time.monotonic()
            found = [(job, job.find()) for job in left]
            seen = [(job, run, job.state_of(run)) for job, run in found]
            left = [job for job, _, state in seen if not state.is_final]
            counts = Counter(state for _, _, state in seen if not state.is_final)
            now = [f"{counts[state]} {state}" for state in State if counts[state]]
            text = ", ".join([f"{len(jobs) - len(left)} of {len(jobs)} jobs are done", *now])
            if live is not None:
                running = [f"{job.run}: {describe(run)}" for job, run, state in seen if run and state is State.RUNNING]
                live.update(Group(*map(line, [*running, text])), refresh=True)
            elif text != told:
                log.info("%s", text)
            told, pause = text, max(SECONDS_BETWEEN_LOOKS, (time.monotonic() - begin) / SHARE_OF_LOOKING)


def describe(run: StoredRun) -> str:
    """Return in a few words which step a run has reached, and its last score, the mean over its seeds."""
    speed = read_speed(run.folders[0])
    words = [describe_step(run, 0 if speed is None else speed[0])]
    with contextlib.suppress(UnreadableRun):  # none has been evaluated yet
        found = [folder.read_evaluations() for folder in run.folders]
        if all("successes" in arrays for arrays in found):
            scores = [arrays["successes"][-1].mean() for arrays in found]
            words.append(f"{SUCCESS.name} {sum(scores) / len(scores):.1%}")
        else:
            scores = [arrays["results"][-1].mean() for arrays in found]
            words.append(f"return {sum(scores) / len(scores):.2f}")
    return ", ".join(words)
