"""Evaluation of agents by the protocol: when a score counts as reproduced, recorded videos, and display."""

import math

import pytest

from tests.common.toys import tiny_model
from tests.zoo.envs.toys import TOY
from tests.zoo.helpers import arguments
from tests.zoo.models.conftest import ENV, STEPS, save_policy
from tests.zoo.outcomes import refuses
from zoo import evaluate, train
from zoo.enjoy import main
from zoo.envs import rendering
from zoo.envs.make import make_env
from zoo.evaluation.play import show
from zoo.models.agent import agent_of_file
from zoo.models.score import Score


@pytest.mark.parametrize(
    ("flags", "kind", "expected"),
    [
        ("--success-return -1e9", "success", 1.0),
        ("--score return --reference-scores -100,0", "return", None),
    ],
)
def test_a_run_is_scored_as_it_was_in_training(flags, kind, expected, data, tmp_path, call):
    trained, _ = call(train.main, *arguments(data, tmp_path, *flags.split()))
    result, messages = call(evaluate.main, trained["run"])
    assert (trained["success"], trained["return"]) == (expected, result["return"])
    assert f"in {ENV}: {kind} " in messages
    assert result[kind] == (result["return"] if expected is None else expected)
    normalised = None if expected is not None else pytest.approx(result["return"] / 100 + 1)
    assert result["normalised_return"] == normalised


@pytest.mark.parametrize(("low", "high", "code"), [(0.0, 0.4, 0), (0.1, 1.0, 1)])
def test_a_score_is_reproduced_only_inside_its_interval(low, high, code, tmp_path, call):
    score = vars(Score("success", high, low, high, 2))
    result, _ = call(evaluate.main, save_policy(tmp_path, score=score), code=code)
    assert result["reproduced"] == (code == 0)
    assert result["stated"] == [low, high]


@pytest.mark.parametrize(
    ("stated", "flags", "message"),
    [
        (Score("success", 0.9, 0.6, 1.0, 2), ("--episodes", 1), "not compared"),
        (Score("return", 0.0, -math.inf, math.inf, 1), (), "return -12.00 over 1 episode"),
    ],
)
def test_another_protocol_or_a_single_return_is_not_compared(
    tmp_path, call, stated, flags, message
):
    protocol = {"episodes": stated.episodes, "env_kwargs": STEPS, "score": stated.kind}
    path = save_policy(tmp_path, score=vars(stated), protocol=protocol)
    result, messages = call(evaluate.main, path, *flags)
    assert result["episodes"] == 1
    assert "reproduced" not in result
    assert message in messages


@pytest.mark.parametrize(
    ("words", "text"),
    {
        "--algo qam": "expected a MODEL, or --algo and --env",
        "README.md --load-best": "choose among the models of a run",
        "no_run --load-best": "no_run, which does not exist",
        "model.zip --dataset my.npz": "`--dataset` needs --fitted-q",
        "model.zip --device xpu": "`device` must be one of cpu, cuda, got 'xpu'",
    }.items(),
)
def test_a_wrong_command_line_is_refused(words, text, refusal):
    assert text in refusal(evaluate.main, *words.split())


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    protocol = {"episodes": 9, "env_kwargs": {"max_episode_steps": 4}}
    return save_policy(tmp_path_factory.mktemp("policy"), protocol=protocol)


def test_five_episodes_are_played_and_each_is_told(policy, call):
    result, messages = call(main, policy)
    assert result["episodes"] == 5
    assert result["success"] == 0.0
    assert messages.count(": failure, 4 steps, return -4.0") == 5


def test_where_nothing_draws_a_video_is_refused(policy, tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(rendering, "_works", lambda name: False)
    assert "install EGL" in refusal(main, policy, "--video", tmp_path / "maze.gif")
    assert "must end in .mp4 or .gif" in refusal(main, policy, "--video", "a.avi")


def test_an_environment_without_a_window_of_its_own_is_refused(tmp_path):
    model = tiny_model("qam", make_env(TOY), seed=3)
    agent = agent_of_file(
        save_policy(tmp_path, model, env=TOY, protocol={}, score={"mean": 0.9}), None
    )
    with refuses("does not open a window"):
        show(agent)
