"""Train every run of a suite, on this machine or a cluster, and compare the runs in a report.

`zoo benchmark benchmarks/suites/mini.yml`

Repeat the command to continue: finished runs are skipped, and interrupted runs are resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import unknown_name_message
from zoo.settings.request import TrainRequest
from zoo.terminal.cli import as_program
from zoo.terminal.errors import FAILED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, Parser, a_path, add_flags, add_verbose, check_output

if TYPE_CHECKING:
    from zoo.suites.jobs import Job, JobStatus
    from zoo.suites.suite import Suite

SHIPPED = Path(__file__).resolve().parent.parent / "benchmarks" / "suites"


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("benchmark", description=__doc__)
    selection = parser.add_argument_group("runs")
    selection.add_argument(
        "suite", help="suite file, or the name of a suite that comes with the zoo"
    )
    selection.add_argument(
        "--algos",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="run only the algorithms whose label or id matches",
    )
    selection.add_argument(
        "--envs", nargs="+", default=[], metavar="PATTERN", help="run only in matching environments"
    )
    selection.add_argument(
        "--dry-run",
        action="store_true",
        help="only list the jobs and their states",
    )
    execution = parser.add_argument_group("execution")
    execution.add_argument(
        "--launcher",
        choices=("local", "slurm", "ray"),
        default="local",
        help="where the jobs run",
    )
    execution.add_argument(
        "--workers",
        type=COUNT,
        help="parallel jobs (default: one per GPU or core locally, 100 on Slurm, unlimited on Ray)",
    )
    execution.add_argument(
        "-f",
        "--log-folder",
        type=a_path,
        help="parent folder of the run folders (default: logs/SUITE)",
    )
    execution.add_argument(
        "--dataset-dir",
        help="folder of datasets (default: the suite's; without one, the default of zoo train)",
    )
    execution.add_argument(
        "--resources",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="resources of a job: submitit's parameters on Slurm, e.g. timeout_min=240 slurm_partition=gpu "
        "gpus_per_node=1; num_cpus, num_gpus, memory or resources.NAME on Ray",
    )
    add_flags(parser, TrainRequest, ("device",))
    add_verbose(execution)
    parser.set_defaults(command_line="")
    return parser


def find_suite(path: Path) -> Path:
    """Return the file of a suite, given the file's path or the name of a suite that comes with the zoo."""
    # a folder, e.g. of a report, may have the name of a shipped suite
    if path.exists() and not path.is_dir():
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.yml")}
    if str(path) not in shipped:
        raise UsageError(unknown_name_message("suite", str(path), shipped))
    return shipped[str(path)]


def _run(args: argparse.Namespace) -> dict[str, Any]:
    if args.resources and args.launcher == "local":
        raise UsageError(
            "--resources is for a cluster; choose another --launcher, or omit --resources"
        )
    # reject a misspelt name before importing the algorithms
    file = find_suite(Path(args.suite).expanduser())
    from zoo.runs.resume import warn_if_code_changed
    from zoo.suites.jobs import make_jobs, print_jobs, status_of, summarise
    from zoo.suites.suite import read_suite, select

    suite = read_suite(file)
    if args.dataset_dir:
        suite = replace(suite, dataset_dir=args.dataset_dir)
    args.log_folder = (args.log_folder or Path("logs") / file.stem).resolve()
    runs = select(suite.runs(), args.algos, args.envs)
    jobs = make_jobs(suite, runs, args.log_folder, args.device)
    statuses = list(map(status_of, jobs))
    warn_if_code_changed(
        [(status.run, status.job.config.code) for status in statuses if status.run]
    )
    if args.dry_run:
        print_jobs(statuses)
        return summarise(statuses)
    left = [status.job for status in statuses if not status.is_final]
    log.info("%d of %d jobs are left", len(left), len(jobs))
    if left:
        _launch(left, args)
        statuses = list(map(status_of, jobs))
    result = summarise(statuses)
    if result["done"] < result["jobs"]:
        print_jobs([status for status in statuses if status.state != "done"])
    if not all(status.is_final for status in statuses):
        args.exit_code = FAILED
    return {"log_folder": str(args.log_folder)} | _report(suite, statuses, args) | result


def _launch(jobs: Sequence[Job], args: argparse.Namespace) -> None:
    """Train jobs with the chosen launcher."""
    check_output("--log-folder", args.log_folder, "folder")
    if args.launcher == "slurm":
        from zoo.suites.slurm import run_on_slurm

        run_on_slurm(jobs, args.log_folder, args.workers, args.resources)
    elif args.launcher == "ray":
        from zoo.suites.ray import run_on_ray

        run_on_ray(jobs, args.workers, args.resources)
    else:
        from zoo.suites.local import run_locally

        run_locally(jobs, args.workers, args.device)


def _report(
    suite: Suite, statuses: Sequence[JobStatus], args: argparse.Namespace
) -> dict[str, Any]:
    """Write the suite's report if any run has finished; return the result of `zoo compare`."""
    from zoo.report.page import run
    from zoo.report.request import CompareRequest

    if not any(status.state == "done" for status in statuses):
        log.info("no report: no run has finished")
        return {}
    # The report names an algorithm by its id; the suite may use an alias or a class.
    row_names = {}
    for status in statuses:
        job = status.job
        row_names[job.run.name] = job.run.label or job.config.algo
    request = CompareRequest(
        paths=[folder.path for status in statuses if status.run for folder in status.run.folders],
        published=suite.published,
        focus=row_names.get(suite.focus, ""),
        output=args.log_folder / "report",
        command_line=args.command_line,
    )
    return run(request)


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
