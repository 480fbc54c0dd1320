"""Judge policies from data alone: by losses and critic values on held-out trajectories, and by fitted Q evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from agents.common.batch import Batch
from agents.common.data.arrays import Transitions
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Draw, Noise
from agents.common.nets.mlp import matmul_precision
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, seeds_of_replicas, torch_generator
from agents.fqe import FQE
from agents.models import model_class
from zoo.envs.checks import policy_name
from zoo.envs.dataset_only import DatasetOnlyEnv
from zoo.evaluation.workers import Hook, keep_waiting
from zoo.runs.episodes import EpisodeResults
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log

TRAJECTORIES_PER_HELD_OUT = 10
"""One in so many trajectories is held out, beginning with the first."""
ROWS = 512  # drawn from the held-out transitions, as an update draws its batch


def hold_out(data: Transitions) -> tuple[Transitions, Transitions]:
    """Split data into trajectories to train on and held-out ones.

    :raises UsageError: for a single trajectory.
    """
    count = len(data.final_observations)
    if count == 1:
        raise UsageError(
            "`--no-env` holds out a tenth of the trajectories, at least one, and needs another to train on; got one "
            "trajectory: mark where it ends (docs/datasets.md), or give more"
        )
    # every tenth, not the last tenth: recordings often change over time
    is_held_out = np.arange(count) % TRAJECTORIES_PER_HELD_OUT == 0
    return data.keep(~is_held_out), data.keep(is_held_out)


class HeldOutEvaluator:
    """Evaluates policies on held-out trajectories, in place of :class:`zoo.evaluation.evaluator.Evaluator`.

    The score of an algorithm with a critic is the critic's value of the policy's action in the first state of each
    held-out trajectory; of another algorithm it is minus its loss. Losses are those of an update, without its step.

    :param data: held-out trajectories, actions in the units of the action space.
    :param seed: of the transitions and the noise, which are the same for all replicas.
    """

    check_in: Hook = staticmethod(keep_waiting)

    def __init__(self, data: Transitions, *, seed: int) -> None:
        self._data = data
        self._seed = seed

    def close(self) -> None:
        """Do nothing: there is no process to end."""

    def evaluate(
        self, policy: Any, replicas: Sequence[int], active: Collection[int] | None = None
    ) -> EpisodeResults:
        """Judge every replica of a `FlowPolicy`.

        An episode of the results is a held-out trajectory where the score is a value; else there is one, of all rows.
        """
        self.check_in()
        method = policy.method
        policy.set_training_mode(False)  # dropout and batch statistics would depend on the batch
        batch, first_states = self._read(policy)
        with matmul_precision(method.precision, policy.device):
            noise = self._draw(policy, method.update_noise(), ROWS)
            estimates = held_out_losses(policy, batch, noise)
            scores = -estimates["held_out_loss"][:, None]
            if method.rates_actions:
                with torch.no_grad():
                    q_data = method.score(batch.observations, batch.actions, policy.nets)
                # rows whose chunk runs over the end of a trajectory do not count
                mean = (q_data * batch.valid).sum(1) / batch.valid.sum(1)
                estimates["q_data"] = as_array(mean)
                estimates["q_policy"] = self._values(policy, batch.observations).mean(1)
                scores = self._values(policy, first_states)
        played = np.isfinite(scores).all(1)
        if active is not None:
            played &= np.isin(np.arange(len(replicas)), sorted(active))
        return EpisodeResults(
            successes=None,
            returns=np.where(played[:, None], scores, 0.0),
            lengths=np.broadcast_to(played[:, None], scores.shape).astype(np.int64),
            seeds=np.arange(scores.shape[1], dtype=np.uint32),
            played=played,
            estimates=estimates,
        )

    def _read(self, policy: FlowPolicy) -> tuple[Batch, Tensor]:
        """Return a batch as updates get them, and the first states of the trajectories, (S, k, O)."""
        method = policy.method
        buffer = SequenceReplayBuffer(
            1,
            policy.observation_space,
            policy.action_space,
            device=policy.device,
            gamma=method.gamma,
            horizon_length=method.chunk_length,
            action_chunking=method.action_chunking,
            frame_stack=method.frame_stack,
        )
        buffer.with_steps = method.step_observations
        buffer.load_dataset(self._data)
        generator = torch_generator(Purpose.EVALUATION_START, self._seed, device=policy.device)
        batch = batch_for(policy, buffer, buffer.draw_rows((1, ROWS), generator))
        first_states = batch_for(policy, buffer, first_sequences(buffer)).observations
        return batch.with_observations(policy.preprocess), policy.preprocess(first_states)

    def _draw(self, policy: FlowPolicy, table: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Return noise by name, the same for all S replicas, each (S, ...)."""
        generator = torch_generator(Purpose.EVALUATION_NOISE, self._seed)
        sizes = policy.noise_sizes(1, rows)
        noise = {}
        for name, draw in table.items():
            values = draw(sizes, generator, "cpu").to(policy.device)
            noise[name] = values.expand(policy.num_replicas, *values.shape[1:])
        return noise

    def _values(self, policy: FlowPolicy, observations: Tensor) -> np.ndarray:
        """Return the critic's values of the policy's actions, (S, B), for observations (S, B, O)."""
        method = policy.method
        noise = self._draw(policy, method.candidate_noise(), observations.shape[1])
        with torch.no_grad():
            actions = method.sample_actions(observations, noise, policy.nets).clamp(-1, 1)
            return as_array(method.score(observations, actions, policy.nets))


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


