"""Fitted Q evaluation: critics learn the value of a policy that stays as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

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
    critic,
    setting,
    state_value,
    td_loss,
)


class FQE(Method):
    r"""Critics regress to the rewards of the data and to their own value of what a fixed policy does next.

    .. math:: L = \sum_j \mathbb{E}\,(Q_j(s, a) - R - \gamma^h M\,\bar Q'(s', a'))^2, \qquad a' \sim \pi(s')

    with the mean of the target critics and no pessimism. h is what the policy plays of a plan, a is those h actions,
    and R is the discounted sum of their rewards. With ``fits_behaviour`` a state value is learnt as well, of whoever
    collected the data: :math:`(V(s) - R - \gamma^h M V'(s'))^2`.

    It is not registered, since it trains no policy: :meth:`of` makes it for one.

    Source: Le, Voloshin and Yue, Batch Policy Learning under Constraints, arXiv 1903.08738; with networks: Paine et
    al., Hyperparameter Selection for Offline Reinforcement Learning, arXiv 2007.09055. Differs in: moving averages in
    place of frozen targets.
    """

    hooks_checked = True  # there is no policy for made-up spaces
    policy: Any
    """The :class:`~agents.common.sb3.policy.FlowPolicy` that is evaluated, of one replica."""

    buffer_size: int = setting(default=1)  # it collects nothing
    ensemble_size: int = setting(default=1)
    rho: float = setting(default=0.0)
    tau: float = setting(default=0.05)
    net_arch: list[int] | dict[str, list[int]] | None = setting(default=[256, 256])
    fits_behaviour: bool = setting(
        default=False, fixed="networks are built with it", doc="Learn the value of the data too."
    )

    @classmethod
    def of(cls, policy: Any, **settings: Any) -> Self:
        """Return the evaluation of a policy, with settings in place of the defaults."""
        evaluated = policy.method
        # what the policy was built with
        shared = ("gamma", "flow_steps", "frame_stack", "encoder", "precision")
        of_policy = {name: getattr(evaluated, name) for name in shared}
        of_policy["horizon_length"] = evaluated.played_length
        method = cls(**{**of_policy, **settings})
        method.policy = policy
        return method

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics, and the value of the behaviour where it is learnt."""
        networks = {"critic": critic(target=True)}
        if self.fits_behaviour:
            networks["value"] = state_value(target=True)
        return networks

    def noise(self) -> dict[str, Draw]:
        """Return nothing: the loss draws nothing but the next action's noise."""
        return {}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the policy's draws, among as many candidates as it has, in the sizes of its whole plans."""
        policy = self.policy
        sizes = {"N": policy.method.best_of_n, "D": policy.chunk_size}
        return {
            name: replace(draw, sizes={**sizes, **draw.sizes})
            for name, draw in policy.method.candidate_noise().items()
        }

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Return the actions of the policy's plans that it plays."""
        policy = self.policy
        table = self.action_noise_table()
        draws = {}
        for name, draw in noise.items():
            # the policy has one replica, so that ours become rows of it
            row = table[name].row_axis
            draws[name] = draw.movedim(0, row - 1).flatten(row - 1, row).unsqueeze(0)
        rows = observations.flatten(0, 1).unsqueeze(0)
        plans = policy.method.sample_actions(rows, draws, policy.nets).clamp(-1, 1)
        played = policy.played_length * policy.action_size
        return plans[..., :played].reshape(*observations.shape[:2], played)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return the TD targets."""
        targets = self.td_targets(batch, noise, nets)
        if self.fits_behaviour:
            next_value = nets.value_target(batch.next_observations)
            targets["behaviour"] = batch.rewards + batch.discounts * next_value
        return targets

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD losses."""
        losses = {"td": self.critic_loss(batch, targets, nets, info)}
        if self.fits_behaviour:
            value = nets.value(batch.observations).unsqueeze(1)
            losses["behaviour"] = td_loss(value, targets["behaviour"], batch.valid)
        return losses
