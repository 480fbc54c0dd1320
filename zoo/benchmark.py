"""Train every run of a suite, on this machine or a cluster, and report the comparison.

``python zoo/benchmark.py benchmarks/suites/mini.yml``

The same command again continues: what is done is skipped, what was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.settings.request import MACHINE, TrainRequest, add_settings, given_settings
from zoo.terminal.cli import as_program
from zoo.terminal.errors import FAILED, SUCCEEDED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, ZERO_OR_MORE, Parser, a_path, add_flags, add_verbose

if TYPE_CHECKING:
    from zoo.suites.jobs import Job, JobStore, Progress
    from zoo.suites.suite import Run, Suite


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("benchmark", description=__doc__)
    selection = parser.add_argument_group("what to train")
    selection.add_argument(
        "suite", type=a_path, help="file of the suite, or the name of one that comes with the zoo"
    )
    selection.add_argument(
        "--algos", nargs="+", default=[], metavar="PATTERN", help="only these algorithms or labels"
    )
    selection.add_argument(
        "--envs", nargs="+", default=[], metavar="PATTERN", help="only these environments"
    )
    selection.add_argument(
        "--dry-run", action="store_true", help="show what is done and left, and what it will cost"
    )
    # Of release 1.0, whose --dry-run measured how fast algorithms train.
    selection.add_argument("--no-measure", action="store_true", help=argparse.SUPPRESS)
    selection.add_argument(
        "--retries", type=ZERO_OR_MORE, default=2, help="how often to try a failed job again"
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--launcher", choices=("local", "slurm", "ray"), default="local", help="what runs the jobs"
    )
    where.add_argument(
        "--workers",
        type=COUNT,
        help="jobs at once (default: local: one per GPU, else per core; slurm: 100; ray: as there is room)",
    )
    where.add_argument(
        "-f", "--log-folder", type=a_path, help="where run folders are made (default: logs/SUITE)"
    )
    where.add_argument(
        "--dataset-dir", help="where datasets live (default: the suite's, else as for `train.py`)"
    )
    where.add_argument(
        "--ray-address", help="address of the Ray cluster (default: the one that runs here)"
    )
    where.add_argument(
        "--resources",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="what a job needs: for slurm submitit's parameters, e.g. timeout_min=240 slurm_partition=gpu "
        "gpus_per_node=1; for ray num_cpus, num_gpus, memory or resources.NAME",
    )
    groups = add_flags(parser, TrainRequest, ("device", "num_threads"))
    add_settings(groups["speed"], MACHINE)
    report = parser.add_argument_group("report")
    report.add_argument(
        "-o", "--output", type=a_path, metavar="DIR", help="its folder (default: report in -f)"
    )
    report.add_argument("--no-report", action="store_true", help="train only")
    report.add_argument(
        "--scores",
        type=a_path,
        metavar="DIR",
        help="write the scores of finished runs as CSV files, even when stopped; runs whose scores are there are done",
    )
    add_verbose(report)
    parser.set_defaults(command_line="", exit_code=SUCCEEDED)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    suite, runs = _read_suite(args)
    from zoo.runs.folder import check_log_folder  # after it, since some of them import MuJoCo
    from zoo.runs.resume import warn_if_code_changed
    from zoo.suites.jobs import JobStore, Progress, make_jobs
    from zoo.suites.saved_scores import find_saved, write_scores
    from zoo.terminal.tables import result_for_terminal

    jobs = make_jobs(
        suite,
        runs,
        args.log_folder,
        device=args.device,
        num_threads=args.num_threads,
        run=given_settings(args),
    )
    saved = find_saved(jobs, args.scores) if args.scores else frozenset()
    store = JobStore(args.log_folder, saved)
    statuses = list(map(store.status, jobs))
    warn_if_code_changed(
        [(status.run, status.job.config.code) for status in statuses if status.run]
    )
    # the command line without the flags that prevent training
    typed = shlex.split(args.command_line)
    command = shlex.join(word for word in typed if word not in ("--dry-run", "--no-measure"))
    progress = Progress(statuses, args.workers)
    if args.dry_run:
        progress.print()
        return result_for_terminal(progress.summary(), command)
    if args.scores:
        check_log_folder(args.scores, "folder of scores", "--scores")
    try:
        if progress.left:
            check_log_folder(args.log_folder)
            log.info(progress)
            _launch([status.job for status in progress.left], store, args)
    finally:  # a suite of many nights is stopped often: scores of finished runs are saved each time
        statuses = list(map(store.status, jobs))
        if args.scores:
            write_scores(statuses, args.scores)
    progress = Progress(statuses, args.workers)
    progress.print()
    hint = ""
    if progress.left:
        args.exit_code = FAILED  # `print` has named the jobs that are left
        hint = command
    return _report(suite, progress, args) | result_for_terminal(progress.summary(), hint)


def _read_suite(args: argparse.Namespace) -> tuple[Suite, list[Run]]:
    """Return the suite that the command line names, and its runs that match the patterns; settle the log folder."""
    from zoo.suites import find_suite

    file = find_suite(args.suite)  # a misspelt name is refused before the algorithms are imported
    from zoo.suites.suite import read_suite, select

    suite = read_suite(file)
    args.log_folder = (args.log_folder or Path("logs") / file.stem).resolve()
    if args.dataset_dir:
        suite = replace(suite, dataset_dir=args.dataset_dir)
    return suite, select(suite.runs(), args.algos, args.envs)


def _launch(jobs: Sequence[Job], store: JobStore, args: argparse.Namespace) -> None:
    """Train jobs, as the only program that does so in a log folder."""
    from zoo.processes.locks import Lock
    from zoo.suites.jobs import JOBS, follow
    from zoo.suites.task import JobTask, run_locally

    folder = store.log_folder
    launch: Callable[..., None] = partial(run_locally, workers=args.workers, device=args.device)
    # what cannot be launched is refused before the lock makes the log folder
    if args.launcher == "slurm":
        from zoo.suites.slurm import make_executor, run_on_slurm

        executor = make_executor(folder / JOBS / "slurm", args.resources, args.workers)
        launch = partial(run_on_slurm, executor=executor)
    elif args.launcher == "ray":
        from zoo.suites.ray import connect, run_on_ray

        start = connect(args.ray_address, args.resources)
        launch = partial(run_on_ray, start=start, workers=args.workers)
    # two programs would start each job twice
    lock = Lock(folder / "suite.lock")
    if not lock.take():
        raise UsageError(
            f"the jobs in {folder} are being trained by {lock.describe_holder()}; wait for its end, or stop it"
        )
    tasks = [JobTask(job, store, args.retries) for job in jobs]
    with lock, follow(store, jobs) as report:
        launch(tasks, report=report)


def _report(suite: Suite, progress: Progress, args: argparse.Namespace) -> dict[str, Any]:
    """Report on the runs of the suite, if one has finished; return the paths of log folder and report."""
    from zoo.report.request import CompareRequest
    from zoo.report.run import run
    from zoo.suites.jobs import State

    statuses = progress.statuses
    if args.no_report or not progress.counts[State.FINISHED]:
        return {"log_folder": str(args.log_folder)}
    if progress.counts[State.SAVED]:
        message = "the report leaves out the jobs of which only the scores are here, in %s: %d"
        log.info(message, args.scores, progress.counts[State.SAVED])
    # The report calls an algorithm by its id, where the suite may use an alias.
    focus_methods = {status.job.run.name: status.job.method for status in statuses}
    request = CompareRequest(
        paths=[folder.path for status in statuses if status.run for folder in status.run.folders],
        published=suite.published,
        suite_focus=focus_methods.get(suite.focus, ""),
        output=args.output or args.log_folder / "report",
        command_line=args.command_line,
    )
    return {"log_folder": str(args.log_folder), **run(request)}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
