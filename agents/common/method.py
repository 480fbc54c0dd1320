"""Base class of algorithms: settings, networks, noise, sampler, targets and losses, independent of SB3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.common_settings import CommonSettings
from agents.common.maths.critic import pick_best, q_statistics, td_loss, td_target
from agents.common.maths.flow import cloning_loss
from agents.common.nets.networks import Networks
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.nets.specs import NetworkSpec

Noise = Mapping[str, Tensor]
Info = dict[str, Tensor]
Losses = dict[str, Tensor]
Targets = dict[str, Tensor]
Kind = Literal["normal", "uniform", "integer"]


@dataclass(frozen=True)
class Draw:
    """Declaration of a random tensor; create it with :func:`normal`, :func:`uniform` or :func:`integers`.

    :param kind: standard normal, uniform in [0, 1), or integers 1..K stored as floats.
    :param axes: letters of the axes after the leading S: B rows, N candidates, K flow steps, D flattened chunk, O
        observation.
    :param sizes: size of each additional axis, by its letter.
    :raises ValueError: for an unknown letter.

    >>> {"bc_x0": normal(), "bc_t": uniform()}["bc_t"]
    Draw(kind='uniform', axes='B', sizes={})
    """

    kind: Kind
    axes: str
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not {*self.axes} <= {*"BNKDO", *self.sizes}:
            raise ValueError(
                f"unknown axis in {self.axes!r}; use B (rows), N (candidates), K (flow steps), D (flattened chunk) and "
                'O (observation). S is added automatically. For another axis pass its size, e.g. normal("BL", L=16)'
            )

    def __call__(
        self,
        sizes: Mapping[str, int],
        generator: torch.Generator | None,
        device: torch.device | str,
    ) -> Tensor:
        """Sample the tensor.

        :param sizes: sizes of ``S`` and the standard axes, by letter.
        :param generator: on ``device``; None uses PyTorch's global one.
        :param device: device of the tensor.
        :return: (S, *axes).
        """
        all_sizes = {**sizes, **self.sizes}
        shape = [all_sizes[letter] for letter in "S" + self.axes]
        if self.kind == "integer":
            steps = torch.randint(1, sizes["K"] + 1, shape, generator=generator, device=device)
            return steps.float()
        draw = torch.randn if self.kind == "normal" else torch.rand
        return draw(shape, generator=generator, device=device)

    @property
    def row_axis(self) -> int:
        """Index of the axis B; S has index 0."""
        return 1 + self.axes.index("B")

    def centre(self, flow_steps: int) -> float:
        """Return the value that replaces noise in deterministic mode: the centre of its distribution.

        :param flow_steps: K.
        :return: 0 for normal and 0.5 for uniform noise, a whole number for integers.
        """
        return {"normal": 0.0, "uniform": 0.5, "integer": float((flow_steps + 1) // 2)}[self.kind]


def normal(axes: str = "BD", **sizes: int) -> Draw:
    """Declare a standard normal random tensor.

    :param axes: letters of the axes after S, see :class:`Draw`.
    :param sizes: size of each additional axis, by its letter.
    :return: the declaration.

    >>> normal("BLD", L=16)({"S": 1, "B": 256, "D": 5}, None, "cpu").shape
    torch.Size([1, 256, 16, 5])
    """
    return Draw("normal", axes, sizes)


def uniform(axes: str = "B", **sizes: int) -> Draw:
    """Declare a random tensor of uniform times in [0, 1).

    :param axes: letters of the axes after S, see :class:`Draw`.
    :param sizes: size of each additional axis, by its letter.
    :return: the declaration.

    >>> uniform()({"S": 1, "B": 256}, None, "cpu").shape
    torch.Size([1, 256])
    """
    return Draw("uniform", axes, sizes)


def integers(axes: str = "B") -> Draw:
    """Declare a random tensor of uniform integers in 1..K, stored as floats.

    :param axes: letters of the axes after S, see :class:`Draw`.
    :return: the declaration.

    >>> integers("BN")({"S": 1, "B": 256, "N": 4, "K": 10}, None, "cpu").shape
    torch.Size([1, 256, 4])
    """
    return Draw("integer", axes)


# created once, because the noise declarations are read whenever actions are sampled
STANDARD_NORMAL = normal()


class Method(CommonSettings):
    """An algorithm: a subclass declares networks and noise, and defines sampler (:meth:`act`), targets and losses.

    A model trains and acts with the same instance. Shapes: S replicas, B rows, O observation size, D flattened
    chunk. Defaults are taken from the reference implementation of Q-learning with Adjoint Matching (arXiv 2601.14234).

    Behaviour cloning with a flow, as a custom algorithm:

    >>> from agents.core import cloning_loss, integrate_flow, normal, register, uniform, velocity_field
    >>> @register("my_bc", paper="My paper", published_name="MyBC")
    ... class MyBC(agents.Method):
    ...     def networks(self):
    ...         return {"actor": velocity_field(role="behaviour")}
    ...
    ...     def noise(self):
    ...         return {"bc_x0": normal(), "bc_t": uniform()}
    ...
    ...     def act(self, observations, noise, nets):
    ...         return integrate_flow(nets.actor.at(observations), noise["action"], self.flow_steps)
    ...
    ...     def targets(self, batch, noise, nets, info):
    ...         return {}
    ...
    ...     def losses(self, batch, targets, noise, nets, info):
    ...         return {"bc": cloning_loss(nets.actor, batch, noise)}
    >>> model = agents.get("my_bc").algorithm("MlpPolicy", "Pendulum-v1", net_arch=[32])
    """

    unmasked_losses: ClassVar[frozenset[str]] = frozenset()
    """Losses on the batch's actions or rewards that deliberately include rows with ``batch.valid == 0``."""
    trains: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Loss -> the networks that it trains; an unlisted loss trains one network."""
    fails_by_design: ClassVar[Mapping[str, str]] = {}
    """Conformance check that the algorithm is expected to fail -> the reason."""
    pretrained: PretrainedFlow | None = None
    """Custom flow that replaces the behaviour flow, or None."""
    trains_behaviour: ClassVar[bool] = False
    """Whether the behaviour flow is the policy itself; a frozen custom flow then cannot replace it."""
    samples_next_action: ClassVar[bool] = True
    """Whether an update samples next actions, for which :meth:`update_noise` then adds noise."""
    hooks_checked = False
    """Whether the hooks have been validated, which happens once, before training."""

    # -- hooks that an algorithm defines ------------------------------------------------------------------------------

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the algorithm's networks by name, in the order in which they are initialised."""
        raise NotImplementedError(
            'must be defined, and return all networks by name, e.g. {"critic": critic(target=True)} (docs/register.md)'
        )

    def noise(self) -> dict[str, Draw]:
        """Return the noise of an update by name, without the noise of next actions."""
        raise NotImplementedError(
            'must be defined, and return all noise by name, e.g. {"bc_x0": normal()} (docs/register.md)'
        )

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the noise, by name, of one call to :meth:`act`."""
        return {"action": STANDARD_NORMAL}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample one chunk per row, for TD targets, data collection and evaluation.

        :param observations: network inputs, (S, B, O).
        :param noise: noise declared by :meth:`action_noise_table`.
        :param nets: the networks.
        :return: actions in [-1, 1], (S, B, D).
        """
        raise NotImplementedError(
            "must be defined, and return actions (S, B, D) in [-1, 1] for observations (S, B, O) (docs/register.md)"
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Compute the regression targets of the losses, by default the TD target; gradients are disabled here.

        :param batch: the batch.
        :param noise: all noise of the update.
        :param nets: the networks.
        :param info: dict to add diagnostics to, each (S,).
        :return: tensors by name.
        """
        return self.td_targets(batch, noise, nets)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Compute the unweighted losses; each is a mean over rows, per replica.

        :param batch: the batch.
        :param targets: from :meth:`targets`.
        :param noise: all noise of the update.
        :param nets: the networks.
        :param info: dict to add diagnostics to, each (S,).
        :return: name -> (S,).
        """
        raise NotImplementedError(
            "must be defined, and return all losses by name, each (S,) (docs/register.md)"
        )

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of losses under the current settings; unlisted losses have weight 1."""
        return {}

    def pretraining_loss(self, flow: Any, batch: Batch, noise: Noise) -> Tensor:
        """Compute the unweighted cloning loss, the only loss of pretraining.

        :param flow: the behaviour flow.
        :param batch: the batch.
        :param noise: ``bc_x0``, standard normal (S, B, D), and ``bc_t``, uniform (S, B).
        :return: (S,).
        """
        return cloning_loss(flow, batch, noise)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Score candidate actions for best-of-n, by default with the online critics' mean Q.

        :param observations: (S, B, O).
        :param actions: (S, B, D).
        :param nets: the networks.
        :return: (S, B).
        """
        return nets.critic(observations, actions).mean(1)

    def skipped_networks(self) -> frozenset[str]:
        """Return the names of networks that updates skip under the current settings.

        The name of a target network is ``<name>_target``.
        Skipped networks are excluded from the gradient norm, and their optimiser state is not updated.
        """
        return frozenset()

    def after_update(self, nets: Networks, info: Info) -> None:
        """Update state that gradients do not train, e.g. a Lagrange multiplier.

        :param nets: the networks.
        :param info: the update's losses and diagnostics.
        """

    def before_online(self, nets: Networks) -> None:
        """Prepare for online training, e.g. change a trust-region budget.

        :param nets: the networks.
        """

    # -- derived from the hooks ---------------------------------------------------------------------------------------

    def specs(self) -> dict[str, NetworkSpec]:
        """Return the network specs by name; the custom flow in `pretrained`, if any, replaces the behaviour flow."""
        specs = self.networks()
        for name, spec in specs.items():
            if not isinstance(spec, NetworkSpec):
                raise TypeError(
                    f"network `{name}` must be declared by a function such as `critic()` or, for a PyTorch module, "
                    f"`from_module(make)`, got {type(spec).__name__}"
                )
        if self.pretrained is None:
            return specs
        return self.pretrained.in_place_of(specs)

    @property
    def can_score(self) -> bool:
        """Whether actions can be scored: there is a network named ``critic``, or :meth:`score` is overridden."""
        return "critic" in self.networks() or type(self).score is not Method.score

    def candidate_noise(self) -> dict[str, Draw]:
        """Return the noise of one sampled action, with an axis N if ``best_of_n`` > 1."""
        table = self.action_noise_table()
        if self.best_of_n > 1:
            # N follows B, so flattening (B, N) into rows needs no copy
            table = {
                name: replace(draw, axes=draw.axes.replace("B", "BN"))
                for name, draw in table.items()
            }
        return table

    def move_row_axes(self, noise: Noise) -> dict[str, Tensor]:
        """Move the row axis of noise (S, B, ...) to its declared position."""
        draws = self.candidate_noise()
        return {name: draw.movedim(1, draws[name].row_axis) for name, draw in noise.items()}

    def update_noise(self) -> dict[str, Draw]:
        """Return all noise of an update: noise for next actions, with the prefix ``td_``, and that of :meth:`noise`."""
        if not self.samples_next_action:
            return self.noise()
        next_action_noise = {f"td_{name}": draw for name, draw in self.candidate_noise().items()}
        # the order of the names fixes the random stream of a seed
        return {**next_action_noise, **self.noise()}

    def sample_actions(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks, choosing the best of n candidates by :meth:`score` when ``best_of_n`` > 1.

        :param observations: (S, B, O).
        :param noise: noise declared by :meth:`candidate_noise`.
        :param nets: the networks.
        :return: (S, B, D).
        """
        n = self.best_of_n
        if n == 1:
            return self.act(observations, noise, nets)
        row_noise = {}
        for name, draw in self.candidate_noise().items():
            axis = draw.row_axis
            row_noise[name] = noise[name].flatten(axis, axis + 1)  # each candidate becomes a row
        # encoders process each observation once, not once per candidate
        with nets.repeating(observations, n) as repeated:
            candidates = self.act(repeated, row_noise, nets)
            scores = self.score(repeated, candidates, nets)
        return pick_best(candidates.unflatten(1, (-1, n)), scores.unflatten(1, (-1, n)))

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the next actions of the TD target as in acting, including best-of-n.

        :param batch: the batch.
        :param noise: all noise of the update.
        :param nets: the networks.
        :return: (S, B, D).
        """
        prefix = "td_"
        action_noise = {
            name.removeprefix(prefix): value
            for name, value in noise.items()
            if name.startswith(prefix)
        }
        return self.sample_actions(batch.next_observations, action_noise, nets)

    def critic_loss(self, batch: Batch, targets: Targets, nets: Networks, info: Info) -> Tensor:
        """Compute the TD loss of the critics at the batch's actions, and add statistics of Q to ``info``.

        :param batch: the batch.
        :param targets: ``td``, (S, B).
        :param nets: the networks.
        :param info: receives ``q_mean``, ``q_max`` and ``q_min``.
        :return: (S,).
        """
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        return td_loss(q, targets["td"], batch.valid)

    def td_targets(self, batch: Batch, noise: Noise, nets: Networks) -> Targets:
        """Sample the next actions, and compute the TD target with the target critics.

        :param batch: the batch.
        :param noise: all noise of the update.
        :param nets: the networks.
        :return: ``next_actions``, (S, B, D), and ``td``, (S, B).
        """
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}
