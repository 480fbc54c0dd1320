"""Make the shipped trained agents, and the table in docs/mini.md, from finished runs of the mini benchmark.

``python -m tools.make_trained logs/mini``. For each algorithm and task, the final model of seed 0 is used, whatever its
score.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from agents.common.model_file import read_about
from agents.common.sb3.policy import FlowPolicy
from agents.registry import BUILT_IN, find
from tools import ROOT
from tools.tables import replace_marked, to_markdown
from zoo.evaluation.play import play
from zoo.models.agent import (
    ENDING,
    FOLDER,
    agent_of_file,
    agent_of_run,
    list_trained,
)
from zoo.models.score import Score
from zoo.models.upload import describe_agent
from zoo.runs.folder import RunFolder, file_name_of, find_run_folders

PAGE = ROOT / "docs" / "mini.md"
TASKS = (
    "pointmaze-medium-navigate-singletask-task1-v0",
    "pointmaze-large-navigate-singletask-task1-v0",
)
SEED = 0
PROFILE = "mini"
MOST_BYTES, MOST_BYTES_IN_ALL = 300_000, 20_000_000


def find_runs(logs: Path) -> dict[tuple[str, str], Path]:
    """Return (algorithm, task) -> folder of the run to use."""
    runs: dict[tuple[str, str], Path] = {}
    for folder in map(RunFolder, find_run_folders([logs])):
        if folder.read_status()["state"] != "done":
            continue
        config = folder.read_config()
        if config.seed != SEED or config.profile != PROFILE or config.label:
            continue
        if config.algo in BUILT_IN and config.env in TASKS:
            runs[config.algo, config.env] = folder.path  # the newest, if there are several
    return runs


def make_agent(run: Path, target: Path) -> Score:
    """Write the trained agent of a run, including its score under the protocol; return the score."""
    trained = agent_of_run(run)
    assert isinstance(trained.policy, FlowPolicy)
    about = describe_agent(trained)
    with tempfile.TemporaryDirectory() as folder:
        trained.policy.save(Path(folder) / target.name, trained.policy.acting_networks(), about)
        written = agent_of_file(Path(folder) / target.name, None)
    score = Score.of(play(written))
    first = play(written.with_protocol(1, None))
    target.parent.mkdir(parents=True, exist_ok=True)
    episode = {"return": float(first.returns[0, 0]), "length": int(first.lengths[0, 0])}
    about |= {"score": asdict(score), "first_episode": episode}
    trained.policy.save(target, trained.policy.acting_networks(), about)
    if target.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{target} has {target.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    return score


def write_page(page: Path) -> None:
    """Write the table of the trained agents' scores into the page, between its markers."""
    replace_marked(page, "<!-- table -->\n", "<!-- end of the table -->", table())


def table() -> str:
    """Return the table: one row per algorithm, in the order of the registry."""
    trained = list_trained()
    heads = [
        task.removesuffix("-v0").replace("-navigate-singletask-", " ").replace("-", " ")
        for task in TASKS
    ]
    rows = []
    for algo in BUILT_IN:
        if algo in trained:
            scores = [_cell(FOLDER / algo / f"{file_name_of(task)}{ENDING}") for task in TASKS]
            rows.append([f"{find(algo).published_name} (`{algo}`)", *scores])
    return to_markdown(pd.DataFrame(rows, columns=["algorithm", *heads])) + "\n"


def _cell(file: Path) -> str:
    """Return the score in a file as text; empty if the task has no trained agent."""
    if not file.exists():
        return ""
    score = Score(**read_about(file)["score"])
    return f"{100 * score.mean:.0f} {score.interval_text}"


def main(logs: Path) -> None:
    """Make the trained agents from the runs in a folder, then the table."""
    for (algo, env), run in sorted(find_runs(logs).items()):
        score = make_agent(run, FOLDER / algo / f"{file_name_of(env)}{ENDING}")
        print(f"{algo} in {env}: {score.text}", flush=True)
    size = sum(path.stat().st_size for path in FOLDER.rglob(f"*{ENDING}"))
    if size > MOST_BYTES_IN_ALL:
        raise SystemExit(
            f"the trained agents have {size:,} bytes in total, more than {MOST_BYTES_IN_ALL:,}"
        )
    write_page(PAGE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
