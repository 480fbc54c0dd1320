"""Which agent a command line selects, and by which protocol it is evaluated."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from agents.common.engine.checkpoint import save_checkpoint
from tests.zoo.envs import toys  # noqa: F401  registers the toys
from tests.zoo.models.conftest import ENV, STEPS, maze_model, save_policy, save_run
from tests.zoo.outcomes import refuses
from zoo.algorithms.catalogue import find_algorithm
from zoo.envs.make import make_env
from zoo.evaluation.evaluator import SingleStepPolicy
from zoo.evaluation.play import play, record
from zoo.models.agent import agent_of_file, agent_of_run, find_agent, find_run
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.models.score import Score
from zoo.runs.folder import COLUMNS
from zoo.terminal.parser import Parser


def weights(owner, replica=0):
    """Return some weights of an agent, or of a model's replica."""
    return next(iter(owner.policy.nets.fine_tuned.parameters()))[replica : replica + 1].detach()


def assert_same_weights(agent, model, replica=0):
    assert torch.equal(weights(agent), weights(model, replica))


def chosen(*words):
    """Return the agent that a command line names."""
    parser = Parser("test")
    add_agent(parser)
    add_machine(parser, "device")
    args = parser.parse_args(["--device", "cpu", *map(str, words)])
    check_agent(args)
    return find_agent(args)


@pytest.mark.parametrize("is_run", [True, False])
def test_a_run_and_a_policy_play_by_their_protocol(is_run, logs, policy_file, model):
    agent = agent_of_run(find_run(logs, "qam", ENV)) if is_run else agent_of_file(policy_file, None)
    protocol = (agent.algo, agent.env, agent.episodes, agent.seed, agent.replica, agent.stated)
    assert protocol == ("qam", ENV, 4, 7, 3, None)
    assert agent.env_id == "pointmaze-medium-singletask-task1-v0"
    assert agent.env_kwargs == STEPS
    assert_same_weights(agent, model)


def test_the_best_model_is_loaded_on_demand(tmp_path, model):
    folder = save_run(tmp_path, model)
    best = maze_model(seed=9)
    with refuses("`--load-best`"):
        chosen(folder.path, "--load-best")
    best.save(folder.best_model)
    assert_same_weights(chosen(folder.path, "--load-best"), best)
    folder.write_evaluations(dict.fromkeys([*COLUMNS, "successes"], np.zeros((1, 4))))
    agent = chosen(folder.path)
    assert agent.scoring.score == "success"  # even if no episode reports it again
    assert_same_weights(agent, model)
    renamed = folder.best_model.rename(folder.path / "before_the_review.zip")
    assert_same_weights(agent_of_file(renamed, None), best)
    folder.model.unlink()
    renamed.unlink()
    with refuses("no saved model"):
        chosen(folder.path)


def test_a_checkpoint_gives_the_replica_of_the_run(tmp_path):
    stack = maze_model(seeds=[3, 4])
    together = {"seeds": [3, 4], "folders": [f"{ENV}_1", f"{ENV}_2"]}
    first, second = (save_run(tmp_path, stack.replica(k), 3 + k, **together) for k in range(2))
    assert find_run(tmp_path, "qam", ENV) == second.path  # the newest
    save_checkpoint(stack, first.checkpoints)
    (tmp_path / "latest").symlink_to(second.path)
    agent = agent_of_run(tmp_path / "latest", step=0)
    assert_same_weights(agent, stack, replica=1)
    assert agent.policy.num_replicas == 1
    renamed = first.path.rename(tmp_path / "renamed")
    last = chosen(renamed, "--load-checkpoint", "last")
    assert last.source.parent.parent == renamed / "checkpoint"
    with refuses("`--load-checkpoint`"):
        agent_of_run(renamed, step=5)


def test_policy_file_states_its_score_for_its_environment_alone(tmp_path, model):
    score = Score("success", 0.5, 0.3, 0.7, 20)
    file = save_policy(tmp_path, model, score=vars(score))
    agent = agent_of_file(file, None)
    assert (agent.stated, agent.scoring.score) == (score, "success")
    env = ENV.replace("task1", "task2")
    elsewhere = chosen(file, "--env", env)
    assert (elsewhere.stated, elsewhere.env, elsewhere.scoring.score) == (None, env, None)
    with refuses("an agent of qam, got --algo fbrac"):
        chosen(file, "--algo", "bptt")
    with refuses("`--behaviour`"):
        agent_of_file(file, None, behaviour=object())


def test_a_model_by_itself_needs_an_environment(tmp_path, model):
    model.save(tmp_path / "model.zip")
    with refuses("pass --env"):
        agent_of_file(tmp_path / "model.zip", None)
    agent = agent_of_file(tmp_path / "model.zip", ENV)
    assert (agent.algo, agent.episodes, agent.seed) == ("qam", 50, 0)
    assert_same_weights(agent, model)
    maze_model(seeds=[3, 4]).save(tmp_path / "model.zip")
    with refuses("got 2"):
        agent_of_file(tmp_path / "model.zip", ENV)


# -- imported modules -------------------------------------------------------------------------------------------------

