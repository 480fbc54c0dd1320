"""ReBRAC: a deterministic actor held to the data by a squared distance."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from agents.common.base import CommonArguments, FlowQLearning, GymEnv, Info, Losses, Targets
from agents.common.batch import Batch
from agents.common.maths.critic import pessimistic_value, q_statistics, td_loss, td_target
from agents.common.nets.specs import Networks, NetworkSpec, critic, tanh_actor
from agents.common.noise import Draw, Noise, normal
from agents.common.policy import FlowPolicy
from agents.common.validation import boolean, integer, number
from agents.registry import register


@register(
    "rebrac",
    paper="Revisiting the Minimalist Approach to Offline Reinforcement Learning (Tarasov et al., arXiv 2305.09836)",
    published_name="ReBRAC",
)
class ReBRAC(FlowQLearning):
    r"""TD3's successor with behaviour cloning: no flow, one action per state, smoothed by clipped noise.

    .. math:: L = L_{TD} - \lambda\,\mathbb{E}\,Q_{pess}(s, \mu(s)) + w\,\mathbb{E}\lVert\mu(s) - a\rVert^2,\quad
        \lambda = 1/\mathbb{E}|Q_{pess}(s, \mu(s))|

    Source: Tarasov et al., Revisiting the Minimalist Approach to Offline Reinforcement Learning, arXiv 2305.09836.
    Differs in, as in the comparison of arXiv 2601.14234: no cloning penalty in the critic's target; mean minus ``rho``
    standard deviations of ten critics, not the minimum of two; the noise stays in collection and evaluation; only the
    targets are delayed, the actor moves at every update (``true_delay`` delays it too).

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param bc_weight: weight w of the distance to the data, ``alpha_actor`` in the authors' code, >= 0.
    :param actor_noise: standard deviation of the noise on actions, >= 0.
    :param actor_noise_clip: bound of that noise in every coordinate, >= 0.
    :param policy_delay: updates per move of the targets, >= 1.
    :param true_delay: whether the actor, too, moves at every ``policy_delay``-th update only.
    :param head_scale: variance scale of the actor's last layer at the start, ``actor_fc_scale`` in the authors' code,
        > 0.
    :param common: the settings of :class:`FlowQLearning`.
    """

    def __init__(
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        bc_weight: float = 0.0,
        actor_noise: float = 0.2,
        actor_noise_clip: float = 0.5,
        policy_delay: int = 2,
        true_delay: bool = False,
        head_scale: float = 0.01,
        **common: Unpack[CommonArguments],
    ) -> None:
        self.bc_weight = number("bc_weight", bc_weight, at_least=0)
        self.actor_noise = number("actor_noise", actor_noise, at_least=0)
        self.actor_noise_clip = number("actor_noise_clip", actor_noise_clip, at_least=0)
        self.policy_delay = integer("policy_delay", policy_delay, at_least=1)
        self.true_delay = boolean("true_delay", true_delay)
        self.head_scale = number("head_scale", head_scale, above=0)
        super().__init__(policy, env, **common)

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics and actor, each with its moving average."""
        return {"critic": critic(target=True), "actor": tanh_actor(target=True, head_scale=self.head_scale)}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise that smooths an action."""
        return {"smooth": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return nothing: only the next action is smoothed."""
        return {}

    def skipped_networks(self) -> frozenset[str]:
        """Return what waits for the next delayed update."""
        if (self._n_updates + 1) % self.policy_delay == 0:
            return frozenset()
        return frozenset({"critic_target", "actor_target"} | ({"actor"} if self.true_delay else set()))

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of cloning."""
        return {"bc": self.bc_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Return the actor's action with clipped noise."""
        smooth = (self.actor_noise * noise["smooth"]).clamp(-self.actor_noise_clip, self.actor_noise_clip)
        actions: Tensor = nets.actor(observations) + smooth
        return actions.clamp(-1, 1)

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the next state's action with the target actor."""
        return super().next_actions(batch, noise, nets.using(actor="actor_target"))

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD target."""
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return the TD loss, the normalised Q term and the distance to the data."""
        q = nets.critic(batch.observations, batch.actions)
        actions = nets.actor(batch.observations)
        value = pessimistic_value(nets.frozen.critic(batch.observations, actions), self.rho)
        scale = 1 / value.detach().abs().mean(-1)
        error = (actions - batch.actions).square()
        info |= {**q_statistics(q), "q_scale": scale, "action_mse": error.mean((1, 2))}
        return {
            "td": td_loss(q, targets["td"], batch.valid),
            "actor": -scale * value.mean(-1),
            "bc": (batch.valid * error.sum(-1)).mean(-1),
        }
