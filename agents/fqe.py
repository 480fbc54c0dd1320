"""Fitted Q evaluation: critics learn from data what a policy is worth, which itself stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from agents.common.data.arrays import Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.model import FlowAlgorithm
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, seeds_of_replicas, torch_generator
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
from agents.models import model_class


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
        """Return the TD losses; chunks in which an episode terminates count, since the rest of them is never played."""
        valid = batch.valid.maximum((batch.discounts == 0).to(batch.valid.dtype))
        batch = replace(batch, valid=valid)
        losses = {"td": self.critic_loss(batch, targets, nets, info)}
        if self.fits_behaviour:
            value = nets.value(batch.observations).unsqueeze(1)
            losses["behaviour"] = td_loss(value, targets["behaviour"], batch.valid)
        return losses


# -- the evaluation of a policy ----------------------------------------------------------------------------------------

Array = NDArray[Any]
CRITICS = 5
HELD_OUT = 10
"""One in so many trajectories is held out, beginning with the first."""
ROWS = 512  # held-out sequences on which critics are tested
ROUND_STEPS = 500  # updates between two looks at the held-out error
PATIENCE = 4  # rounds without a better one, after which training ends
SETTLED = 0.01
"""Change over as many rounds, as a share, up to which the error has not fallen and the value has not moved."""
NOISE_SHARE = 0.25
"""Change of the value as a share of the critics' spread that does not count: the interval is wider."""
RESAMPLES = 1_000


@dataclass(frozen=True)
class ValueEstimate:
    """A discounted value at the first states of trajectories.

    :param value: its mean over trajectories and critics.
    :param interval: 95% interval from resampled trajectories and critics, extended by the drift on both sides.
    :param critics: the mean of each critic; empty for returns.
    :param drift: how far the value moved in the last rounds of training, from zero at the start; 0 for returns.
    """

    value: float
    interval: tuple[float, float]
    critics: list[float]
    drift: float


@dataclass(frozen=True)
class FittedValue:
    """Values of a policy and of the behaviour that collected the data.

    :param behaviour_from: ``returns`` if all trajectories of the data terminate, else ``fitted``.
    :param updates: gradient steps.
    :param settled: whether training converged before the maximum number of steps.
    :param held_out_errors: mean TD error of the held-out trajectories after each round, over the mean squared reward.
    :param action_distance: mean squared distance of the policy's actions from the data's in the same states, over that
        of two random actions of the data. Above 1 the estimate rests on actions that the data lack.
    """

    policy: ValueEstimate
    behaviour: ValueEstimate
    behaviour_from: str
    updates: int
    settled: bool
    held_out_errors: list[float]
    action_distance: float


