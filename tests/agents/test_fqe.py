"""Fitted Q evaluation as an algorithm: it values what a policy plays, and trains nothing of it."""

import pytest
import torch

from agents.fqe import FQE
from agents.models import model_class
from tests.common.toys import TINY, assert_same, tiny_model, toy_batch, toy_noise
from tests.common.toys import toy_dataset as dataset
from tests.envs import SpacesEnv

POLICIES = {
    "fql": {},
    "ifql": {"best_of_n": 3},
    "idql": {"best_of_n": 3},
    "rebrac": {"horizon_length": 1},
    "qam": {"played_actions": 2},
}


def evaluation(policy, **settings):
    """Return a model of two replicas that evaluates a policy."""
    sizes = {name: TINY[name] for name in ("net_arch", "batch_size", "compile")}
    method = FQE.of(policy, **{**sizes, **settings})
    return model_class(FQE)("MlpPolicy", SpacesEnv(), method=method, seeds=[0, 1], device="cpu")


@pytest.mark.parametrize("id", POLICIES)
def test_it_values_the_actions_that_the_policy_plays(id):
    policy = tiny_model(id, **POLICIES[id]).policy
    model = evaluation(policy)
    batch = toy_batch(model)
    noise = toy_noise(model)
    actions = model.method.next_actions(batch, noise, model.policy.nets)
    for replica in range(2):
        table = policy.method.candidate_noise()
        draws = {name: noise[f"td_{name}"][replica : replica + 1] for name in table}
        rows = batch.next_observations[replica : replica + 1]
        plans = policy.method.sample_actions(rows, draws, policy.nets).clamp(-1, 1)
        played = plans.unflatten(-1, (policy.chunk_length, 2))[:, :, : policy.played_length]
        torch.testing.assert_close(actions[replica], played.flatten(-2)[0])
    targets = model.method.targets(batch, noise, model.policy.nets, {})
    next_q = model.policy.nets.critic_target(batch.next_observations, actions).mean(1)
    torch.testing.assert_close(targets["td"], batch.rewards + batch.discounts * next_q)


def test_a_batch_holds_the_rewards_and_actions_of_what_is_played():
    policy = tiny_model("qam", horizon_length=5, played_actions=2, gamma=0.9).policy
    model = evaluation(policy)
    data = dataset()
    model.load_dataset(data)
    batch = model.replay_buffer._get_samples(torch.tensor([[[4, 5]], [[4, 5]]]))
    expected = torch.tensor(data["rewards"][4] + 0.9 * data["rewards"][5])
    torch.testing.assert_close(batch.rewards[0, 0], expected)
    torch.testing.assert_close(batch.actions[0, 0], torch.tensor(data["actions"][4:6].ravel()))
    assert batch.discounts[0, 0] in (0, pytest.approx(0.81))


def test_the_policy_stays_as_it_is():
    policy = tiny_model("fql").policy
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    evaluation(policy).learn_offline(3, dataset=dataset())
    assert_same(policy.state_dict(), before)
