"""Jobs as an array of Slurm jobs, submitted with submitit."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from agents.common.files import write_text
from agents.common.validation import count
from zoo.algorithms.packages import import_optional
from zoo.settings.layers import parse_overrides
from zoo.suites.task import JobTask, python_path
from zoo.terminal.errors import Interrupted, UsageError, as_usage_error
from zoo.terminal.messages import log

submitit = import_optional("submitit", "submitit", "`--launcher slurm`", "flow-rl-zoo[slurm]")
from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: E402  only where submitit is

DEFAULTS: Mapping[str, Any] = {"timeout_min": 240, "slurm_signal_delay_s": 180, "name": "zoo"}
"""Parameters of submitit in place of its defaults, which are 5 minutes for a job and 90 s for its checkpoint."""
MAX_TIMEOUTS = 1000
"""How often a job that reaches its time limit continues in another one; every time it has written a checkpoint."""
SECONDS_TO_BE_KILLED = 600.0
"""How long a task that Slurm has sent SIGTERM, and that has stopped, waits for its end."""
POLL_SECONDS = 5.0
DEFAULT_WORKERS = 100
"""Jobs at once where the user has not said how many."""
MAX_ARRAY_SIZE = 1000
"""Slurm refuses larger arrays unless its administrator allows them."""
SUBMITTED = "submitted.json"
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED",
    "TIMEOUT",
)  # fmt: skip
"""States that a Slurm job does not leave."""


def run_on_slurm(tasks: Sequence[JobTask], executor: Any, report: Callable[[], bool]) -> None:
    """Run tasks as an array of Slurm jobs, and wait for their end; Slurm starts one again whose node has died.

    Tasks that an earlier program has submitted, and that Slurm still has, are waited for.

    :param executor: of :func:`make_executor`.
    :param report: says how far the jobs are, unless that was said just now; whether it did.
    :raises Interrupted: after Ctrl-C, which leaves the Slurm jobs as they are.
    """
    folder = executor.folder
    file = folder / SUBMITTED
    submitted = _queued_jobs(file)
    new_tasks = [task for task in tasks if task.job.name not in submitted]
    for begin in range(0, len(new_tasks), MAX_ARRAY_SIZE):
        # Written after each array: a program that is killed here submits at most one array twice.
        submitted |= _submit(executor, new_tasks[begin : begin + MAX_ARRAY_SIZE])
        write_text(file, json.dumps(submitted) + "\n")
    left = {submitted[task.job.name] for task in tasks}

    try:
        while left:
            is_shown = report()
            time.sleep(POLL_SECONDS)
            # Slurm's controller serves all users: it is asked no more often than the report is shown.
            states = _states() if is_shown else None
            if states is None:
                continue
            for job in sorted(left):
                # Slurm forgets a job some minutes after its end
                state = states.get(job, "COMPLETED")
                if state not in ENDED:
                    continue
                left.remove(job)
                if state != "COMPLETED":
                    file = folder / f"{job}_0_log.err"
                    log.warning("Slurm job %s has ended as %s; see %s", job, state, file)
    except KeyboardInterrupt as error:
        arrays = sorted({job.partition("_")[0] for job in left})
        raise Interrupted(
            f"the Slurm jobs continue; `scancel {' '.join(arrays)}` stops them with checkpoints, and the same command "
            "again waits for them"
        ) from error


def _queued_jobs(file: Path) -> dict[str, str]:
    """Return the jobs that an earlier program submitted and that Slurm still has: name of the job -> its id."""
    if not file.exists():
        return {}
    states = _states()
    if states is None:
        raise UsageError(
            f"squeue must say whether the jobs of {file} still run, got no answer; try again later"
        )
    try:
        earlier = dict(json.loads(file.read_bytes()))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{file} is damaged ({error}); stop the Slurm jobs of this suite, if there are any, and remove the file"
        ) from error
    return {name: job for name, job in earlier.items() if states.get(job, "COMPLETED") not in ENDED}


def _submit(executor: Any, tasks: Sequence[JobTask]) -> dict[str, str]:
    """Submit tasks as one array; return name of the job -> its id in Slurm."""
    try:
        jobs = executor.submit_array([SlurmTask(task) for task in tasks])
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(
            f"Slurm refuses the jobs: {str(error).strip()}; see --resources"
        ) from error
    log.info(
        "submitted Slurm job %s, %s; logs are in %s",
        jobs[0].job_id.partition("_")[0],
        count(len(jobs), "task"),
        executor.folder,
    )
    return {task.job.name: job.job_id for task, job in zip(tasks, jobs, strict=True)}


@dataclass
class SlurmTask:
    """A task in a Slurm job, called by submitit.

    Before a time limit, and for a preemption, submitit calls :meth:`checkpoint` and puts the job back into the queue.
    """

    task: JobTask
    _training: Future[None] | None = None

    def __call__(self) -> None:
        """Train until the job has ended."""
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SRUN_CPUS_PER_TASK", "1"))
        is_terminated = threading.Event()

        def stop(number: int, frame: FrameType | None) -> None:
            is_terminated.set()
            self.task.stop()

        signal.signal(signal.SIGTERM, stop)  # over submitit's handler, which ignores it
        # Slurm sends a signal to every process of a job; a training process would die of these without a checkpoint.
        # Its thread does not get them, nor does what that starts.
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
        pool = ThreadPoolExecutor(1)
        self._training = pool.submit(self.task)
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        self._training.result()
        if is_terminated.is_set():
            # Slurm kills the job soon. If it was preempted, Slurm then puts it back into the queue, or has sent USR2 by
            # then, which makes submitit do so; a job that ends by itself stays away.
            threading.Event().wait(SECONDS_TO_BE_KILLED)

    def checkpoint(self) -> Any:
        """Stop, after a checkpoint of what is being trained; return what continues."""
        self.task.stop()
        if self._training is not None:
            wait([self._training])
        return submitit.helpers.DelayedSubmission(SlurmTask(replace(self.task)))


def make_executor(folder: Path, resources: Sequence[str], workers: int | None) -> Any:
    """Return submitit's executor for jobs that run in the current folder and import the modules of this process.

    :param folder: of what submitit and Slurm write, on shared storage; it is made with the first job.
    :param resources: parameters of submitit's ``AutoExecutor``, as ``key=value``.
    :param workers: how many jobs run at once; None: 100.
    :raises UsageError: without Slurm's commands, for parameters that submitit does not know, or a folder whose name
        Slurm would change.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UsageError(
            "`--launcher slurm` starts jobs with Slurm's commands, but `sbatch` and `srun` are not on the PATH; "
            "start it where they are, which is usually a login node of the cluster, or use --launcher local"
        )
    parameters = parse_overrides(resources, "--resources")
    if "%" in str(folder):
        raise UsageError(
            f"Slurm replaces `%` in names of files, got the log folder {folder}; choose another with -f"
        )
    commands = parameters.get("slurm_setup", [])
    additional = parameters.get("slurm_additional_parameters", {})
    if not isinstance(commands, list) or not isinstance(additional, Mapping):
        raise UsageError(
            "`slurm_setup` must be a list of commands and `slurm_additional_parameters` a mapping"
        )
    setup = [
        f"cd {shlex.quote(os.getcwd())}",
        f"export PYTHONPATH={shlex.quote(python_path())}",
        # Since Slurm 22.05, srun does not look at what sbatch was told.
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}"',
    ]
    parameters = {
        **DEFAULTS,
        "slurm_array_parallelism": workers or DEFAULT_WORKERS,
        **parameters,
        "slurm_setup": [*setup, *commands],
        "slurm_additional_parameters": {"requeue": True, **additional},
    }
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=MAX_TIMEOUTS)
    with as_usage_error(AssertionError, TypeError, ValueError, NameError):
        executor.update_parameters(**parameters)
    return executor


def _states() -> dict[str, str] | None:
    """Return the states of this user's Slurm jobs by their id; None if Slurm does not answer just now.

    Asked of ``squeue``, since not every cluster has the accounting that ``sacct``, and with it submitit, needs.
    """
    words = f"squeue --user {os.getuid()} --states=all --array --noheader"
    command = [*words.split(), "--format=%F_%K %T"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        log.warning("no answer from squeue: %s", answer.stderr.strip())
        return None
    states = {}
    for line in answer.stdout.splitlines():
        job, state = line.split()
        states[job.removesuffix("_N/A")] = state  # a job that is no array
    return states