def held_out_losses(
    policy: FlowPolicy, batch: Batch, noise: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """Return the losses of an update by name, and their weighted total ``held_out_loss``, each (S,)."""
    method = policy.method
    nets = policy.nets
    # no schedule of losses has advanced: evaluations at different steps compare the same loss
    batch = replace(batch, updates=torch.zeros(policy.num_replicas, device=policy.device))
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
    losses = method.losses(batch, targets, noise, nets, {})
    weights = method.loss_weights()
    total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)
    arrays = {"held_out_loss": as_array(total)}
    for name, loss in losses.items():
        arrays[f"held_out_{name}_loss"] = as_array(loss)
    return arrays


def as_array(values: Tensor) -> np.ndarray:
    """Return a tensor's values as NumPy's."""
    array: np.ndarray = values.detach().cpu().double().numpy()
    return array


# -- fitted Q evaluation: the discounted value of a policy, with an interval -------------------------------------------

CRITICS = 5
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
    :param interval: 95% of resampled trajectories and critics, and the drift on both sides.
    :param critics: the mean by each critic alone; empty for returns.
    :param drift: how far the value moved in the last rounds of training, from zero at the start; 0 for returns.
    """

    value: float
    interval: tuple[float, float]
    critics: list[float]
    drift: float


@dataclass(frozen=True)
class FittedValue:
    """What fitted Q evaluation says of a policy and of the behaviour that collected the data.

    :param behaviour_from: ``returns`` where all trajectories of the data terminate, else ``fitted``.
    :param updates: gradient steps that it took.
    :param settled: whether it ended before the most steps that were allowed.
    :param held_out_errors: mean TD error of the held-out trajectories after each round, over the mean squared reward.
    """

    policy: ValueEstimate
    behaviour: ValueEstimate
    behaviour_from: str
    updates: int
    settled: bool
    held_out_errors: list[float]


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
        """Hold out one in ten trajectories of the dataset, and draw those of each replica from the others."""
        ends = self.dones[: self.dataset_size].cpu().nonzero().flatten() + 1
        trajectories = torch.arange(self.dataset_size).tensor_split(ends[:-1])
        before_last = self.horizon_length - 1
        # a trajectory that is shorter than a sequence has none
        starts = [
            rows[before_last:] - before_last for rows in trajectories if len(rows) > before_last
        ]
        if len(starts) < 2:
            raise UsageError(
                f"fitted Q evaluation holds out a tenth of the trajectories, at least one, and needs another to train "
                f"on; got {len(starts)} with {self.horizon_length} steps or more: give more data"
            )
        held_out = starts[::TRAJECTORIES_PER_HELD_OUT]
        del starts[::TRAJECTORIES_PER_HELD_OUT]
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


def fitted_value(
    policy: FlowPolicy, content: Transitions, *, steps: int = 20_000, seed: int = 0, **settings: Any
) -> FittedValue:
    """Evaluate a policy on data that somebody else has collected.

    Five critics learn, each from trajectories of its own that are drawn with replacement, until neither the TD error of
    the trajectories that are held out falls nor the value moves.

    :param policy: of one replica.
    :param content: data with the rewards of the task.
    :param steps: most updates.
    :param seed: of networks, batches, trajectories and noise.
    :param settings: of :class:`agents.fqe.FQE` in place of its defaults.
    """
    is_complete = bool((content.arrays["masks"][content.valid][content.ends] == 0).all())
    method = FQE.of(policy, fits_behaviour=not is_complete, **settings)
    returns = discounted_returns(content, method.gamma)
    # Adam's steps have one size: measured in returns, its jitter would hide the rewards by which states differ
    unit = float(np.sqrt(np.square(content.arrays["rewards"][content.valid]).mean())) or 1.0
    env = DatasetOnlyEnv(policy.observation_space, policy.action_space)  # type: ignore[arg-type]
    with as_usage_error(NotImplementedError, TypeError, ValueError):
        model = model_class(FQE)(
            policy_name(env.observation_space),
            env,
            method=method,
            seeds=seeds_of_replicas(seed, CRITICS),
            replay_buffer_class=ResampledBuffer,
            device=policy.device,
        )
        model.load_dataset(_normalised(content, policy, unit))
    buffer = model.replay_buffer
    assert isinstance(buffer, ResampledBuffer)
    buffer.resample(seed)
    policy.set_training_mode(False)
    judge = _Judge(model.policy, buffer, seed)
    errors: list[float] = []
    # networks begin near zero, from where a short training has drifted
    means: dict[str, list[float]] = defaultdict(lambda: [0.0])
    settled = False
    while model.offline_steps < steps and not settled:
        model.learn_offline(min(ROUND_STEPS, steps - model.offline_steps), log_interval=None)
        errors.append(judge.error())
        values = judge.values()
        for name, of_network in values.items():
            means[name].append(float(of_network.mean()))
        mean = means["critic"][-1]
        if not np.isfinite([errors[-1], mean]).all():
            raise ArithmeticError(
                f"fitted Q evaluation must stay finite, got {unit * mean:g} after {model.offline_steps} updates; "
                "play the policy, which may have diverged"
            )
        log.info(
            "fitted Q evaluation, %d updates: value %.4g, held-out TD error %.3g",
            model.offline_steps,
            unit * mean,
            errors[-1],
        )
        settled = _has_settled(errors, means["critic"], float(values["critic"].mean(1).std(ddof=1)))
    if is_complete:
        behaviour = _estimate(returns[None], seed)
    else:
        behaviour = _estimate(unit * values["value"], seed, unit * _drift(means["value"]))
    return FittedValue(
        policy=_estimate(unit * values["critic"], seed, unit * _drift(means["critic"])),
        behaviour=behaviour,
        behaviour_from="returns" if is_complete else "fitted",
        updates=model.offline_steps,
        settled=settled,
        held_out_errors=errors,
    )


def _has_settled(errors: list[float], means: list[float], spread: float) -> bool:
    """Return whether neither the held-out error has fallen in the last rounds nor the value moved.

    The error alone would end it too early: it rises while values grow from zero to their size.

    :param spread: standard deviation of the critics' means.
    """
    if len(errors) <= PATIENCE:
        return False
    has_fallen = min(errors[-PATIENCE:]) < (1 - SETTLED) * min(errors[:-PATIENCE])
    tolerance = max(SETTLED * abs(means[-1]), NOISE_SHARE * spread)
    return not has_fallen and _drift(means) <= tolerance


def _drift(means: list[float]) -> float:
    """Return how far a value moved in the last rounds."""
    return float(np.ptp(means[-PATIENCE - 1 :]))


def discounted_returns(content: Transitions, gamma: float) -> np.ndarray:
    """Return the discounted return of each trajectory, (k,)."""
    rewards = np.asarray(content.arrays["rewards"][content.valid], np.float64)
    parts = np.split(rewards, np.flatnonzero(content.ends)[:-1] + 1)
    return np.array([gamma ** np.arange(len(part)) @ part for part in parts])


def _normalised(content: Transitions, policy: FlowPolicy, unit: float) -> Transitions:
    """Return data with rewards in a unit, and vectors as the policy's networks get them."""
    rewards = content.arrays["rewards"] / np.float32(unit)
    content = replace(content, arrays={**content.arrays, "rewards": rewards})
    if not policy.layout.is_plain:
        return content

    def normalise(rows: np.ndarray) -> np.ndarray:
        tensor = torch.as_tensor(policy.layout.flatten(rows), device=policy.device)
        array: np.ndarray = policy.preprocess_raw(tensor).cpu().numpy()
        return array

    observations = normalise(content.arrays["observations"])
    return replace(
        content,
        arrays={**content.arrays, "observations": observations},
        final_observations=normalise(content.final_observations),
    )


