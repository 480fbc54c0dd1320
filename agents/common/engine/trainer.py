"""One gradient step, for any algorithm: batch and noise, losses, gradient clipping, target networks, optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.common_settings import LearningRateSchedule
from agents.common.engine.execution import (
    Evaluate,
    GraphCache,
    Mode,
    choose_mode,
    compiled,
    compiling,
    error_summary,
    limit_threads,
    useful_threads,
)
from agents.common.method import Draw, Info, Method, Noise, normal, uniform
from agents.common.nets.mlp import matmul_precision
from agents.common.nets.specs import find_behaviour, require_behaviour, start_from_behaviour
from agents.common.observations import crop_images
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Noise of a pretraining update, without the noise for random crops."""
CROP_NOISE = {"crop": uniform(""), "crop_y": uniform(), "crop_x": uniform()}
"""Additional noise of an update with random crops: whether images are shifted, and the offsets."""


# plans are compared by identity, since captured updates are looked up by their plan
@dataclass(frozen=True, eq=False)
class UpdatePlan:
    """Noise, trained parameters and target networks of an update; each set of skipped networks has its own plan.

    :param noise: declaration of every random tensor, by name.
    :param sizes: sizes of noise axes by letter, except B.
    :param parameters: trained parameters, in the optimiser's order.
    :param polyak_pairs: for each target network: the weight tau, the online parameters and the target parameters.
    :param buffers: buffers of online and of target networks, e.g. the statistics of batch normalisation.
    """

    noise: dict[str, Draw]
    sizes: dict[str, int]
    parameters: list[Tensor]
    polyak_pairs: list[tuple[float, list[Tensor], list[Tensor]]]
    buffers: list[tuple[Tensor, Tensor]]


