"""Train every algorithm that has a public original, and compare its scores with the original's by rank tests."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import pandas as pd
import yaml

from agents.common.files.manifest import digest_of
from benchmarks.rank_table import (
    COLUMNS,
    Design,
    cell_table,
    compare,
    describe_control,
    describe_diverged,
    describe_pooled,
    fault_table,
    find_missing,
    mean_table,
    summarise,
)
from zoo.cli import run_program
from zoo.datasets.files import dataset_files
from zoo.errors import UsageError
from zoo.runs.protocol import describe_layers
from zoo.runs.read import read_runs
from zoo.settings.layers import read_profiles, shared_profile
from zoo.terminal.arguments import Parser, parse_seeds

ROOT = Path(__file__).resolve().parent.parent
ENV = "pointmaze-medium-navigate-singletask-task{}-v0"
TASKS = (1, 5)
DATASET = "pointmaze-medium-navigate-v0"
DATA_SHA256 = "053c1e3584d08f4f19da8c2684c658c0a95f4799ef414e7fd8277aab7d40cb72"
RECIPE = f"zoo dataset generate {DATASET} --dataset-size 100000 --dataset-dir DIR"
"""What makes the file, with OGBench 1.2.2, MuJoCo 4.0.0 and NumPy 2.4.6."""
EARLIER_SHA256 = "392c4bf2b7187e5ec2d7072f9dc0321c27c0ead6cbb74b38f43e1d3a0b83448b"
EPISODE_STEPS = 1_000  # the environment's limit
FAMILIES = {
    "QAM, QAM-F and QAM-E (weights, batches and noise shared by seed in the originals)": ("qam", "qam_f", "qam_e"),
    "CGQL, MSE and linex": ("cgql", "cgql_mse", "cgql_linex"),
    "QSM and DAC": ("qsm", "dac"),
}
"""Rows of one agent in the originals."""
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
    :param checkpoints: steps of the evaluations, equally far apart.
    :param phase: ``offline`` or ``online``, whose steps these are.
    :param fault: of `planted_faults.py`, none by default.
    """

    algo: str
    params: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: tuple[int, ...] = (700, 1_400, 2_100)
    phase: str = "offline"
    fault: str = ""

    @property
    def all_params(self) -> dict[str, Any]:
        """What the training program is given."""
        last = self.checkpoints[-1]
        steps = {f"{self.phase}_steps": last, "eval_freq": self.checkpoints[0], "save_freq": last, "eval_at_start": False}
        return {**steps, **PARAMS, **self.params}


OFFLINE = (
    "qam", "qam_f", "qam_e", "trqam", "sqam", "bam", "fbrac", "fql", "ifql", "fawac", "cgql", "cgql_mse", "cgql_linex",
    "qsm", "dac", "dsrl", "fedit", "rebrac", "bc",
)  # fmt: skip
ENTRIES = {algo: Entry(algo) for algo in OFFLINE} | {
    "bam_4_critics": Entry("bam", {"ensemble_size": 4}),
    "rebrac_4_critics": Entry("rebrac", {"ensemble_size": 4}),
    "rlpd": Entry("rlpd", {"ensemble_size": 4}, (1_500, 3_000, 4_500), "online"),
}
"""By label. Four critics where the originals become NaN with two: `results/reference_ranks.md` says why."""
FAULTS = {
    "qam_targets_after_step": Entry("qam", fault="targets_after_step"),
    "qam_no_clipping": Entry("qam", fault="no_clipping"),
    "fql_targets_after_step": Entry("fql", fault="targets_after_step"),
}
"""Ours with a fault planted (`planted_faults.py`), for the comparison with the original of the algorithm."""
TRAINED = ENTRIES | FAULTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = make_parser(__doc__)
    parser.add_argument("--scores", type=Path, default=OURS, help="our scores, CSV; new ones are added")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="page whose tables are replaced, Markdown")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    args = parser.parse_args(arguments)
    return run_program(lambda: run(args), verbose=2)


def make_parser(description: str | None) -> Parser:
    """Return a parser of what both sides' programs are told."""
    parser = Parser(description=description)
    parser.add_argument(
        "--only", nargs="+", choices=TRAINED, default=list(TRAINED), help="rows to train (default: all)"
    )
    parser.add_argument("--tasks", nargs="+", type=int, choices=TASKS, default=TASKS, help="tasks to train on")
    parser.add_argument("--seeds", nargs="+", default=["0-9"], help="seeds of both sides, e.g. 0-9 or 3 7 9")
    parser.add_argument("--dataset-dir", help="folder of the dataset (default: OGBench's)")
    logs = Path("logs/reference_ranks") / DATA_SHA256[:8]
    parser.add_argument("-f", "--log-folder", type=Path, default=logs, help="where our runs are")
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="scores of the originals, CSV")
    return parser


