"""What TRQAM and SQAM share: a multiplier that holds the path KL between fine-tuned and behaviour flow at a budget."""

from __future__ import annotations

from typing import Any, Self, TypedDict, Unpack

import torch
from torch import Tensor

from agents.common.base import CommonArguments, FlowQLearning, GymEnv, Info
from agents.common.maths.flow import integrate_flow
from agents.common.nets.specs import Networks, NetworkSpec, critic, multiplier, velocity_field
from agents.common.noise import Noise
from agents.common.policy import FlowPolicy
from agents.common.validation import boolean, number


class TrustRegionSettings(TypedDict, total=False):
    """Settings that the algorithms hand on; documented at :class:`TrustRegion`."""

    kl_budget: float
    kl_budget_online: float | None
    multiplier_scale: float
    multiplier_learning_rate: float
    multiplier_min: float
    multiplier_max: float
    kl_average_rate: float
    kl_clip: float
    target_behaviour: bool
    freeze_base: bool


class TrustRegionArguments(CommonArguments, TrustRegionSettings, total=False):
    """Everything that the class takes by name."""


class TrustRegion(FlowQLearning):
    r"""Networks, sampler and multiplier of trust-region adjoint matching; a subclass adds the losses.

    After every update the average of the path KL and the multiplier move:

    .. math:: m \leftarrow (1-\beta) m + \beta\min(\widehat{KL}, c\,\epsilon),\quad
        \lambda \leftarrow \mathrm{clip}(\lambda + \eta (m - \epsilon))

    The effective multiplier is scale times lambda; its inverse is the effective inverse temperature. The average starts
    at zero, so that lambda falls at first whatever the KL, and it moves by at most eta epsilon an update.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param kl_budget: epsilon, the path KL per action of the chunk that is aimed at, > 0.
    :param kl_budget_online: replaces the budget when the online phase starts; None keeps it.
    :param multiplier_scale: factor of lambda in the loss, ``lam_scale`` in the authors' code, > 0.
    :param multiplier_learning_rate: eta, step size of lambda, >= 0.
    :param multiplier_min: lower bound of lambda, > 0.
    :param multiplier_max: upper bound of lambda, >= ``multiplier_min``.
    :param kl_average_rate: beta, weight of the newest KL in the average, in (0, 1].
    :param kl_clip: c, a single KL counts at most this many budgets, > 0.
    :param target_behaviour: whether the prior is the moving average of the behaviour flow, not the flow itself.
    :param freeze_base: whether the behaviour flow stays as pretraining left it; if not, it goes on cloning the data, as
        in the authors' code.
    :param gamma: discount per environment step.
    :param max_grad_norm: bound on the joint gradient norm.
    :param common: the settings of :class:`FlowQLearning`.
    """

    def __init__(  # type: ignore[misc]  # gives common settings another default
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        kl_budget: float = 1.0,
        kl_budget_online: float | None = None,
        multiplier_scale: float = 3.0,
        multiplier_learning_rate: float = 0.01,
        multiplier_min: float = 0.01,
        multiplier_max: float = 100.0,
        kl_average_rate: float = 0.1,
        kl_clip: float = 2.0,
        target_behaviour: bool = True,
        freeze_base: bool = False,
        gamma: float = 0.995,
        max_grad_norm: float | None = 1.0,
        **common: Unpack[CommonArguments],
    ) -> None:
        self.kl_budget = number("kl_budget", kl_budget, above=0)
        self.kl_budget_online = (
            None if kl_budget_online is None else number("kl_budget_online", kl_budget_online, above=0)
        )
        self.multiplier_scale = number("multiplier_scale", multiplier_scale, above=0)
        self.multiplier_learning_rate = number("multiplier_learning_rate", multiplier_learning_rate, at_least=0)
        self.multiplier_min = number("multiplier_min", multiplier_min, above=0)
        self.multiplier_max = number("multiplier_max", multiplier_max, at_least=self.multiplier_min)
        self.kl_average_rate = number("kl_average_rate", kl_average_rate, above=0, at_most=1)
        self.kl_clip = number("kl_clip", kl_clip, above=0)
        self.target_behaviour = boolean("target_behaviour", target_behaviour)
        self.freeze_base = boolean("freeze_base", freeze_base)
        super().__init__(policy, env, **{**common, "gamma": gamma, "max_grad_norm": max_grad_norm})

    def networks(self) -> dict[str, NetworkSpec]:
        """Return critics, behaviour flow, fine-tuned flow and the multiplier."""
        return {
            "critic": critic(target=True),
            "behaviour": velocity_field(target=True, role="behaviour"),
            "fine_tuned": velocity_field(role="copy"),
            "multiplier": multiplier(initial=1.0, budget=self.kl_budget),
        }

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the fine-tuned flow."""
        return integrate_flow(nets.fine_tuned.at(observations), noise["action"], self.flow_steps).clamp(-1, 1)

    def prior(self, nets: Networks) -> Any:
        """Return the network that the policy is held to.

        :param nets: the networks.
        :return: a velocity field with constant weights.
        """
        return nets.frozen.behaviour_target if self.target_behaviour else nets.frozen.behaviour

    def effective_multiplier(self, nets: Networks) -> Tensor:
        """Return the multiplier of the loss.

        :param nets: the networks.
        :return: (S,).
        """
        effective: Tensor = self.multiplier_scale * nets.multiplier.value
        return effective

    def scaled(self, sigmas: Tensor, nets: Networks) -> Tensor:
        """Return the noise scales of the loss, smaller for a larger multiplier.

        :param sigmas: of the rollout, (K, 1, 1).
        :param nets: the networks.
        :return: (S, K, 1, 1).
        """
        return sigmas / self.effective_multiplier(nets).clamp(min=1e-8).sqrt().view(-1, 1, 1, 1)

    def per_action(self, kl: Tensor) -> Tensor:
        """Return a path KL per action of the chunk.

        :param kl: (S,).
        :return: (S,).
        """
        return kl / (self.horizon_length if self.action_chunking else 1)

    # -- state --------------------------------------------------------------------------------------------------------

    def skipped_networks(self) -> frozenset[str]:
        """Return what pretraining does not train, and afterwards the base where it is frozen."""
        frozen = self.freeze_base and not self.pretraining
        return frozenset({"behaviour", "behaviour_target"}) if frozen else super().skipped_networks()

    def after_update(self, info: Info) -> None:
        """Move the multiplier."""
        with torch.no_grad():
            info |= self._move_multiplier(info["path_kl"])

    def _move_multiplier(self, kl: Tensor) -> Info:
        """Take one dual step and return its diagnostics."""
        state = self.policy.nets.multiplier
        state.kl_average.lerp_(torch.minimum(kl, self.kl_clip * state.budget), self.kl_average_rate)
        state.value.add_(self.multiplier_learning_rate * (state.kl_average - state.budget))
        state.value.clamp_(self.multiplier_min, self.multiplier_max)
        effective = self.effective_multiplier(self.policy.nets)
        return {
            "multiplier": effective,
            "sigma_scale": effective.clamp(min=1e-8).rsqrt(),
            "kl_average": state.kl_average.clone(),
            "kl_budget": state.budget.clone(),
        }

    def learn(self, *args: Any, **kwargs: Any) -> Self:
        """Train online, with the online budget where there is one; see :meth:`FlowQLearning.learn`.

        :param args: as there.
        :param kwargs: as there.
        :return: the model.
        """
        if self.kl_budget_online is not None:
            self.policy.nets.multiplier.budget.fill_(self.kl_budget_online)
        return super().learn(*args, **kwargs)
