import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import agents
from agents.common.streams import Purpose, torch_generator
from tests import ROOT
from tests.envs import SIDE, PicturesEnv
from tests.zoo.conftest import pretend_cores
from tests.zoo.evaluation.helpers import (
    TOY,
    ElementwisePolicy,
    assert_same_results,
    network_policy,
    plan_rows,
    worker_pids,
)
from zoo.envs.make import find_spec, make_env
from zoo.evaluation import pool
from zoo.evaluation.evaluator import (
    NOISE_PLANS,
    Evaluator,
    results_of,
    run_episodes,
    seeds_of_starts,
)
from zoo.evaluation.pool import EnvGroup, WorkerError
from zoo.runs.scores import REPORTED, UNREPORTED, EpisodeResults, ScoringRule
from zoo.terminal.errors import Abandoned

EPISODES = 6


def play_alone(policy, seed, replica, env):
    """Run every episode of one replica in a separate environment with a plain loop."""
    results = []
    for episode, reset_seed in enumerate(seeds_of_starts(seed, EPISODES)):
        observation, _ = env.reset(seed=int(reset_seed))
        generator = torch_generator(Purpose.EVALUATION_NOISE, seed, replica, episode)
        total, length, ended, chunk, noise = 0.0, 0, False, [], []
        while not ended:
            noise = noise or list(policy.draw_action_noise(NOISE_PLANS, generator)["noise"].numpy())
            chunk = chunk or list(plan_rows(observation, noise.pop(0)))
            observation, reward, terminated, truncated, info = env.step(chunk.pop(0))
            total, length, ended = total + reward, length + 1, terminated or truncated
        results.append((total, length, info["success"]))
    return np.transpose(results)


def evaluator_of(env_id=TOY, episodes=4, n_envs=2, check_in=lambda: None, **env_kwargs):
    return Evaluator(
        env_id,
        episodes=episodes,
        n_envs=n_envs,
        seed=0,
        env_kwargs=env_kwargs,
        check_in=check_in,
    )


@pytest.fixture(scope="module")
def single():
    """One environment."""
    with Evaluator(TOY, episodes=EPISODES, n_envs=1, seed=5) as evaluator:
        yield evaluator


@pytest.fixture(scope="module", params=[1, 2, 3])
def anywhere(request):
    """Several environments, in one, two or three processes."""
    with pytest.MonkeyPatch.context() as patch:
        pretend_cores(patch, request.param)
        evaluator = Evaluator(TOY, episodes=EPISODES, n_envs=4, seed=5)
    with evaluator:
        yield evaluator


@pytest.mark.parametrize("chunk_length", [1, 3])
def test_results_are_those_of_a_plain_loop_over_episodes(single, chunk_length):
    policy = ElementwisePolicy(num_replicas=2, chunk_length=chunk_length)
    results = single.evaluate(policy)
    # as for videos, in this process
    group = EnvGroup(find_spec(TOY), {}, range(1))
    assert_same_results(run_episodes(group, policy, EPISODES, 5), results)
    for replica in range(2):
        expected = play_alone(policy, 5, replica, make_env(TOY))
        columns = results.returns, results.lengths, results.successes
        assert_array_equal([values[replica] for values in columns], expected)


def test_a_policy_that_plays_fewer_actions_plans_more_often(single):
    class Replanning(ElementwisePolicy):
        executed_length = 1

    expected = single.evaluate(ElementwisePolicy(chunk_length=1))
    policy = Replanning(chunk_length=3)
    policy.draw_action_noise = lambda rows, generator: {
        "noise": torch.rand(rows, 1, 2, generator=generator).expand(rows, 3, 2)
    }
    assert_same_results(single.evaluate(policy), expected)


def test_results_have_the_same_bits_in_several_environments(single, anywhere):
    policy = network_policy()
    assert_same_results(single.evaluate(policy), anywhere.evaluate(policy))