def make_design(words: Sequence[str], entries: Mapping[str, Entry] = ENTRIES) -> Design:
    """Return what is compared.

    :param words: what stands after `--seeds`.
    """
    seeds = parse_seeds(words, "--seeds")
    return Design({label: entry.checkpoints for label, entry in entries.items()}, TASKS, seeds)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing, write our scores and the page, and return the result to print."""
    design = make_design(args.seeds)
    ours = add_runs(read_scores(args.scores), args.log_folder)
    missing_here = [] if args.table_only else find_missing(ours, make_design(args.seeds, TRAINED))
    missing_here = [(label, task) for label, task in missing_here if label in args.only and task in args.tasks]
    if missing_here:
        require_data(dataset_files(DATASET, args.dataset_dir)[0])
    for label, task in missing_here:
        train(label, task, args)
        ours = add_runs(ours, args.log_folder)
        write_scores(ours, args.scores)
    write_scores(ours, args.scores)
    now = {"Ours": ours, "Originals": read_scores(args.reference)}
    sides, replaced = with_earlier(now, args.scores.parent / "earlier", design)
    gaps = {side: find_missing(scores, design) for side, scores in sides.items()}
    own, theirs = sides.values()
    tests = compare(own, theirs, design)
    lines = [describe_data(replaced, design), summarise(tests, gaps, design)]
    lines += [describe_pooled(own, theirs, FAMILIES, design), describe_control(own, theirs, design, replaced)]
    result = "\n".join([*lines, describe_diverged(sides, design)])
    faults = fault_table(ours, now["Originals"], {label: entry.algo for label, entry in FAULTS.items()}, design)
    text = describe(tests, result, faults, " ".join(args.seeds), args.reference)
    args.output.write_text(
        replace_tables(args.output.read_text(encoding="utf-8") if args.output.exists() else "", text)
    )
    missing = {side.lower(): sorted(f"{label} task{task}" for label, task in found) for side, found in gaps.items()}
    return {"tests": len(tests), "missing": missing, "output": str(args.output)}


def with_earlier(
    now: Mapping[str, pd.DataFrame], folder: Path, design: Design
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Return each side's scores, those of an earlier file for the rows that lack seeds on a side; and these rows."""
    lacking = {label for scores in now.values() for label, _ in find_missing(scores, design)}
    earlier = {side: read_scores(folder / f"{side.lower()}.csv") for side in now}
    replaced = [
        label for label in design.checkpoints if any(label in set(old["algorithm"]) for old in earlier.values())
    ]
    replaced = [label for label in replaced if label in lacking]
    sides = {}
    for side, scores in now.items():
        parts = [scores[~scores["algorithm"].isin(replaced)], earlier[side][earlier[side]["algorithm"].isin(replaced)]]
        sides[side] = pd.concat([part for part in parts if len(part)] or parts[:1])
    return sides, replaced


def describe_data(earlier: Sequence[str], design: Design) -> str:
    """Return which rows are not of the file of this page."""
    if not earlier:
        return "- Every row is of the file above."
    trained = [label for label in design.checkpoints if label not in earlier]
    return (
        f"- **Of the file above**: {', '.join(trained) or 'no row yet'}. **Missing there**: {', '.join(earlier)}. "
        f"Their scores below are of an earlier file on both sides, SHA-256 `{EARLIER_SHA256}`, whose making is not "
        "recorded, and their originals were trained by a loop that is not in the repository."
    )


def require_data(path: Path) -> None:
    """Refuse data other than those that the originals were trained on: another file moves scores by many points."""
    found = f"one of {digest_of(path)}" if path.is_file() else "no such file"
    if found != f"one of {DATA_SHA256}":
        raise UsageError(
            f"expected {path} to be the file that both sides train on, SHA-256 {DATA_SHA256}, got {found}; make it "
            f"with `{RECIPE}` (OGBench 1.2.2, MuJoCo 4.0.0, NumPy 2.4.6)"
        )


