"""An agent that is uploaded to the hub plays from there as it did before, and its card says what it is."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

import agents
from tests.common.toys import assert_same
from tests.zoo.helpers import ENV
from tests.zoo.hub.stand_in import URL
from tests.zoo.models.conftest import STEPS, maze_model, save_run
from zoo import enjoy, evaluate
from zoo.models import upload
from zoo.models.agent import agent_of_file, agent_of_run, find_trained, play
from zoo.models.score import Score
from zoo.push_to_hub import main
from zoo.runs.folder import RunFolder

AGENT = f"--algo qam --env {ENV}".split()
REPO = f"me/qam-{ENV}"
POLICY_FILES = {"README.md", "policy.safetensors", "config.yml", "versions.json"}


@pytest.fixture(scope="module")
def logs(runs, tmp_path_factory):
    return shutil.copytree(runs, tmp_path_factory.mktemp("logs"), dirs_exist_ok=True)


def newest(hub, repo=REPO):
    return hub.repositories[repo].commits[-1][1]


def test_a_run_that_is_uploaded_plays_from_the_hub_with_the_same_bits(logs, hub, call):
    result, _ = call(main, *AGENT, *f"-f {logs} --exp-id 2 -orga me".split())
    assert (result["repository"], result["url"]) == (REPO, f"{URL}/{REPO}")
    played, errors = call(evaluate.main, "--from-hub", REPO)
    assert played["reproduced"]
    assert played["env"] == ENV
    assert f"{REPO} from the hub, commit {hub.repositories[REPO].commits[-1][0]}" in errors
    with np.load(logs / "qam" / f"{ENV}_2" / "evaluations.npz") as recorded:
        assert played["success"] == recorded["successes"][-1].mean()
        assert played["return"] == recorded["results"][-1].mean()
    original = agents.load(logs / "qam" / f"{ENV}_2", device="cpu").policy.state_dict()
    acting = agents.load_policy(played["model"], "cpu").state_dict()  # without what only trains
    assert_same(acting, {name: original[name] for name in acting})
    watched, _ = call(enjoy.main, "--from-hub", f"{REPO}@main", "--episodes", 2)
    assert watched["return"] == played["return"]


def test_what_is_uploaded_is_named_and_holds_nothing_else(logs, hub, call):
    run = RunFolder(logs / "qam" / f"{ENV}_1")
    call(main, run.path, "-orga", "me", "-name", "maze", "--private", "--with-model")
    files = newest(hub, "me/maze")
    assert hub.repositories["me/maze"].private
    assert files.keys() == POLICY_FILES | {"command.txt", "learning_curve.png", "model.zip"}
    assert yaml.safe_load(files["config.yml"]) == run.read_config().plain()
    assert files["model.zip"] == run.model.read_bytes()
    assert files["learning_curve.png"] == run.learning_curve.read_bytes()
    assert "zoo train -i model.zip" in files["README.md"].decode()


def test_the_card_says_score_protocol_command_and_licence(logs, hub, call):
    command = "/usr/bin/python /me/zoo train --algo qam --dataset-dir /me/data\n"
    (logs / "qam" / f"{ENV}_1" / "command.txt").write_text(command)
    flags = f"-f {logs} --exp-id 1 --load-best -orga me --license cc-by-4.0".split()
    result, _ = call(main, *AGENT, *flags)
    text = newest(hub)["README.md"].decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["library_name"], metadata["license"]) == ("flow-rl-zoo", "cc-by-4.0")
    assert {"reinforcement-learning", "qam", ENV} <= set(metadata["tags"])
    (entry,) = metadata["model-index"][0]["results"]
    assert (entry["dataset"]["type"], entry["task"]["type"]) == (ENV, "reinforcement-learning")
    score = {"type": "success_rate", "value": result["success"]}
    assert entry["metrics"][0] == score | {"name": "success, mean of 2 episodes"}
    low, high = (f"{100 * end:.1f}" for end in result["interval"])
    assert f"| 3 (this agent) | {100 * result['success']:.1f} | [{low}, {high}] | 2 |" in text
    for part in (
        "2 episodes, whose starts and noise come from seed 5; environment arguments: {'max_episode_steps': 30}.",
        "![Learning curve of qam on",
        "\npython zoo train --algo qam --dataset-dir data\n",
        "20 offline steps, profile `qam`.",
        "Data: {'name': 'pointmaze-medium-navigate-v0', 'size': 2000",
        f"zoo enjoy --from-hub {REPO} --video",
        "seed 3, the best model of its run",
    ):
        assert part in text


def test_a_second_upload_replaces_the_first_and_leaves_other_files(logs, hub, call):
    call(main, logs / "qam" / f"{ENV}_1", "-orga", "me", "-name", "a", "--with-model")
    first = hub.repositories["me/a"].commits[-1][0]
    hub.put("me/a", {**newest(hub, "me/a"), "notes.md": b"mine"})
    trained = f"--algo fql --env {ENV} --trained -orga me -name a -m other".split()
    result, _ = call(main, *trained)
    assert result["episodes"] == 50
    files = newest(hub, "me/a")
    assert files.keys() == POLICY_FILES | {"notes.md"}
    assert files["policy.safetensors"] == find_trained("fql", ENV).read_bytes()
    assert yaml.safe_load(files["config.yml"])["settings"]["distill_weight"] == 45.6
    for repo, algo in ((f"me/a@{first}", "qam"), ("me/a", "fql")):
        assert call(evaluate.main, "--from-hub", repo, "--episodes", 1)[0]["algo"] == algo


def test_files_can_be_written_without_uploading(tmp_path, call, monkeypatch):
    def play_little(agent, n_envs):
        return play(replace(agent, episodes=2, env_kwargs=STEPS), n_envs)

    monkeypatch.setattr(upload, "play", play_little)
    maze_model(seed=3).save(tmp_path / "model.zip")
    words = f"{tmp_path}/model.zip --env {ENV} --n-eval-envs 1 -orga me -o {tmp_path}/files".split()
    result, errors = call(main, *words)
    assert result["folder"] == str(tmp_path / "files")
    assert "nothing is uploaded" in errors
    assert {path.name for path in (tmp_path / "files").iterdir()} == POLICY_FILES
    call(main, *words, code=2)  # the folder exists


# -- what is said of an agent ------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run, which is not played for its score."""
    score = Score("success", 0.5, 0.2, 0.8, 4)
    monkeypatch.setattr(upload, "play", lambda agent, n_envs: (None, score))
    clone = {"path": "/home/Jane Doe/logs/bc_1.zip", "updates": 1}
    run = save_run(tmp_path, maze_model(seed=3), pretrained_actor=clone).path
    (run / "versions.json").write_text('{"packages": {"torch": "2"}, "git_commit": "abc-dirty"}')
    return run


