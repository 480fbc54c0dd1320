"""Action chunks: how `predict` samples, executes, stores and drops them, and how noise reaches the networks."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

from agents.common.method import integers, normal, uniform
from agents.common.sb3.exporting import sample_actions
from tests.common.toys import act, always_sample, normals, refuses, tiny_model
from tests.envs import SpacesEnv, space_env_of

HORIZON = 3


def policy_of(actions=None, **settings):
    space = SpacesEnv().observation_space
    return tiny_model(env=space_env_of(space, actions), **settings).policy


def observations(rows=4, seed=0):
    return normals(rows, 4, seed=seed).numpy()


def play(policy, steps):
    """Return the first action of each step of an episode, and the state after it."""
    state = None
    played = []
    for step in range(steps):
        actions, state = policy.predict(observations(seed=step), state, np.full(4, step == 0))
        played.append(actions[0].tolist())
    return played, state


@pytest.fixture
def numbered(monkeypatch):
    """Return a policy whose n-th chunk contains the actions n.0, n.1, n.2, and the row counts of its chunks."""
    policy = policy_of(spaces.Box(-10, 10, (2,), np.float32))
    planned = []

    def sample_chunks(rows, noise):
        planned.append(rows.shape[1])
        steps = len(planned) + np.arange(HORIZON, dtype=np.float32)[:, None] / 10
        return np.broadcast_to(steps, (*rows.shape[:2], HORIZON, 2)).copy()

    monkeypatch.setattr(policy, "sample_chunks", sample_chunks)
    return policy, planned


def test_an_observation_may_be_reversed_and_read_only():
    policy = policy_of(horizon_length=1, seeds=[1, 2])
    rows = observations(2)
    rows.flags.writeable = False
    assert_array_equal(act(policy, rows[:, ::-1]), act(policy, rows[:, ::-1].copy()))


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ({"arm": [0, np.nan]}, "must be finite in float32, got NaN"),
        ({"arm": [0, 0], "leg": [0]}, "'arm': Box.* got arm, leg"),
        ({"leg": [0, 0]}, "'arm': Box.* got leg"),
    ],
)
def test_an_observation_that_is_not_of_the_space_is_refused(observation, text):
    env = space_env_of(spaces.Dict({"arm": spaces.Box(-1, 1, (2,))}))
    with refuses(text):
        tiny_model(env=env, policy="MultiInputPolicy").predict(observation)


# -- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution_horizon", "expected"),
    [(None, [1.0, 1.1, 1.2, 2.0, 2.1]), (2, [1.0, 1.1, 2.0, 2.1, 3.0]), (1, [1, 2, 3, 4, 5])],
)
def test_a_chunk_is_executed_open_loop_until_the_next_one(numbered, execution_horizon, expected):
    policy, planned = numbered
    policy.method.execution_horizon = execution_horizon
    played, state = play(policy, 5)
    assert [action[0] for action in played] == pytest.approx(expected)
    assert planned == [4] * int(expected[-1])
    assert (state is None) == (execution_horizon == 1)


def test_start_of_an_episode_drops_the_chunk_of_that_row_only(numbered):
    policy, planned = numbered
    _, state = policy.predict(observations())
    played = []
    for starts in ([0, 1, 0, 0], [0] * 4, [0] * 4):
        actions, state = policy.predict(observations(), state, np.array(starts))
        played.append(actions[:2, 0].tolist())
    assert_allclose(played, [[1.1, 2.0], [1.2, 2.1], [3.0, 2.2]], rtol=1e-6)
    assert planned == [4, 1, 3]


def test_a_state_of_something_else_is_refused():
    policy = policy_of()
    _, of_other_rows = policy.predict(observations(3))
    for state in (of_other_rows, (1, 2), (np.zeros((4, HORIZON + 1, 2)), np.zeros(4, int))):
        with refuses("`state` must be None"):
            policy.predict(observations(4), state)


# -- randomness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["BX", "SBD", "BL"])
def test_axis_that_does_not_exist_is_refused_with_those_that_do(axes):
    with refuses(rf"'{axes}'.*D \(flattened chunk\)"):
        normal(axes)


def test_a_deterministic_plan_has_centre_of_each_kind_of_draw(monkeypatch):
    policy = policy_of(flow_steps=5)
    table = {"x": normal(), "t": uniform(), "k": integers()}
    monkeypatch.setattr(policy.method, "action_noise_table", lambda: table)
    sample_chunks = Mock(return_value=np.zeros((1, 4, HORIZON, 2)))
    monkeypatch.setattr(policy, "sample_chunks", sample_chunks)
    act(policy, observations())
    _, noise = sample_chunks.call_args.args
    centres = {name: draw.unique().tolist() for name, draw in noise.items()}
    assert centres == {"x": [0], "t": [0.5], "k": [3]}


def test_the_critic_chooses_the_deterministic_action():
    policy, rows = policy_of(best_of_n=4), observations()
    together = act(policy, rows)
    alone = np.concatenate([act(policy, rows[k : k + 1]) for k in range(len(rows))])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    with torch.no_grad():
        for parameter in policy.nets.critic.parameters():
            parameter.neg_()
    assert not np.allclose(act(policy, rows), together)


def test_sampled_actions_follow_the_seed_of_the_policy_alone():
    policy = policy_of()
    old_state = torch.get_rng_state()
    policy.set_random_seed(1)
    first, _ = policy.predict(observations())
    second, _ = policy.predict(observations())
    policy.set_random_seed(1)
    assert_array_equal(policy.predict(observations())[0], first)
    assert not np.allclose(first, second)
    assert torch.equal(old_state, torch.get_rng_state())


# -- units ------------------------------------------------------------------------------------------------------------


def test_actions_come_step_by_step_in_the_units_of_environment(monkeypatch):
    policy = policy_of(spaces.Box(np.float32([0, -4]), np.float32([10, 4])))
    chunk = torch.arange(6.0) / 10  # an entry is step * A + coordinate
    always_sample(monkeypatch, policy, chunk)
    played, _ = play(policy, HORIZON)
    assert_allclose(played, [[5.0, 0.4], [6.0, 1.2], [7.0, 2.0]], rtol=1e-6)
    assert policy(torch.from_numpy(observations()))[0].tolist() == pytest.approx([0, 0.1])


@pytest.mark.parametrize("edge", [-2.0, 2.0])
def test_actions_at_the_edge_stay_inside_awkward_boxes(monkeypatch, edge):
    # low + (high - low) exceeds this high by one unit in the last place
    box = spaces.Box(-1.3812797, -0.03466512, (2,), np.float32)
    policy = policy_of(box)
    always_sample(monkeypatch, policy, torch.full((2 * HORIZON,), edge))
    assert box.contains(policy.predict(observations()[0])[0])
    exported = sample_actions(policy, torch.zeros(1, 4), torch.zeros(1, 2 * HORIZON))
    assert box.contains(exported[0, 0].numpy())


# -- stacked replicas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon_length", [1, 3])
def test_a_replica_acts_the_same_whenever_the_others_plan(horizon_length):
    def played(starts_of_other):
        policy = policy_of(seeds=[5, 6], horizon_length=horizon_length)
        state = None
        actions = []
        for step in range(8):
            starts = np.array([step == 0, step in starts_of_other])
            action, state = policy.predict(observations(2, seed=step), state, starts)
            actions.append(action[0])
        return actions

    assert_array_equal(played(starts_of_other=(0, 1, 5)), played(starts_of_other=(0,)))