def fitted_q(
    policy: FlowPolicy,
    data: Transitions,
    *,
    steps: int = 20_000,
    seed: int = 0,
    observe: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> FittedValue:
    """Estimate the discounted value of a policy from data that somebody else has collected.

    Five critics learn, each from trajectories of its own that are drawn with replacement, until neither the TD error of
    the trajectories that are held out falls nor the value moves.

    :param policy: of one replica.
    :param data: transitions with the rewards of the task.
    :param steps: maximum number of updates.
    :param seed: of networks, batches, trajectories and noise.
    :param observe: called with the updates so far and the value after each round.
    :param settings: settings of :class:`FQE` in place of its defaults.
    :return: the values of the policy and of the data's behaviour.
    :raises ValueError: if there are too few trajectories.
    :raises ArithmeticError: if the values diverge.
    """
    is_complete = bool((data.arrays["masks"][data.valid][data.ends] == 0).all())
    method = FQE.of(policy, fits_behaviour=not is_complete, **settings)
    model, unit = _make_model(method, policy, data, seed)
    policy.set_training_mode(False)
    test = _HeldOutTest(model, seed)
    errors: list[float] = []
    # networks are initialised near zero, so early values are still drifting
    means: dict[str, list[float]] = {name: [0.0] for name in method.networks()}
    settled = False
    while model.offline_steps < steps and not settled:
        model.learn_offline(min(ROUND_STEPS, steps - model.offline_steps), log_interval=None)
        errors.append(test.error())
        values = test.values()
        for name, of_network in values.items():
            means[name].append(float(of_network.mean()))
        value = means["critic"][-1]
        if not np.isfinite([errors[-1], value]).all():
            raise ArithmeticError(
                f"fitted Q evaluation must stay finite, got {unit * value:g} after {model.offline_steps} updates; "
                "play the policy, which may have diverged"
            )
        if observe is not None:
            observe(model.offline_steps, unit * value)
        settled = _has_settled(errors, means["critic"], float(values["critic"].mean(1).std(ddof=1)))
    if is_complete:
        behaviour = _estimate(discounted_returns(data, method.gamma)[None], seed)
    else:
        behaviour = _estimate(unit * values["value"], seed, unit * _drift(means["value"]))
    return FittedValue(
        policy=_estimate(unit * values["critic"], seed, unit * _drift(means["critic"])),
        behaviour=behaviour,
        behaviour_from="returns" if is_complete else "fitted",
        updates=model.offline_steps,
        settled=settled,
        held_out_errors=errors,
        action_distance=test.action_distance(),
    )


def _make_model(
    method: FQE, policy: FlowPolicy, data: Transitions, seed: int
) -> tuple[FlowAlgorithm, float]:
    """Return the model whose replicas are the critics, with its data, and the unit of its rewards."""
    # Adam's steps have one size: measured in returns, its jitter would hide the rewards by which states differ
    unit = float(np.sqrt(np.square(data.arrays["rewards"][data.valid]).mean())) or 1.0
    model = model_class(FQE)(
        type(policy),
        None,
        observation_space=policy.observation_space,
        action_space=policy.action_space,
        method=method,
        seeds=seeds_of_replicas(seed, CRITICS),
        replay_buffer_class=ResampledBuffer,
        device=policy.device,
    )
    model.load_dataset(_normalised(data, policy, unit))
    assert isinstance(model.replay_buffer, ResampledBuffer)
    model.replay_buffer.resample(seed)
    return model, unit


class ResampledBuffer(SequenceReplayBuffer):
    """Draws the sequences of each replica from trajectories of its own, resampled with replacement.

    So the spread of the replicas is the sampling error of what is fitted, as a bootstrap gives it. Source: Hao et al.,
    Bootstrapping Fitted Q-Evaluation for Off-Policy Inference, arXiv 2102.03607.
    """

    starts: Tensor
    """Rows at which sequences begin, (S, n), padded."""
    counts: Tensor
    """How many rows each replica has, (S, 1)."""
    held_out_starts: Tensor

    def resample(self, seed: int) -> None:
        """Hold out one in ten trajectories of the dataset, and draw those of each replica from the others.

        :param seed: of the draws.
        :raises ValueError: if there are fewer than two trajectories to draw from.
        """
        dones = self.dones[: self.dataset_size].cpu()
        masks = self.masks[: self.dataset_size].cpu()
        ends = dones.nonzero().flatten() + 1
        starts = []
        for rows in torch.arange(self.dataset_size).tensor_split(ends[:-1]):
            # a chunk that runs over a termination is known to its end, one that runs over a time limit is not
            unknown = self.horizon_length - 1 if masks[rows[-1]] else 0
            if len(rows) > unknown:
                starts.append(rows[: len(rows) - unknown])
        if len(starts) < 2:
            raise ValueError(
                f"fitted Q evaluation needs two trajectories with {self.horizon_length} steps or more, one of them to "
                f"hold out; got {len(starts)}: give more data"
            )
        held_out = starts[::HELD_OUT]
        del starts[::HELD_OUT]
        generator = torch_generator(Purpose.EVALUATION_START, seed)
        draws = torch.randint(len(starts), (self.replicas, len(starts)), generator=generator)
        drawn = [torch.cat([starts[number] for number in draw]) for draw in draws.tolist()]
        device = self.observations.device
        self.starts = pad_sequence(drawn, batch_first=True).to(device)
        self.counts = torch.tensor([[len(rows)] for rows in drawn], device=device)
        self.held_out_starts = torch.cat(held_out).to(device)

    def draw_rows(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Draw start positions, and return the rows of the sequences that begin there, (S, B, H)."""
        draw = torch.rand(
            shape, dtype=torch.float64, device=self.starts.device, generator=generator
        )
        return self.sequence_rows(self.starts.gather(1, (draw * self.counts).long()))


class _HeldOutTest:
    """Tests critics on held-out sequences, and reads their values in the first states of trajectories."""

    def __init__(self, model: FlowAlgorithm, seed: int) -> None:
        policy, buffer = model.policy, model.replay_buffer
        assert isinstance(buffer, ResampledBuffer)
        self._policy = policy
        generator = torch_generator(Purpose.EVALUATION_NOISE, seed)
        drawn = torch.randint(len(buffer.held_out_starts), (ROWS,), generator=generator)
        held_out = buffer.sequence_rows(buffer.held_out_starts[drawn][None])
        self._batch = batch_for(policy, buffer, held_out)
        self._first = batch_for(policy, buffer, first_sequences(buffer)).observations
        self._noise = self._draw(policy.method.update_noise(), ROWS, generator)
        table = policy.method.candidate_noise()
        self._first_noise = self._draw(table, self._first.shape[1], generator)

    def _draw(self, table: Mapping[str, Draw], rows: int, generator: torch.Generator) -> Noise:
        """Return noise of every replica, drawn on the CPU so that a device changes no number."""
        draws = self._policy.draw_noise(table, rows, generator)
        return {name: draw.to(self._policy.device) for name, draw in draws.items()}

    def error(self) -> float:
        """Return the mean TD error on the held-out sequences."""
        self._policy.set_training_mode(False)
        return float(losses_on(self._policy, self._batch, self._noise)["loss"].mean())

    def values(self) -> dict[str, Array]:
        """Return by network the value in the first states, (S, k)."""
        nets = self._policy.nets
        with torch.no_grad():
            actions = self._policy.method.act(self._first, self._first_noise, nets)
            values = {"critic": as_array(nets.critic(self._first, actions).mean(1))}
            if "value" in nets:
                values["value"] = as_array(nets.value(self._first))
        return values

    def action_distance(self) -> float:
        """Return how far the policy's actions are from the data's, relative to two actions of the data."""
        batch = self._batch
        noise = self._draw(
            self._policy.method.candidate_noise(),
            ROWS,
            torch_generator(Purpose.EVALUATION_NOISE, 1),
        )
        with torch.no_grad():
            actions = self._policy.method.act(batch.observations, noise, self._policy.nets)
        distance = (actions - batch.actions).square().mean()
        return float(distance / (2 * batch.actions.var(1).mean()))


def batch_for(policy: FlowPolicy, buffer: SequenceReplayBuffer, rows: Tensor) -> Batch:
    """Return the batch of some sequences, (1, B, H), on the device of a policy, the same for each of its replicas."""
    batch = buffer._get_samples(rows)
    return batch.map(
        lambda values: values.to(policy.device).expand(policy.num_replicas, *values.shape[1:])
    )


def first_sequences(buffer: SequenceReplayBuffer) -> Tensor:
    """Return the rows of the sequences that begin the trajectories of a dataset, (1, k, H)."""
    # a trajectory starts after the end of the one before
    starts = buffer.dones[: buffer.dataset_size - 1].nonzero().flatten() + 1
    return buffer.sequence_rows(torch.cat([starts.new_zeros(1), starts])[None])


def losses_on(policy: FlowPolicy, batch: Batch, noise: Noise) -> dict[str, Array]:
    """Return the losses of an update by name, ``td_loss`` and so on, and their weighted total ``loss``, each (S,)."""
    method = policy.method
    nets = policy.nets
    # schedules of losses do not advance here, so that the same loss is compared at different steps
    batch = replace(batch, updates=torch.zeros(policy.num_replicas, device=policy.device))
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
    losses = method.losses(batch, targets, noise, nets, {})
    weights = method.loss_weights()
    total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)
    arrays = {f"{name}_loss": as_array(loss) for name, loss in losses.items()}
    return {"loss": as_array(total), **arrays}


def discounted_returns(data: Transitions, gamma: float) -> Array:
    """Return the discounted return of each trajectory, (k,)."""
    rewards = np.asarray(data.arrays["rewards"][data.valid], np.float64)
    parts = np.split(rewards, np.flatnonzero(data.ends)[:-1] + 1)
    return np.array([gamma ** np.arange(len(part)) @ part for part in parts])


def _normalised(data: Transitions, policy: FlowPolicy, unit: float) -> Transitions:
    """Return data with rewards in a unit, and vectors as the policy's networks get them."""
    rewards = data.arrays["rewards"] / np.float32(unit)
    data = replace(data, arrays={**data.arrays, "rewards": rewards})
    if not policy.layout.is_plain:
        return data

    def normalise(rows: Array) -> Array:
        tensor = torch.as_tensor(policy.layout.flatten(rows), device=policy.device)
        array: Array = policy.preprocess_raw(tensor).cpu().numpy()
        return array

    observations = normalise(data.arrays["observations"])
    return replace(
        data,
        arrays={**data.arrays, "observations": observations},
        final_observations=normalise(data.final_observations),
    )


def _has_settled(errors: list[float], means: list[float], spread: float) -> bool:
    """Return whether neither the held-out error has fallen in the last rounds nor the value moved.

    The error alone would end it too early: it rises while values grow from zero to their size.

    :param errors: held-out errors, one a round.
    :param means: the value after each round, and 0 before them.
    :param spread: standard deviation of the critics' means.
    :return: whether to stop.
    """
    if len(errors) <= PATIENCE:
        return False
    has_fallen = min(errors[-PATIENCE:]) < (1 - SETTLED) * min(errors[:-PATIENCE])
    tolerance = max(SETTLED * abs(means[-1]), NOISE_SHARE * spread)
    return not has_fallen and _drift(means) <= tolerance


def _drift(means: list[float]) -> float:
    """Return how far a value moved in the last rounds."""
    return float(np.ptp(means[-PATIENCE - 1 :]))


def _estimate(values: Array, seed: int, drift: float = 0.0) -> ValueEstimate:
    """Return the mean of values of trajectories by several critics, or of returns, (S, k), with its interval.

    The interval is that of resampled trajectories, to each of which an error of fitting is added. Each critic is
    fitted to trajectories that are drawn again, so its distance from the fit of all data is distributed as the
    distance of that one from the truth. The mean of S critics has 1/S of this variance by itself.

    A moving average nears its end geometrically: as long as the last rounds bring it nearer by half, what is left to
    learn is no more than the drift over them.
    """
    critics, count = values.shape
    generator = torch_generator(Purpose.EVALUATION_START, seed)
    rows = torch.randint(count, (RESAMPLES, count), generator=generator)
    means = as_array(torch.as_tensor(values.mean(0))[rows].mean(1))
    by_critic: list[float] = []
    if critics > 1:
        by_critic = values.mean(1).tolist()
        # Student's t: the spread is estimated from few critics
        normals = torch.randn((critics, RESAMPLES), generator=generator, dtype=torch.float64)
        t = as_array(normals[0] / normals[1:].square().mean(0).sqrt())
        means += np.std(by_critic, ddof=1) * np.sqrt(1 + 1 / critics) * t
    low, high = np.percentile(means, [2.5, 97.5])
    interval = (float(low) - drift, float(high) + drift)
    return ValueEstimate(float(values.mean()), interval, by_critic, drift)


def as_array(values: Tensor) -> Array:
    """Return a tensor's values as NumPy's."""
    array: Array = values.detach().cpu().double().numpy()
    return array
