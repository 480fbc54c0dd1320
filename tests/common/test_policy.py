"""Action chunks: what `predict` plans, plays, keeps and drops; and how observations and noise reach the networks."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from agents.common.method import integers, normal, uniform
from tests.common.toys import tiny_model
from tests.envs import space_env_of

HORIZON = 3


def policy_of(**settings):
    return tiny_model(**settings).policy


def observations(rows=4, size=4, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)


@pytest.fixture
def numbered(monkeypatch):
    """Return a policy whose n-th plan holds the actions n.0, n.1, n.2, and the numbers of rows of its plans."""
    box = spaces.Box(-10, 10, (2,), np.float32)
    policy, planned = (
        policy_of(env=space_env_of(spaces.Box(-np.inf, np.inf, (4,), np.float32), box)),
        [],
    )

    def plan(rows, noise):
        planned.append(rows.shape[1])
        steps = len(planned) + np.arange(HORIZON, dtype=np.float32)[:, None] / 10
        return np.broadcast_to(steps, (*rows.shape[:2], HORIZON, 2)).copy()

    monkeypatch.setattr(policy, "plan", plan)
    return policy, planned


# -- chunks -----------------------------------------------------------------------------------------------------------


def test_plan_is_played_open_loop_and_renewed_every_horizon(numbered):
    policy, planned = numbered
    state, played = None, []
    for step in range(7):
        actions, state = policy.predict(observations(seed=step), state, np.full(4, step == 0))
        played.append(round(float(actions[0, 0]), 1))
    assert played == [1.0, 1.1, 1.2, 2.0, 2.1, 2.2, 3.0]
    assert planned == [4, 4, 4]


def test_fewer_actions_of_a_plan_are_played_where_played_actions_says_so(numbered):
    policy, _ = numbered
    policy.method.played_actions = 2
    state, played = None, []
    for step in range(5):
        actions, state = policy.predict(observations(seed=step), state, np.full(4, step == 0))
        played.append(round(float(actions[0, 0]), 1))
    assert played == [1.0, 1.1, 2.0, 2.1, 3.0]
    policy.method.played_actions = 1
    actions, state = policy.predict(observations(), state, np.full(4, False))
    assert (round(float(actions[0, 0]), 1), state) == (4.0, None)


def test_more_actions_than_a_plan_holds_are_refused():
    with pytest.raises(
        ValueError, match="`played_actions` must be at most the 3 actions of a chunk, got 4"
    ):
        policy_of(played_actions=4)
    with pytest.raises(ValueError, match="at most the 1 actions"):
        policy_of(played_actions=2, action_chunking=False)


def test_training_plans_again_after_the_played_actions():
    plans = []
    for played in (None, 1):
        model = tiny_model(played_actions=played, learning_starts=0)
        plan = model.policy.plan
        model.policy.plan = lambda *inputs, plan=plan: plans.append(1) or plan(*inputs)
        model._n_updates = 1  # so that it plans instead of drawing uniform actions
        model.learn(6)
        plans.append(0)
    numbers = "".join(map(str, plans)).split("0")
    assert [len(number) for number in numbers] == [2, 6, 0]


def test_start_of_an_episode_drops_the_chunk_of_that_row_only(numbered):
    policy, planned = numbered
    _, state = policy.predict(observations())
    actions, state = policy.predict(observations(), state, np.array([False, True, False, False]))
    assert actions[:, 0].round(1).tolist() == pytest.approx([1.1, 2.0, 1.1, 1.1])
    actions, state = policy.predict(observations(), state, np.zeros(4, bool))
    assert actions[:, 0].round(1).tolist() == pytest.approx([1.2, 2.1, 1.2, 1.2])
    actions, _ = policy.predict(observations(), state, np.zeros(4, bool))
    assert actions[:, 0].round(1).tolist() == pytest.approx([3.0, 2.2, 3.0, 3.0])
    assert planned == [4, 1, 3]


def test_a_state_of_something_else_is_refused():
    policy = policy_of()
    _, of_other_rows = policy.predict(observations(3))
    for state in (of_other_rows, (1, 2), (np.zeros((4, HORIZON + 1, 2)), np.zeros(4, int))):
        with pytest.raises(ValueError, match="`state` must be None"):
            policy.predict(observations(4), state)


def test_chunk_is_laid_out_step_by_step(monkeypatch):
    policy = policy_of()
    flat = torch.arange(6.0) / 10  # entry = step * A + coordinate
    monkeypatch.setattr(
        policy.method, "sample_actions", lambda obs, noise, nets: flat.expand(*obs.shape[:2], 6)
    )
    state, played = None, []
    for _ in range(HORIZON):
        action, state = policy.predict(observations()[0], state)
        played.append(action.round(5).tolist())
    assert played == [
        pytest.approx([0.0, 0.1]),
        pytest.approx([0.2, 0.3]),
        pytest.approx([0.4, 0.5]),
    ]


# -- randomness -------------------------------------------------------------------------------------------------------


def test_deterministic_actions_depend_on_parameters_and_observations_only():
    policy = policy_of(best_of_n=3)
    first, _ = policy.predict(observations(), deterministic=True)
    policy.set_random_seed(123)
    torch.manual_seed(123)
    policy.predict(observations())  # draws from the generator
    assert_array_equal(policy.predict(observations(), deterministic=True)[0], first)
    assert_allclose(
        policy.predict(observations()[1:2], deterministic=True)[0], first[1:2], atol=1e-6
    )
    with torch.no_grad():
        for parameter in policy.nets.parameters():
            parameter += 0.1
    assert not np.allclose(policy.predict(observations(), deterministic=True)[0], first)


def test_a_deterministic_plan_has_the_centre_of_each_kind_of_draw(monkeypatch):
    policy, noises = policy_of(best_of_n=3, flow_steps=5), []
    table = {"x": normal(), "t": uniform(), "k": integers()}
    monkeypatch.setattr(policy.method, "action_noise_table", lambda: table)
    monkeypatch.setattr(
        policy, "plan", lambda rows, noise: noises.append(noise) or np.zeros((4, HORIZON, 2))
    )
    policy.predict(observations(), deterministic=True)
    assert {name: draw.unique().tolist() for name, draw in noises[0].items()} == {
        "x": [0],
        "t": [0.5],
        "k": [3],
    }


def test_sampled_actions_follow_the_seed_of_the_policy_and_leave_the_global_generator_alone():
    policy, old_state = policy_of(), torch.get_rng_state()
    policy.set_random_seed(1)
    first, _ = policy.predict(observations())
    second, _ = policy.predict(observations())
    policy.set_random_seed(1)
    assert_array_equal(policy.predict(observations())[0], first)
    assert not np.allclose(first, second)
    assert torch.equal(old_state, torch.get_rng_state())


# -- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_actions_come_in_the_units_of_the_environment(monkeypatch, horizon_length):
    box = spaces.Box(np.array([0.0, -4.0], np.float32), np.array([10.0, 4.0], np.float32))
    env = space_env_of(spaces.Box(-np.inf, np.inf, (4,), np.float32), box)
    policy = policy_of(env=env, horizon_length=horizon_length)
    ends = torch.tensor([-1.0, 0.5]).repeat(horizon_length)
    monkeypatch.setattr(
        policy.method, "sample_actions", lambda obs, noise, nets: ends.expand(*obs.shape[:2], -1)
    )
    action, _ = policy.predict(observations()[0])
    assert action.tolist() == pytest.approx([0.0, 2.0])
    scaled = policy(torch.from_numpy(observations()))
    assert scaled[0].tolist() == pytest.approx([-1.0, 0.5])


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_actions_at_the_edge_stay_inside_awkward_boxes(monkeypatch, horizon_length):
    # low + (high - low) is one unit in the last place above this high
    box = spaces.Box(np.float32(-1.3812797), np.float32(-0.03466512), (2,), np.float32)
    env = space_env_of(spaces.Box(-np.inf, np.inf, (4,), np.float32), box)
    policy = policy_of(env=env, horizon_length=horizon_length)
    for edge in (-2.0, 2.0):
        outside = torch.full((1, 1, 2 * horizon_length), edge)
        monkeypatch.setattr(policy.method, "sample_actions", lambda *_, outside=outside: outside)
        assert box.contains(policy.predict(observations()[0])[0])


@pytest.mark.parametrize(
    ("scale", "expected"),  # the third coordinate never changes
    [
        (0.5, [[-0.5, -0.5, 0.0, -0.5], [0.5, 0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]),
        ("range", [[-1.0, -1.0, 0.0, -1.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]]),
    ],
)
def test_observations_are_standardised_or_brought_into_their_range(scale, expected):
    policy = policy_of(observation_scale=scale)
    rows = torch.tensor([[0.0, 10.0, 3.0, 0.0], [2.0, 30.0, 3.0, 4.0]])
    policy.set_observation_statistics(rows, scale)
    scaled = policy.preprocess(torch.cat([rows, torch.tensor([[1.0, 20.0, 3.0, 2.0]])]))
    torch.testing.assert_close(scaled, torch.tensor(expected))


# -- stacked replicas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_a_replica_acts_the_same_whenever_the_others_plan(horizon_length):
    def played(interrupted):
        policy = policy_of(seeds=[5, 6], horizon_length=horizon_length)
        state, actions = None, []
        for step in range(8):
            starts = np.array([step == 0, step == 0 or (interrupted and step in (1, 5))])
            action, state = policy.predict(observations(2, seed=step), state, starts)
            actions.append(action[0])
        return actions

    assert_array_equal(played(interrupted=True), played(interrupted=False))
