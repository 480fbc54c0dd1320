"""An untrained agent for a maze: as a model, as a finished run, and as a policy for acting."""

import pytest

from tests.common.toys import tiny_model
from zoo.envs.make import make_env
from zoo.runs.folder import RunFolder
from zoo.settings.record import RunRecord

ENV = "pointmaze-medium-navigate-singletask-task1-v0"
# episodes may be short, because no test needs to reach the goal
STEPS = {"max_episode_steps": 12}


def maze_model(id="qam", **settings):
    """Return an untrained model for a maze with short episodes."""
    return tiny_model(id, make_env("pointmaze-medium-singletask-task1-v0", **STEPS), **settings)


def save_run(logs, model, seed=3, **settings):
    """Write the files of a finished run that evaluation reads."""
    folder = RunFolder.create(logs, "qam", ENV)
    config = {
        "format": 1,
        "algo": "qam",
        "env": ENV,
        "seed": seed,
        "offline_steps": 20,
        "eval_episodes": 4,
    }
    config |= {"eval_seed": 7, "env_kwargs": ["max_episode_steps=9"]}
    config["eval_env_kwargs"] = ["max_episode_steps=12"]
    folder.write_config(RunRecord.read(config | settings))
    model.save(folder.model)
    folder.lock.release()
    return folder


def save_policy(folder, model=None, **about):
    """Write a policy for acting that never reaches the goal; return its path."""
    file = folder / "policy.safetensors"
    protocol = {"episodes": 2, "seed": 0, "env_kwargs": STEPS}
    model = model or maze_model(seed=3)
    model.save_policy(file, {"env": ENV, "protocol": protocol, **about})
    return file


@pytest.fixture(scope="package")
def model():
    return maze_model(seed=3)


@pytest.fixture(scope="package")
def logs(model, tmp_path_factory):
    """Return a log folder with one run of the model."""
    folder = tmp_path_factory.mktemp("logs")
    save_run(folder, model)
    return folder


@pytest.fixture
def policy_file(model, tmp_path):
    """Return the path of a policy for acting whose file contains no score."""
    protocol = {"episodes": 4, "seed": 7, "env_kwargs": STEPS}
    return save_policy(tmp_path, model, seed=3, protocol=protocol)
