"""The benchmark program: a suite from its file to its report, stopped, killed, started twice."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import agents
from tests import ROOT
from tests.agents.testing.mistakes import example
from tests.common.toys import assert_same
from tests.zoo.outcomes import config_of, status_of
from tests.zoo.suites.tiny import wait_for
from zoo.benchmark import main
from zoo.processes.locks import HOST, Lock
from zoo.suites import SHIPPED

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
SMALL = {
    "net_arch": [8],
    "batch_size": 8,
    "eval_freq": 20,
    "eval_episodes": 2,
    "save_freq": 10,
    "log_interval": 10,
}


def write_suite(folder, data, algorithms, steps=40, **more):
    content = {
        "quick": True, "algorithms": algorithms, "environments": [ENV], "seeds": "0-1", "dataset_dir": str(data),
        "params": {**SMALL, "offline_steps": steps}, "env_kwargs": {"max_episode_steps": 20}, **more,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "suite.yml").write_text(yaml.safe_dump(content))
    return folder / "suite.yml"


def start(folder, *words):
    """Start the program from a folder, with one worker."""
    command = [
        sys.executable,
        str(ROOT / "zoo" / "benchmark.py"),
        "suite.yml",
        "-f",
        "logs",
        "--device",
        "cpu",
        *words,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)


def finish(process, code=0):
    output, errors = process.communicate()
    assert process.returncode == code, errors
    return dict(json.loads(output.splitlines()[-1])) if code == 0 else {"message": errors}


@pytest.fixture
def run(tmp_path, programs):
    """Return what runs the program from the test's folder to its end."""

    def ended(*words):
        return programs.run(
            "benchmark", ["suite.yml", "-f", "logs", "--device", "cpu", *words], folder=tmp_path
        )

    return ended


def folders(logs):
    return sorted(path.parent for path in logs.glob("*/*/status.json"))


def states(logs):
    return [status_of(folder)["state"] for folder in folders(logs)]


