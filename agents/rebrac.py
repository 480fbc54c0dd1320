"""ReBRAC: a deterministic actor, regularised towards dataset actions by a squared distance."""

from __future__ import annotations

from torch import Tensor

from agents.common.maths.critic import mean_absolute
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
    critic,
    linear_range,
    log_range,
    normal,
    pessimistic_value,
    setting,
    tanh_actor,
)


class ReBRAC(Method):
    r"""TD3 with behaviour cloning: a deterministic actor without a flow; clipped noise is added to its actions.

    .. math:: L = L_{TD} - \lambda\,\mathbb{E}\,Q_{pess}(s, \mu(s)) + w\,\mathbb{E}\lVert\mu(s) - a\rVert^2,\quad
        \lambda = 1/\mathbb{E}|Q_{pess}(s, \mu(s))|

    Source: Tarasov et al., Revisiting the Minimalist Approach to Offline Reinforcement Learning, arXiv 2305.09836.
    """

    bc_weight: float = setting(
        default=0.0,
        reference="alpha_actor",
        at_least=0,
        search=log_range(0.001, 1.0),
        doc="Weight w of the squared distance to dataset actions.",
    )
    actor_noise: float = setting(
        default=0.2,
        at_least=0,
        search=linear_range(0.0, 0.3),
        doc="Standard deviation of the noise on actions.",
    )
    actor_noise_clip: float = setting(
        default=0.5, at_least=0, doc="Bound on the noise in every coordinate of an action."
    )
    policy_delay: int = setting(
        default=2, reference="actor_freq", at_least=1, doc="Number of updates per target update."
    )
    true_delay: bool = setting(
        default=False, doc="Update the actor, too, only at every `policy_delay`-th update."
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics and the actor, with their target networks."""
        # in the code of the comparison, only target networks are delayed; `true_delay` also delays
        # the actor, as in TD3
        delay = self.policy_delay
        actor_delay = delay if self.true_delay else 1
        actor = tanh_actor(target=True, train_every=actor_delay, target_every=delay)
        return {"critic": critic(target=True, target_every=delay), "actor": actor}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise that is added to an action."""
        return {"smooth": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return nothing: the losses use the actor's action without noise."""
        return {}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of cloning."""
        return {"bc": self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Return the actor's action with clipped noise."""
        # TD3 smooths only the target's action; here the smoothed action is executed too
        smooth = (self.actor_noise * noise["smooth"]).clamp(
            -self.actor_noise_clip, self.actor_noise_clip
        )
        return (nets.actor(observations) + smooth).clamp(-1, 1)

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the action at the next state with the target actor."""
        # as in TD3, so that the TD target does not change with every update of the actor
        return super().next_actions(batch, noise, nets.using(actor="actor_target"))

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD loss, the normalised Q term and the cloning loss."""
        td = self.critic_loss(batch, targets, nets, info)
        actions = nets.actor(batch.observations)
        value = pessimistic_value(nets.frozen.critic(batch.observations, actions), self.rho)
        # a constant, which makes the weight of cloning independent of the reward scale
        scale = 1 / mean_absolute(value)
        error = (actions - batch.actions).square()
        info |= {"q_scale": scale, "action_mse": error.mean((1, 2))}
        return {
            "td": td,
            "actor": -scale * value.mean(-1),
            # a sum over coordinates, so cloning is stronger for longer chunks
            "bc": (batch.valid * error.sum(-1)).mean(-1),
        }
