"""Wrappers by name: a run's models are evaluated with the wrappers of the run's environments."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml

from tests.zoo.envs import toys  # noqa: F401  registers Spring-v0
from tests.zoo.models.conftest import save_policy
from tests.zoo.outcomes import config_of, refuses
from zoo import evaluate
from zoo.envs.make import make_env
from zoo.evaluation.play import play
from zoo.models.agent import agent_of_file, agent_of_run, require_plain_arguments
from zoo.runs.folder import RunFolder
from zoo.settings.record import checked_wrappers
from zoo.train import main

HALVED = "tests.zoo.envs.test_env_wrapper:Halved"
RESCALED = {"gymnasium.wrappers:RescaleAction": {"min_action": -1, "max_action": 1}}


class Halved(gymnasium.RewardWrapper):
    """Halves rewards."""

    def __init__(self, env, by=2):
        super().__init__(env)
        self.by = by

    def reward(self, reward):
        return reward / self.by


def test_wrappers_are_put_around_an_environment_first_innermost():
    bare = make_env("Spring-v0")
    env = make_env("Spring-v0", env_wrapper=[HALVED, {HALVED: {"by": 3}}, RESCALED])
    assert env.action_space == gymnasium.spaces.Box(-1, 1, (2,))
    bare.reset(seed=3)
    env.reset(seed=3)
    reward = env.step(np.array([1, -1], np.float32))[1]
    assert bare.step(np.array([2, -2], np.float32))[1] == pytest.approx(6 * reward)


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        ("gymnasium.wrappers.FlattenObservation", ["gymnasium.wrappers:FlattenObservation"]),
        ([HALVED, {HALVED: {"by": 3}}, {HALVED: None}], [HALVED, {HALVED: {"by": 3}}, HALVED]),
        ([], None),
    ],
)
def test_wrappers_are_recorded_in_one_form(value, checked):
    assert checked_wrappers("env_wrapper", value) == checked


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        ("nowhere_at_all:Wrapper", "must name classes that Python can import"),
        ("subprocess:Popen", "must name subclasses of gymnasium.Wrapper"),
        ([{HALVED: {"speed": 1}}], "does not accept .* with the arguments"),
        ("gymnasium.wrappers:ClipReward", "does not accept .* cannot be None"),
    ],
)
def test_wrappers_that_cannot_be_made_are_refused(wrappers, message):
    with refuses(message):
        make_env("Spring-v0", env_wrapper=wrappers)


def test_a_run_plays_in_its_wrappers_and_so_do_its_models(tmp_path, call):
    words = f"--algo bc --env Spring-v0 --online-steps 20 -f {tmp_path} --seed 1 --eval-episodes 2".split()
    wrappers = [f"{HALVED}: {{by: 4}}", json.dumps(RESCALED)]
    _, shown = call(main, *words, "-params", "net_arch=[8]", "--env-wrapper", *wrappers)
    folder = tmp_path / "bc" / "Spring-v0_1"
    assert f"next: zoo enjoy {folder} --trust" in shown
    assert config_of(folder)["env_wrapper"] == [{HALVED: {"by": 4}}, RESCALED]
    recorded = RunFolder(folder).read_evaluations()["results"][-1]
    agent = agent_of_run(folder, "cpu")
    np.testing.assert_array_equal(play(agent).returns[0], recorded)
    protocol = {"env_kwargs": agent.env_kwargs, "episodes": 2}
    about = {"env": "Spring-v0", "protocol": protocol, "seed": 1}
    agent.policy.save(tmp_path / "policy.safetensors", agent.policy.acting_networks(), about)
    result, _ = call(evaluate.main, tmp_path / "policy.safetensors")
    assert result["return"] == recorded.mean()


def test_a_file_selects_no_package_to_import(tmp_path):
    protocol = {"env_kwargs": {"env_wrapper": ["not_imported:Wrapper"]}}
    path = save_policy(tmp_path, env="Spring-v0", protocol=protocol)
    agent = agent_of_file(path, None, "cpu")
    with refuses("wrapper not_imported:Wrapper, which a file may not import"):
        play(agent)


@pytest.mark.parametrize(
    "text",
    [
        "xml_file: /etc/passwd",
        "class: [os:system]",
        "env_wrapper: [{'gymnasium.wrappers:RecordVideo': {video_folder: ~/x}}]",
        "[1]",
    ],
)
def test_a_file_passes_no_places_to_constructors(tmp_path, text):
    protocol = {"env_kwargs": yaml.safe_load(text)}
    path = save_policy(tmp_path, env="Spring-v0", protocol=protocol)
    with refuses(r"policy\.safetensors"):
        agent_of_file(path, None, "cpu")


def test_plain_arguments_of_a_file_are_passed():
    plain = {"maze": "U_MAZE-v1", "limit": 2.0, "goals": [[1, 2], None], "env_wrapper": [RESCALED]}
    require_plain_arguments(Path("policy.safetensors"), plain)
