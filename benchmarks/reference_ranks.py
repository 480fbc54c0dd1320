"""Train every algorithm that has a public original, and compare its scores with the original's, seed by seed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

if not __package__:  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import pandas as pd

from agents.common.files import digest_of
from benchmarks.rank_table import (
    COLUMNS,
    KEY,
    ONLINE_STEPS,
    STEPS,
    Sides,
    compare_each,
    describe_fresh,
    describe_online,
    describe_rows,
    describe_tasks,
)
from tools import ROOT
from tools.tables import merge_tables, read_table, replace_marked, write_table
from zoo.datasets.files import dataset_files
from zoo.runs.read import read_runs
from zoo.settings.layers import ENTRY_NOTES, shared_profile
from zoo.settings.record import RunSettings
from zoo.settings.request import TrainRequest
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import Parser, add_flags, parse_seeds

ENV = "pointmaze-medium-navigate-singletask-task{}-v0"
TASKS = (1, 5)
DATASET = "pointmaze-medium-navigate-v0"
DATA_SHA256 = "053c1e3584d08f4f19da8c2684c658c0a95f4799ef414e7fd8277aab7d40cb72"
RECIPE = f"zoo dataset generate {DATASET} --episodes 100 --dataset-dir DIR"
"""What makes the file, with OGBench 1.2.2, MuJoCo 4.0.0 and NumPy 2.4.6."""
EPISODE_STEPS = 1_000  # the environment's limit
THIRTY_SEEDS = ("qam", "qam_f", "qam_e", "fbrac", "fql", "fawac", "cgql")
"""Rows with thirty fresh seeds; the originals of the first three share weights, batches and noise by seed."""
DECIDED_LATER = ("trqam", "cgql_linex", "qsm")
"""Rows that got twenty more seeds, since their first ten were far apart."""
SHARING = ("cgql_mse", "cgql_linex")
"""Other rows whose originals share them."""
FIRST_FRESH = 200
"""Seeds from here on were named before any of them was trained; those before are the page's earlier draws."""
REFERENCE = ROOT / "results" / "published" / "reference_runs.csv"
OURS = ROOT / "results" / "reference_ranks" / "ours.csv"
PAGE = ROOT / "results" / "reference_ranks.md"
BEGIN, END = "<!-- written by benchmarks/reference_ranks.py -->", "<!-- end of what it writes -->"

PARAMS = {"net_arch": [64, 64], "batch_size": 128}
"""What differs from the `quick` settings, so that both sides take an hour or two on one core."""


@dataclass(frozen=True)
class Entry:
    """A row of the comparison.

    :param algo: algorithm id.
    :param params: settings beside those of `PARAMS` and of the algorithm's `quick` entry.
    :param checkpoints: steps of the evaluations, multiples of the first one.
    :param offline_steps: how many steps are offline updates; the others are environment steps.
    """

    algo: str
    params: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = STEPS
    offline_steps: int = STEPS[-1]

    @property
    def all_params(self) -> dict[str, Any]:
        """All settings of the training program."""
        last = self.checkpoints[-1]
        return {
            "offline_steps": self.offline_steps,
            "online_steps": last - self.offline_steps,
            "eval_freq": self.checkpoints[0],
            "save_freq": last,
            "eval_at_start": False,
            **PARAMS,
            **self.params,
        }


OFFLINE = (
    "qam", "qam_f", "qam_e", "trqam", "sqam", "bam", "fbrac", "fql", "ifql", "fawac", "cgql", "cgql_mse", "cgql_linex",
    "qsm", "dac", "dsrl", "fedit", "rebrac", "bc", "rql", "qgf", "fan", "value_flows", "driftql", "iql",
)  # fmt: skip
ENTRIES = {algo: Entry(algo) for algo in OFFLINE} | {
    "bam_4_critics": Entry("bam", {"ensemble_size": 4}),
    "rebrac_4_critics": Entry("rebrac", {"ensemble_size": 4}),
    "rlpd": Entry("rlpd", {"ensemble_size": 4}, (1_500, 3_000, 4_500), offline_steps=0),
}
ONLINE = {
    f"{algo}_online": Entry(algo, checkpoints=ONLINE_STEPS, offline_steps=ONLINE_STEPS[0])
    for algo in (*THIRTY_SEEDS, "trqam")
}
"""By label, those that go on in the environment after an offline phase."""
ENTRIES |= ONLINE
"""By label. Four critics where the originals become NaN with two: `results/reference_ranks.md` says why."""


