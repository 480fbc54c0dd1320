"""Fitted Q evaluation: critics learn the value of a fixed policy from data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import Tensor

from agents.common.data.arrays import ArraySource
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.sb3.encoders import ImpalaEncoder
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
)
from agents.models import model_class


class FQE(Method):
    r"""Critics regress to the data's rewards plus the discounted value of a fixed policy's next action.

    .. math:: L = \sum_j \mathbb{E}\,(Q_j(s, a) - R - \gamma^h M\,\bar Q'(s', a'))^2, \qquad a' \sim \pi(s')

    Here :math:`\bar Q'` is the mean of the target critics, without pessimism. The policy executes h
    actions of each chunk, so the action a consists of h actions, and R is the discounted sum of their rewards.

    The class is not registered, since it does not train a policy; :func:`fitted_q` creates its model.

    Source: Le, Voloshin and Yue, Batch Policy Learning under Constraints, arXiv 1903.08738; with networks: Paine et
    al., Hyperparameter Selection for Offline Reinforcement Learning, arXiv 2007.09055. Differences: target networks are
    moving averages.
    """

    hooks_checked = True  # the check creates a new instance, which has no `policy`
    policy: Any
    """The evaluated :class:`~agents.common.sb3.policy.FlowPolicy`, with one replica."""

    buffer_size: int = setting(default=1)  # no transitions are collected
    ensemble_size: int = setting(default=1)
    rho: float = setting(default=0.0)
    tau: float = setting(default=0.05)
    net_arch: list[int] | dict[str, list[int]] = setting(default=[256, 256])

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the critics."""
        return {"critic": critic(target=True)}

    def noise(self) -> dict[str, Draw]:
        """Return nothing: only the next action needs noise."""
        return {}

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the policy's noise, sized for its chunks and for all candidates."""
        policy = self.policy
        sizes = {"N": policy.method.best_of_n, "D": policy.chunk_size}
        return {
            name: replace(draw, sizes={**sizes, **draw.sizes})
            for name, draw in policy.method.candidate_noise().items()
        }

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks of the policy, and return the actions that are executed."""
        policy = self.policy
        table = self.action_noise_table()
        draws = {}
        for name, draw in noise.items():
            # the policy has one replica, so the critics' replicas become rows
            row = table[name].row_axis
            draws[name] = draw.movedim(0, row - 1).flatten(row - 1, row).unsqueeze(0)
        rows = observations.flatten(0, 1).unsqueeze(0)
        chunks = policy.method.sample_actions(rows, draws, policy.nets).clamp(-1, 1)
        executed = policy.executed_length * policy.action_size
        return chunks[..., :executed].reshape(*observations.shape[:2], executed)

    def losses(
        self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info
    ) -> Losses:
        """Return the TD loss; chunks with a termination are included, since actions after it are not executed."""
        valid = batch.valid.maximum((batch.discounts == 0).to(batch.valid.dtype))
        return {"td": self.critic_loss(replace(batch, valid=valid), targets, nets, info)}


# -- the evaluation of a policy ----------------------------------------------------------------------------------------

CRITICS = 5
NORMAL_95 = 1.96
STUDENT_95 = 2.776
"""Student's t for 95% intervals with four degrees of freedom: the spread is estimated from five critics."""
ROWS = 512
"""Number of states acted on together, and of those whose actions are compared with the policy's."""


@dataclass(frozen=True)
class FittedValue:
    """The estimated discounted value of a policy in the first states of trajectories.

    :param value: mean over trajectories and critics.
    :param interval: 95% interval, from the spread over trajectories and critics, widened by `drift` on both sides.
    :param critics: the mean of each critic.
    :param drift: absolute change of the value in the last quarter of training.
    :param action_distance: mean squared distance of the policy's actions from the data's in the same states, divided by
        that between two random actions of the data. If this ratio is above 1, the estimate depends on actions that are
        not in the data.
    """

    value: float
    interval: tuple[float, float]
    critics: list[float]
    drift: float
    action_distance: float


def fitted_q(
    policy: FlowPolicy,
    data: ArraySource,
    *,
    steps: int = 20_000,
    seed: int = 0,
    callback: MaybeCallback = None,
    **settings: Any,
) -> FittedValue:
    """Estimate the discounted value of a policy from data collected by another policy.

    Five critics are trained, each on its own bootstrap sample of the trajectories.

    :param policy: the policy, with one replica.
    :param data: a dataset, as for `model.learn_offline` but not shards, with the rewards of the task.
    :param steps: gradient steps.
    :param seed: seed of networks, batches, trajectories and noise.
    :param callback: SB3 callback, e.g. for progress.
    :param settings: settings of :class:`FQE`, except `horizon_length` and `observation_scale`, that override its
        defaults.
    :return: the value with its interval and diagnostics.
    :raises ValueError: if there are too few trajectories, or the policy has several replicas or an image encoder for
        one critic only.
    :raises ArithmeticError: if the values diverge.
    """
    if policy.num_replicas > 1:
        raise ValueError(
            f"expected a policy with one replica, got {policy.num_replicas}; evaluate each `model.replica(k).policy`"
        )
    policy.set_training_mode(False)
    model = _make_model(policy, data, seed, settings)
    # Rewards are divided by their root mean square. The magnitude of Adam's steps does not depend on
    # rewards, so with small rewards the noise of the steps would hide differences between states.
    rewards = model.replay_buffer.rewards[: model.replay_buffer.dataset_size]
    unit = float(np.sqrt(np.square(rewards.cpu().numpy()).mean())) or 1.0
    rewards /= unit
    last_quarter = -(-steps // 4)
    means = []
    for stage in (steps - last_quarter, last_quarter):
        model.learn_offline(stage, callback, log_interval=None)
        q = []
        for batch, actions in _acting(model, model.replay_buffer.starts, seed):
            with torch.no_grad():
                q.append(model.method.score(batch.observations, actions, model.policy.nets))
        values = unit * torch.cat(q, 1).cpu().double().numpy()  # (CRITICS, trajectories)
        means.append(float(values.mean()))
    value_before, value = means
    if not np.isfinite(value):
        raise ArithmeticError(
            f"fitted Q evaluation diverged: the value is {value:g} after {steps} updates; evaluate the policy in its "
            "environment"
        )
    # With target networks, values converge geometrically: if the last quarter of training has at
    # least halved the distance to the limit, the remaining distance is at most the drift.
    drift = abs(value - value_before)
    margin = margin_of(values) + drift
    return FittedValue(
        value=value,
        interval=(value - margin, value + margin),
        critics=values.mean(1).tolist(),
        drift=drift,
        action_distance=_action_distance(model, seed),
    )


class ResampledBuffer(SequenceReplayBuffer):
    """Samples each replica's sequences from a bootstrap sample of the trajectories.

    The spread of the replicas' values is therefore a bootstrap estimate of the sampling error. Source: Hao et al.,
    Bootstrapping Fitted Q-Evaluation for Off-Policy Inference, arXiv 2102.03607.
    """

    preprocess: Callable[[Tensor], Tensor]
    """Preprocesses observations for the evaluated policy; the critics receive the same inputs."""
    starts: Tensor
    """First rows of the trajectories."""
    rows: list[Tensor]
    """Rows of each replica's trajectories; a trajectory sampled twice appears twice."""

    def resample(self, seed: int) -> None:
        """Sample the trajectories of each replica.

        :param seed: seed of the bootstrap samples.
        :raises ValueError: if there is only one trajectory, or the dataset has several parts.
        """
        if self.loader:
            raise ValueError(
                "fitted Q evaluation needs a dataset of one part; pass `shards.part(k)`"
            )
        ends = self.dones[: self.dataset_size].cpu().nonzero().flatten() + 1
        trajectories = torch.arange(self.dataset_size).tensor_split(ends[:-1])
        count = len(trajectories)
        if count < 2:
            raise ValueError("fitted Q evaluation needs at least two trajectories, got 1")
        generator = torch_generator(Purpose.EVALUATION_START, seed)
        draws = torch.randint(count, (self.replicas, count), generator=generator)
        device = self.dones.device
        self.starts = torch.stack([rows[0] for rows in trajectories]).to(device)
        self.rows = [torch.cat([trajectories[k] for k in draw]).to(device) for draw in draws]

    def draw(self, *args: Any, **kwargs: Any) -> Batch:
        """Sample a batch with preprocessed observations; for the arguments see the base class."""
        return super().draw(*args, **kwargs).with_observations(self.preprocess)

    def draw_rows(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Sample first rows of sequences, and return all rows of these sequences, (S, B, H)."""
        device = self.dones.device
        draws = torch.rand(shape, dtype=torch.float64, device=device, generator=generator)
        starts = []
        for rows, draw in zip(self.rows, draws, strict=True):
            starts.append(rows[(draw * len(rows)).long()])
        return self.sequence_rows(torch.stack(starts))


def margin_of(values: NDArray[Any]) -> float:
    """Return half the width of the 95% interval of a mean value.

    Each critic is fitted to resampled trajectories. By the bootstrap principle, a critic minus the fit to all data is
    distributed like this fit minus the true value. The fit to all data is replaced by the mean of S critics, which adds
    1/S of the critics' variance.

    :param values: values of k first states according to each of S critics, (S, k).
    :return: half the width, in the values' unit.
    """
    critics, count = values.shape
    state_margin = NORMAL_95 * values.mean(0).std(ddof=1) / np.sqrt(count)
    critic_margin = STUDENT_95 * values.mean(1).std(ddof=1) * np.sqrt(1 + 1 / critics)
    return float(np.hypot(state_margin, critic_margin))


def _make_model(
    policy: FlowPolicy, data: ArraySource, seed: int, settings: Mapping[str, Any]
) -> Any:
    """Return a model with a critic in each replica and with the data loaded."""
    shared = ("gamma", "flow_steps", "frame_stack", "precision")
    of_policy = {name: getattr(policy.method, name) for name in shared}
    extractor = {}
    # only these support several critics
    if issubclass(policy.features_extractor_class, ImpalaEncoder):
        names = "features_extractor_class", "features_extractor_kwargs"
        extractor = {name: getattr(policy, name) for name in names}
    try:
        model: Any = model_class(FQE)(
            type(policy),
            None,
            observation_space=policy.observation_space,
            action_space=policy.action_space,
            seeds=seeds_of_replicas(seed, CRITICS),
            replay_buffer_class=ResampledBuffer,
            policy_kwargs=extractor,
            device=policy.device,
            horizon_length=policy.executed_length,
            observation_scale=None,  # the policy scales them
            **{**of_policy, **settings},
        )
    except NotImplementedError as error:
        raise ValueError(
            f"{policy.features_extractor_class.__name__} cannot encode images for {CRITICS} critics at once; train the "
            "policy with the setting `encoder`, on images without other observations"
        ) from error
    model.method.policy = policy
    model.replay_buffer.preprocess = policy.preprocess_raw
    model.load_dataset(data)
    model.replay_buffer.resample(seed)
    return model


def _acting(model: Any, starts: Tensor, seed: int) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches of at most `ROWS` sequences that start at given rows, (B,), and the evaluated policy's actions."""
    buffer, policy = model.replay_buffer, model.policy
    policy.set_training_mode(False)
    # sampled on the CPU, so that all devices use the same numbers
    generator = torch_generator(Purpose.EVALUATION_NOISE, seed)
    table = policy.method.candidate_noise()
    noise = policy.draw_noise(table, len(starts), generator)
    for block in torch.arange(len(starts)).split(ROWS):
        rows = buffer.sequence_rows(starts[block].expand(CRITICS, -1))
        batch = buffer._get_samples(rows).map(lambda values: values.to(model.device))
        batch = batch.with_observations(buffer.preprocess)
        draws = {
            name: draw.index_select(table[name].row_axis, block) for name, draw in noise.items()
        }
        yield batch, policy.sample(batch.observations, draws, policy.nets)


def _action_distance(model: Any, seed: int) -> float:
    """Return :attr:`FittedValue.action_distance` for random states of the data."""
    generator = torch_generator(Purpose.EVALUATION_START, seed)
    starts = torch.randint(model.replay_buffer.dataset_size, (ROWS,), generator=generator)
    ((batch, actions),) = _acting(model, starts.to(model.replay_buffer.dones.device), seed)
    is_whole = batch.valid > 0  # the other chunks contain actions of the next trajectory
    data = batch.actions[is_whole]
    distances = (actions[is_whole] - data).square()
    return float(distances.mean() / (2 * data.var(0).mean()))