class Trainer:
    """Runs a model's gradient steps, without synchronising with the device or branching on tensor values.

    :param model: the model, with replay buffer, policy and number of updates.
    :param seeds: seeds of all replicas; every replica's batches and noise depend on all seeds, since replicas are
        sampled together.

    >>> model = agents.QAM("MlpPolicy", "Pendulum-v1", horizon_length=1, net_arch=[32])
    >>> model = model.learn(total_timesteps=20)
    >>> info = model.trainer.update(batch_size=8)
    >>> sorted(info)[:3]
    ['adjoint_max', 'adjoint_mean', 'adjoint_std']
    """

    mode = Mode(False, False, "no update yet")
    """How updates are currently run, and why."""
    is_prepared = False
    """Whether `mode`, plans and the optimiser's groups are up to date; if not, the next update prepares them."""
    evaluate: Evaluate
    """The losses, eager or compiled."""
    graphs: GraphCache | None
    """Replays whole updates; None if updates are not captured."""
    planned_updates = 0
    """Number of updates that the model will have made by the end of the current training phase."""
    plan: UpdatePlan
    """Plan of the latest update."""
    pretraining: bool
    """Whether the update that was planned last trains only the behaviour flow.

    It is an attribute, because losses that read the number of updates would be compiled again for each number.
    """

    def __init__(self, model: Any, seeds: Sequence[int]) -> None:
        self.model = model
        self.policy = model.policy
        self.device = model.device
        self.method: Method = self.policy.method
        self.optimizer: torch.optim.Optimizer = self.policy.optimizer
        self.seed(seeds)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to pickle; the next update derives the omitted ones again."""
        derived = ("specs", "plans", "plan", "evaluate", "graphs", "is_prepared")
        return {name: value for name, value in vars(self).items() if name not in derived}

    def seed(self, seeds: Sequence[int]) -> None:
        """Restart the random streams of batches and noise."""
        self.generator = torch_generator(Purpose.UPDATES, seeds, device=self.device)
        self.host_generator = torch_generator(Purpose.HOST_BATCHES, seeds)

    # -- the update ---------------------------------------------------------------------------------------------------

    def update_on(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step, without a CUDA graph, on a given batch of network inputs and given noise."""
        return self.update(batch.rewards.shape[-1], (batch, noise))

    def update(self, batch_size: int, inputs: tuple[Batch, Noise] | None = None) -> Info:
        """Take one gradient step.

        :param batch_size: B.
        :param inputs: batch and noise of :meth:`update_on`; None to sample them.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        model, nets = self.model, self.policy.nets
        if model.replay_buffer.loader is not None:
            model.replay_buffer.rotate_dataset(model._n_updates)
        self._plan_update()
        if inputs is not None:
            info = self.step(*inputs)
        elif self.graphs is not None:
            info = self.graphs.update(batch_size)
        else:
            info = self.step(self.draw_batch(batch_size), self.draw_noise(batch_size))
        # neither the flow's copies (in pretraining) nor the method's own state (later) is trained by gradients
        if self.pretraining:
            start_from_behaviour(nets, self.specs)
        else:
            self.method.after_update(nets, info)
        model._n_updates += 1
        return info

    def _plan_update(self) -> None:
        """Refresh everything that the next update depends on: compiler, settings, learning rates and plan."""
        model = self.model
        self.pretraining = model._n_updates < self.method.pretraining_steps
        if not self.is_prepared or self._compile_read != self.method.compile:
            self.prepare()
        elif self._settings_read != self.method.changes:
            self._read_settings()
        for group in self.optimizer.param_groups:
            schedule = self.schedules.get(group.get("network"), self.schedules[None])
            rate = schedule(model._current_progress_remaining)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # a captured step reads this tensor
            else:
                group["lr"] = rate
        if self.pretraining:
            skipped = set(self.policy.nets) - {self.behaviour}
        else:
            number = model._n_updates + 1  # of this update
            intervals = self.update_intervals.items()
            resting = {name for name, interval in intervals if number % interval}
            skipped = resting | self.skipped
        key = self.pretraining, frozenset(skipped)
        if key not in self.plans:
            self.plans[key] = self._make_plan(skipped)
        self.plan = self.plans[key]

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, whose observations are network inputs.
        """
        buffer = self.model.replay_buffer
        generator = self.generator if buffer.on_device else self.host_generator
        batch: Batch = buffer.draw(batch_size, self.model._vec_normalize_env, generator)
        if self.method.observation_scale is None:
            return batch
        return batch.with_observations(self.policy.preprocess)

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Sample the noise of the update that was planned last.

        :param batch_size: B.
        :return: every random tensor of the plan by name, (S, ...).
        """
        if not self.is_prepared:  # called by the user
            self._plan_update()
        sizes = {**self.plan.sizes, "B": batch_size}
        draws = self.plan.noise.items()
        return {name: draw(sizes, self.generator, self.device) for name, draw in draws}

    def step(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step: losses, clipped gradients, target networks, parameters.

        :param batch: the batch, whose observations are network inputs.
        :param noise: all noise of the update.
        :return: losses and diagnostics, each (S,).
        """
        if not self.policy.training:  # acting turns off dropout and batch statistics
            self.policy.set_training_mode(True)
        parameters = self.plan.parameters
        gradients: Sequence[Tensor | None] = []
        try:
            with matmul_precision(self.method.precision, self.device), self.compiling():
                total, info = self.evaluate(batch, noise)
                if parameters:  # otherwise all networks are skipped
                    gradients = torch.autograd.grad(
                        total, parameters, torch.ones_like(total), allow_unused=True
                    )
        except Exception as error:
            # compiling ends before a capture starts, so the compiler does not cause errors in a capture
            is_capturing = self.graphs is not None and self.graphs.is_capturing
            if not self.mode.compiled or is_capturing:
                raise
            self.fall_back("compiled", f"{type(error).__name__}: {error}")
            # if the losses themselves raised the error, they raise it again uncompiled
            return self.step(batch, noise)
        self.apply_gradients(gradients, info)
        return info

    def losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Evaluate the method's targets and losses or, in pretraining, the behaviour flow's loss.

        :param batch: the batch, whose observations are network inputs.
        :param noise: all noise of the update.
        :return: the weighted total of every replica with its autograd graph, (S,), and detached losses and diagnostics.
        """
        if not self.is_prepared:  # called by the user
            self.prepare()
        info: Info = {}
        method = self.method
        nets = self.policy.nets
        weights: dict[str, float] = {}
        if method.random_crop:
            batch = crop_images(batch, noise, method.random_crop, self.policy.layout)
        if self.pretraining:
            losses = {"bc_flow": method.pretraining_loss(nets[self.behaviour], batch, noise)}
        else:
            with nets.caching_features() if self.has_extractors else nullcontext():
                with torch.no_grad():
                    targets = method.targets(batch, noise, nets, info)
                losses = method.losses(batch, targets, noise, nets, info)
            weights = self.loss_weights
        terms = []
        for name, loss in losses.items():
            info[f"{name}_loss"] = loss
            weighted = loss * weights[name] if name in weights else loss
            terms.append(weighted)
        total = info["total_loss"] = torch.stack(terms).sum(0)
        return total, {name: value.detach() for name, value in info.items()}

    def apply_gradients(self, gradients: Sequence[Tensor | None], info: Info) -> None:
        """Clip gradients, update target networks with the weights from before the step, and take the step.

        :param gradients: one per parameter; as in PyTorch, a parameter whose gradient is None is skipped, including its
            weight decay.
        :param info: receives ``grad_norm``, each replica's norm before clipping, (S,).
        """
        plan = self.plan
        # the optimiser skips parameters whose gradient is None, and their moments
        self.optimizer.zero_grad()
        to_clip = []
        storages = set()
        for gradient, parameter in zip(gradients, plan.parameters, strict=True):
            if gradient is None:
                to_clip.append(torch.zeros_like(parameter))
                continue
            storage = gradient.untyped_storage()._cdata
            # copied, because a fused optimiser ignores strides, or because clipping works in place and autograd may
            # return one tensor for two parameters
            if gradient.stride() != parameter.stride() or storage in storages:
                gradient = torch.empty_like(parameter).copy_(gradient)
            storages.add(storage)
            parameter.grad = gradient
            to_clip.append(gradient)
        if to_clip:
            bound = self.method.max_grad_norm
            info["grad_norm"] = clip_gradients(to_clip, bound, self.policy.num_replicas)
        else:
            info["grad_norm"] = torch.zeros(self.policy.num_replicas, device=self.device)
        with torch.no_grad():
            for weight, online, target in plan.polyak_pairs:
                torch._foreach_lerp_(target, online, weight)
            for buffer, target_buffer in plan.buffers:
                target_buffer.copy_(buffer)
        self.optimizer.step()

    # -- settings of updates ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Choose how the next updates are run, and discard compiled losses and captured updates."""
        self.is_prepared = True
        self._compile_read = self.method.compile
        self._read_settings()
        self.has_extractors = bool(self.policy.nets.with_extractor())
        threads = useful_threads(self.policy.nets, self.method.batch_size)
        limit_threads(self.policy.nets, threads)
        for group in self.optimizer.param_groups:
            if self.device.type == "cuda" and group.get("fused"):
                group["capturable"] = True
                # in a captured step, a plain number would stay constant
                group["lr"] = torch.tensor(float(group["lr"]), device=self.device)
        # PyTorch would warn about a capturable optimiser in the updates before a capture
        self.optimizer._warned_capturable_if_run_uncaptured = True
        mode = choose_mode(self.method, self.device, self.planned_updates, is_large=threads > 1)
        self._use(mode)
        if mode.compiled and self.model.verbose >= 1:
            print(f"updates: {mode}", flush=True)
        if mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            optimizer = type(self.optimizer).__name__
            self.fall_back("captured", f"{optimizer} is not fused Adam; its step may need the host")

    def _use(self, mode: Mode) -> None:
        self.mode = mode
        self.evaluate = compiled(self.losses) if mode.compiled else self.losses
        self.compiling = compiling if mode.compiled else nullcontext
        self.graphs = GraphCache(self) if mode.captured else None

    def fall_back(self, feature: Literal["compiled", "captured"], error: str) -> None:
        """Warn, and continue without compiling or capturing until the next training phase.

        :param feature: the feature that failed.
        :param error: the reason.
        """
        reason = f"not {feature}: {error_summary(error)}"
        warnings.warn(f"updates are {reason}; training continues", stacklevel=2)
        self._use(replace(self.mode, **{feature: False}, reason=reason))

    def _read_settings(self) -> None:
        """Recompute all attributes that depend on settings, e.g. the options of each network."""
        self._settings_read = self.method.changes
        self.pretraining = self.model._n_updates < self.method.pretraining_steps
        self.specs = self.method.specs()
        self.behaviour = find_behaviour(self.specs)
        if self.pretraining:  # the setting may have been assigned after the constructor's check
            require_behaviour(self.method)
        self.loss_weights = self.method.loss_weights()
        self.skipped = self.method.skipped_networks()
        self.update_intervals: dict[str, int] = {}
        self.schedules: dict[str | None, LearningRateSchedule] = {
            None: LearningRateSchedule(self.method.learning_rate)  # the group of all other networks
        }
        self.plans: dict[tuple[bool, frozenset[str]], UpdatePlan] = {}
        groups = {group.get("network"): group for group in self.optimizer.param_groups}
        for name, spec in self.specs.items():
            self.update_intervals[name] = spec.training.train_every
            self.update_intervals[f"{name}_target"] = spec.training.target_every
            if spec.training.learning_rate is not None:
                self.schedules[name] = LearningRateSchedule(spec.training.learning_rate)
            options = spec.training.options()
            if not options:
                continue
            if name not in groups:
                raise ValueError(
                    f"the optimiser has no separate group for network `{name}`, got {options}; create a new model"
                )
            options.pop("lr", None)  # set before every update
            groups[name].update(options)

    def _make_plan(self, skipped: set[str]) -> UpdatePlan:
        """Return the plan of updates that skip some networks.

        :param skipped: their names.
        :return: the plan.
        :raises ValueError: if a name is unknown.
        """
        nets = self.policy.nets
        for name in skipped - set(nets):
            raise ValueError(
                f"`skipped_networks` names an {unknown_name_message('network', name, nets)}"
            )
        fixed: set[int] = set()
        for name in skipped:
            fixed.update(map(id, nets[name].parameters()))
        trained: list[Tensor] = []
        for group in self.optimizer.param_groups:
            # parameters that the user froze with `requires_grad_(False)` keep their values
            trained += [p for p in group["params"] if p.requires_grad and id(p) not in fixed]
        polyak_pairs = []
        buffers: list[tuple[Tensor, Tensor]] = []
        for name in nets.with_target:
            if f"{name}_target" in skipped:
                continue
            online, target = nets[name], nets[f"{name}_target"]
            tau = self.specs[name].training.tau
            weight = self.method.tau if tau is None else tau
            polyak_pairs.append((weight, list(online.parameters()), list(target.parameters())))
            buffers += zip(online.buffers(), target.buffers(), strict=True)
        noise = CLONING_NOISE if self.pretraining else self.method.update_noise()
        if self.method.random_crop:
            noise = noise | CROP_NOISE
        sizes = self.policy.noise_sizes(self.policy.num_replicas, 0)
        return UpdatePlan(noise, sizes, trained, polyak_pairs, buffers)

    def batch_source(self) -> Hashable:
        """Return a cache key if batches can be sampled inside a CUDA graph, else None.

        :return: a key of the data that sampling reads; None if sampling involves the host, that is, with online
            transitions, a `VecNormalize`, or a buffer in host memory.
        """
        buffer = self.model.replay_buffer
        is_normalised = self.model._vec_normalize_env is not None
        if buffer.size() or is_normalised or not buffer.on_device:
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    def generators(self) -> dict[str, torch.Generator]:
        """Return the random generators of training, besides the global ones."""
        generators = {"training": self.generator, "batches": self.host_generator}
        for replica, generator in enumerate(self.policy.generators):
            generators[f"acting {replica}"] = generator
        return generators


def clip_gradients(gradients: list[Tensor], bound: float | None, replicas: int) -> Tensor:
    """Clip all gradients jointly, replica by replica and in place.

    :param gradients: tensors (S, ...), or of any shape if S is 1; no two share memory.
    :param bound: largest norm of a replica's gradients, or None.
    :param replicas: S.
    :return: each replica's L2 norm before clipping, (S,).
    """
    # one kernel scales many tensors, but by a single factor, so each replica needs a separate call
    by_replica = [tuple(gradients)]
    if replicas > 1:
        by_replica = list(zip(*map(torch.unbind, gradients), strict=True))
    norms = []
    for tensors in by_replica:
        norm = torch.nn.utils.get_total_norm(tensors)
        norms.append(norm)
        if bound is not None:
            torch._foreach_mul_(tensors, (bound / norm).clamp(max=1.0))
    return torch.stack(norms)
