"""The method of the page on networks of one's own."""

from __future__ import annotations

from torch import nn

import agents
from tests.agents.testing.mistakes import own_network

PAGE = {}
exec(own_network(), PAGE)  # the page's code


class Imitation(agents.Method):
    """Regress to the batch's actions with one network."""

    network: type[nn.Module] = PAGE["Actor"]

    def networks(self):
        return {
            "actor": PAGE["NetworkSpec"](
                lambda n: self.network(n.replicas, n.observations, n.actions, 64)
            )
        }

    def noise(self):
        return {}

    def act(self, observations, noise, nets):
        return nets.actor(observations)

    def targets(self, *given):
        return {}

    def losses(self, batch, targets, noise, nets, info):
        error = (nets.actor(batch.observations) - batch.actions).square().mean(2)
        return {"error": (error * batch.valid).mean(1)}