MODULE = "somebodys_module"
CODE = """
import gymnasium
import agents
from agents.bc import BC

@agents.register("somebodys", paper="", published_name="S")
class Agent(BC):
    pass

if "Somebodys-v0" not in gymnasium.registry:
    gymnasium.register("Somebodys-v0", entry_point="gymnasium.envs.classic_control:PendulumEnv")
"""


@pytest.fixture
def somebodys(own_agents, tmp_path, monkeypatch):
    """Return logs of two runs, one of a custom agent and one in a custom environment, both from a local module."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    origin = {"class": f"{MODULE}:Agent", "package": "somebodys==1.0"}
    folder = save_run(tmp_path / "qam", maze_model("bc"), algo="somebodys", agent=origin)
    # `save_run` writes below the id `qam`, but a run of this agent must be below the agent's id
    (tmp_path / "logs").mkdir()
    folder.path.parent.rename(tmp_path / "logs" / "somebodys")
    save_run(tmp_path / "logs", maze_model(), env=f"{MODULE}:Somebodys-v0")
    save_policy(tmp_path, env=f"{MODULE}:Somebodys-v0")
    return tmp_path / "logs"


RUN = f"logs/somebodys/{ENV}_1"
NAMED = f"--algo {MODULE}:Agent"


@pytest.mark.usefixtures("somebodys")
@pytest.mark.parametrize(
    "words",
    [
        f"{RUN} {NAMED}",
        f"{RUN} --algo {MODULE}.py:Agent",
        f"{RUN} --trust",
        f"{RUN} --gym-packages {MODULE}",
        f"{NAMED} --env {ENV}",
    ],
)
def test_own_agent_plays_where_user_names_it_or_trusts_its_file(words):
    agent = chosen(*words.split())
    assert agent.algo == "somebodys"
    assert agent.source == Path(RUN).absolute() / f"{ENV}.zip"
    assert type(agent.policy.method).__module__ == MODULE


@pytest.mark.usefixtures("somebodys")
@pytest.mark.parametrize("words", [RUN, f"{RUN}/{ENV}.zip", f"--algo somebodys --env {ENV}"])
def test_a_class_that_only_a_file_names_is_not_imported(words):
    with refuses(rf"install somebodys==1\.0, .*--algo {MODULE}:Agent.*{MODULE}.*--trust"):
        chosen(*words.split())
    assert MODULE not in sys.modules
    Path(f"{MODULE}.py").unlink()
    with refuses(f"needs `{MODULE}:Agent`: No module named"):
        chosen(*words.split(), "--trust")


OWN_ENV = f"{MODULE}:Somebodys-v0"


@pytest.mark.usefixtures("somebodys")
@pytest.mark.parametrize("file", [f"logs/qam/{ENV}_1", "policy.safetensors"])
def test_an_environment_that_only_a_file_names_is_not_imported(file):
    agent = chosen(file)  # the loaded policy can be exported
    with refuses(f"--env {OWN_ENV}.*--trust"):
        make_env(agent.env_id)
    assert MODULE not in sys.modules
    for words in (f"--env {OWN_ENV}", "--trust", f"--gym-packages {MODULE}"):
        # the previous iteration has imported the module
        sys.modules.pop(MODULE, None)
        assert chosen(file, *words.split()).env_id == OWN_ENV


def test_what_is_not_there_or_no_model_is_refused(tmp_path):
    with refuses("expected the folder of a run"):
        agent_of_run(tmp_path)
    with refuses("`qamm`; closest: qam"):
        find_run(tmp_path, "qamm", ENV)
    with refuses("which does not exist"):
        agent_of_file(tmp_path / "none.zip", ENV)
    for name in ("text.zip", "text.safetensors"):
        (tmp_path / name).write_text("hello")
        with refuses(f"{name}"):
            agent_of_file(tmp_path / name, ENV)


# -- evaluation --------------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(logs):
    return agent_of_run(find_run(logs, "qam", ENV))


def test_an_agent_of_sb3_in_a_normalised_environment_takes_raw_observations(tmp_path):
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    settings = {"net_arch": [8], "learning_starts": 5, "batch_size": 4}
    model = find_algorithm("sac").algorithm("MlpPolicy", env, seed=0, **settings)
    model.learn(20).save(tmp_path / "model.zip")
    raw = np.array([[0.5, 0.1, 7.0]], np.float32)
    sampler = SingleStepPolicy(agent_of_file(tmp_path / "model.zip", "Pendulum-v1").policy)
    expected, _ = model.predict(env.normalize_obs(raw), deterministic=True)
    actions = sampler.sample_chunks(raw[None], {})[0, :, 0]
    np.testing.assert_allclose(actions, expected, atol=1e-6)


def test_an_agent_plays_no_other_spaces(agent, tmp_path):
    moved = replace(agent, env="Pendulum-v1", env_kwargs={})
    for start in (play, lambda agent: record(agent, tmp_path / "a.gif")):
        with refuses(r"got .* in Pendulum-v1"):
            start(moved)


def test_an_agent_that_plans_nan_has_no_score(agent, policy_file):
    broken = replace(agent, policy=agent_of_file(policy_file, None).policy)
    with torch.no_grad():
        weights(broken).fill_(torch.nan)
    with pytest.raises(ArithmeticError, match="sampled an action that is NaN or infinite"):
        play(broken)
