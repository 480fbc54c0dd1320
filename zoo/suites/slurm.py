"""Run jobs as a Slurm array: submitit submits the jobs, and requeues jobs at their time limit."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.common.files import write_text
from agents.common.validation import count, unknown_name_message
from zoo.algorithms.packages import import_optional
from zoo.settings.layers import parse_overrides
from zoo.suites.jobs import JOBS, Job, python_path
from zoo.terminal.errors import INTERRUPTED, Interrupted, UsageError, as_usage_error
from zoo.terminal.messages import log

submitit = import_optional("submitit", "submitit", "`--launcher slurm`", "flow-rl-zoo[slurm]")
from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: E402  if submitit is installed

DEFAULTS: dict[str, Any] = {"timeout_min": 240, "slurm_signal_delay_s": 180, "name": "zoo"}
"""Parameters of submitit; its defaults are too short for a job (5 minutes) and for writing a checkpoint (90 s)."""
MAX_TIMEOUTS = 1000
"""How often a job may reach its time limit; each time, it continues from a checkpoint."""
SECONDS_TO_BE_KILLED = 600.0
"""How long a stopped job waits for Slurm to kill it."""
POLL_SECONDS = 10.0
DEFAULT_WORKERS = 100
"""Default number of parallel jobs."""
SUBMITTED = "submitted.json"
"""File that lists the submitted jobs: name of a job -> the job's id in Slurm."""


def run_on_slurm(
    jobs: Sequence[Job], log_folder: Path, workers: int | None, resources: Sequence[str]
) -> None:
    """Submit jobs, and wait until they end. Jobs already in Slurm's queue are not submitted again.

    :param workers: number of parallel jobs; None: 100.
    :param resources: parameters of submitit's ``AutoExecutor``, as ``key=value``.
    :raises Interrupted: after Ctrl-C; the Slurm jobs continue.
    """
    executor = make_executor(log_folder / JOBS / "slurm", resources, workers)
    file = executor.folder / SUBMITTED
    submitted = _queued_jobs(file)
    if submitted:
        log.info(
            "%s already in Slurm's queue, with the resources requested at submission",
            count(len(submitted), "job"),
        )
    new_jobs = [job for job in jobs if job.name not in submitted]
    if new_jobs:
        submitted |= _submit(executor, new_jobs)
        write_text(file, json.dumps(submitted) + "\n")
    left = {submitted[job.name] for job in jobs}
    try:
        while left:
            time.sleep(POLL_SECONDS)
            queue = _queue()
            if queue is not None and not left <= queue:
                left &= queue
                log.info("%d of %d jobs have ended", len(jobs) - len(left), len(jobs))
    except KeyboardInterrupt as error:
        arrays = sorted({job.partition("_")[0] for job in left})
        raise Interrupted(
            "the Slurm jobs continue; repeat the command to wait for them again, or run "
            f"`scancel {' '.join(arrays)}` to stop them after a checkpoint"
        ) from error


def _queued_jobs(file: Path) -> dict[str, str]:
    """Return the jobs of an earlier start that are still in Slurm's queue: name of a job -> the job's id in Slurm."""
    if not file.exists():
        return {}
    queue = _queue()
    if queue is None:
        raise UsageError(f"no answer from squeue about the jobs in {file}; try again later")
    earlier = json.loads(file.read_bytes())
    return {name: job for name, job in earlier.items() if job in queue}


def _queue() -> set[str] | None:
    """Return the ids of this user's pending and running jobs; None if Slurm does not answer.

    This asks ``squeue``, not ``sacct`` as submitit does, because ``sacct`` needs accounting, which some clusters lack.
    """
    words = f"squeue --user {os.getuid()} --array --noheader --format=%F_%K"
    answer = subprocess.run(words.split(), capture_output=True, text=True)
    if answer.returncode != 0:
        log.warning("no answer from squeue: %s", answer.stderr.strip())
        return None
    # for a job outside an array, squeue prints N/A as the index
    return {job.removesuffix("_N/A") for job in answer.stdout.split()}


