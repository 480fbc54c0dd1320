"""What an algorithm is: settings, networks, noise, sampler, targets and losses. Stable-Baselines3 is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
AXES = "B (rows), N (candidates), K (flow steps), D (flattened chunk) and O (observation)"


@dataclass(frozen=True)
class Draw:
    """Declaration of one random tensor of an update; :func:`normal`, :func:`uniform` and :func:`integers` make it.

    :param kind: standard normal, uniform in [0, 1), or integers 1..K stored as floats.
    :param axes: letters of the axes after the leading S: B rows, N candidates, K flow steps, D flattened chunk, O
        observation.
    :param sizes: size of each further axis, by its letter.
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
                f"unknown axis in {self.axes!r}; use {AXES}. S is added automatically. For a further axis give its "
                'size, e.g. normal("BL", L=16)'
            )

    def __call__(
        self,
        sizes: Mapping[str, int],
        generator: torch.Generator | None,
        device: torch.device | str,
    ) -> Tensor:
        """Draw the tensor.

        :param sizes: size of every axis letter that is not its own, with ``S``.
        :param generator: on ``device``; None uses PyTorch's global one.
        :param device: where the tensor lives.
        :return: (S, *axes).
        """
        all_sizes = {**sizes, **self.sizes}
        shape = [all_sizes[letter] for letter in "S" + self.axes]
        # in float32 whatever PyTorch's default dtype, on which a seed's numbers must not depend
        if self.kind == "integer":
            steps = torch.randint(1, sizes["K"] + 1, shape, generator=generator, device=device)
            return steps.float()
        draw = torch.randn if self.kind == "normal" else torch.rand
        return draw(shape, generator=generator, device=device, dtype=torch.float32)

    @property
    def row_axis(self) -> int:
        """Place of the axis B, where S is 0."""
        return 1 + self.axes.index("B")

    def centre(self, flow_steps: int) -> float:
        """Return what stands for each number of the draw in a deterministic plan: the middle of where it is drawn.

        :param flow_steps: K.
        :return: 0 for normal, 0.5 for uniform draws, and a whole number for integers.
        """
        return {"normal": 0.0, "uniform": 0.5, "integer": float((flow_steps + 1) // 2)}[self.kind]

    def with_candidates(self) -> Draw:
        """Return the draw for N candidates of every row: the same with the axis N after B."""
        # side by side, so that candidates become rows without a copy
        return Draw(self.kind, self.axes.replace("B", "BN"), self.sizes)


def normal(axes: str = "BD", **sizes: int) -> Draw:
    """Declare a standard normal random tensor.

    :param axes: letters of the axes after S, see :class:`Draw`.
    :param sizes: size of each further axis, by its letter.
    :return: the declaration.

    >>> normal("BLD", L=16)({"S": 1, "B": 256, "D": 5}, None, "cpu").shape
    torch.Size([1, 256, 16, 5])
    """
    return Draw("normal", axes, sizes)


def uniform(axes: str = "B", **sizes: int) -> Draw:
    """Declare a random tensor of uniform times in [0, 1).

    :param axes: letters of the axes after S, see :class:`Draw`.
    :param sizes: size of each further axis, by its letter.
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


# made once: tables of draws are asked for in every plan
STANDARD_NORMAL = normal()


class Method(CommonSettings):
    """An algorithm: a subclass names networks and noise and writes sampler (:meth:`act`), targets and losses.

    One object serves a model for training and acting. Shapes: S replicas, B rows, O observation size, D flattened
    chunk. Defaults are those of the reference implementation of Q-learning with Adjoint Matching (arXiv 2601.14234).

    Behaviour cloning with a flow, as an algorithm of its own:

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
    """Losses that read the batch's actions or rewards and deliberately include rows with ``batch.valid`` 0."""
    trains: ClassVar[Mapping[str, frozenset[str]]] = {}
    """Loss -> the networks that it trains; a loss that is not named trains one network."""
    _without_positional = (
        "it says what an algorithm is, and a model is another class: `agents.QAM` of `agents.qam.QAM`, or in general "
        "`agents.get(id).algorithm`"
    )
    fails_by_design: ClassVar[Mapping[str, str]] = {}
    """Checks of the conformance kit that the algorithm fails as it is meant to -> the reason."""
    step_observations: ClassVar[bool] = False
    """Whether batches hold the states inside of chunks, ``batch.step_observations`` and those after them."""
    pretrained: PretrainedFlow | None = None
    """A network of the user's own in place of the behaviour flow."""
    trains_behaviour: ClassVar[bool] = False
    """Whether the behaviour flow is the policy itself, which more than cloning trains."""
    samples_next_action: ClassVar[bool] = True
    """Whether an update draws the noise of a next action, besides the draws of :meth:`noise`."""
    hooks_checked = False
    """Whether its hooks have been tried, as they are once before training."""

    # -- what an algorithm defines ------------------------------------------------------------------------------------

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the algorithm's networks by name, in the order in which they are initialised."""
        raise NotImplementedError(
            'must be defined; it returns {"critic": critic(target=True), ...}, every network by name (docs/register.md)'
        )

    def noise(self) -> dict[str, Draw]:
        """Return every random draw of an update by name, besides those of the next action."""
        raise NotImplementedError(
            'must be defined; it returns {"bc_x0": normal(), ...}, every random draw by name (docs/register.md)'
        )

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the random draws of one call of :meth:`act` by name."""
        return {"action": STANDARD_NORMAL}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks, one candidate a row: for TD targets, collection and evaluation.

        :param observations: as the networks see them, (S, B, O).
        :param noise: the draws of :meth:`action_noise_table`.
        :param nets: the networks.
        :return: actions in [-1, 1], (S, B, D).
        """
        raise NotImplementedError(
            "must be defined; it returns actions (S, B, D) in [-1, 1] for observations (S, B, O) (docs/register.md)"
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Compute what the losses regress to, by default the TD target; no gradient is recorded here.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: tensors by name.
        """
        return self.td_targets(batch, noise, nets)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Compute the losses, unscaled; each is a mean over rows, so that replicas never mix.

        :param batch: the batch.
        :param targets: from :meth:`targets`.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: name -> (S,).
        """
        raise NotImplementedError(
            "must be defined; it returns a dict of losses by name, each (S,) (docs/register.md)"
        )

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the losses, by the settings; those not named weigh 1."""
        return {}

    def pretraining_loss(self, flow: Any, batch: Batch, noise: Noise) -> Tensor:
        """Compute the loss of cloning, which pretraining minimises alone and unweighted.

        :param flow: the behaviour flow.
        :param batch: the batch.
        :param noise: ``bc_x0``, standard normal (S, B, D), and ``bc_t``, uniform (S, B).
        :return: (S,).
        """
        return cloning_loss(flow, batch, noise)

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Rate candidate actions for best-of-n: the online critics' plain mean.

        :param observations: (S, B, O).
        :param actions: (S, B, D).
        :param nets: the networks.
        :return: (S, B).
        """
        return nets.critic(observations, actions).mean(1)

    def skipped_networks(self) -> frozenset[str]:
        """Return the names of the networks that are not updated, by the settings; those of targets end in ``_target``.

        They take no part in the gradient's norm, and their optimiser state stays.
        """
        return frozenset()

    def after_update(self, nets: Networks, info: Info) -> None:
        """Update state that is not trained by gradient, e.g. a multiplier.

        :param nets: the networks.
        :param info: the update's losses and diagnostics.
        """

    def before_online(self, nets: Networks) -> None:
        """Prepare for online training, e.g. change a budget.

        :param nets: the networks.
        """

    # -- what follows from it -----------------------------------------------------------------------------------------

    def specs(self) -> dict[str, NetworkSpec]:
        """Return the networks by name, with a network of the user's own in place of the behaviour flow."""
        specs = self.networks()
        if self.pretrained is not None:
            specs = self.pretrained.in_place_of(specs)
        return specs

    @property
    def rates_actions(self) -> bool:
        """Whether it has a value: a network named ``critic``, which :meth:`score` asks, or a `score` of its own."""
        return "critic" in self.networks() or type(self).score is not Method.score

    def candidate_noise(self) -> dict[str, Draw]:
        """Return the draws of one action choice, with an axis N when several candidates compete."""
        table = self.action_noise_table()
        if self.best_of_n > 1:
            table = {name: draw.with_candidates() for name, draw in table.items()}
        return table

    def with_rows_in_place(self, noise: Noise) -> dict[str, Tensor]:
        """Return noise (S, B, ...), as plans are given it, with the rows where the axes of its draws have them."""
        draws = self.candidate_noise()
        return {name: draw.movedim(1, draws[name].row_axis) for name, draw in noise.items()}

    def update_noise(self) -> dict[str, Draw]:
        """Return every draw that the losses of one update read: the next action's, prefixed ``td_``, and its own."""
        if not self.samples_next_action:
            return self.noise()
        of_actions = {f"td_{name}": draw for name, draw in self.candidate_noise().items()}
        # draws follow each other in this order: another one would change a seed's numbers
        return {**of_actions, **self.noise()}

    def crop_noise(self) -> dict[str, Draw]:
        """Return the draws of random crops: none without them, or whether they are done, and where images begin."""
        if not self.random_crop:
            return {}
        return {"crop": uniform(""), "crop_y": uniform(), "crop_x": uniform()}

    def sample_actions(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks, choosing the best of n candidates by :meth:`score` when ``best_of_n`` > 1.

        :param observations: (S, B, O).
        :param noise: the draws of :meth:`candidate_noise`.
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
        # encoders see each observation once, not once for every candidate
        with nets.repeating(observations, n) as repeated:
            candidates = self.act(repeated, row_noise, nets)
            scores = self.score(repeated, candidates, nets)
        return pick_best(candidates.unflatten(1, (-1, n)), scores.unflatten(1, (-1, n)))

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the next state's action of the TD target, the best of n candidates as in acting.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :return: (S, B, D).
        """
        of_update = noise.items()
        action_noise = {name[3:]: draw for name, draw in of_update if name.startswith("td_")}
        return self.sample_actions(batch.next_observations, action_noise, nets)

    def critic_loss(self, batch: Batch, targets: Targets, nets: Networks, info: Info) -> Tensor:
        """Compute the TD loss of the critics at the batch's actions, and note statistics of their predictions.

        :param batch: the batch.
        :param targets: ``td``, (S, B).
        :param nets: the networks.
        :param info: gets ``q_mean``, ``q_max`` and ``q_min``.
        :return: (S,).
        """
        q = nets.critic(batch.observations, batch.actions)
        info |= q_statistics(q)
        return td_loss(q, targets["td"], batch.valid)

    def td_targets(self, batch: Batch, noise: Noise, nets: Networks) -> Targets:
        """Sample the next actions, and return them with the TD target, which the target critics give.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :return: ``next_actions``, (S, B, D), and ``td``, (S, B).
        """
        next_actions = self.next_actions(batch, noise, nets)
        next_q = nets.critic_target(batch.next_observations, next_actions)
        return {"next_actions": next_actions, "td": td_target(batch, next_q, self.rho)}
