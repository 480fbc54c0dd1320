"""An agent that is uploaded to the hub plays from there as it did before, and its card says what it is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import agents
from tests.zoo.hub.stand_in import URL, Hub
from tests.zoo.models.conftest import STEPS, maze_model
from tests.zoo.outcomes import call
from tests.zoo.test_train_program import ENV, arguments
from zoo import enjoy, evaluate, train
from zoo.models.trained import find_trained
from zoo.push_to_hub import main
from zoo.runs.folder import RunFolder

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")

AGENT = ["--algo", "qam", "--env", ENV]
REPO = f"me/qam-{ENV}"


@pytest.fixture(scope="module")
def logs(data: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of the same settings at once, and a run of others."""
    folder = shutil.copytree(runs, tmp_path_factory.mktemp("logs"), dirs_exist_ok=True)
    assert train.main(arguments(data, folder, "gamma=0.9", seeds=("--seed", "5"))) == 0
    return folder


def push(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    return call(capsys, main, *words)


def newest(hub: Hub, repo: str = REPO) -> dict[str, bytes]:
    return hub.repositories[repo].commits[-1][1]


def metadata_of(card: bytes) -> dict[str, Any]:
    return yaml.safe_load(card.decode().split("---\n")[1])


def test_a_run_that_is_uploaded_plays_from_the_hub_with_the_same_bits(
    logs: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, result, _ = push(capsys, *AGENT, "-f", logs, "--exp-id", 2, "-orga", "me")
    assert (code, result["repository"], result["url"]) == (0, REPO, f"{URL}/{REPO}")
    code, found, errors = call(capsys, evaluate.main, "--from-hub", REPO)
    assert (code, found["reproduced"], found["env"]) == (0, True, ENV)
    assert f"{REPO} from the hub, commit {hub.repositories[REPO].commits[-1][0]}" in errors
    with np.load(logs / "qam" / f"{ENV}_2" / "evaluations.npz") as recorded:
        assert (found["success"], found["return"]) == (recorded["successes"][-1].mean(), recorded["results"][-1].mean())
    policy = agents.load_policy(found["model"], "cpu")
    original = agents.load(logs / "qam" / f"{ENV}_2", device="cpu").policy.state_dict()
    assert all(torch.equal(value, original[name]) for name, value in policy.state_dict().items())
    assert call(capsys, enjoy.main, "--from-hub", f"{REPO}@main", "--episodes", 2)[1]["return"] == found["return"]


def test_what_is_uploaded_is_named_and_holds_nothing_else(
    logs: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = RunFolder(logs / "qam" / f"{ENV}_1")
    assert push(capsys, run.path, "-orga", "me", "-name", "maze", "--private", "--with-model")[0] == 0
    files = newest(hub, "me/maze")
    assert hub.repositories["me/maze"].private
    assert files.keys() == {
        "README.md", "policy.safetensors", "config.yml", "command.txt", "versions.json",
        "learning_curve.png", "model.zip",
    }  # fmt: skip
    assert yaml.safe_load(files["config.yml"]) == run.read_config()
    assert files["model.zip"] == run.model.read_bytes()
    assert files["learning_curve.png"] == run.learning_curve.read_bytes()
    assert "zoo train -i model.zip" in files["README.md"].decode()


def test_the_card_says_score_seeds_protocol_command_and_licence(
    logs: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*AGENT, "-f", logs, "--exp-id", 1, "--load-best", "-orga", "me", "--license", "cc-by-4.0"]
    (logs / "qam" / f"{ENV}_1" / "command.txt").write_text(
        "/usr/bin/python /me/zoo train --algo qam --dataset-dir /me/data\n"
    )
    _, result, _ = push(capsys, *words)
    card = newest(hub)["README.md"]
    metadata, text = metadata_of(card), card.decode()
    assert (metadata["library_name"], metadata["license"]) == ("flow-rl-zoo", "cc-by-4.0")
    assert {"reinforcement-learning", "qam", ENV} <= set(metadata["tags"])
    (found,) = metadata["model-index"][0]["results"]
    assert (found["dataset"]["type"], found["task"]["type"]) == (ENV, "reinforcement-learning")
    assert found["metrics"][0] == {
        "type": "success_rate", "value": result["success"], "name": "success, mean of 2 episodes",
    }  # fmt: skip
    low, high = (f"{100 * end:.1f}" for end in result["interval"])
    assert f"| 3 (this agent) | {100 * result['success']:.1f} | [{low}, {high}] | 2 |" in text
    for part in (
        "Protocol: 2 episodes, whose starts and noise come from seed 5; environment arguments: max_episode_steps 30.",
        "![Learning curve of qam on",
        "\nzoo train --algo qam --dataset-dir data\n",
        "20 offline steps, profile `qam`.",
        "Data: name pointmaze-medium-navigate-v0, size 2000",
        f"zoo enjoy --from-hub {REPO} --video",
        "torch ",
        "seed 3, the best model of its run",
    ):
        assert part in text
    table = text.partition("All finished runs of these settings")[2]
    assert [line.split(" |")[0] for line in table.splitlines() if line.startswith("| ")] == ["| seed", "| 3", "| 4"]
    assert "Mean of 2 seeds: " in table


def test_a_trained_agent_is_uploaded_as_it_is(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    code, result, _ = push(capsys, "--algo", "fql", "--env", ENV, "--trained", "-orga", "me", "-name", "fql")
    assert (code, result["episodes"]) == (0, 50)
    files = newest(hub, "me/fql")
    assert files["policy.safetensors"] == find_trained("fql", ENV).read_bytes()
    assert yaml.safe_load(files["config.yml"])["settings"]["distill_weight"] == 45.6
    assert "FQL in" in files["README.md"].decode()


def test_a_second_upload_replaces_the_first_and_leaves_other_files(
    logs: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert push(capsys, logs / "qam" / f"{ENV}_1", "-orga", "me", "-name", "a", "--with-model")[0] == 0
    first = hub.repositories["me/a"].commits[-1][0]
    hub.put("me/a", {**newest(hub, "me/a"), "notes.md": b"mine"})
    assert push(capsys, "--algo", "fql", "--env", ENV, "--trained", "-orga", "me", "-name", "a", "-m", "other")[0] == 0
    assert newest(hub, "me/a").keys() == {
        "README.md", "policy.safetensors", "config.yml", "versions.json", "notes.md",
    }  # fmt: skip
    for repo, algo in ((f"me/a@{first}", "qam"), ("me/a", "fql")):
        assert call(capsys, evaluate.main, "--from-hub", repo, "--episodes", 1)[1]["algo"] == algo


def test_files_can_be_written_without_uploading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = maze_model(seed=3)
    model.save(tmp_path / "model.zip")
    words = [tmp_path / "model.zip", "--env", ENV, "--n-eval-envs", 1, "-orga", "me", "-o", tmp_path / "files"]
    monkeypatch.setattr("zoo.models.agent.DEFAULT_EPISODES", 1)
    monkeypatch.setattr("zoo.hub.upload.play", lambda agent, n_envs: evaluate_quickly(agent, n_envs))
    code, result, errors = push(capsys, *words)
    assert (code, result["folder"]) == (0, str(tmp_path / "files"))
    assert "nothing is uploaded" in errors
    names = {path.name for path in (tmp_path / "files").iterdir()}
    assert names == {"README.md", "policy.safetensors", "config.yml", "versions.json"}
    assert push(capsys, *words)[0] == 2  # the folder exists


def evaluate_quickly(agent: Any, n_envs: int | None) -> Any:
    from dataclasses import replace

    from zoo.models.play import play

    return play(replace(agent, episodes=2, env_kwargs=STEPS), n_envs)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_uploading_without_a_token_is_refused_before_anything_is_played(
    logs: Path,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.token = None
    code, _, errors = push(capsys, *AGENT, "-f", logs, "-orga", "me")
    assert (code, errors.count("\n")) == (2, 1)
    assert "needs a token that may write; log in with `hf auth login`, or set HF_TOKEN" in errors
    assert not hub.asked


def test_the_hub_without_its_library_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for program, words in ((evaluate.main, ["--from-hub", "me/a"]), (main, [*AGENT, "-orga", "me"])):
        code, _, errors = call(capsys, program, *words)
        assert (code, "install it with `pip install 'huggingface_hub>=2,<3'`" in errors) == (2, True)


# -- the page ---------------------------------------------------------------------------------------------------------
