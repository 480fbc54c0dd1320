"""Workers as an array of Slurm jobs, submitted with submitit."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from zoo.errors import Interrupted, UsageError, as_usage_error
from zoo.packages import import_optional
from zoo.runs.claims import HIDDEN
from zoo.settings.layers import parse_overrides
from zoo.suites.worker import Plan, Worker, drive, python_path
from zoo.terminal.messages import log

submitit = import_optional("submitit", "submitit", "`--launcher slurm`", "flow-rl-zoo[slurm]")
from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: E402  only where submitit is

DEFAULTS: Mapping[str, Any] = {"timeout_min": 240, "slurm_signal_delay_s": 180, "name": "zoo"}
"""Parameters of submitit, over its own: a job of 5 minutes, which gets 90 s for a checkpoint."""
MOST_TIMEOUTS = 1000
"""How often a job that reaches its time limit continues in another one; every time it has written a checkpoint."""
SECONDS_TO_BE_KILLED = 600.0
"""How long a worker that Slurm has sent SIGTERM, and that has stopped, waits for its end."""
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
"""States that a Slurm job does not leave."""


def run_on_slurm(plan: Plan, workers: int | None, resources: Sequence[str]) -> None:
    """Train a plan's jobs by an array of Slurm jobs, and wait for their end.

    :param workers: how many at once; None: one per job, at most 100.
    :param resources: parameters of submitit's ``AutoExecutor``, as ``key=value``.
    :raises Interrupted: after Ctrl-C, which leaves the Slurm jobs as they are, or when they were cancelled.
    """
    fleet = SlurmFleet(plan.machine.log_folder / HIDDEN / ".slurm", parse_overrides(resources, "--resources"))
    try:
        drive(plan, fleet, workers)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"the Slurm jobs continue; `scancel {' '.join(fleet.arrays)}` stops them with checkpoints, and the same "
            "command again waits for them"
        ) from error
    fleet.remove_waiting()


class SlurmFleet:
    """Workers that are Slurm jobs.

    :param folder: of what submitit and Slurm write, on shared storage.
    :param parameters: for submitit.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise UsageError(
                "`--launcher slurm` starts jobs with Slurm's commands, but `sbatch` and `srun` are not on the PATH; "
                "start it where they are, which is usually a login node of the cluster, or use --launcher local"
            )
        self.folder, self.arrays = folder, list[str]()
        self._executor = _make_executor(folder, parameters)
        self._living: set[str] = set()
        self._cancelled: set[str] = set()

    def start(self, workers: Sequence[Worker]) -> None:
        """Submit workers as one array of jobs."""
        if self._cancelled:
            raise Interrupted(
                f"Slurm jobs were cancelled ({', '.join(sorted(self._cancelled))}), so no others are submitted; start "
                "the same command again to continue"
            )
        try:
            jobs = self._executor.submit_array([SlurmWorker(worker) for worker in workers])
        except (FailedJobError, FailedSubmissionError) as error:
            if not self.arrays:
                raise UsageError(f"Slurm refuses the jobs: {str(error).strip()}; see --resources") from error
            log.warning("Slurm refuses %d jobs in the place of lost ones: %s", len(workers), str(error).strip())
            return
        self._living |= {job.job_id for job in jobs}
        array = jobs[0].job_id.partition("_")[0]
        self.arrays.append(array)
        log.info("submitted Slurm job %s, %d workers; they log to %s", array, len(jobs), self.folder)

    def living(self) -> int:
        """Return how many of the jobs have not ended for good.

        Cancelled ones count as long as others live: nobody wants them replaced.
        """
        states = _states()
        if states is not None:
            for job in sorted(self._living):
                self._note(job, states.get(job, "COMPLETED"))
        return len(self._living) + len(self._cancelled) if self._living else 0

    def remove_waiting(self) -> None:
        """Remove jobs that have not begun; there is nothing to do for them."""
        if self._living:
            subprocess.run(["scancel", "--state=PENDING", *sorted(self._living)], check=False)

    def _note(self, job: str, state: str) -> None:
        if state not in ENDED:
            return
        self._living.remove(job)
        if state == "CANCELLED":
            self._cancelled.add(job)
        elif state != "COMPLETED":
            log.warning("Slurm job %s has ended as %s; see %s", job, state, self.folder / f"{job}_0_log.err")


class SlurmWorker:
    """A worker in a Slurm job, called by submitit.

    Before a time limit, and for a preemption, submitit calls :meth:`checkpoint` and puts the job back into the queue.
    """

    _ended: Future[None] | None = None

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def __call__(self) -> None:
        """Train until nothing is left to do."""
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SRUN_CPUS_PER_TASK", "1"))
        is_terminated = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            is_terminated.set()
            self.worker.stop()

        signal.signal(signal.SIGTERM, stop)  # over submitit's handler, which ignores it
        # Slurm sends a signal to every process of a job; a training process would die of these without a checkpoint.
        # Its thread does not get them, nor does what that starts.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
        pool = ThreadPoolExecutor(1)
        self._ended = pool.submit(self.worker)
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        self._ended.result()
        if is_terminated.is_set():
            # Slurm kills the job soon. If it was preempted, Slurm then puts it back into the queue, or has sent USR2 by
            # then, which makes submitit do so; a job that ends by itself stays away.
            threading.Event().wait(SECONDS_TO_BE_KILLED)

    def checkpoint(self) -> Any:
        """Stop, after a checkpoint of what is being trained; return what continues."""
        self.worker.stop()
        if self._ended is not None:
            wait([self._ended])
        return submitit.helpers.DelayedSubmission(SlurmWorker(replace(self.worker)))


def _make_executor(folder: Path, parameters: Mapping[str, Any]) -> Any:
    """Return what submits jobs that run in the current folder, and find what this process finds."""
    commands, more = parameters.get("slurm_setup", []), parameters.get("slurm_additional_parameters", {})
    if not isinstance(commands, list) or not isinstance(more, Mapping):
        raise UsageError(
            "`slurm_setup` must be a list of commands and `slurm_additional_parameters` a mapping, got "
            f"{commands!r} and {more!r}"
        )
    setup = [
        f"cd {shlex.quote(os.getcwd())}",
        f"export PYTHONPATH={shlex.quote(os.pathsep.join(python_path()))}",
        # Since Slurm 22.05, srun does not look at what sbatch was told.
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}"',
    ]
    wanted = {**DEFAULTS, **parameters}
    wanted |= {"slurm_setup": [*setup, *commands], "slurm_additional_parameters": {"requeue": True, **more}}
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=MOST_TIMEOUTS)
    with as_usage_error(AssertionError, TypeError, ValueError, NameError):
        executor.update_parameters(**wanted)
    return executor


def _states() -> dict[str, str] | None:
    """Return the states of this user's Slurm jobs by their id; None if Slurm does not answer just now.

    Asked of ``squeue``, since not every cluster has the accounting that ``sacct``, and with it submitit, needs.
    """
    command = ["squeue", "--user", str(os.getuid()), "--states=all", "--array", "--noheader", "--format=%F_%K %T"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        log.warning("no answer from squeue: %s", found.stderr.strip())
        return None
    pairs = [line.split() for line in found.stdout.splitlines()]
    return {job.removesuffix("_N/A"): state for job, state in pairs}
