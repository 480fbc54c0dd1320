"""Train every run of a suite, on this machine or a cluster, and report the comparison.

``python zoo/benchmark.py benchmarks/suites/mini.yml``

The same command again continues: what is done is skipped, what was interrupted is resumed.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.envs.rendering import prepare_pictures
from zoo.terminal.cli import as_program
from zoo.terminal.errors import DONE, FAILED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, ZERO_OR_MORE, Parser, a_path, add_verbose
from zoo.training.flags import add_speed

if TYPE_CHECKING:
    from zoo.suites.jobs import Job, Look
    from zoo.suites.suite import Run, Suite


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("benchmark", description=__doc__)
    what = parser.add_argument_group("what to train")
    what.add_argument("suite", type=a_path, help="file of the suite, or the name of one that comes with the zoo")
    what.add_argument("--algos", nargs="+", default=[], metavar="PATTERN", help="only these algorithms or labels")
    what.add_argument("--envs", nargs="+", default=[], metavar="PATTERN", help="only these environments")
    what.add_argument("--dry-run", action="store_true", help="show what is done and left, and what it will cost")
    what.add_argument("--no-measure", action="store_true", help="--dry-run without trying how fast algorithms are")
    what.add_argument("--retries", type=ZERO_OR_MORE, default=2, help="how often to try a failed job again")
    where = parser.add_argument_group("where")
    where.add_argument("--launcher", choices=("local", "slurm", "ray"), default="local", help="what runs the jobs")
    where.add_argument(
        "--workers",
        type=COUNT,
        help="jobs at once (default: local: one per GPU, else per core; slurm: 100; ray: as there is room)",
    )
    where.add_argument("-f", "--log-folder", type=a_path, help="where run folders are made (default: logs/SUITE)")
    where.add_argument("--dataset-dir", help="where datasets live (default: the suite's, else as for `train.py`)")
    where.add_argument("--ray-address", help="address of the Ray cluster (default: the one that runs here)")
    where.add_argument(
        "--resources",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="what a job needs: for slurm submitit's parameters, e.g. timeout_min=240 slurm_partition=gpu "
        "gpus_per_node=1; for ray num_cpus, num_gpus, memory or resources.NAME",
    )
    add_speed(parser.add_argument_group("how each run is trained"), "CPU threads of a run; -1: its cores")
    report = parser.add_argument_group("report")
    report.add_argument("-o", "--output", type=a_path, metavar="DIR", help="its folder (default: report in -f)")
    report.add_argument("--no-report", action="store_true", help="train only")
    report.add_argument(
        "--scores",
        type=a_path,
        metavar="DIR",
        help="write the scores of finished runs as CSV files, even when stopped; runs whose scores are there are done",
    )
    add_verbose(report)
    parser.set_defaults(command_line="", exit_code=DONE)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    suite, runs = _read_suite(args)
    from zoo.runs.folder import check_log_folder  # after it, since some of them import MuJoCo
    from zoo.runs.resume import tell_of_other_code
    from zoo.suites.jobs import describe, forecast, look_at, make_jobs, show, summary, try_algorithms
    from zoo.suites.kept import find_kept, write_scores
    from zoo.terminal.tables import as_shown

    folder = args.log_folder
    machine = ["--device", args.device, "--num-threads", str(args.num_threads)]
    if args.precision:
        machine += ["--precision", args.precision]
    if args.compile:
        machine += ["--compile", args.compile]
    jobs = make_jobs(suite, runs, folder, machine)  # every run is checked
    kept = find_kept(jobs, args.scores) if args.scores else set()
    looks = look_at(jobs, kept)
    tell_of_other_code([(look.run, look.job.config.code) for look in looks if look.run])
    if args.dry_run:
        expected = forecast(looks, {} if args.no_measure else try_algorithms(looks))
        show(looks, args.workers, expected)
        return as_shown(summary(looks, expected), f"zoo benchmark {shlex.quote(str(args.suite))}")
    if args.scores:
        check_log_folder(args.scores, "folder of scores", "--scores")
    try:
        if any(not look.state.is_final for look in looks):
            check_log_folder(folder)
            log.info(describe(looks, args.workers, forecast(looks)))
            _launch([look.job for look in looks if not look.state.is_final], folder, args)
    finally:  # a suite of many nights is stopped many times: what is finished is worth keeping
        looks = look_at(jobs, kept)
        if args.scores:
            write_scores(looks, args.scores)
    expected = forecast(looks)
    show(looks, args.workers, expected)
    if any(not look.state.is_final for look in looks):
        args.exit_code = FAILED  # what is left, and why, has been said
    hint = "the same command, which trains what is left" if args.exit_code else ""
    return _report(suite, looks, args) | as_shown(summary(looks, expected), hint)


def _read_suite(args: argparse.Namespace) -> tuple[Suite, list[Run]]:
    """Return the suite that the command line names, and those of its runs that are wanted; settle the log folder."""
    from zoo.suites import find_suite

    file = find_suite(args.suite)  # a misspelt name is refused before the algorithms are imported
    from zoo.suites.suite import read_suite, select

    suite = read_suite(file)
    if args.dry_run and not args.no_measure:  # makes environments
        prepare_pictures(*suite.environments)
    args.log_folder = (args.log_folder or Path("logs") / file.stem).resolve()
    if args.dataset_dir:
        suite = replace(suite, dataset_dir=args.dataset_dir)
    return suite, select(suite.runs(), args.algos, args.envs)


def _launch(jobs: Sequence[Job], folder: Path, args: argparse.Namespace) -> None:
    """Train jobs, as the only program that does so in a log folder."""
    from zoo.processes.locks import Lock
    from zoo.suites.jobs import JOBS, follow
    from zoo.suites.task import JobTask, run_locally

    lock = Lock(folder / "suite.lock")
    if not lock.take():
        raise UsageError(
            f"the jobs in {folder} are being trained by {lock.describe_holder()}; wait for its end, or stop it"
        )
    tasks = [JobTask(job, args.retries) for job in jobs]
    watch = partial(follow, jobs)
    with lock:
        if args.launcher == "local":
            run_locally(tasks, args.workers, args.device, watch)
        elif args.launcher == "slurm":
            from zoo.suites.slurm import run_on_slurm

            run_on_slurm(tasks, args.workers, args.resources, folder / JOBS / "slurm", watch)
        else:
            from zoo.suites.ray import run_on_ray

            run_on_ray(tasks, args.workers, args.resources, args.ray_address, watch)


def _report(suite: Suite, looks: Sequence[Look], args: argparse.Namespace) -> dict[str, Any]:
    """Compare the runs of the suite that are there, once one has finished; return where the report is."""
    from zoo import compare
    from zoo.suites.jobs import State

    if args.no_report or all(look.state is not State.DONE for look in looks):
        return {"log_folder": str(args.log_folder)}
    kept = sum(look.state is State.KEPT for look in looks)
    if kept:
        log.info("the report leaves out the jobs of which only the scores are here, in %s: %d", args.scores, kept)
    request = compare.make_parser().parse_args([])
    request.paths = [folder.path for look in looks if look.run is not None for folder in look.run.folders]
    request.published = suite.published
    request.command_line = args.command_line
    request.output = args.output or args.log_folder / "report"
    named = {look.job.run.label or look.job.run.algo: look.job.run.label or look.job.algo for look in looks}
    request.suite_focus = named.get(suite.focus, "")
    return {"log_folder": str(args.log_folder), **compare.run(request)}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
