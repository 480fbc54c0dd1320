"""The page on OCBench: its commands train, evaluate, resume and compare on three tasks, at a small size."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from benchmarks.fault_suite.programs import Programs
from zoo.cli import main
from zoo.envs.ocbench import TASKS
from zoo.train import main as train

PAGE = Path(__file__).parents[1] / "docs" / "ocbench.md"
TINY = "-params net_arch=[16,16] ensemble_size=2 flow_steps=2 batch_size=16 horizon_length=2 buffer_size=1000"
SMALL = {"--offline-steps": "12", "--eval-freq": "6", "--episodes": "2", "--eval-episodes": "1"}
BLOCK = "block-cpu-lite-single-task1-v0"


def commands() -> list[str]:
    """Return the commands of the page."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def made_small(command: str) -> list[str]:
    """Return the words of a command, with small numbers."""
    words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in shlex.split(command)[1:]]
    words = [SMALL.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "train":
        words += [*shlex.split(TINY), "--n-eval-envs", "1"]
    return words + (["--reps", "50"] if words[0] == "compare" else [])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the current one and where OCBench's data go."""
    pytest.importorskip("ocbench", reason="needs OCBench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("zoo.datasets.generate.ocbench.EPISODES", 2)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_page_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands()
    assert len({word for line in lines for word in line.split() if word in TASKS}) == 3
    results = {}
    for line in lines:
        assert main(made_small(line)) == 0, (line, capsys.readouterr().err)
        results[line] = json.loads(capsys.readouterr().out.splitlines()[-1])
    trained = {line: result for line, result in results.items() if line.startswith("zoo train")}
    assert len(trained) == 4
    assert [result["already_done"] for line, result in trained.items() if "--resume" in line] == [True]
    assert all((result["success"] is None) == ("bowling" in line) for line, result in trained.items())
    report = (place / "report" / "report.html").read_text()
    assert all(name in report for name in TASKS if any(name in line for line in trained))
    assert next(result for line, result in results.items() if " benchmark " in line)["runs"] == 5 * 28 * 4


@pytest.mark.slow
def test_a_run_killed_within_an_online_episode_ends_as_an_uninterrupted_one(place: Path) -> None:
    words = ["--algo", "qam", "--env", BLOCK, "--dataset", "generate", "--seed", "1", "--device", "cpu"]
    words += ["--offline-steps", "6", "--online-steps", "12", "--eval-freq", "6", "--save-freq", "4"]
    words += ["--eval-episodes", "1", "--n-eval-envs", "1", "--verbose", "0", *shlex.split(TINY), "learning_starts=1"]
    assert main(["dataset", "generate", BLOCK, "--episodes", "2", "--num-workers", "1"]) == 0
    whole, killed = ([*words, "-f", str(place / name)] for name in ("whole", "killed"))
    with Programs() as programs:
        assert programs.run("train", whole).code == 0
        assert programs.run("train", killed, kill=("update", 15)).code == -9
        assert programs.run("train", [*killed, "--resume"]).code == 0
    first, second = (place / name / "qam" / f"{BLOCK}_1" for name in ("whole", "killed"))
    assert (first / "evaluations.npz").read_bytes() == (second / "evaluations.npz").read_bytes()
    config = yaml.safe_load((first / "config.yml").read_text())
    assert config["dataset"]["name"] == BLOCK
    assert any("untuned" in source for source in config["sources"])


def test_each_option_of_the_page_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", PAGE.read_text()))
    known = ""
    for words in (["train"], ["benchmark"], ["dataset", "generate"], ["dataset", "download"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        known += capsys.readouterr().out
    assert {option for option in options if not re.search(rf"{option}\b", known)} == set()


def test_the_table_of_the_page_has_every_environment_with_its_episodes() -> None:
    rows = [
        line.split("|")[1:5] for line in PAGE.read_text().splitlines() if "`bowling-cpu`" in line or "-cpu-" in line
    ]
    told: dict[str, tuple[int, int]] = {}
    for names, counts, steps, lite_steps in (row for row in rows if len(row) == 4):
        first, *others = re.findall(r"`(.+?)`", names)
        domains = [first, *(first.rpartition("-")[0] + other for other in others)]
        numbers = [[int(n) for n in re.findall(r"\d+", cell)] for cell in (counts, steps, lite_steps)]
        numbers[0] *= len(domains) // len(numbers[0])
        for position, domain in enumerate(domains):
            told[domain] = numbers[0][position], numbers[1][position]
            if numbers[2]:
                told[domain.replace("cpu", "cpu-lite")] = numbers[0][position], numbers[2][position]
    ours = {task.domain: task for task in TASKS.values()}  # the last task of each
    assert told == {domain: (task.number, task.steps) for domain, task in ours.items()}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block-lite-single-task1-v0", f"use the same task with vectors on the CPU: `{BLOCK}`"),
        ("block-cpu-lite-single-task2-v0", f"closest: {BLOCK}"),
    ],
)
def test_training_on_another_name_says_which_is_meant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, message: str
) -> None:
    assert train(["--algo", "fql", "--env", name, "-f", str(tmp_path / "logs")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
