"""An agent uploaded to the hub acts as before, and its card states its score."""

import sys
from dataclasses import replace

import numpy as np
import yaml

import agents
from agents.common.model_file import read_model_file
from tests.common.toys import assert_same
from tests.zoo.helpers import ENV
from tests.zoo.hub.stand_in import URL
from tests.zoo.models.conftest import maze_model, save_run
from tests.zoo.outcomes import refuses
from zoo import enjoy, evaluate
from zoo.models import upload
from zoo.models.agent import agent_of_run, find_trained
from zoo.models.score import Score
from zoo.push_to_hub import main

REPO = f"me/qam-{ENV}"
FILES = {"README.md", "policy.safetensors", "config.yml"}


def newest(hub, repo=REPO):
    return hub.repositories[repo].commits[-1][1]


def test_a_run_that_is_uploaded_plays_from_hub_with_same_bits(runs, hub, call):
    run = runs / "qam" / f"{ENV}_2"
    result, _ = call(main, run, "--repo", REPO)
    assert (result["repository"], result["url"]) == (REPO, f"{URL}/{REPO}")
    assert newest(hub).keys() == FILES
    played, errors = call(evaluate.main, "--from-hub", REPO)
    assert played["reproduced"]
    assert f"{REPO} from the hub, commit {hub.repositories[REPO].commits[-1][0]}" in errors
    with np.load(run / "evaluations.npz") as recorded:
        assert played["success"] == recorded["successes"][-1].mean()
        assert played["return"] == recorded["results"][-1].mean()
    original = agents.load(run, device="cpu").policy.state_dict()
    # without networks that are used only in training
    acting = agents.load_policy(played["model"], "cpu").state_dict()
    assert_same(acting, {name: original[name] for name in acting})
    watched, _ = call(enjoy.main, "--from-hub", f"{REPO}@main", "--episodes", 2)
    assert watched["return"] == played["return"]


def test_the_card_states_score_protocol_and_data(runs, hub, call):
    flags = f"--algo qam --env {ENV} -f {runs} --load-best --repo {REPO}"
    result, _ = call(main, *flags.split())
    text = newest(hub)["README.md"].decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["library_name"], metadata["license"]) == ("flow-rl-zoo", "mit")
    assert {"reinforcement-learning", "qam", ENV} <= set(metadata["tags"])
    (entry,) = metadata["model-index"][0]["results"]
    assert (entry["dataset"]["type"], entry["task"]["type"]) == (ENV, "reinforcement-learning")
    score = {"type": "success_rate", "value": result["success"]}
    assert entry["metrics"][0] == score | {"name": "success, mean of 2 episodes"}
    low, high = (f"{100 * end:.1f}" for end in result["interval"])
    assert f"(this agent) | success {100 * result['success']:.1f}% [{low}, {high}] | 2 |" in text
    (run,) = runs.glob(f"qam/{ENV}_1")
    best = read_model_file(run / "best_model.zip").described
    assert f"{best['offline_steps']} offline steps." in text
    assert "Data: {'name': 'pointmaze-medium-navigate-v0', 'size': 2000" in text


def test_a_second_upload_replaces_first_and_leaves_other_files(runs, hub, call):
    call(main, runs / "qam" / f"{ENV}_1", "--repo", "me/a")
    first = hub.repositories["me/a"].commits[-1][0]
    hub.put("me/a", {**newest(hub, "me/a"), "notes.md": b"mine"})
    trained = find_trained("fql", ENV)
    result, _ = call(main, trained, "--repo", "me/a")
    assert result["episodes"] == 50
    files = newest(hub, "me/a")
    assert files.keys() == FILES | {"notes.md"}
    assert files["policy.safetensors"] == trained.read_bytes()
    assert yaml.safe_load(files["config.yml"])["settings"]["distill_weight"] == 45.6
    for repo, algo in ((f"me/a@{first}", "qam"), ("me/a", "fql")):
        assert call(evaluate.main, "--from-hub", repo, "--episodes", 1)[0]["algo"] == algo


def test_no_file_holds_a_path_of_the_machine(tmp_path, monkeypatch, hub):
    score = Score("return", -5.0, -6.0, -4.0, 4)
    monkeypatch.setattr(upload, "play", lambda agent: None)
    monkeypatch.setattr(Score, "of", lambda results: score)
    monkeypatch.setattr(upload, "name_of", lambda method: "mine:Agent")
    clone = {"path": "/home/jane/logs/bc_1.zip", "updates": 1}
    model = maze_model(seed=3, pretraining_steps=40)
    model.offline_steps, model.num_timesteps = 70, 90
    run = save_run(tmp_path, model, pretrained_actor=clone).path
    (run / "versions.json").write_text('{"packages": {"torch": "2"}, "git_commit": "abc"}')
    (run / "command.txt").write_text("/home/jane/zoo train --dataset-dir /home/jane/data")
    agent = replace(agent_of_run(run, "cpu"), env_kwargs={"env_wrapper": ["a:A", "b.c:D"]})
    folder = tmp_path / "files"
    folder.mkdir()
    upload.write_upload(agent, folder, "me/agent")
    # weights are not text
    files = {path.name: path.read_text(errors="replace") for path in folder.iterdir()}
    words = "--algo mine:Agent --gym-packages a --gym-packages b.c"
    steps = ("40 pretraining steps.", "30 offline steps.", "20 online steps.")
    for text in (words, "torch 2", "type: mean_reward", *steps):
        assert text in files["README.md"]
    assert not [name for name, text in files.items() if "jane" in text or str(tmp_path) in text]
    run = save_run(tmp_path, maze_model(seed=3), eval_env_kwargs=["file=/home/jane/a.xml"]).path
    with refuses("an agent's file may not select files or modules"):
        upload.upload(agent_of_run(run, "cpu"), "me/agent")
    assert not hub.repositories


# -- rejected uploads -------------------------------------------------------------------------------------------------


def test_uploading_without_a_token_is_refused_before_playing(runs, hub, call):
    hub.token = None
    hub.put("me/existing", {})
    for repo in ("me/new", "me/existing"):
        _, errors = call(main, runs / "qam" / f"{ENV}_1", "--repo", repo, code=2)
        assert "log in with `hf auth login`, or set HF_TOKEN" in errors
        assert "for the score" not in errors


def test_the_hub_without_its_library_says_what_to_install(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for program, words in ((evaluate.main, "--from-hub me/a"), (main, "MODEL --repo me/a")):
        reason = refusal(program, *words.split())
        assert "install it with `pip install 'huggingface_hub>=2,<3'`" in reason
