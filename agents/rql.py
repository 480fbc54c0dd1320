"""RQL: Reversal Q-learning, which learns values of intermediate flow states by integrating the flow backwards."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.common.maths.flow import grid_times
from agents.core import (
    Batch,
    Draw,
    Info,
    Losses,
    Method,
    Networks,
    NetworkSpec,
    Noise,
    Targets,
    Velocity,
    critic,
    expectile_loss,
    integrate_flow,
    interpolate,
    linear_range,
    log_range,
    normal,
    q_statistics,
    setting,
    td_target,
    uniform,
    velocity_field,
)


class RQL(Method):
    r"""Each step of a flow is treated as an action, trained to maximise the value of the flow state that it reaches.

    The critics estimate the value of intermediate flow states x at flow time f. Training points come from integrating
    the flow backwards in time from a dataset action. Targets bootstrap from :math:`Q'(s', z, 0)`, the value of pure
    noise at the next state:

    .. math:: L = \mathbb{E}\,|\kappa - 1[u < 0]|\,u^2 + w L_{FM}(v)
        - \mathbb{E}\,\bar Q(s, x_t + h v, t + h), \qquad u = R + \gamma^H M\,Q'_{pess}(s', z, 0) - Q(s, x, f)

    with v at (s, x_t, t), z standard normal, and h the sampler's step size, at most 1 - t. Source: Oberai, Park and
    Levine, Reversal Q-Learning, arXiv 2606.17551, and the authors' code (github.com/aoberai/rql, ``total_loss``).
    """

    trains_behaviour = True
    samples_next_action = False

    expectile: float = setting(
        default=0.5,
        above=0,
        below=1,
        search=linear_range(0.5, 0.95),
        doc="Expectile kappa of the critics' loss.",
    )
    bc_weight: float = setting(
        default=1.0,
        reference="alpha",
        at_least=0,
        search=log_range(0.03, 30.0),
        doc="Weight w of cloning relative to the Q term.",
    )
    policy_tau: float = setting(
        default=0.001,
        reference="1 - ema",
        at_least=0,
        at_most=1,
        search=log_range(0.0003, 0.03),
        doc="Rate at which the flow's moving average, used for acting, tracks the flow.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics of intermediate flow states, and the flow, whose moving average has its own rate."""
        flow = velocity_field(target=True, role="behaviour", tau=self.policy_tau)
        return {"critic": critic(target=True, time=True), "flow": flow}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching, the reversal times, and the noise at the next state."""
        return {"bc_x0": normal(), "bc_t": uniform(), "reversal": uniform(), "next_x0": normal()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of cloning."""
        return {"bc_flow": self.bc_weight}

    def masked_cloning_loss(self, velocity: Tensor, batch: Batch, noise: Noise) -> Tensor:
        """Return the cloning loss (S,) of velocities (S, B, D); actions beyond a trajectory end are masked."""
        error = velocity - (batch.actions - noise["bc_x0"])
        return (batch.action_valid * error.square()).mean((1, 2))

    def pretraining_loss(self, flow: Any, batch: Batch, noise: Noise) -> Tensor:
        """Return the cloning loss, masked as in :meth:`losses`."""
        t = noise["bc_t"].unsqueeze(-1)
        x_t = interpolate(noise["bc_x0"], batch.actions, t)
        return self.masked_cloning_loss(flow.at(batch.observations)(x_t, t), batch, noise)

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the moving average of the flow."""
        return integrate_flow(
            nets.flow_target.at(observations), noise["action"], self.flow_steps
        ).clamp(-1, 1)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score clean actions by the mean of the online critics."""
        return nets.critic(observations, actions, 1.0).mean(1)

    def reverse(self, velocity: Velocity, actions: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Integrate a flow backwards from clean actions.

        :param velocity: velocity field of the flow.
        :param actions: the actions, (S, B, D).
        :param draws: durations of the integration, uniform samples (S, B); in the second half of the rows, they are
            rounded to the sampler's grid.
        :return: intermediate flow states (S, B, D), and their flow times (S, B, 1).
        """
        # Half of the rows end at arbitrary times, as the critics' inputs in the Q term do. The other
        # half ends on the sampler's grid, which contains time 0, at which targets are computed,
        # and time 1, at which candidates are scored.
        anywhere, on_grid = draws.tensor_split([draws.shape[-1] // 2], -1)
        far = torch.cat([anywhere, grid_times(on_grid, self.flow_steps)], -1).unsqueeze(-1)
        x, time, step = actions, torch.ones_like(far), far / self.flow_steps
        for _ in range(self.flow_steps):
            x, time = x - step * velocity(x, time), time - step
        return x, time

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target, and the intermediate flow states at which critics are trained, with their times."""
        # at flow time 0, the critics estimate the value of the state itself
        next_q = nets.critic_target(batch.next_observations, noise["next_x0"], 0.0)
        partial, time = self.reverse(
            nets.flow.at(batch.observations), batch.actions, noise["reversal"]
        )
        return {"td": td_target(batch, next_q, self.rho), "partial": partial, "time": time}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the expectile loss of the critics, the cloning loss, and the Q term of one step of the flow."""
        q = nets.critic(batch.observations, targets["partial"], targets["time"])
        t = noise["bc_t"].unsqueeze(-1)
        x_t = interpolate(noise["bc_x0"], batch.actions, t)
        velocity = nets.flow.at(batch.observations)(x_t, t)
        # the step is shortened if it would pass time 1
        step = (1 - t).clamp(max=1 / self.flow_steps)
        # each step maximises the value of the flow state that it reaches; later steps are not
        # differentiated
        policy_q = nets.frozen.critic(batch.observations, x_t + step * velocity, t + step).mean(1)
        info |= {**q_statistics(q), "climb_q_mean": policy_q.mean(1)}
        value_losses = expectile_loss(targets["td"].unsqueeze(1) - q, self.expectile)
        return {
            "td": (batch.valid.unsqueeze(1) * value_losses).mean((1, 2)),
            "bc_flow": self.masked_cloning_loss(velocity, batch, noise),
            "q": -(batch.valid * policy_q).mean(1),
        }
