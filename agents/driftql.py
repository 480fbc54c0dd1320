"""DriftQL: drift Q-learning, a one-step policy whose samples drift towards the data and away from each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from agents.common.common_settings import BUILT_INTO_NETWORKS
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
    choice,
    critic,
    log_range,
    normal,
    setting,
    velocity_field,
)

FAR = 1e6  # a distance at which the kernel is 0


class DriftQL(Method):
    r"""A one-step policy maximises Q, while its samples drift towards the dataset action and away from each other.

    .. math:: L = L_{TD} + w\,\mathbb{E}\lVert x_i - \mathrm{clip}(x_i + \eta\,\Delta_i)\rVert^2 / D
        - \mathbb{E}\,\bar Q(s, \mathrm{clip}\,\mu(s, z)), \qquad
        \Delta_i = (a - x_i) - \sum_{j \ne i} k_{ij}\,(x_j - x_i)

    The policy samples n actions :math:`x_i` in each state. The kernel weights :math:`k_{ij}` are the softmax, over the
    other samples j, of :math:`-d_{ij}/\tau` (Laplace) or :math:`-d_{ij}^2/2\tau^2` (Gaussian), with the distances
    :math:`d_{ij} = \lVert x_i - x_j\rVert/\sqrt D`.

    Source: Drift Q-Learning, arXiv 2606.00350, and the authors' code (github.com/DT6A/driftql, ``agents/driftql.py``).
    """

    drift_weight: float = setting(
        default=10.0,
        reference="alpha",
        above=0,
        search=log_range(1, 3000),
        doc="Weight w of the drift loss.",
    )
    drift_samples: int = setting(
        default=32, reference="drift_ngen", at_least=2, doc="Number n of samples per state."
    )
    drift_temperature: float = setting(
        default=0.2,
        reference="drift_temp",
        above=0,
        search=log_range(0.02, 1),
        doc="Kernel width tau.",
    )
    drift_step: float = setting(
        default=1.0, reference="drift_eta", above=0, doc="Step size eta along the drift."
    )
    kernel: Literal["laplace", "gaussian"] = setting(
        default="laplace",
        search=choice("laplace", "gaussian"),
        doc="Kernel of the repulsion, `laplace` or `gaussian`.",
    )
    scale_distances: bool = setting(
        default=True, reference="dim_scale", doc="Divide distances by the square root of D."
    )
    normalize_drift: bool = setting(
        default=False,
        reference="drift_normalize",
        doc="Scale each state's drift to a root mean square of 1.",
    )
    normalize_q: bool = setting(
        default=False,
        reference="normalize_q_loss",
        doc="Divide the Q term by the mean absolute value of Q.",
    )
    noise_size: int | None = setting(
        default=None,
        reference="noise_dim",
        at_least=1,
        fixed=BUILT_INTO_NETWORKS,
        doc="Dimension of the policy's noise; None: the dimension D of an action chunk.",
    )
    ensemble_size: int = setting(default=2)
    rho: float = setting(default=1.0, reference="q_agg", search=choice(0.0, 1.0))

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics and the one-step policy."""
        return {
            "critic": critic(),
            "policy": velocity_field(time=False, noise_size=self.noise_size),
        }

    def policy_noise(self, axes: str = "B", **sizes: int) -> Draw:
        """Return the declaration of the noise that the policy maps to actions."""
        if self.noise_size is None:
            return normal(f"{axes}D", **sizes)
        return normal(f"{axes}Z", Z=self.noise_size, **sizes)

    def noise(self) -> dict[str, Draw]:
        """Return the noise of the drifting samples and of the Q term."""
        drift_noise = self.policy_noise("BM", M=self.drift_samples)
        return {"drift_z": drift_noise, "q_z": self.policy_noise()}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the policy's noise."""
        return {"action": self.policy_noise()}

    def loss_weights(self) -> dict[str, float]:
        """Return the weight of the drift loss."""
        return {"drift": self.drift_weight}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Map noise to actions in one step."""
        return nets.policy(observations, noise["action"]).clamp(-1, 1)

    def drift(self, samples: Tensor, actions: Tensor) -> Tensor:
        """Return the drift of each state's samples, towards the dataset action and away from the other samples.

        :param samples: (S, B, M, D).
        :param actions: dataset actions, (S, B, D).
        :return: (S, B, M, D).
        """
        scale = samples.shape[-1] ** 0.5 if self.scale_distances else 1.0
        # a sample is not repelled by itself
        itself = torch.eye(samples.shape[-2], dtype=torch.bool, device=samples.device)
        distance = torch.cdist(samples, samples).masked_fill(itself, FAR) / scale
        if self.kernel == "laplace":
            weights = (-distance / self.drift_temperature).softmax(-1)
        else:
            weights = (-distance.square() / (2 * self.drift_temperature**2)).softmax(-1)
        # each state has one dataset action, so its kernel weight is 1
        attraction = actions.unsqueeze(2) - samples
        repulsion = weights @ samples - samples  # weights sum to 1
        drift = attraction - repulsion
        if self.normalize_drift:
            return rms_norm(drift, drift.shape[2:], eps=1e-12)
        return drift

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD and drift losses, and the Q term."""
        td = self.critic_loss(batch, targets, nets, info)
        policy = nets.policy.at(batch.observations)
        samples = policy(noise["drift_z"].movedim(2, 1)).movedim(1, 2).clamp(-1, 1)  # (S, B, M, D)
        drift = self.drift(samples.detach(), batch.actions.clamp(-1, 1))
        # constants: the policy regresses to its drifted samples
        goals = (samples.detach() + self.drift_step * drift).clamp(-1, 1)
        value = nets.frozen.critic(batch.observations, policy(noise["q_z"]).clamp(-1, 1)).mean(1)
        q_term = -value.mean(-1)
        if self.normalize_q:
            q_term = q_term / (value.detach().abs().mean(-1) + 1e-6)
        info["drift_norm"] = drift.norm(dim=-1).mean((1, 2))
        return {
            "td": td,
            "drift": (batch.valid * (samples - goals).square().mean((2, 3))).mean(-1),
            "q": q_term,
        }
