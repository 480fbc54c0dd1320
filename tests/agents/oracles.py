"""Small models, and networks and critics in closed form, to check algorithms against exact results."""

from types import SimpleNamespace

import torch
from torch import nn

import agents
from agents.common.batch import Batch
from tests.common.toys import tiny_model
from tests.envs import SpacesEnv

# -- small models -----------------------------------------------------------------------------------------------------


def small_model(id, **settings):
    """Return an algorithm with small networks that samples single actions."""
    return tiny_model(id, SpacesEnv(3, 2), **{"horizon_length": 1, **settings})


def weights(network):
    """Return a copy of all of a network's weights in one row."""
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def bare(id, **settings):
    """Return an algorithm without networks, to call its sampler and losses with networks in closed form."""
    algorithm = agents.get(id).algorithm
    return algorithm("MlpPolicy", None, **{"device": "cpu", **settings}, _init_setup_model=False)


# -- closed forms -----------------------------------------------------------------------------------------------------


def field(function):
    """Return a function (x, t) -> velocity that replaces a network."""
    return SimpleNamespace(at=lambda observations: function)


class Quadratic(nn.Module):
    """Q(a), the sum over coordinates of a - p a^2 / 2, instead of a critic ensemble.

    :param curvature: p.
    """

    def __init__(self, curvature=0.0):
        super().__init__()
        self.curvature = curvature

    def forward(self, observations, actions, t=None):
        values = actions - 0.5 * self.curvature * actions.square()
        return values.sum(-1).unsqueeze(1)


def networks(**nets):
    """Return networks in closed form, accessible as in an algorithm: ``nets.critic``, ``nets.frozen.critic``.

    By default, the critic is also the target critic.
    """
    if "critic" in nets:
        nets.setdefault("critic_target", nets["critic"])

    return SimpleNamespace(**nets, frozen=SimpleNamespace(**nets))


def rows_of(actions):
    """Return a bandit's batch with dataset actions (B, D): one replica, one state, zero reward, and termination."""
    zeros = torch.zeros(1, len(actions))
    state = zeros.unsqueeze(-1)
    return Batch(state, actions.unsqueeze(0), zeros, zeros, state, zeros + 1, state + 1)


def zero_noise(model, rows):
    """Return zeros for all noise of one update with one-dimensional actions."""
    sizes = {"S": 1, "B": rows, "D": 1, "K": model.flow_steps}
    draws = model.update_noise().items()
    return {name: torch.zeros_like(draw(sizes, None, "cpu")) for name, draw in draws}
