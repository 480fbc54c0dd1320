"""An agent of one's own, in a file in the current folder, through the training program."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import agents
from benchmarks.fault_suite.programs import Ended, Programs
from zoo.runs.folder import RunFolder
from zoo.train import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "register.md"
ENV = "pointmaze-medium-navigate-singletask-task1-v0"
FEW = ["--offline-steps", "4", "--eval-freq", "4", "--eval-episodes", "1", "--n-eval-envs", "1", "--seed", "0"]
FEW += ["--env-kwargs", "max_episode_steps=10", "--device", "cpu", "-params", "net_arch=[8]", "batch_size=8"]


@pytest.fixture(scope="module")
def code() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return found


@pytest.fixture
def folder(tmp_path: Path, code: str) -> Path:
    (tmp_path / "my_agents.py").write_text(code)
    return tmp_path


@pytest.fixture
def train(folder: Path, programs: Programs) -> Callable[..., Ended]:
    """Return what runs the training program from the folder of the agent's file."""

    def run(*words: str) -> Ended:
        return programs.run("train", ["--algo", "my_agents:WeightedBC", "--env", ENV, *words], folder=folder)

    return run


@pytest.mark.usefixtures("own_agents")
def test_it_trains_from_the_current_folder_and_its_run_folder_is_a_model(
    train: Callable[..., Ended], folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = train("--dataset-dir", str(data), "--quick", "--eval-mode", "async", *FEW)
    assert ran.code == 0, ran.err
    assert "settings differ from protocol `qam`:" in ran.err
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_agents", raising=False)  # another test's file of that name
    mine = importlib.import_module("my_agents")
    assert type(agents.load(folder / ran.result["run"], device="cpu").policy.method) is mine.WeightedBC


@pytest.mark.slow
def test_its_runs_are_found_and_played_by_its_name(
    train: Callable[..., Ended], folder: Path, data: Path, programs: Programs
) -> None:
    run = train("--dataset-dir", str(data), "--quick", *FEW).result["run"]
    assert RunFolder(folder / run).read_config()["agent"] == {"class": "my_agents:WeightedBC"}
    named = ["--algo", "my_agents:WeightedBC"]
    for words in ([*named, "--env", ENV], [run, *named]):
        assert programs.run("evaluate", [*words, "--episodes", "1"], folder=folder).result["algo"] == "weighted_bc"
    refused = programs.run("evaluate", [run], folder=folder)
    assert (refused.code, " ".join(named) in refused.err) == (2, True)


MISTAKES = {
    "q.mean(1, keepdim=True)": ("q.mean(1)", "WeightedBC.targets failed: RuntimeError"),
    'targets["td"], batch.valid': ('targets["dt"], batch.valid', "WeightedBC.losses asks for an unknown target `dt`"),
    "import agents\n": ("import no_such_module, agents\n", "No module named 'no_such_module'"),
    '@agents.register("weighted_bc"': ('@agents.register("fql"', "algorithm id `fql` is taken by FQL"),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("before", MISTAKES)
def test_a_mistake_is_told_with_its_line_before_data_are_loaded_and_a_folder_is_made(
    train: Callable[..., Ended], folder: Path, before: str
) -> None:
    after, message = MISTAKES[before]
    file = folder / "my_agents.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after, 1))
    ran = train("--dataset", "no-such-dataset.npz", *FEW)
    assert ran.code == 2, ran.err
    assert message in ran.err.splitlines()[-1]
    assert after.strip() in ran.err  # the traceback
    assert not list(folder.glob("logs/*"))


def test_an_error_in_the_middle_of_training_shows_its_line(
    train: Callable[..., Ended], folder: Path, data: Path
) -> None:
    file = folder / "my_agents.py"
    first = "flow = nets.flow.at(batch.observations)"
    late = (
        f'if batch.valid.shape[1] == 8:\n            raise RuntimeError("three")\n        {first}'  # not in the check
    )
    file.write_text(file.read_text().replace(first, late, 1))
    ran = train("--dataset-dir", str(data), *FEW)
    assert ran.code == 1
    assert 'raise RuntimeError("three")' in ran.err
    assert ran.err.splitlines()[-1] == "RuntimeError: three"


# -- models to start from ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fql_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("start")
    assert main(["--algo", "fql", "--env", ENV, "--dataset-dir", str(data), "-f", str(logs), *FEW]) == 0
    return logs / "fql" / f"{ENV}_1"


def test_a_run_folder_is_a_model_to_start_from(fql_run: Path, data: Path, tmp_path: Path) -> None:
    words = ["--env", ENV, "--dataset-dir", str(data), "-f", str(tmp_path), *FEW]
    assert main(["--algo", "fql", "-i", str(fql_run), *words]) == 0
    assert main(["--algo", "qam", "--pretrained-actor", str(fql_run), *words]) == 0


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nofile.zip", r"expected a saved model \(\.zip\) or the folder of a run that has saved one, got nofile\.zip$"),
        (None, r"task1-v0\.zip is a model of FQL, expected one of QAM;"),
    ],
)
def test_a_model_that_cannot_be_started_from_is_refused(
    fql_run: Path, path: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", ENV, "-f", str(tmp_path / "logs"), *FEW, "-i", path or str(fql_run)]
    assert main(["--algo", "qam", *words]) == 2
    assert re.search(message, capsys.readouterr().err.strip())
    assert not (tmp_path / "logs").exists()