def test_dicts_give_the_same_returns_in_several_environments():
    kwargs = {"as_dict": True, "side": SIDE}
    env = PicturesEnv(**kwargs)
    policy = agents.BC("MultiInputPolicy", env, net_arch=[4], buffer_size=4, seed=0).policy
    totals = []
    for n_envs in (1, 3):
        with evaluator_of("tests.envs:Pictures-v0", 3, n_envs, **kwargs) as evaluator:
            totals.append(evaluator.evaluate(policy).returns)
    assert_array_equal(*totals)


SHARING = """
import concurrent.futures
import gymnasium, numpy as np
POOL = concurrent.futures.ThreadPoolExecutor(1)
POOL.submit(int).result()
GENERATOR = np.random.default_rng()

class Sharing(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    first = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        draw = POOL.submit(np.random.random).result(10) + GENERATOR.random()
        return np.zeros(1, np.float32), draw, True, False, {}

gymnasium.register("Sharing-v0", entry_point="sharing:Sharing", max_episode_steps=3, nondeterministic=True)
"""
PLAY = """
import os
os.sched_getaffinity = lambda _: {0, 1}
import sharing
from tests.zoo.evaluation.helpers import ElementwisePolicy
from zoo.evaluation.evaluator import Evaluator
with Evaluator("Sharing-v0", episodes=8, n_envs=2, seed=0) as evaluator:
    assert len(set(evaluator.evaluate(ElementwisePolicy()).returns.flat)) == 8
"""


@pytest.mark.slow
def test_threads_and_generators_belong_to_each_process(tmp_path):
    (tmp_path / "sharing.py").write_text(SHARING)
    (tmp_path / "play.py").write_text(PLAY)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run(
        [sys.executable, tmp_path / "play.py"], env={**os.environ, "PYTHONPATH": paths}, check=True
    )


def test_a_replica_alone_plays_as_in_the_stack(anywhere):
    stack = anywhere.evaluate(ElementwisePolicy(num_replicas=3), replicas=[7, 8, 9])
    alone = anywhere.evaluate(ElementwisePolicy(num_replicas=1), replicas=[8])
    active = anywhere.evaluate(ElementwisePolicy(num_replicas=3), [7, 8, 9], active=[2, 0])
    assert active.played.tolist() == [True, False, True]
    assert_array_equal(alone.returns[0], stack.returns[1])
    assert_array_equal(active.returns[[0, 2]], stack.returns[[0, 2]])


def test_an_episode_without_a_success_is_a_failure():
    with evaluator_of("Odometer-v0", n_envs=1) as evaluator:
        results = evaluator.evaluate(ElementwisePolicy())
    assert set(results.successes.flat) == {UNREPORTED, 1}
    assert_array_equal(REPORTED.apply(results).successes, results.successes == 1)


def test_success_at_any_step_counts_where_a_run_says_so(single):
    results = single.evaluate(ElementwisePolicy())
    at_end = REPORTED.apply(results).successes
    at_any = ScoringRule(success_at="any").apply(results).successes
    assert (at_any >= at_end).all()
    assert at_any.sum() > at_end.sum()


def test_global_generators_are_left_as_they_were(single):
    def draw():
        return random.random(), np.random.random(), torch.rand(1).item()

    class Careless(ElementwisePolicy):
        def sample_chunks(self, observations, noise):
            draw()
            return super().sample_chunks(observations, noise)

    draws = []
    for plays in (False, True):
        # a custom policy may use any of these generators
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if plays:
            single.evaluate(Careless())
        draws.append(draw())
    assert draws[0] == draws[1]