@pytest.mark.slow
def test_a_suite_with_an_own_agent_trains_reports_and_is_not_trained_again(run, tmp_path, data):
    own = tmp_path / "my_agents.py"
    own.write_text(example())
    write_suite(tmp_path, data, ["fql", "my_agents:WeightedBC"], steps=20, focus="fql")
    result = run().result
    assert result["jobs"] == 2
    assert result["runs"] == 4
    assert result["done"] == 2
    assert result["methods"] == 2
    assert "fql" in Path(result["report"]).read_text()
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "logs").glob("*/*/*")
        if path.is_file()
    }
    assert len(folders(tmp_path / "logs")) == 4
    again = run("--dry-run").result
    assert again["done"] == 2
    assert again["hours_left"] == 0.0
    own.write_text(own.read_text() + "# changed\n")
    changed = run("--no-report", "--scores", "scores")
    assert changed.code == 0
    assert changed.err.count("another version of the algorithm's file") == 1
    rows = pd.read_csv(tmp_path / "scores" / "fql.csv")
    assert list(zip(rows["seed"], rows["phase"], rows["step"], rows["episodes"], strict=True)) == [
        (seed, "offline", step, 2) for seed in (0, 1) for step in (0, 20)
    ]
    assert rows["settings"].nunique() == 1
    check_kept_scores(run, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def check_kept_scores(run, folder):
    """Expect that scores stand for runs whose folders are elsewhere, that none is lost, and others are refused."""
    file = folder / "scores" / "fql.csv"
    before = file.read_bytes()
    elsewhere = ("--algos", "fql", "-f", "elsewhere", "--scores", "scores")
    ended = run(*elsewhere)
    assert ended.result["kept"] == 1
    assert ended.result["done"] == 0
    assert ended.result["hours_left"] == 0.0
    assert not (folder / "elsewhere").exists()
    others = run("--dry-run", "-f", "elsewhere", "--scores", "scores").result
    assert others["kept"] == 2
    assert others["waiting"] == 0
    last = before.splitlines()[-1]
    of_another_run = last.replace(b",1,offline,", b",7,offline,")
    file.write_bytes(before + of_another_run + b"\n")
    assert run("--no-report", "--scores", "scores").result["done"] == 2
    assert file.read_bytes() == before + of_another_run + b"\n"
    kept = [
        line for line in before.splitlines() if b",1,offline,20," not in line
    ]  # the last row of the second seed
    file.write_bytes(b"\n".join(kept) + b"\n")
    assert run(*elsewhere, "--dry-run").result["waiting"] == 1
    for damage, message in (
        ((last, b",".join(last.split(b",")[:6])), "expected a whole line"),
        (
            (pd.read_csv(file)["settings"][0].encode(), b"0123456789ab"),
            "settings that runs have now",
        ),
    ):
        file.write_bytes(before.replace(*damage))
        ended = run("--scores", "scores")
        assert ended.code == 2
        assert message in " ".join(ended.err.split())
    file.write_bytes(before)
    ended = run("--scores", "suite.yml")
    assert ended.code == 2
    assert "the folder of scores must be writable" in ended.err


def test_the_plan_of_a_new_suite_ends_with_the_same_command_without_the_flag_that_plans(
    tmp_path, data, call, monkeypatch
):
    file = write_suite(tmp_path, data, ["fql"], steps=100_000, title="of 'Größe'")
    words = [
        str(file),
        "-f",
        str(tmp_path / "my logs"),
        "--launcher",
        "slurm",
        "--resources",
        "slurm_partition=gpu",
    ]
    result, errors = call(main, *words, "--dry-run", "--no-measure")
    assert result["jobs"] == 1
    assert result["waiting"] == 1
    assert result["hours_left"] is None
    assert "the remaining time is unknown" in errors
    assert folders(tmp_path / "my logs") == []
    monkeypatch.setattr(
        "zoo.terminal.tables.result_for_terminal", lambda result, hint="": {"next": hint}
    )
    shown, _ = call(main, *words, "--dry-run")
    assert shown["next"] == f"zoo benchmark {shlex.join(words)}"


PLANS = [
    "mini --algos fql --envs pointmaze-medium-*",
    *sorted(path.stem for path in SHIPPED.glob("*.yml")),
]


@pytest.mark.few(1)
@pytest.mark.parametrize("plan", PLANS)
def test_every_shipped_suite_can_be_planned(plan, tmp_path, call):
    if needed := {"d4rl": "gymnasium_robotics", "robomimic": "robosuite"}.get(plan.split("_")[0]):
        pytest.importorskip(needed)
    result, _ = call(main, *plan.split(), *f"--dry-run -f {tmp_path / 'logs'} --device cpu".split())
    assert result["waiting"] == result["jobs"]
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environments": ["pointmaze-medum-navigate-singletask-task1-v0"]}, "closest"),
        ({"profile": "qaam", "quick": False}, "qaam"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(tmp_path, refusal, change, message):
    suite = write_suite(tmp_path, tmp_path, ["fql"], **change)
    assert message in refusal(main, suite, "-f", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def outcome(folder):
    """Return a run's evaluations and final parameters."""
    model = agents.FQL.load(folder / f"{ENV}.zip", device="cpu")
    return (folder / "evaluations.npz").read_bytes(), model.policy.state_dict()


def wait_for_checkpoint(logs):
    wait_for(lambda: list(logs.glob("*/*/checkpoint/step_*")), 120)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_suite_that_is_killed_and_started_twice_at_once_runs_every_run_once_with_the_same_scores(
    tmp_path, data
):
    algorithms = ["fql", {"algo": "fql", "label": "strong", "params": {"distill_weight": 1.0}}]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    for folder in (undisturbed, disturbed):
        write_suite(folder, data, algorithms, steps=500, seeds_at_once=1)
    finish(start(undisturbed))

    first = start(disturbed, "--workers", "2")
    wait_for_checkpoint(disturbed / "logs")
    first.kill()
    first.communicate()
    second = start(
        disturbed, "--workers", "2"
    )  # waits for what the first has started, and continues the rest
    wait_for(
        lambda: (
            Lock(disturbed / "logs" / "suite.lock")
            .describe_holder()
            .startswith(f"process {second.pid} ")
        ),
        60,
    )
    message = finish(start(disturbed), code=2)["message"]
    assert f"are being trained by process {second.pid} on {HOST}, since 2" in message
    assert finish(second)["done"] == 4
    found = folders(disturbed / "logs")
    assert len(found) == len(folders(undisturbed / "logs")) == 4
    assert states(disturbed / "logs") == ["done"] * 4

    def by_run(logs):
        configs = {folder: config_of(folder) for folder in folders(logs)}
        return {
            (config.get("label", ""), config["seed"]): folder for folder, config in configs.items()
        }

    expected = by_run(undisturbed / "logs")
    for key, folder in by_run(disturbed / "logs").items():
        (evaluations, parameters), (expected_evaluations, wanted) = (
            outcome(folder),
            outcome(expected[key]),
        )
        assert evaluations == expected_evaluations, key
        assert_same(parameters, wanted)


@pytest.mark.slow
def test_a_suite_that_is_stopped_writes_checkpoints_and_continues(tmp_path, data):
    write_suite(tmp_path, data, ["fql"], steps=2_000)
    process = start(tmp_path)
    wait_for_checkpoint(tmp_path / "logs")
    process.send_signal(signal.SIGINT)
    message = finish(process, code=3)["message"]
    assert "start the same command again to continue" in message
    assert states(tmp_path / "logs") == ["interrupted", "interrupted"]
    result = finish(start(tmp_path))
    assert result["done"] == 1
    assert len(folders(tmp_path / "logs")) == 2
    with np.load(folders(tmp_path / "logs")[0] / "evaluations.npz") as arrays:
        assert arrays["timesteps"][-1] == 2_000


def test_scores_of_the_mini_benchmark_that_were_kept_are_those_of_its_settings_now(call, tmp_path):
    words = [
        "mini",
        "--algos",
        "bam",
        "--envs",
        "scene-*",
        "--scores",
        str(ROOT / "results" / "mini"),
    ]
    result, _ = call(main, *words, "--dry-run", "-f", str(tmp_path))
    assert result["kept"] == result["jobs"]