def uploaded(agent, tmp_path):
    """Return name -> text of the files that are uploaded for an agent."""
    folder = tmp_path / "files"
    folder.mkdir()
    upload.write_upload(agent, folder, "me/agent")
    # weights are no text
    return {path.name: path.read_text(errors="replace") for path in folder.iterdir()}


def test_the_card_cites_the_paper(tmp_path):
    files = uploaded(agent_of_file(find_trained("bc", ENV), None, "cpu"), tmp_path)
    assert "Lipman et al., https://arxiv.org/abs/2210.02747" in files["README.md"]


@pytest.mark.parametrize("has_video", [False, True])
def test_the_card_names_the_software_and_a_video_that_is_uploaded(run, tmp_path, has_video):
    if has_video:
        (run / "replay.mp4").write_text("film")
    files = uploaded(agent_of_run(run, "cpu"), tmp_path)
    assert "torch 2, commit abc-dirty" in files["README.md"]
    assert files.get("replay.mp4") == ("film" if has_video else None)
    assert ("[`replay.mp4`](replay.mp4)" in files["README.md"]) == has_video


def test_folders_of_the_machine_are_left_out(run, tmp_path):
    words = "--algo qam -f '/home/Jane Doe/the logs' --dataset=/data/a.npz --track https://a.b/c/d"
    programs = "/home/me/.venv/bin/python /home/me/.venv/bin/zoo"
    (run / "command.txt").write_text(f"{programs} train {words}")
    files = uploaded(agent_of_run(run, "cpu"), tmp_path)
    command = "python zoo train --algo qam -f 'the logs' --dataset=a.npz --track https://a.b/c/d"
    assert files["command.txt"] == f"{command}\n"
    assert command in files["README.md"]
    assert yaml.safe_load(files["config.yml"])["pretrained_actor"]["path"] == "bc_1.zip"


# -- what is refused --------------------------------------------------------------------------------------------------


def test_uploading_without_a_token_is_refused_before_anything_is_played(logs, hub, call):
    hub.token = None
    _, errors = call(main, *AGENT, "-f", logs, "-orga", "me", code=2)
    assert "log in with `hf auth login`, or set HF_TOKEN" in errors
    assert not hub.asked


def test_the_hub_without_its_library_says_what_to_install(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for program, words in (
        (evaluate.main, ["--from-hub", "me/a"]),
        (main, [*AGENT, "-orga", "me"]),
    ):
        assert "install it with `pip install 'huggingface_hub>=2,<3'`" in refusal(program, *words)
