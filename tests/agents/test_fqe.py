"""Fitted Q evaluation as an algorithm: it estimates the value of a policy, and does not train the policy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from agents.common.sb3.policy import FlowPolicy
from agents.fqe import ResampledBuffer, _make_model, fitted_q, margin_of
from tests.common.toys import (
    IMPALA,
    always_sample,
    assert_same,
    parameters_of,
    refuses,
    tiny_model,
    toy_batch,
    toy_dataset,
    toy_noise,
)
from tests.envs import SpacesEnv, space_env_of

POLICIES = {
    "fql": {},
    "dac": {"best_of_n": 3},
    "rebrac": {"horizon_length": 1},
    "qam": {"execution_horizon": 2},
}


@pytest.mark.parametrize("id", POLICIES)
def test_it_values_the_actions_that_the_policy_plays(id):
    policy = tiny_model(id, **POLICIES[id]).policy
    model = _make_model(policy, content(), 0, SMALL)
    batch = toy_batch(model)
    noise = toy_noise(model)
    actions = model.method.next_actions(batch, noise, model.policy.nets)
    for replica in range(5):
        table = policy.method.candidate_noise()
        draws = {name: noise[f"td_{name}"][replica : replica + 1] for name in table}
        rows = batch.next_observations[replica : replica + 1]
        plans = policy.method.sample_actions(rows, draws, policy.nets).clamp(-1, 1)
        played = plans.unflatten(-1, (policy.chunk_length, 2))[:, :, : policy.executed_length]
        torch.testing.assert_close(actions[replica], played.flatten(-2)[0])
    targets = model.method.targets(batch, noise, model.policy.nets, {})
    next_q = model.policy.nets.critic_target(batch.next_observations, actions).mean(1)
    torch.testing.assert_close(targets["td"], batch.rewards + batch.discounts * next_q)


def test_the_policy_stays_as_it_is():
    model = tiny_model("fql")
    old_state = parameters_of(model)
    _make_model(model.policy, content(), 0, SMALL).learn_offline(3)
    assert_same(parameters_of(model), old_state)


def test_critics_are_evaluated_as_in_acting(monkeypatch):
    modes = []
    sample = FlowPolicy.sample

    def recorded(policy, *arguments):
        modes.append(policy.training)
        return sample(policy, *arguments)

    monkeypatch.setattr(FlowPolicy, "sample", recorded)
    fitted_q(tiny_model("fql").policy, content(), steps=4, **SMALL)
    assert modes
    assert not any(modes)


def test_a_policy_of_several_seeds_is_refused():
    with refuses("with one replica, got 2; evaluate each `model.replica"):
        fitted_q(tiny_model("fql", seeds=[1, 2]).policy, content())


def test_critics_are_trained_on_the_inputs_of_the_policy():
    policy = tiny_model("fql", observation_scale=1.0).policy
    policy.observation_mean.fill_(50)
    model = _make_model(policy, content(), 0, SMALL)
    assert model.trainer.draw_batch(64).observations.max() < -40


def test_critics_of_images_have_the_encoder_of_the_policy():
    shape = (3, 36, 36)
    env = space_env_of(Box(0, 255, shape, np.uint8))
    policy = tiny_model("bc", env, policy_kwargs=IMPALA).policy
    images = np.zeros((60, *shape), np.uint8)
    dataset = content(observations=images, next_observations=images)
    model = _make_model(policy, dataset, 0, SMALL)
    assert model.critic.features_extractor.features_dim == 8
    policy = tiny_model("bc", env, policy="CnnPolicy").policy
    with refuses("NatureCNN cannot encode images for 5 critics"):
        _make_model(policy, dataset, 0, SMALL)


# -- the evaluation of a policy ---------------------------------------------------------------------------------------

SMALL = {"net_arch": [16, 16], "batch_size": 16, "compile": "off"}


def content(rows=60, **changes):
    return toy_dataset(rows) | changes


def test_each_replica_draws_trajectories_of_its_own():
    env = SpacesEnv(4, 2)
    buffer = ResampledBuffer(
        1, env.observation_space, env.action_space, device="cpu", horizon_length=3, replicas=3
    )
    # 20 trajectories of 12 steps, truncated by a time limit
    buffer.load_dataset(content(240, masks=np.ones(240)))
    buffer.resample(seed=0)
    rows = buffer.draw_rows((3, 500), torch.Generator().manual_seed(0))
    assert rows.shape == (3, 500, 3)
    assert set((buffer.starts % 12).tolist()) == {0}
    drawn = [set((replica[:, 0] // 12).tolist()) for replica in rows]
    assert drawn[0] != drawn[1] != drawn[2]
    for trajectories in drawn:
        # sampling 20 of 20 trajectories with replacement selects about two thirds of them
        assert 9 <= len(trajectories) <= 17


def test_numbers_follow_the_seed(monkeypatch):
    policy = tiny_model("fql", horizon_length=1).policy
    first, repeated, reseeded = (
        fitted_q(policy, content(), steps=4, seed=seed, **SMALL) for seed in (0, 0, 1)
    )
    assert first == repeated
    assert first.critics != reseeded.critics
    monkeypatch.setattr("agents.fqe.ROWS", 2)  # in blocks
    assert fitted_q(policy, content(), steps=4, **SMALL).critics == pytest.approx(first.critics)


@pytest.mark.parametrize("settings", [{"execution_horizon": 2}, {"observation_scale": 1.0}])
def test_rewards_of_any_size_are_worth_their_geometric_series(monkeypatch, settings):
    model = tiny_model(horizon_length=3, gamma=0.5, **settings)
    model.load_dataset(content(600))
    always_sample(monkeypatch, model.policy, torch.full((6,), 0.2))
    data = content(600, rewards=np.full(600, -500), masks=np.ones(600))
    fitted = fitted_q(
        model.policy, data, steps=200, learning_rate=3e-3, tau=0.2, **{**SMALL, "batch_size": 64}
    )
    assert fitted.value == pytest.approx(-1000, rel=0.05)
    # the value's change in the last quarter bounds how far it may still change
    low, high = fitted.interval
    assert low < fitted.value - fitted.drift < fitted.value + fitted.drift < high


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_the_interval_covers_the_truth_in_95_of_100_cases(spread):
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        states = generator.standard_normal(50)
        error = spread * generator.standard_normal()
        values = states + error + spread * generator.standard_normal((5, 1))
        hits += abs(values.mean()) <= margin_of(values)
    assert 0.945 <= hits / 4000 <= 0.97


def test_of_chunks_that_cross_an_end_those_with_a_termination_count():
    model = _make_model(tiny_model("fql").policy, content(), 0, SMALL)
    batch = toy_batch(model)
    zeros = torch.zeros_like(batch.valid)
    for discounts, counts in ((zeros, True), (zeros + 0.9, False)):
        crossing = replace(batch, discounts=discounts, valid=zeros)
        _, info = model.trainer.losses(crossing, toy_noise(model))
        assert (info["td_loss"] > 0).tolist() == [counts] * 5


def test_actions_that_the_data_lack_are_noticed(monkeypatch):
    distances = []
    for action in (0.0, 0.9):
        policy = tiny_model("fql", horizon_length=1).policy
        always_sample(monkeypatch, policy, torch.full((2,), action))
        data = content(actions=0.1 * content()["actions"])
        distances.append(fitted_q(policy, data, steps=1, **SMALL).action_distance)
    assert distances[0] < 1 < distances[1]


STATES, GAMMA, ACTION = 5, 0.9, 0.3


def chain(seed):
    """Return a dataset of a Markov chain that advances with a probability that increases with the action."""
    draw = np.random.default_rng(seed)
    rows = []
    one_hot = np.eye(STATES, dtype=np.float32)
    for _ in range(60):
        state = int(draw.integers(STATES))
        for step in range(40):
            action = draw.uniform(-1, 1)
            reward = state + action + draw.normal()
            following = state + (draw.random() < 0.5 + 0.4 * action)
            states = one_hot[[state, min(following, STATES - 1)]]
            is_last = following == STATES or step == 39
            rows.append((*states, [action], reward, following < STATES, is_last))
            state = following
            if is_last:
                break
    return dict(zip(toy_dataset(), map(np.array, zip(*rows, strict=True)), strict=True))


def value_of_chain():
    """Return the mean value of the first states under constant `ACTION`, by backward induction."""
    values = np.zeros(STATES + 1)
    chance = 0.5 + 0.4 * ACTION
    for state in reversed(range(STATES)):
        reward = state + ACTION
        values[state] = (reward + GAMMA * chance * values[state + 1]) / (1 - GAMMA * (1 - chance))
    return values[:STATES].mean()


@pytest.mark.slow
def test_intervals_cover_the_known_value_of_a_chain(monkeypatch):
    policy = tiny_model("rebrac", SpacesEnv(STATES, 1), horizon_length=1, gamma=GAMMA).policy
    always_sample(monkeypatch, policy, torch.tensor([ACTION]))
    settings = {"net_arch": [32, 32], "batch_size": 64, "learning_rate": 1e-3, "tau": 0.1}
    hits = 0
    for seed in range(100):
        data = chain(seed)
        fitted = fitted_q(policy, data, steps=500, seed=seed, compile="off", **settings)
        low, high = fitted.interval
        hits += low + fitted.drift <= value_of_chain() <= high - fitted.drift
    assert 90 <= hits <= 99


def test_a_policy_that_plans_nan_is_an_error():
    policy = tiny_model("fql", horizon_length=1).policy
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.fill_(torch.nan)
    with refuses("fitted Q evaluation diverged", ArithmeticError):
        fitted_q(policy, content(), steps=4, **SMALL)