class _Judge:
    """Reads critics: their error on held-out sequences, and their values of what is done first in a trajectory."""

    def __init__(self, policy: FlowPolicy, buffer: ResampledBuffer, seed: int) -> None:
        self._policy = policy
        generator = torch_generator(Purpose.EVALUATION_NOISE, seed)
        drawn = torch.randint(len(buffer.held_out_starts), (ROWS,), generator=generator)
        held_out = buffer.sequence_rows(buffer.held_out_starts[drawn][None])
        self._batch = batch_for(policy, buffer, held_out)
        self._first = batch_for(policy, buffer, first_sequences(buffer)).observations
        self._noise = self._draw(policy.method.update_noise(), ROWS, generator)
        table = policy.method.candidate_noise()
        self._first_noise = self._draw(table, self._first.shape[1], generator)

    def _draw(self, table: Mapping[str, Draw], rows: int, generator: Generator) -> Noise:
        """Return noise of every replica, drawn on the CPU so that a device changes no number."""
        draws = self._policy.draw_noise(table, rows, generator)
        return {name: draw.to(self._policy.device) for name, draw in draws.items()}

    def error(self) -> float:
        """Return the mean TD error on the held-out sequences."""
        self._policy.set_training_mode(False)
        losses = held_out_losses(self._policy, self._batch, self._noise)
        return float(losses["held_out_loss"].mean())

    def values(self) -> dict[str, np.ndarray]:
        """Return by network the value at the first states, (S, k)."""
        nets = self._policy.nets
        with torch.no_grad():
            actions = self._policy.method.act(self._first, self._first_noise, nets)
            values = {"critic": as_array(nets.critic(self._first, actions).mean(1))}
            if "value" in nets:
                values["value"] = as_array(nets.value(self._first))
        return values


def _estimate(values: np.ndarray, seed: int, drift: float = 0.0) -> ValueEstimate:
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
    names: list[float] = []
    if critics > 1:
        names = values.mean(1).tolist()
        # Student's t: the spread is estimated from few critics
        normals = torch.randn((critics, RESAMPLES), generator=generator, dtype=torch.float64)
        t = as_array(normals[0] / normals[1:].square().mean(0).sqrt())
        means += np.std(names, ddof=1) * np.sqrt(1 + 1 / critics) * t
    low, high = np.percentile(means, [2.5, 97.5])
    interval = (float(low) - drift, float(high) + drift)
    return ValueEstimate(float(values.mean()), interval, names, drift)