def _submit(executor: Any, jobs: Sequence[Job]) -> dict[str, str]:
    """Submit jobs as one array; return name of a job -> id in Slurm."""
    # inside a Slurm job, sbatch would read the environment variables of that job as options
    for name in list(os.environ):
        if name.startswith("SLURM_") and name != "SLURM_CONF":
            del os.environ[name]
    try:
        submitted = executor.submit_array([SlurmTask(job) for job in jobs])
    except (FailedJobError, FailedSubmissionError) as error:
        raise UsageError(
            f"Slurm rejected the jobs: {str(error).strip()}; see --resources"
        ) from error
    ids = [job.job_id for job in submitted]
    log.info(
        "submitted Slurm job %s, %s; logs are in %s",
        ids[0].partition("_")[0],
        count(len(jobs), "task"),
        executor.folder,
    )
    return {job.name: job_id for job, job_id in zip(jobs, ids, strict=True)}


@dataclass
class SlurmTask:
    """A job on its node, called by submitit.

    If Slurm sends USR2, at the time limit or a preemption, submitit calls :meth:`checkpoint` and requeues the task.
    """

    job: Job
    process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Train the job to its end."""
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SRUN_CPUS_PER_TASK", "1"))
        lock = self.job.make_lock()
        if not lock.take():
            log.info("%s is being trained by %s; waiting", self.job.run, lock.describe_holder())
        with lock:  # a process that Slurm considers dead may still hold the lock
            # Slurm signals every process of a job; unblocked signals would end training without a checkpoint
            signals = (signal.SIGUSR1, signal.SIGUSR2)
            previous = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
            self.process = self.job.start(lock)
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
            code = self.process.wait()
        if code == INTERRUPTED:
            # Interrupted by SIGTERM: wait for Slurm to kill a preempted job, because Slurm requeues only jobs that it
            # kills itself.
            time.sleep(SECONDS_TO_BE_KILLED)
        if code:
            raise RuntimeError(f"training has ended with exit code {code}; see {self.job.log_file}")

    def checkpoint(self) -> Any:
        """Stop training after a checkpoint; return the task that continues it."""
        if self.process and self.process.returncode is None:
            self.process.terminate()
            # not `process.wait`, which is not reentrant and may have been interrupted by this signal
            os.waitpid(self.process.pid, 0)
        # a new task without a process, because submitit pickles tasks and a process cannot be pickled
        return submitit.helpers.DelayedSubmission(SlurmTask(self.job))


def make_executor(folder: Path, resources: Sequence[str], workers: int | None) -> Any:
    """Return a submitit executor; its jobs run in the current folder and import the same `zoo` as this process.

    :param folder: folder on shared storage for the files of submitit and Slurm; created with the first job.
    :raises UsageError: if Slurm's commands are missing, or if a parameter is unknown or wrong.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UsageError(
            "`--launcher slurm` starts jobs with Slurm's commands, but `sbatch` and `srun` are not on the PATH; "
            "run this command on a login node of the cluster, or use --launcher local"
        )
    parameters = DEFAULTS | {"slurm_array_parallelism": workers or DEFAULT_WORKERS}
    overrides = parse_overrides(resources, "--resources")
    shared = {*submitit.AutoExecutor._typed_parameters()}
    supported = shared | {
        f"slurm_{name}" for name in shared | submitit.SlurmExecutor._valid_parameters()
    }
    # submitit does not check these types; a text as `slurm_setup` would be split into letters
    kinds = {"slurm_setup": list, "slurm_additional_parameters": dict}
    for name, value in overrides.items():
        if name not in supported:
            raise UsageError(unknown_name_message("key of --resources", name, supported))
        kind = kinds.get(name, object)
        if not isinstance(value, kind):
            raise UsageError(f"`{name}` of --resources must be a {kind.__name__}, got {value!r}")
    parameters |= overrides
    parameters["slurm_setup"] = [
        f"cd {shlex.quote(os.getcwd())}",
        f"export PYTHONPATH={shlex.quote(python_path())}",
        # since Slurm 22.05, srun does not inherit --cpus-per-task from sbatch
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}"',
        *parameters.get("slurm_setup", ()),
    ]
    parameters.setdefault("slurm_additional_parameters", {}).setdefault("requeue", True)
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=MAX_TIMEOUTS)
    with as_usage_error(AssertionError, TypeError, ValueError):
        executor.update_parameters(**parameters)
    return executor