def train(label: str, task: int, args: argparse.Namespace) -> None:
    """Train all seeds of one row on one task, or continue where an earlier call was stopped."""
    for words in commands(label, task, args):
        found = subprocess.run(words, stdout=subprocess.DEVNULL)
        if found.returncode:
            raise UsageError(
                f"training {label} on task {task} ended with exit code {found.returncode}; its message is above. The "
                "same command continues from there"
            )


def commands(label: str, task: int, args: argparse.Namespace) -> list[list[str]]:
    """Return the commands that train all seeds of one row on one task.

    Offline all seeds train at once. Online each trains alone, as in the version that made the committed scores.
    """
    entry = TRAINED[label]
    program = ["benchmarks/planted_faults.py", entry.fault] if entry.fault else ["zoo/train.py"]
    words = [
        sys.executable,
        str(ROOT / program[0]),
        *program[1:],
        "--algo",
        entry.algo,
        "--env",
        ENV.format(task),
        "--quick",
    ]
    words += ["--resume", "--num-threads", "1", "--verbose", "0", "-f", str(args.log_folder)]
    words += ["--dataset-dir", args.dataset_dir] if args.dataset_dir else []
    words += [] if label == entry.algo else ["--label", label]
    at_once = [["--seeds", *args.seeds]]
    one_by_one = [["--seed", str(seed)] for seed in parse_seeds(args.seeds, "--seeds")]
    params = [f"{name}={value}" for name, value in entry.all_params.items()]
    return [[*words, *seeds, "-params", *params] for seeds in (at_once if entry.phase == "offline" else one_by_one)]


def read_scores(path: Path) -> pd.DataFrame:
    """Return a table of scores; an empty one if there is no such file."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    scores = pd.read_csv(path)
    if list(scores.columns) != COLUMNS:
        raise UsageError(f"expected the columns {','.join(COLUMNS)} in {path}, got {','.join(scores.columns)}")
    return scores


def write_scores(scores: pd.DataFrame, path: Path) -> None:
    """Write a table of scores, in an order that depends on its rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scores.sort_values(COLUMNS[:4]).to_csv(path, index=False, lineterminator="\n")


def add_runs(scores: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Return a table of scores with those of the runs below a folder, which replace earlier ones of the same seed.

    A run that diverged has no success, and episodes of full length, at the evaluations that it did not reach.

    :param folder: where run folders are; it may be missing.
    """
    tables = read_runs([folder] if folder.exists() else [], merge_protocols=True)
    runs = tables.runs
    rows = [
        row
        for run in runs.to_dict("records")
        if _counts(run)
        for row in _scores_of_run(run, tables.evaluations[tables.evaluations["run"] == run["run"]])
    ]
    if not rows:
        return scores
    added = pd.DataFrame(rows, columns=COLUMNS)
    both = added if scores.empty else pd.concat([scores, added])
    return both.drop_duplicates(COLUMNS[:4], keep="last").reset_index(drop=True)


def _counts(run: Mapping[str, Any]) -> bool:
    """Return whether a run is finished or diverged, and is one of this comparison."""
    entry, problem = TRAINED.get(run["label"]), run["problem"]
    is_complete = pd.isna(problem) or "training diverged" in problem
    if entry is None or not is_complete:
        return False
    sizes = run["net_arch"], run["settings"]["batch_size"], run[f"{entry.phase}_steps"]
    wanted = describe_layers(PARAMS["net_arch"]), str(PARAMS["batch_size"]), entry.checkpoints[-1]
    return run["algorithm"] == entry.algo and sizes == wanted


def _scores_of_run(run: Mapping[str, Any], evaluations: pd.DataFrame) -> list[list[Any]]:
    """Return a run's rows, one a checkpoint, in the order of `COLUMNS`."""
    key = [run["label"], int(run["task"].removeprefix("task")), int(run["seed"])]
    at = evaluations.set_index("step")
    rows = []
    for step in TRAINED[run["label"]].checkpoints:
        if step in at.index:
            found = at.loc[step]
            rows.append([*key, step, found["successes"], found["episodes"], round(found["length"], 2), 0])
        else:
            rows.append([*key, step, 0, run["eval_episodes"], float(EPISODE_STEPS), 1])
    return rows


def describe(tests: pd.DataFrame, result: str, faults: str, seeds: str, reference: Path) -> str:
    """Return the part of the page that this program writes.

    :param tests: as `compare` returned it.
    :param result: what they say, in words.
    :param faults: the table of the planted ones.
    :param seeds: of both sides, as given.
    :param reference: scores of the originals; a file of the same name, ``.yml``, says where they come from.
    """
    parts = ["## Command and settings", _describe_settings(seeds), _describe_source(reference), "## Result", result]
    parts += ["## Would the page see a mistake?", _FAULTS_LEGEND, faults]
    if len(tests):
        parts += ["## Every algorithm: mean over both tasks and the three checkpoints", _LEGEND]
        parts += [mean_table(tests, {label: own_settings(entry) for label, entry in ENTRIES.items()})]
        parts += ["## Every task and checkpoint", cell_table(tests)]
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "Success is in percent of 20 episodes, length the mean number of steps of an episode (1,000 at most); both are "
    "means over seeds. A difference is ours minus the original, with its 95% interval (Welch's t). p is that of the "
    "two-sided Mann-Whitney test, exact with ties; beside it stands p after Holm's correction for all tests of this "
    "page, in bold where it is at most 0.05."
)
_FAULTS_LEGEND = (
    "Ours with a fault planted by `benchmarks/planted_faults.py`, against the original without, on the file above: the "
    "target networks follow the weights from after the step, or the gradient is not clipped. Seen means that one of "
    "the row's tests is significant at Holm's first level. What is not seen here needs the parity tests."
)
_NOT_SHOWN = {
    "source", "status", "pretraining_steps", "offline_steps", "online_steps", "eval_freq", "save_freq", "log_interval",
    "learning_starts", "sparse", "eval_episodes", "observation_scale", "eval_at_start",
}  # fmt: skip


