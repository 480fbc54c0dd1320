"""QAM-E: QAM whose actions are refined by a small bounded edit."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from agents.common.base import CommonArguments, GymEnv, Info, Losses, Targets
from agents.common.batch import Batch
from agents.common.maths.edit import edit_losses, edited
from agents.common.nets.specs import Networks, NetworkSpec, tanh_gaussian, temperature
from agents.common.noise import Draw, Noise, normal
from agents.common.policy import FlowPolicy
from agents.common.validation import number
from agents.qam import QAM, QAMSettings
from agents.registry import register


class QAMEArguments(CommonArguments, QAMSettings, total=False):
    """Everything that the class hands on to QAM."""


@register(
    "qam_e",
    paper="Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
    published_name="QAM-E",
)
class QAME(QAM):
    r"""QAM and a soft actor-critic edit of its action, bounded by a scale.

    .. math:: a = \mathrm{clip}(\mathrm{ODE}(s, z; v_f) + c\,e),
        \quad e \sim \pi_{edit}(\cdot\mid s, a_{flow}) \in (-1, 1)^D

    Source: Li and Levine, Q-learning with Adjoint Matching, arXiv 2601.14234. Differs in: nothing.

    :param policy: see :class:`FlowQLearning`.
    :param env: see :class:`FlowQLearning`.
    :param edit_scale: bound c of the edit in every coordinate, > 0.
    :param target_entropy: entropy that the temperature aims at, in the edit's unscaled space; None: -D/2.
    :param settings: the settings of :class:`QAM`.
    """

    def __init__(
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *,
        edit_scale: float = 0.1,
        target_entropy: float | None = None,
        **settings: Unpack[QAMEArguments],
    ) -> None:
        self.edit_scale = number("edit_scale", edit_scale, above=0)
        self.target_entropy = None if target_entropy is None else number("target_entropy", target_entropy)
        super().__init__(policy, env, **settings)

    def networks(self) -> dict[str, NetworkSpec]:
        """Return QAM's networks, the edit policy and its temperature."""
        return {**super().networks(), "edit": tanh_gaussian(given_action=True), "temperature": temperature()}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise of flow and edit."""
        return {"action": normal(), "edit": normal()}

    def noise(self) -> dict[str, Draw]:
        """Return QAM's draws and those of the edit loss."""
        return {**super().noise(), "edit_z": normal(), "edit_eps": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Follow the flow, then add the edit."""
        return edited(nets.edit, observations, super().act(observations, noise, nets), noise["edit"], self.edit_scale)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return QAM's targets and the flow's actions, which the edit loss takes as given."""
        targets = super().targets(batch, noise, nets, info)
        return {**targets, "flow_actions": self.sample_flow(batch.observations, noise["edit_z"], nets)}

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Return QAM's losses and those of the edit policy and its temperature."""
        losses = super().losses(batch, targets, noise, nets, info)
        return losses | edit_losses(
            batch, targets["flow_actions"], noise["edit_eps"], nets, self.edit_scale, self.target_entropy, info
        )
