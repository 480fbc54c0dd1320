"""Rows that are drawn by priority, what batches tell of them, annealing by the update's number, and own noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import agents
from agents import core
from agents.common.batch import Sampler, draw_by_priority, importance_weights, renew, returns_of_rows
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.sb3.first_update import AgentError
from agents.fql import FQL
from tests.common.engine.helpers import assert_same as assert_close
from tests.common.engine.helpers import made_plain
from tests.common.toys import assert_same, parameters_of, tiny_model, toy_dataset, toy_shards


class Drawn(FQL):
    """FQL on prioritised rows, whose cloning fades out over ten updates."""

    correction: float = agents.setting(default=0.5, at_least=0, doc="Exponent of the weights.")

    def row_sampler(self):
        return core.prioritised(0.7, self.correction)

    def priorities(self, batch, noise, nets):
        return (nets.critic(batch.observations, batch.actions).mean(1) - batch.rewards).abs()

    def losses(self, batch, *more):
        losses = super().losses(batch, *more)
        return losses | {"bc_flow": losses["bc_flow"] * (1 - batch.updates / 10).clamp(min=0)}


def made(method=Drawn, **settings):
    model = tiny_model(method, **settings)
    model.load_dataset(toy_dataset())
    return model


def priorities_of(model):
    return model.replay_buffer.priorities


def test_a_batch_counts_the_updates_before_it(monkeypatch):
    model, losses, seen = made(), Drawn.losses, []

    def noted(self, batch, *more):
        seen.append(batch.updates.tolist())
        return losses(self, batch, *more)

    monkeypatch.setattr(Drawn, "losses", noted)
    for _ in range(3):
        model.trainer.update(16)
    assert seen == [[0], [1], [2]]


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_places_are_drawn_as_often_as_their_priorities_say_and_weighted_back():
    priorities = torch.tensor([[1.0, 0.0, 3.0, 6.0], [5.0, 5.0, 0.0, 0.0]])
    draw = torch.rand(2, 40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    places, chances = draw_by_priority(priorities, draw)
    wanted = priorities / priorities.sum(1, keepdim=True)
    for replica in range(2):
        shares = places[replica].bincount(minlength=4) / draw.shape[1]
        torch.testing.assert_close(shares, wanted[replica], rtol=0, atol=0.01)
    torch.testing.assert_close(chances.float(), wanted.gather(1, places), rtol=1e-6, atol=1e-9)
    weights = importance_weights(chances, 4, 1.0)
    assert weights.amax(1).tolist() == [1, 1]
    torch.testing.assert_close(weights[0] * wanted[0][places[0]], torch.full((40_000,), 0.1))
    assert (importance_weights(chances, 4, 0.0) == 1).all()


def test_what_is_drawn_stays_inside_whatever_the_priorities_are():
    last = torch.full((1, 3), 1 - 2**-53, dtype=torch.float64)
    for priorities in ([0.0, 0.0], [1e-30, 1e30], [3.0, 0.0]):
        places, chances = draw_by_priority(torch.tensor([priorities]), last)
        assert ((places >= 0) & (places < 2)).all()
        assert importance_weights(chances, 2, 1.0).isfinite().all()


def test_of_two_priorities_for_one_row_the_higher_counts_and_a_diverged_one_is_0():
    priorities = torch.ones(1, 4)
    found = torch.tensor([[2.0, 3.0, float("nan")]])
    renew(priorities, torch.tensor([[1, 1, 2]]), found, Sampler(exponent=2.0))
    assert priorities.tolist() == [[1.0, 9.0, 0.0, 1.0]]


def test_trajectories_of_a_high_return_are_preferred():
    returns = returns_of_rows(torch.tensor([1.0, 1, 1, 5, 5]), torch.tensor([False, False, True, False, True]))
    assert returns.tolist() == [3, 3, 3, 10, 10]
    start = core.return_weighted(0.5).start(returns)
    torch.testing.assert_close(start.float(), torch.tensor([np.exp(-2.0)] * 3 + [1.0] * 2).float())
    assert core.return_weighted().start(torch.ones(3)).tolist() == [1, 1, 1]

    class Weighted(FQL):
        def row_sampler(self):
            return core.return_weighted(0.3)

    model = made(Weighted, batch_size=256)
    dataset = toy_dataset()
    sums = dataset["rewards"].reshape(5, 12).sum(1)
    batch = model.trainer.draw_batch(4096)
    counts = (batch.index[0] // 12).bincount(minlength=5)
    assert counts[sums > 1].min() > counts[sums < 1].max()
    assert (batch.weight == 1).all()
    assert torch.equal(batch.observations[0], torch.from_numpy(dataset["observations"])[batch.index[0]])


def test_an_update_renews_the_priorities_of_its_rows_alone():
    model = made(seeds=[0, 1])
    assert (priorities_of(model) == 1).all()
    batch, noise = model.trainer.draw_batch(16), model.trainer.draw_noise(16)
    model.trainer.update_on(batch, noise)
    renewed = priorities_of(model)
    for replica in range(2):
        rows = set(batch.index[replica].tolist())
        changed = (renewed[replica] != 1).nonzero().flatten().tolist()
        assert set(changed) == rows
    q = model.policy.nets.critic(batch.observations, batch.actions).mean(1)
    wanted = (q - batch.rewards).abs().detach() ** 0.7
    torch.testing.assert_close(renewed.gather(1, batch.index), wanted, rtol=1e-5, atol=1e-6)


def test_online_transitions_begin_with_the_highest_priority_of_their_replica():
    model = made(seeds=[3, 4])
    model.learn_offline(3)
    buffer, wanted = model.replay_buffer, torch.zeros(2, 200)
    wanted[:, 0] = priorities_of(model).amax(1)
    priorities_of(model)[:, buffer.dataset_size :] = 0
    zero = np.zeros((1, 4), np.float32)
    buffer.add(zero, zero + 1, np.zeros((1, 2), np.float32), np.zeros(1), np.zeros(1), [{}])
    assert torch.equal(priorities_of(model)[:, buffer.dataset_size :], wanted)


# -- going on ---------------------------------------------------------------------------------------------------------


def test_priorities_go_on_from_a_checkpoint_and_a_saved_buffer_to_the_bit(tmp_path):
    whole, parts = made(), made()
    whole.learn_offline(4)
    load_checkpoint(parts, save_checkpoint(whole, tmp_path / "checkpoints"))
    for model in (whole, parts):
        model.learn_offline(4)
    assert_same(parameters_of(whole), parameters_of(parts))
    assert torch.equal(priorities_of(whole), priorities_of(parts))
    whole.save_replay_buffer(tmp_path / "buffer")
    fresh = made()
    fresh.load_replay_buffer(tmp_path / "buffer")
    assert torch.equal(priorities_of(fresh), priorities_of(whole))
    assert fresh.trainer.draw_batch(8).weight is not None


def test_recorded_updates_anneal_and_renew_priorities_as_plain_ones(captured):
    plain, replayed = made_plain(Drawn), captured(Drawn)
    for _ in range(12):
        found, wanted = replayed.trainer.update(16), plain.trainer.update(16)
        torch.testing.assert_close(found["bc_flow_loss"], wanted["bc_flow_loss"], rtol=1e-4, atol=1e-6)
    assert found["bc_flow_loss"].item() == 0
    assert all(each.replay for each in replayed.trainer.recorder.recordings.values())
    assert_close(replayed, plain)
    torch.testing.assert_close(priorities_of(replayed), priorities_of(plain), rtol=1e-4, atol=1e-6)


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_a_hook_returns_is_checked_before_training(tmp_path):
    class NoSampler(Drawn):
        def row_sampler(self):
            return "prioritised"

    class OneNumber(Drawn):
        def priorities(self, batch, noise, nets):
            return super().priorities(batch, noise, nets).mean(1)

    class Negative(Drawn):
        def priorities(self, batch, noise, nets):
            return super().priorities(batch, noise, nets).log()

    class NoPriorities(FQL):
        row_sampler = Drawn.row_sampler
        correction = 0.5

    with pytest.raises(AgentError, match=r"Negative\.priorities must give finite priorities >= 0, got numbers from -"):
        made(Negative)
    with pytest.raises(AgentError, match=r"NoPriorities\.row_sampler draws by what `priorities` returns, which is not"):
        made(NoPriorities)
    with pytest.raises(AgentError, match=r"NoSampler.row_sampler must return a Sampler, e.g. prioritised\(\), or None"):
        made(NoSampler)
    with pytest.raises(AgentError, match=r"OneNumber.priorities must give priorities as a tensor of shape \(2, 7\)"):
        made(OneNumber)
    with pytest.raises(ValueError, match="a sampler draws from dataset and online transitions alike; set `balanced_"):
        made(balanced_sampling=True)
    dataset = toy_dataset()
    with pytest.raises(ValueError, match="a dataset of several parts replaces the rows that a sampler prefers"):
        made().load_dataset(toy_shards(tmp_path, dataset, dataset))


# -- states inside of chunks, and noise -------------------------------------------------------------------------------


class OneStep(FQL):
    """FQL whose batches hold the states inside of chunks, with latent noise and noise on observations."""

    step_observations = True

    def noise(self):
        return super().noise() | {"latent": core.normal("BL", L=6), "shaken": core.normal("BO")}


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_batch_holds_the_states_before_and_after_each_action(chunks, scale):
    model = made(OneStep, action_chunking=chunks, observation_scale=scale)
    batch = model.trainer.draw_batch(64)
    length = 3 if chunks else 1
    before, after, valid = batch.step_observations, batch.step_next_observations, batch.steps_valid > 0
    assert before.shape == after.shape == (1, 64, length, 4)
    assert torch.equal(before[:, :, 0], batch.observations)
    dataset = {name: torch.from_numpy(array) for name, array in toy_dataset().items()}
    seen = {name: model.policy.preprocess(dataset[name]) for name in ("observations", "next_observations")}
    for row in range(64):
        (start,) = (seen["observations"] == batch.observations[0, row]).all(1).nonzero().flatten().tolist()
        for step in range(length):
            if valid[0, row, step]:
                assert torch.equal(before[0, row, step], seen["observations"][start + step])
                assert torch.equal(after[0, row, step], seen["next_observations"][start + step])
    assert not chunks or not valid.all()


def test_noise_has_own_axes_and_the_shape_of_observations():
    model = made(OneStep, seeds=[1, 2])
    noise = model.trainer.draw_noise(5)
    assert noise["latent"].shape == (2, 5, 6)
    assert noise["shaken"].shape == (2, 5, 4)


def test_a_setting_that_is_changed_acts_on_rows_and_is_checked_as_by_the_constructor():
    model = made(balanced_sampling=False)
    model.correction = 0.0
    assert model.replay_buffer.sampler.correction == 0
    with pytest.raises(ValueError, match="`multiplier_max` must be at least"):
        tiny_model("trqam").multiplier_min = 1e9
