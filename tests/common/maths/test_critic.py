"""Pessimism, TD target and loss, best-of-n against values worked out by hand."""

import math

import pytest
import torch

from agents.common.batch import Batch
from agents.common.maths.critic import pessimistic_value, pick_best, td_loss, td_target


def batch_of(rewards, discounts):
    blank = torch.zeros(*rewards.shape, 1)
    ones = torch.ones_like(rewards)
    return Batch(blank, blank, rewards, discounts, blank, ones, ones.unsqueeze(-1))


def test_pessimistic_value_subtracts_population_standard_deviations():
    q = torch.arange(1.0, 11.0).view(1, 10, 1)
    assert float(pessimistic_value(q, 0.5)) == pytest.approx(4.063859, abs=5e-7)


def test_members_that_agree_exactly_are_climbed_by_their_mean():
    q = torch.tensor([[[1.0, 3.0], [1.0, 5.0]]], requires_grad=True)  # a square root has no slope at no spread
    pessimistic_value(q, 0.5).sum().backward()
    assert q.grad[0, :, 0].tolist() == [0.5, 0.5]
    assert q.grad[0, :, 1].tolist() == pytest.approx([0.75, 0.25])


def test_td_target_adds_the_discounted_pessimistic_value_and_stops_where_the_mask_is_zero():
    next_q = torch.tensor([[[2.0, 10.0, 1e6], [4.0, 10.0, 1e6]]])  # (S, E, B)
    batch = batch_of(torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([[0.5, 0.9, 0.0]]))
    assert td_target(batch, next_q, 0.5)[0].tolist() == pytest.approx([1 + 0.5 * (3 - 0.5), -1 + 9, -1])


def test_gradient_of_the_td_loss_is_zero_where_the_sequence_is_not_valid():
    q = torch.ones(1, 2, 3, requires_grad=True)
    td_loss(q, torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]])).sum().backward()
    assert q.grad[0, :, 1].tolist() == [0.0, 0.0]
    assert q.grad[0, :, 0].tolist() == [pytest.approx(1 / 3)] * 2


def test_best_of_n_picks_the_candidate_with_the_highest_score():
    actions = torch.arange(24.0).view(2, 2, 3, 2)  # (S, B, N, D)
    scores = torch.tensor([[[0.0, 1.0, 0.5], [3.0, 1.0, 2.0]], [[-3.0, -2.0, -1.0], [0.0, 0.0, -math.inf]]])
    assert pick_best(actions, scores).tolist() == [[[2, 3], [6, 7]], [[16, 17], [18, 19]]]