def test_workers_leave_ctrl_c_and_a_polite_kill_to_main_process():
    processes_before = worker_pids()
    with evaluator_of() as evaluator:
        first = evaluator.evaluate(ElementwisePolicy())
        for pid in worker_pids() - processes_before:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert_same_results(evaluator.evaluate(ElementwisePolicy()), first)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("failure", "message"),
    {
        "raise": "failed in its process:(?s:.*)ArithmeticError: the toy broke",
        "os._exit": "the environment process of `Toy-v0` ended with exit code 0;",
        "SIGKILL": "was killed by signal 9; if memory ran out, use fewer environments",
        "SIGSTOP": "the environment process of `Toy-v0` hung",
    }.items(),
)
@pytest.mark.parametrize("cores", [1, 3])
def test_a_failing_worker_is_reported_and_all_are_ended(
    tmp_path, monkeypatch, cores, failure, message
):
    pretend_cores(monkeypatch, cores)
    processes_before = worker_pids()
    switch = tmp_path / "fail"
    kwargs = {"failure": failure, "failure_file": str(switch)}
    with evaluator_of(n_envs=3, **kwargs) as evaluator:
        evaluator.evaluate(ElementwisePolicy())
        # only after the first evaluation, because creating an environment takes longer
        monkeypatch.setattr(pool, "ANSWER_SECONDS", 2.0)
        monkeypatch.setattr(pool, "CLOSE_SECONDS", 2.0)
        switch.touch()
        with pytest.raises(WorkerError, match=message):
            evaluator.evaluate(ElementwisePolicy())
        assert worker_pids() == processes_before


@pytest.mark.parametrize("cores", [1, 3])
def test_an_evaluation_of_stopped_processes_is_abandoned(monkeypatch, cores):
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(pool, "CLOSE_SECONDS", 1.0)
    pretend_cores(monkeypatch, cores)
    earlier = worker_pids()
    is_asked = False

    def check_in():
        if is_asked:
            raise Abandoned

    class Stopping(ElementwisePolicy):
        def sample_chunks(self, observations, noise):
            nonlocal is_asked
            is_asked = True
            for pid in worker_pids() - earlier:
                os.kill(pid, signal.SIGSTOP)
            return super().sample_chunks(observations, noise)

    with evaluator_of(check_in=check_in) as evaluator:
        for error in (Abandoned, ValueError):  # the processes are closed after the first
            with pytest.raises(error):
                evaluator.evaluate(Stopping())
        assert worker_pids() == earlier


class Diverging(ElementwisePolicy):
    """Samples NaN for some replicas, from the third chunk on."""

    def __init__(self, num_replicas, lost):
        super().__init__(num_replicas)
        self.lost = lost

    def sample_chunks(self, observations, noise):
        actions = super().sample_chunks(observations, noise)
        if len(self.batches) > 2:
            actions[self.lost, :, 1] = np.nan
        return actions


def test_success_is_unknown_if_no_finished_episode_reports_it():
    totals = np.array([[[-5.0], [0]], [[3], [0]], [[UNREPORTED], [0]], [[UNREPORTED], [0]]])
    assert results_of(totals, np.zeros(1)).successes is None


def test_a_replica_that_plans_nan_is_out_and_others_play_on(anywhere):
    expected = anywhere.evaluate(ElementwisePolicy(num_replicas=3))
    actual = anywhere.evaluate(Diverging(3, lost=[1]))
    assert actual.played.tolist() == [True, False, True]
    for name in ("returns", "lengths", "successes"):
        assert_array_equal(getattr(actual, name)[[0, 2]], getattr(expected, name)[[0, 2]])
        assert not getattr(actual, name)[1].any()
    policy = Diverging(1, lost=[0])
    anywhere.evaluate(policy)
    assert len(policy.batches) == 3  # no episode goes on, which may have no time limit


# -- scores of episodes ------------------------------------------------------------------------------------------------


RETURNS = np.array([[1.0, 2.0, 3.0]])


def results(successes=None):
    successes = successes and np.array([successes])
    return EpisodeResults(successes, RETURNS, np.ones((1, 3), int), np.arange(3), np.ones(1, bool))


@pytest.mark.parametrize(
    ("rule", "reported", "is_reported", "successes"),
    [
        (REPORTED, None, False, None),
        (REPORTED, None, True, [0, 0, 0]),  # earlier episodes or other seeds reported success
        (ScoringRule(score="success"), None, False, [0, 0, 0]),
        (ScoringRule(score="return"), [1, 0, 0], True, None),
        (ScoringRule(success_return=2.0), [1, 0, 0], False, [0, 1, 1]),
    ],
)
def test_the_rule_decides_which_episodes_succeed(rule, reported, is_reported, successes):
    scored = rule.apply(results(reported), is_reported).successes
    assert (scored is None) == (successes is None)
    assert scored is None or scored.tolist() == [successes]
