"""CGQL: classifier-guided Q-learning, a behaviour flow guided by the critic during sampling."""

from __future__ import annotations

from torch import Tensor

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
    Time,
    Velocity,
    action_gradient,
    cloning_loss,
    critic,
    integrate_flow,
    log_range,
    normal,
    q_statistics,
    setting,
    td_loss,
    td_target,
    uniform,
    velocity_field,
)


class CGQL(Method):
    r"""A behaviour flow, trained by flow matching, is guided by the action gradient of Q at sampling time.

    .. math:: \dot x = v'_\beta(s, x, t) + \frac{w}{t}\left[(1-t)\,\tau\,\nabla_x \bar Q(s, x, 1) + x\right], \qquad
        L = L_{TD} + L_{FM}(v_\beta)

    with the moving average :math:`v'_\beta` of the flow. The first step, at t = 0, is not guided. The flow time is
    another input of the critic; CGQL always sets it to 1, the time of clean actions.

    Source: the classifier-guidance baselines of Li and Levine, arXiv 2601.14234; classifier guidance: Dhariwal and
    Nichol, arXiv 2105.05233.
    """

    inverse_temperature: float = setting(
        default=1.0,
        reference="inv_temp",
        at_least=0,
        search=log_range(0.1, 100.0),
        doc="Weight tau of Q; 0 samples the behaviour flow.",
    )
    guidance_weight: float = setting(
        default=0.1,
        reference="guidance_coef",
        at_least=0,
        search=log_range(0.001, 10.0),
        doc="Weight w of the guidance; 0 samples the behaviour flow.",
    )
    x_term: bool = setting(
        default=True,
        doc="Add the authors' second term, w x / t, to the velocity; it widens the distribution "
        "of samples. Without it, CGQL is classifier guidance, which adds (1-t)/t times a score "
        "to the velocity.",
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, which have the flow time as an input, and the behaviour flow."""
        return {
            "critic": critic(target=True, time=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
        }

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def guide_time(self, t: float) -> float:
        """Return the time input of the critic for guidance at flow time t: always 1, the time of clean actions."""
        return 1.0

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the guided behaviour flow."""
        behaviour: Velocity = nets.behaviour_target.at(observations)
        # if either weight is 0, no gradient is needed
        is_guided = self.inverse_temperature > 0 and self.guidance_weight > 0

        def velocity(x: Tensor, t: Time) -> Tensor:
            assert not isinstance(t, Tensor)  # the sampler passes Python numbers
            # w / t is infinite at t = 0
            if not is_guided or t == 0:
                return behaviour(x, t)
            critic_time = self.guide_time(t)
            # frozen: only the gradient with respect to actions is needed
            gradient = action_gradient(
                lambda y: nets.frozen.critic(observations, y, critic_time).mean(1), x
            )
            guidance = (1 - t) * self.inverse_temperature * gradient
            if self.x_term:
                guidance = guidance + x
            return behaviour(x, t) + self.guidance_weight / t * guidance

        return integrate_flow(velocity, noise["action"], self.flow_steps).clamp(-1, 1)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score clean candidates by the mean of the online critics."""
        return nets.critic(observations, actions, 1.0).mean(1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target."""
        next_actions = self.next_actions(batch, noise, nets)
        # flow time 1: the next actions are clean
        next_q = nets.critic_target(batch.next_observations, next_actions, 1.0)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD loss at clean actions and the flow-matching loss."""
        q = nets.critic(batch.observations, batch.actions, 1.0)
        info |= q_statistics(q)
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "bc_flow": cloning_loss(nets.behaviour, batch, noise),
        }
