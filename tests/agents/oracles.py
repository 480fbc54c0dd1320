"""Small models, and behaviours and critics in closed form, with which algorithms are checked against exact results."""

import math
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import nn

import agents
from agents.common.batch import Batch
from tests.common.closed_forms import Gaussian
from tests.common.toys import tiny_model, toy_noise
from tests.envs import SpacesEnv

# -- small models -----------------------------------------------------------------------------------------------------


def small_model(id, observations=3, actions=2, **settings):
    """Return an algorithm with small networks that plans single actions."""
    return tiny_model(id, SpacesEnv(observations, actions), **{"horizon_length": 1, **settings})


def weights(network):
    """Return a copy of all of a network's weights in one row."""
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def bare(id, **settings):
    """Return an algorithm without networks, to call its sampler and losses with networks in closed form."""
    algorithm = agents.get(id).algorithm
    return algorithm("MlpPolicy", None, **{"device": "cpu", **settings}, _init_setup_model=False)


# -- closed forms -----------------------------------------------------------------------------------------------------


class Behaviour:
    """A mixture of Gaussians with one standard deviation, and its exact velocity, noise prediction and posterior.

    :param std: of every component.
    :param means: of the components, (M, D).
    :param weights: of the components, (M,); None weighs them equally.
    """

    def __init__(self, std, means, weights=None):
        self.std = std
        self.component = Gaussian(0.0, std)
        self.means = torch.tensor(means)
        self.log_weights = torch.tensor(weights or [1.0] * len(means)).log()

    def responsibilities(self, x, scale, variance):
        """Return the components' shares at x = scale * action + noise, (..., M)."""
        distance = (x.unsqueeze(-2) - scale * self.means).square().sum(-1)
        return (self.log_weights - distance / (2 * variance)).softmax(-1)

    def velocity(self, x, t):
        """Return the marginal flow's velocity."""
        t = float(t)
        slope = self.component.slope(t)
        centre = self.responsibilities(x, t, self.component.variance(t)) @ self.means
        return slope * x + (1 - t * slope) * centre

    def noise_prediction(self, x, alpha_bar):
        """Return the expected noise in x = sqrt(alpha_bar) * action + sqrt(1 - alpha_bar) * noise."""
        scale = alpha_bar**0.5
        variance = alpha_bar * self.std**2 + 1 - alpha_bar
        centre = scale * self.responsibilities(x, scale, variance) @ self.means
        return (1 - alpha_bar) ** 0.5 * (x - centre) / variance

    def posterior(self, x, t):
        """Return the clean action's distribution given x at time t: shares, means (..., M, D) and variance."""
        variance = self.component.variance(t)
        means = self.means + t * self.std**2 / variance * (x.unsqueeze(-2) - t * self.means)
        return self.responsibilities(x, t, variance), means, self.std**2 * (1 - t) ** 2 / variance

    def sample(self, rows, seed=0):
        """Draw actions, (rows, D)."""
        generator = torch.Generator().manual_seed(seed)
        shares = self.log_weights.exp()
        component = torch.multinomial(shares, rows, replacement=True, generator=generator)
        noise = torch.randn(rows, self.means.shape[1], generator=generator)
        return self.means[component] + self.std * noise


class Field(nn.Module):
    """A function (x, t) -> velocity in the place of a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def at(self, observations, frozen=False):
        return self.function

    def forward(self, observations, x, t, frozen=False):
        return self.function(x, t)


class Quadratic(nn.Module):
    """Q(a) = g.a - p |a|^2 / 2 in the place of a critic ensemble; at t < 1, what ``noisy`` makes of it.

    :param slope: g, one number or one per coordinate.
    :param curvature: p.
    :param noisy: function (x, t) -> value (S, B) for the critic of noisy actions; None: the same as for clean ones.
    """

    def __init__(self, slope, curvature=0.0, noisy=None):
        super().__init__()
        self.slope = slope
        self.curvature = curvature
        self.noisy = noisy

    def forward(self, observations, actions, t=None, frozen=False):
        if self.noisy is not None and t is not None and float(t) < 1:
            return self.noisy(actions, float(t)).unsqueeze(1)
        values = self.slope * actions - 0.5 * self.curvature * actions.square()
        return values.sum(-1).unsqueeze(1)


def networks(**nets):
    """Return networks in closed form as an algorithm sees them: ``nets.critic``, ``nets.frozen.critic``.

    Without another one, the target critic is the critic.
    """
    if "critic" in nets:
        nets.setdefault("critic_target", nets["critic"])

    def using(**substitutes):
        return networks(**{**nets, **substitutes})

    return SimpleNamespace(**nets, frozen=SimpleNamespace(**nets), using=using)


def rows_of(actions):
    """Return a bandit's batch of data actions (B, D): one replica, one state, no reward and nothing after it."""
    zeros = torch.zeros(1, len(actions))
    state = zeros.unsqueeze(-1)
    return Batch(state, actions.unsqueeze(0), zeros, zeros, state, zeros + 1, state + 1)


def zero_noise(model, rows):
    """Return zeros in place of all draws of one update with one-dimensional actions."""
    sizes = {"S": 1, "B": rows, "D": 1, "K": model.flow_steps}
    return {name: torch.zeros(draw.shape(sizes)) for name, draw in model.update_noise().items()}


# -- learning on a bandit ---------------------------------------------------------------------------------------------


def bandit_model(id, actions, **settings):
    """Return an algorithm that learns a bandit within seconds; a temperature starts nearer to its goal."""
    settings |= {"flow_steps": 10, "net_arch": [64, 64], "learning_rate": 3e-3}
    model = small_model(id, 1, actions, **settings)
    if "temperature" in model.policy.nets:
        with torch.no_grad():
            model.policy.nets.temperature.log_value.fill_(math.log(0.3))
    return model


def learn_bandit(model, behaviour, steps, rows=256, **exact):
    """Train on actions of a behaviour with some networks replaced by closed forms; the learning rate falls to 0."""
    for name, network in exact.items():
        model.policy.nets[name] = network
    start, begun = model.learning_rate, model._n_updates
    model.lr_schedule = lambda _, updates: start * min(1.0, 2 * (1 - (updates - begun) / steps))
    for step in range(steps):
        batch = rows_of(behaviour.sample(rows, seed=2 * step))
        if "critic_target" in exact:
            rewards = exact["critic_target"](batch.observations, batch.actions).mean(1)
            batch = replace(batch, rewards=rewards)
        # an odd seed: other numbers than those of the actions
        model.trainer.update_on(batch, toy_noise(model, rows, seed=2 * step + 1))


def bandit_actions(model, rows=20_000):
    """Sample the learnt policy, (rows, D)."""
    noise = model.policy.draw_noise(model.candidate_noise(), rows, torch.Generator().manual_seed(7))
    with torch.no_grad():
        return model.sample_actions(torch.zeros(1, rows, 1), noise, model.policy.nets)[0]