def make_full_parser() -> Parser:
    """Return the parser of the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    return parser


def make_parser(description: str | None) -> Parser:
    """Return a parser of the arguments that both sides' programs share."""
    parser = Parser(description=description)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=ENTRIES,
        default=list(ENTRIES),
        help="rows to train (default: all)",
    )
    parser.add_argument(
        "--seeds", nargs="+", default=["200-209"], help="of both sides, e.g. 200-229 or 203 207"
    )
    add_flags(parser, TrainRequest, ("dataset_dir", "log_folder"))
    parser.set_defaults(verbose=2, log_folder=Path("logs/reference_ranks") / DATA_SHA256[:8])
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing, write our scores and the page, and return the result to print."""
    ours = add_runs(read_table(OURS, COLUMNS), args.log_folder)
    missing = [] if args.table_only else find_missing(ours, args)
    if missing:
        require_data(dataset_files(DATASET, args.dataset_dir)[0])
    for label, task in missing:
        for request in requests(label, task, args):
            words = [sys.executable, str(ROOT / "zoo/train.py"), *request.command_line()]
            code = subprocess.run(words, stdout=subprocess.DEVNULL).returncode
            if code:
                raise UsageError(
                    f"training {label} on task {task} ended with exit code {code}; its message is above. The same "
                    "command continues from there"
                )
        ours = add_runs(ours, args.log_folder)
        write_table(ours, OURS)
    write_table(ours, OURS)
    text = describe((ours, read_table(REFERENCE, COLUMNS)))
    replace_marked(PAGE, BEGIN, END, f"\n\n{text}\n")
    return {"trained": [f"{label} task{task}" for label, task in missing], "output": str(PAGE)}


def find_missing(scores: pd.DataFrame, args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the requested pairs of label and task in which a seed lacks an evaluation."""
    counts = scores.groupby(["algorithm", "task", "seed"]).size().to_dict()
    seeds = parse_seeds(args.seeds, "--seeds")
    missing = []
    for label, task in product(args.only, TASKS):
        fewest = min(counts.get((label, task, seed), 0) for seed in seeds)
        if fewest < len(ENTRIES[label].checkpoints):
            missing.append((label, task))
    return missing


def require_data(path: Path) -> None:
    """Refuse data other than those that the originals were trained on: another file moves scores by many points."""
    digest = digest_of(path) if path.is_file() else "no such file"
    if digest != DATA_SHA256:
        raise UsageError(
            f"expected {path} to be the file that both sides train on, SHA-256 {DATA_SHA256}, got {digest}; make it "
            f"with `{RECIPE}` (OGBench 1.2.2, MuJoCo 4.0.0, NumPy 2.4.6)"
        )


def requests(label: str, task: int, args: argparse.Namespace) -> list[TrainRequest]:
    """Return the runs that train all seeds of one row on one task.

    All seeds train at once. Without an offline phase each trains alone, as in the version that made RLPD's scores.
    """
    entry = ENTRIES[label]
    seeds = parse_seeds(args.seeds, "--seeds")
    groups = [tuple(seeds)]
    if not entry.offline_steps:
        groups = [(seed,) for seed in seeds]
    request = TrainRequest(
        algo=entry.algo,
        env=ENV.format(task),
        quick=True,
        resume=True,
        num_threads=1,
        verbose=0,
        log_folder=args.log_folder,
        dataset_dir=args.dataset_dir,
        label=None if label == entry.algo else label,
        hyperparams=[f"{name}={value}" for name, value in entry.all_params.items()],
    )
    return [replace(request, seeds=group) for group in groups]


def add_runs(scores: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return a table of scores with those of the runs below a folder, finished or diverged.

    A run that diverged has no success, and episodes of full length, at the evaluations that it did not reach.

    :param folder: where run folders are; it may be missing.
    """
    tables = read_runs([folder] if folder.exists() else [])
    rows = []
    for run in tables.runs.to_dict("records"):
        ended = pd.isna(run["problem"]) or "training diverged" in run["problem"]
        if not ended or run["label"] not in ENTRIES:
            continue
        evaluations = tables.evaluations[tables.evaluations["run"] == run["run"]].set_index("step")
        for step in ENTRIES[run["label"]].checkpoints:
            score = [0, run["eval_episodes"], float(EPISODE_STEPS), 1]
            if step in evaluations.index:
                row = evaluations.loc[step]
                score = [
                    round(row["score"] * row["episodes"]),
                    row["episodes"],
                    round(row["length"], 2),
                    0,
                ]
            task = int(run["task"].removeprefix("task"))
            rows.append([run["label"], task, int(run["seed"]), step, *score])
    return merge_tables([scores, pd.DataFrame(rows, columns=COLUMNS)], KEY)


def describe(sides: Sides) -> str:
    """Return the part of the page that this program writes.

    :param sides: our scores and the originals'.
    """
    fresh = [table[table["seed"] >= FIRST_FRESH] for table in sides]
    quick = shared_profile("qam")["quick"] | PARAMS
    shared = [
        f"`{name} {value}`" for name, value in sorted(quick.items()) if name not in _NOT_SHOWN
    ]
    later = [table[table["seed"] >= FIRST_FRESH + 10] for table in sides]
    ten_seed_rows = [name for name in ENTRIES if name not in (*THIRTY_SEEDS, *ONLINE)]
    parts = [
        f"Settings of both sides: {', '.join(shared)}.",
        "## Fresh seeds",
        describe_fresh(fresh, THIRTY_SEEDS, THIRTY_SEEDS[:3]),
        "Each task, mean success in percent at each checkpoint, ours / original:",
        describe_tasks(fresh, THIRTY_SEEDS),
        "Other algorithms, on the first ten of these seeds or on all:",
        describe_fresh(fresh, ten_seed_rows, SHARING),
        "Those with thirty were chosen for their first ten. The other twenty alone:",
        describe_rows(compare_each(later, DECIDED_LATER)),
        "## Offline, then online",
        describe_online(fresh, list(ONLINE), list(ONLINE)[:3]),
    ]
    return "\n\n".join(parts) + "\n"


_NOT_SHOWN = {
    *ENTRY_NOTES, *RunSettings.declared(), "learning_starts", "sparse", "observation_scale",
}  # fmt: skip


main = as_program(make_full_parser, run)

if __name__ == "__main__":
    sys.exit(main())
