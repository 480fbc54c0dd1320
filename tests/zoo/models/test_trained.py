"""The packaged trained agents are small, describe themselves, and act as when they were created."""

import pytest
import yaml

import agents
from agents.common.model_file import read_about
from agents.registry import BUILT_IN
from tests import ROOT
from tests.zoo.outcomes import refuses
from zoo.evaluation.play import play
from zoo.models.agent import FOLDER, agent_of_file, find_trained, list_trained
from zoo.models.score import Score

MEDIUM, LARGE = (f"pointmaze-{size}-navigate-singletask-task1-v0" for size in ("medium", "large"))
FILES = sorted(FOLDER.glob("*/*.safetensors"))
SUITE = yaml.safe_load((ROOT / "benchmarks" / "suites" / "mini.yml").read_text())
ALGORITHMS = sorted({*BUILT_IN} & {*SUITE["algorithms"]})
EVERY_FILE = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem.split('-')[1]}"
)
ABOUT = """
seed: 0
actions: {networks: [-1, 1], low: [-1, -1], high: [1, 1]}
protocol: {episodes: 50, seed: 0, env_kwargs: {}}
"""


def test_every_mini_algorithm_has_an_agent_for_two_tasks():
    assert list_trained() == {algo: [LARGE, MEDIUM] for algo in ALGORITHMS}


@EVERY_FILE
def test_a_file_says_what_its_agent_is(file):
    about, policy = read_about(file), agents.load_policy(file)
    expected = {"algo": file.parent.name, "env": file.stem, "chunk_length": policy.chunk_length}
    assert about.items() >= (expected | yaml.safe_load(ABOUT)).items()
    assert about["training"]["profile"] == "mini"
    assert about["versions"]["torch"]
    assert about["score"]["episodes"] == 50


@pytest.mark.few
@pytest.mark.parametrize("id", ALGORITHMS)
def test_an_agent_plays_its_first_episode_again(id):
    file = find_trained(id, MEDIUM)
    results = play(agent_of_file(file, None).with_protocol(1, None))
    episode = {"return": results.returns[0, 0], "length": results.lengths[0, 0]}
    assert episode == read_about(file)["first_episode"]


@pytest.mark.slow
@EVERY_FILE
def test_an_agent_scores_what_its_file_states(file):
    agent = agent_of_file(file, None)
    assert Score.of(play(agent)) == agent.stated


@pytest.mark.parametrize(
    ("algo", "env", "text"),
    [("qamm", MEDIUM, "`qamm`; closest: qam, "), ("qam", "cube-v0", f"{LARGE}, {MEDIUM}")],
)
def test_an_agent_that_is_not_there_is_named_with_those_that_are(algo, env, text):
    with refuses(text):
        find_trained(algo, env)
