"""BC: behaviour cloning with a flow."""

from __future__ import annotations

from typing import Any

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
    cloning_loss,
    integrate_flow,
    normal,
    setting,
    uniform,
    velocity_field,
)


def _require_one(name: str, value: Any) -> int:
    if value != 1:
        raise ValueError(
            f"`{name}` must be 1, got {value}: BC has no critic to choose among samples"
        )
    return 1


class BC(Method):
    r"""A flow learns the distribution of the dataset's action chunks; rewards are not used.

    .. math:: L = L_{FM}(v) = \mathbb{E}\lVert v(s, (1-t) z + t a, t) - (a - z)\rVert^2 / D

    This is the behaviour flow of Q-learning with Adjoint Matching and of most other algorithms here, trained alone as a
    baseline. Critic settings have no effect.

    Source: Lipman et al., Flow Matching for Generative Modeling, arXiv 2210.02747, conditional flow matching with the
    straight path.
    """

    # a frozen custom flow would leave nothing to train
    trains_behaviour = True
    samples_next_action = False

    best_of_n: int = setting(
        default=1, check=_require_one, doc="Must be 1: there is no critic to choose among samples."
    )

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the behaviour flow."""
        return {"behaviour": velocity_field(role="behaviour")}

    def noise(self) -> dict[str, Draw]:
        """Return the noise and times of flow matching."""
        return {"bc_x0": normal(), "bc_t": uniform()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Integrate the flow."""
        flow = nets.behaviour.at(observations)
        return integrate_flow(flow, noise["action"], self.flow_steps).clamp(-1, 1)

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Return no targets: the flow regresses to the data."""
        return {}

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the flow-matching loss."""
        return {"bc_flow": cloning_loss(nets.behaviour, batch, noise)}
