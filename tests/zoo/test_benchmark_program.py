"""The benchmark program: a suite from its file to its report, and the plan of a suite."""

from pathlib import Path

import pytest
import yaml

from tests.agents.testing.mistakes import example
from tests.zoo.programs import run_program
from zoo.benchmark import SHIPPED, main
from zoo.suites.jobs import JobStatus, State

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"
SUITE = f"""
quick: true
environments: [{MAZE}]
seeds: 0-1
params:
  net_arch: [8]
  batch_size: 8
  eval_freq: 20
  eval_episodes: 2
  save_freq: 10
  log_interval: 10
  offline_steps: 20
env_kwargs: {{max_episode_steps: 20}}
"""


def write_suite(folder, data, algorithms, **keys):
    content = {**yaml.safe_load(SUITE), "algorithms": algorithms, "dataset_dir": str(data), **keys}
    (folder / "suite.yml").write_text(yaml.safe_dump(content))
    return folder / "suite.yml"


def run(folder, flags=""):
    """Run the program to its end, from a folder with a suite."""
    words = f"suite.yml -f logs --device cpu {flags}".split()
    return run_program("benchmark", words, folder=folder)


def times(folder):
    """Return the modification time of every file in the run folders."""
    files = filter(Path.is_file, (folder / "logs").glob("*/pointmaze*/*"))
    return {path: path.stat().st_mtime_ns for path in files}


@pytest.mark.slow
def test_a_suite_with_an_own_agent_is_not_trained_again(tmp_path, data):
    agent = tmp_path / "my_agents.py"
    agent.write_text(example())
    write_suite(tmp_path, data, ["fql", "my_agents:WeightedBC"], focus="my_agents:WeightedBC")
    result = run(tmp_path).result
    assert result == result | {"jobs": 2, "runs": 4, "done": 2, "methods": 2}
    assert "fql" in Path(result["report"]).read_text()
    first_times = times(tmp_path)
    assert len(list((tmp_path / "logs").glob("*/*/status.json"))) == 4
    assert run(tmp_path, "--dry-run").result["done"] == 2
    agent.write_text(agent.read_text() + "# changed\n")
    changed = run(tmp_path)
    assert changed.code == 0
    assert changed.err.count("another version of the algorithm's file") == 1
    assert times(tmp_path) == first_times


PLANS = [
    "mini --algos fql --envs pointmaze-medium-*",
    *sorted(path.stem for path in SHIPPED.glob("*.yml")),
]
NEEDED = {"d4rl": "gymnasium_robotics", "robomimic": "robosuite"}


@pytest.mark.few(1)
@pytest.mark.parametrize("plan", PLANS)
def test_every_shipped_suite_can_be_planned(plan, tmp_path, call, monkeypatch):
    pytest.importorskip(NEEDED.get(plan.split("_")[0], "zoo"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / plan.split()[0]).mkdir()  # a folder with the suite's name
    logs = tmp_path / "my logs"
    result, table = call(main, *plan.split(), "--dry-run", "-f", logs, "--device", "cpu")
    assert result["waiting"] == result["jobs"]
    assert " waiting " in table
    if plan == "ogbench50_qam":  # 17 algorithms on 50 tasks with 12 seeds each
        assert result["runs"] == 17 * 50 * 12
    assert not logs.exists()


def test_bad_input_is_refused_before_anything_is_made(tmp_path, refusal):
    file = write_suite(tmp_path, tmp_path, ["fql"], profile="qaam", quick=False)
    assert f"fql on {MAZE}, seeds 0, 1: " in refusal(main, file, "-f", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()
    file = write_suite(tmp_path, tmp_path, ["fql"])
    assert "`--log-folder` must be a folder" in refusal(main, file, "-f", file)
    assert "closest: mini" in refusal(main, "minni")
    assert "unknown suite `elsewhere/mini`" in refusal(main, "elsewhere/mini")
    assert "--launcher" in refusal(main, "mini", "--resources", "num_gpus=1", "--dry-run")


def test_jobs_that_are_left_lead_to_exit_code_1(tmp_path, call, monkeypatch):
    jobs = []
    monkeypatch.setattr("zoo.suites.local.run_locally", lambda left, *_: jobs.extend(left))
    states = {"fql": State.WAITING, "bc": State.DIVERGED}
    monkeypatch.setattr(
        "zoo.suites.jobs.status_of", lambda job: JobStatus(job, states[job.run.algo], None)
    )
    words = (write_suite(tmp_path, tmp_path, [*states]), "-f", tmp_path / "logs")
    _, messages = call(main, *words, "--dataset-dir", "elsewhere", code=1)
    (job,) = jobs
    assert job.run.algo == "fql"
    assert "--dataset-dir=elsewhere" in job.words
    assert " waiting " in messages
    assert "last message" not in messages
    assert "no report: no run has finished" in messages