def _describe_settings(seeds: str) -> str:
    """Return the command, and the settings that all rows share."""
    quick = shared_profile("qam")["quick"]
    shown = {name: value for name, value in (quick | PARAMS).items() if name not in _NOT_SHOWN}
    steps = [", ".join(f"{step:,}" for step in ENTRIES[label].checkpoints) for label in ("qam", "rlpd")]
    learning_starts = read_profiles("rlpd")["qam"]["quick"]["learning_starts"]
    return (
        f"```bash\n{RECIPE}\npython benchmarks/reference_ranks.py --seeds {seeds} --dataset-dir DIR\n"
        f"python benchmarks/originals.py --seeds {seeds} --dataset-dir DIR --checkout qam=PATH trqam=PATH sqam=PATH\n"
        "```\n\nThe last one needs `pip install -e .[test,originals]`. The file's sum is enforced. It was the same "
        "with 1 and 2 workers, where glibc and NumPy were told to use neither AVX2 nor FMA (AMD EPYC), and on an Intel "
        "Xeon.\n\n"
        f"Both sides: `{ENV.format(1)}` and task 5, the same file of 100,000 transitions (SHA-256 `{DATA_SHA256}`), "
        f"seeds {seeds}, 20 episodes from the same start states after {steps[0]} updates (rlpd: {steps[1]} "
        f"environment steps, with an update after each from step {learning_starts:,} on and half of every "
        f"batch from the dataset), episodes of at most {EPISODE_STEPS:,} steps, observations standardised by the "
        f"dataset and multiplied by {quick['observation_scale']:g}, and these settings, with each row's own in the "
        "first table:\n\n"
        + ", ".join(f"`{name} {value}`" for name, value in sorted(shown.items()))
        + ". One core, float32."
    )


def _describe_source(reference: Path) -> str:
    """Return where the scores of the originals come from, as the file beside them says."""
    note = yaml.safe_load(reference.with_suffix(".yml").read_text(encoding="utf-8"))
    code = "; ".join(
        f"{', '.join(part['rows'])} from {part['repository']} at `{part['commit'][:10]}` ({part['licence']})"
        for part in note["code"]
    )
    return f"Originals: {note['source']} {code}. {note['versions']}. {' '.join(note['notes'])}"


def own_settings(entry: Entry) -> str:
    """Return a row's own settings, as text."""
    quick = read_profiles(entry.algo)["qam"].get("quick", {})
    own = {name: value for name, value in quick.items() if name not in _NOT_SHOWN} | dict(entry.params)
    return ", ".join(f"{name} {value:g}" for name, value in own.items())


def replace_tables(page: str, text: str) -> str:
    """Return a page with a new text between the marks; both are added to a page without them."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before.rstrip()}\n\n{BEGIN}\n\n{text}\n{END}\n{after.lstrip()}".lstrip()


if __name__ == "__main__":
    sys.exit(main())
