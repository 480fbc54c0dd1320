"""Which agent plays, and by which protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.common.engine.checkpoint import save_checkpoint
from agents.common.sb3.model import FlowQLearning
from tests.zoo.watching.conftest import ENV, STEPS, maze_model, write_run
from zoo.errors import UsageError
from zoo.runs.folder import RunFolder
from zoo.watching.agent import Agent, Choice, agent_of_file, agent_of_run, find_run
from zoo.watching.score import Score


def weights(agent: Agent) -> torch.Tensor:
    return next(iter(agent.policy.nets.fine_tuned.parameters())).detach()  # type: ignore[union-attr]


def own_weights(model: FlowQLearning, replica: int = 0) -> torch.Tensor:
    return next(iter(model.policy.nets.fine_tuned.parameters()))[replica : replica + 1].detach()


def test_a_run_plays_in_its_environment_by_its_protocol(logs: Path, model: FlowQLearning) -> None:
    agent = agent_of_run(find_run(logs, "qam", ENV), Choice())
    assert (agent.algo, agent.env, agent.env_id) == ("qam", ENV, "pointmaze-medium-singletask-task1-v0")
    assert (agent.env_kwargs, agent.episodes, agent.seed, agent.replica) == (STEPS, 4, 7, 3)
    assert torch.equal(weights(agent), own_weights(model))


def test_the_arguments_of_evaluation_win(tmp_path: Path, model: FlowQLearning) -> None:
    folder = write_run(tmp_path, model, eval_env_kwargs=["max_episode_steps=9"])
    assert agent_of_run(folder.path, Choice()).env_kwargs == {"max_episode_steps": 9}


def test_the_newest_run_plays_unless_a_number_is_given(tmp_path: Path, model: FlowQLearning) -> None:
    folders = [write_run(tmp_path, model).path for _ in range(2)]
    assert find_run(tmp_path, "qam", ENV) == folders[1]
    assert find_run(tmp_path, "qam", ENV, 1) == folders[0]
    with pytest.raises(UsageError, match="`--exp-id` must be one of 1, 2, got 5"):
        find_run(tmp_path, "qam", ENV, 5)


def test_a_run_that_is_not_there_is_refused(logs: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a run of fql on .* found none; train one, or give -f or --trained"):
        find_run(logs, "fql", ENV)


def test_the_best_model_is_loaded_on_demand(tmp_path: Path, model: FlowQLearning) -> None:
    folder, best = write_run(tmp_path, model), maze_model(seed=9)
    with pytest.raises(UsageError, match=r"`--load-best` needs .*best_model\.zip, which does not exist"):
        agent_of_run(folder.path, Choice(best=True))
    best.save(folder.best_model)
    assert torch.equal(weights(agent_of_run(folder.path, Choice(best=True))), own_weights(best))
    assert torch.equal(weights(agent_of_run(folder.path, Choice())), own_weights(model))
    assert torch.equal(weights(agent_of_file(folder.best_model, None)), own_weights(best))


def test_a_checkpoint_gives_the_replica_of_the_run(tmp_path: Path) -> None:
    both = maze_model(seeds=[3, 4], seed=None)
    together = {"seeds": [3, 4], "folders": [f"{ENV}_1", f"{ENV}_2"]}
    folders = [write_run(tmp_path, both.replica(k), seed, **together) for k, seed in enumerate((3, 4))]
    save_checkpoint(both, folders[0].checkpoints)
    agent = agent_of_run(folders[1].path, Choice(step=0))
    assert torch.equal(weights(agent), own_weights(both, 1))
    assert agent.policy.num_replicas == 1  # type: ignore[union-attr]
    assert agent_of_run(folders[0].path, Choice(step=-1)).source.parent.parent == folders[0].checkpoints
    with pytest.raises(UsageError, match=r"`--load-checkpoint` must be the step of a checkpoint .*, got 5; there: 0"):
        agent_of_run(folders[0].path, Choice(step=5))


def test_a_run_without_a_model_is_refused(tmp_path: Path, model: FlowQLearning) -> None:
    folder = write_run(tmp_path, model)
    folder.model.unlink()
    with pytest.raises(UsageError, match="it may not have been trained far enough"):
        agent_of_run(folder.path, Choice())


def test_a_policy_file_says_where_and_how_it_plays(policy_file: Path, model: FlowQLearning) -> None:
    agent = agent_of_file(policy_file, None)
    assert (agent.algo, agent.env, agent.episodes, agent.seed, agent.replica) == ("qam", ENV, 4, 7, 3)
    assert agent.stated is None
    assert torch.equal(weights(agent), own_weights(model))


def test_a_stated_score_is_not_that_of_another_environment(tmp_path: Path, model: FlowQLearning) -> None:
    score = Score("success", 0.5, 0.3, 0.7, 20)
    model.save_policy(tmp_path / "policy.safetensors", {"env": ENV, "score": score.plain()})
    assert agent_of_file(tmp_path / "policy.safetensors", None).stated == score
    elsewhere = agent_of_file(tmp_path / "policy.safetensors", ENV.replace("task1", "task2"))
    assert (elsewhere.stated, elsewhere.env) == (None, ENV.replace("task1", "task2"))


@pytest.mark.parametrize(
    "about", [{"protocol": 3}, {"protocol": {"episodes": "many"}}, {"score": {"mean": 1}}, {"seed": [1]}]
)
def test_nonsense_about_a_policy_is_refused(about: dict[str, object], tmp_path: Path, model: FlowQLearning) -> None:
    model.save_policy(tmp_path / "policy.safetensors", {"env": ENV, **about})
    with pytest.raises(UsageError, match="says nonsense about its protocol or its score"):
        agent_of_file(tmp_path / "policy.safetensors", None)


def test_a_model_by_itself_needs_an_environment(tmp_path: Path, model: FlowQLearning) -> None:
    model.save(tmp_path / "model.zip")
    with pytest.raises(UsageError, match=r"model\.zip does not say in which environment it plays; give --env"):
        agent_of_file(tmp_path / "model.zip", None)
    agent = agent_of_file(tmp_path / "model.zip", ENV)
    assert (agent.algo, agent.episodes, agent.seed) == ("qam", 50, 0)
    np.testing.assert_array_equal(weights(agent), own_weights(model))


def test_a_module_that_a_file_names_is_not_imported(
    tmp_path: Path, model: FlowQLearning, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "named_by_a_file.py").write_text("raise ArithmeticError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = write_run(tmp_path, model, algo="named_by_a_file:Agent")
    with pytest.raises(UsageError, match="of `named_by_a_file:Agent`, which is not imported; give --trust"):
        agent_of_run(folder.path, Choice())
    with pytest.raises(ArithmeticError, match="it was imported"):
        agent_of_run(folder.path, Choice(), trust=True)


def test_an_alias_names_the_runs_of_its_algorithm(tmp_path: Path) -> None:
    (tmp_path / "fbrac" / f"{ENV}_1").mkdir(parents=True)
    assert find_run(tmp_path, "bptt", ENV) == tmp_path / "fbrac" / f"{ENV}_1"


def test_what_is_not_there_or_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which does not exist"):
        agent_of_file(tmp_path / "none.zip", ENV)
    for name in ("text.zip", "text.safetensors"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(UsageError, match=f"{name}"):
            agent_of_file(tmp_path / name, ENV)


def test_a_run_folder_without_settings_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "qam", ENV, 0)
    with pytest.raises(UsageError, match=r"config\.yml is missing"):
        agent_of_file(folder.path, None)


@pytest.mark.parametrize(("env", "id"), [(ENV, "pointmaze-medium-singletask-task1-v0"), ("Pendulum-v1", "Pendulum-v1")])
def test_data_are_no_part_of_an_environments_id(env: str, id: str, model: FlowQLearning) -> None:
    assert Agent("qam", model.policy, Path("model.zip"), env).env_id == id
