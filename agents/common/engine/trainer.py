"""One gradient step: batch and noise, losses, joint clip, target networks, optimiser. Nothing algorithmic is here."""

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
    first_lines,
    holding_signals,
    limit_threads,
)
from agents.common.method import Draw, Info, Method, Noise, normal, uniform
from agents.common.nets.mlp import matmul_precision
from agents.common.nets.specs import find_behaviour, start_from_behaviour
from agents.common.observations import crop_images
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Every random draw of an update while pretraining."""

ClipGroups = list[tuple[float | None, list[int]]]
"""Bound on the norm of a group of gradients (None: no bound), and the places of its gradients."""


@dataclass(frozen=True, eq=False)  # equal to itself only: captured updates are found by their plan
class UpdatePlan:
    """What an update draws and trains, which depends on the networks that it skips.

    :param noise: every random draw by name.
    :param sizes: of the axes of draws by their letters, but for B.
    :param parameters: what the gradient is taken of, in the optimiser's order.
    :param clip_groups: which parameters are clipped together.
    :param polyak_pairs: weight of the new value, online parameters, and the target parameters that follow them.
    :param buffers: buffers of online networks and those of their targets, e.g. the statistics of batch normalisation.
    """

    noise: dict[str, Draw]
    sizes: dict[str, int]
    parameters: list[Tensor]
    clip_groups: ClipGroups
    polyak_pairs: list[tuple[float, list[Tensor], list[Tensor]]]
    buffers: list[tuple[Tensor, Tensor]]


class Trainer:
    """Takes a model's gradient steps; none waits for the device or branches on values.

    :param model: its replay buffer is drawn from, its policy trained, and its updates counted.
    :param seeds: of all replicas; batches and noise, which they draw together, follow from all of them.
    """

    mode = Mode(False, False, "no update yet")
    """How updates are run at present, and why."""
    is_prepared = False
    """Whether `mode`, plans and the optimiser's groups are those of this model; the first update begins with them."""
    evaluate: Evaluate
    """The losses, plain or compiled."""
    graphs: GraphCache | None
    """Replays whole updates, drawing included, where they are captured."""
    planned_updates = 0
    """Number of updates of the model when the present phase of training ends."""
    plan: UpdatePlan
    """What the coming update draws and trains."""
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone; an attribute, since compiled losses would watch the
    count of updates."""

    def __init__(self, model: Any, seeds: Sequence[int]) -> None:
        self.model = model
        self.policy = model.policy
        self.device = model.device
        self.method: Method = self.policy.method
        self.optimizer: torch.optim.Optimizer = self.policy.optimizer
        self.has_extractors = bool(self.policy.nets.with_extractor())
        self.update_count = torch.zeros(
            self.policy.num_replicas, dtype=torch.float32, device=self.device
        )
        """Number of updates so far, which a batch hands to the method."""
        self.capture_failure: str | None = None
        """Why an update of this model could not be captured: there is no second attempt."""
        self.keeps_rates_on_device = self.device.type == "cuda"
        """Whether learning rates are tensors, which a captured step reads, and not numbers, which it would repeat."""
        self.pretraining = model._n_updates < self.method.pretraining_steps
        self.loss_weights = self.method.loss_weights()
        self.seed(seeds)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds functions, which cannot be pickled; it follows from the model at the next update."""
        derived = ("specs", "plans", "plan", "evaluate", "graphs", "is_prepared")
        return {name: value for name, value in vars(self).items() if name not in derived}

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin the random numbers of batches and noise again."""
        self.generator = torch_generator(Purpose.UPDATES, seeds, device=self.device)
        self.host_generator = torch_generator(Purpose.HOST_BATCHES, seeds)

    # -- the update ---------------------------------------------------------------------------------------------------

    def update_on(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step on a batch, observations as networks see them, and draws; it is not replayed."""
        return self.update(batch.rewards.shape[-1], (batch, noise))

    def update(self, batch_size: int, inputs: tuple[Batch, Noise] | None = None) -> Info:
        """Take one gradient step.

        :param batch_size: B.
        :param inputs: batch and draws of :meth:`update_on`; None: they are drawn.
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
        # what is not trained by gradient
        if self.pretraining:
            start_from_behaviour(nets, self.specs)
        else:
            self.method.after_update(nets, info)
        model._n_updates += 1
        self.pretraining = model._n_updates < self.method.pretraining_steps
        return info

    def _plan_update(self) -> None:
        """Bring up to date what the coming update follows: compiler, settings, learning rates and plan."""
        model = self.model
        updates = model._n_updates
        if not self.is_prepared or self._compile_read != self.method.compile:
            self.prepare()
        elif self._settings_read != self.method.changes:
            self._read_settings()
        self.update_count.fill_(updates)
        for group in self.optimizer.param_groups:
            schedule = self.schedules.get(group.get("network"), self.schedules[None])
            rate = schedule(model._current_progress_remaining)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # which a captured step reads
            else:
                group["lr"] = rate
        if self.pretraining:
            skipped = set(self.policy.nets) - {self.behaviour}
        else:
            # the N-th update is the one after N - 1
            intervals = self.update_intervals.items()
            resting = {name for name, interval in intervals if (updates + 1) % interval}
            skipped = resting | self.skipped
        key = self.pretraining, frozenset(skipped)
        if key not in self.plans:
            self.plans[key] = self._make_plan(skipped)
        self.plan = self.plans[key]

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, observations as the networks see them.
        """
        buffer = self.model.replay_buffer
        generator = self.generator if buffer.placement.on_device else self.host_generator
        batch: Batch = buffer.draw(batch_size, self.model._vec_normalize_env, generator)
        if self.method.observation_scale is None:
            return batch
        return batch.with_observations(self.policy.preprocess)

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Draw the noise of the update that was planned last.

        :param batch_size: B.
        :return: every draw of the plan by name, (S, ...).
        """
        if not self.is_prepared:  # asked for by hand
            self._plan_update()
        sizes = {**self.plan.sizes, "B": batch_size}
        draws = self.plan.noise.items()
        return {name: draw(sizes, self.generator, self.device) for name, draw in draws}

    def step(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step: losses, clipped gradients, target networks, parameters.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        if not self.policy.training:  # acting switches dropout and batch statistics off
            self.policy.set_training_mode(True)
        parameters = self.plan.parameters
        gradients: Sequence[Tensor | None] = []
        try:
            with matmul_precision(self.method.precision, self.device), self.holding_signals():
                total, info = self.evaluate(replace(batch, updates=self.update_count), noise)
                if parameters:  # else all networks wait for a later update
                    gradients = torch.autograd.grad(
                        total, parameters, torch.ones_like(total), allow_unused=True
                    )
        except Exception as error:
            # the compiler is done before a capture begins
            is_capturing = self.graphs is not None and self.graphs.is_capturing
            if not self.mode.compiled or is_capturing:
                raise
            self.fall_back("compiled", f"{type(error).__name__}: {error}")
            # if the losses themselves raised the error, they raise it again uncompiled
            return self.step(batch, noise)
        self.apply_gradients(gradients, info)
        return info

    def losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Evaluate the method's targets and losses, or while pretraining the behaviour flow's loss.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: the weighted total of every replica with its graph, (S,), and losses and diagnostics without.
        """
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
        """Clip gradients, move the targets towards the weights from before the step, and take the step.

        :param gradients: one tensor per parameter; without one it stays as it is, as in PyTorch, without weight decay.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        plan = self.plan
        # the optimiser leaves a parameter without gradient, and its moments, alone
        self.optimizer.zero_grad()
        to_clip = []
        storages = set()
        for gradient, parameter in zip(gradients, plan.parameters, strict=True):
            if gradient is None:
                to_clip.append(torch.zeros_like(parameter))
                continue
            storage = gradient.untyped_storage()._cdata
            # a fused optimiser walks through memory and reads no strides; clipping writes into memory, and autograd
            # may return one tensor for two parameters
            if gradient.stride() != parameter.stride() or storage in storages:
                gradient = torch.empty_like(parameter).copy_(gradient)
            storages.add(storage)
            parameter.grad = gradient
            to_clip.append(gradient)
        if to_clip:
            info["grad_norm"] = clip_gradients(to_clip, plan.clip_groups, self.policy.num_replicas)
        else:
            info["grad_norm"] = torch.zeros_like(self.update_count)
        with torch.no_grad():
            for weight, online, target in plan.polyak_pairs:
                torch._foreach_lerp_(target, online, weight)
            for buffer, target_buffer in plan.buffers:
                target_buffer.copy_(buffer)
        self.optimizer.step()

    # -- what an update follows ---------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Choose how the coming updates are run; what was compiled or captured before is dropped."""
        self.is_prepared = True
        self._compile_read = self.method.compile
        self._read_settings()
        limit_threads(self.policy.nets, self.method.batch_size)
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"])  # a file may hold a tensor of another device
            if not group.get("fused"):
                continue
            group["capturable"] = self.keeps_rates_on_device
            if self.keeps_rates_on_device:
                group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=self.device)
        # PyTorch would warn of a capturable optimiser at the updates before a capture
        self.optimizer._warned_capturable_if_run_uncaptured = True
        mode = choose_mode(self.method, self.device, self.planned_updates)
        if mode.captured and self.capture_failure is not None:
            reason = f"capturing failed before: {self.capture_failure}"
            mode = replace(mode, captured=False, reason=reason)
        self._use(mode)
        if mode.compiled and self.model.verbose >= 1:
            print(f"updates: {mode}", flush=True)
        if mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            optimizer = type(self.optimizer).__name__
            self.fall_back("captured", f"{optimizer} is not fused Adam; its step may need the host")

    def _use(self, mode: Mode) -> None:
        self.mode = mode
        self.evaluate = compiled(self.losses) if mode.compiled else self.losses
        self.holding_signals = holding_signals if mode.compiled else nullcontext
        self.graphs = GraphCache(self) if mode.captured else None

    def fall_back(self, feature: Literal["compiled", "captured"], error: str) -> None:
        """Go on without compiling or capturing, and say so once.

        :param feature: what failed.
        :param error: the reason.
        """
        reason = f"not {feature}: {first_lines(error)}"
        warnings.warn(f"updates are {reason}; continuing without it", stacklevel=2)
        if feature == "captured":
            self.capture_failure = first_lines(error)
        self._use(replace(self.mode, **{feature: False}, reason=reason))

    def _read_settings(self) -> None:
        """Read again what follows from settings, such as what each network has of its own in training."""
        self._settings_read = self.method.changes
        self.pretraining = self.model._n_updates < self.method.pretraining_steps
        self.specs = self.method.specs()
        self.behaviour = find_behaviour(self.specs)
        self.loss_weights = self.method.loss_weights()
        self.skipped = self.method.skipped_networks()
        self.update_intervals: dict[str, int] = {}
        self.schedules: dict[str | None, LearningRateSchedule] = {
            None: LearningRateSchedule(self.method.learning_rate)  # of all others
        }
        self.plans: dict[tuple[bool, frozenset[str]], UpdatePlan] = {}
        for name, spec in self.specs.items():
            self.update_intervals[name] = spec.training.train_every
            self.update_intervals[f"{name}_target"] = spec.training.target_every
            if spec.training.learning_rate is not None:
                self.schedules[name] = LearningRateSchedule(spec.training.learning_rate)
        for group in self.optimizer.param_groups:
            if "network" in group:
                options = self.specs[group["network"]].training.options()
                options.pop("lr", None)  # set before every update
                group.update(options)

    def _make_plan(self, skipped: set[str]) -> UpdatePlan:
        """Return the plan of updates that skip some networks.

        :param skipped: their names.
        :return: the plan.
        :raises ValueError: if one is unknown.
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
            trained += [parameter for parameter in group["params"] if id(parameter) not in fixed]
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
        noise = noise | self.method.crop_noise()
        sizes = self.policy.noise_sizes(self.policy.num_replicas, 0)
        return UpdatePlan(noise, sizes, trained, self._clip_groups(trained), polyak_pairs, buffers)

    def _clip_groups(self, parameters: list[Tensor]) -> ClipGroups:
        """Return the groups of parameters: one of each network with a bound of its own, and one of all others."""
        bounds: dict[int, tuple[str, float | None]] = {}
        for name, spec in self.specs.items():
            bound = spec.training.max_grad_norm
            if bound is not None:
                bounds |= dict.fromkeys(map(id, self.policy.nets[name].parameters()), (name, bound))
        groups: dict[tuple[str, float | None], list[int]] = {}
        for place, parameter in enumerate(parameters):
            owner = bounds.get(id(parameter), ("", self.method.max_grad_norm))
            groups.setdefault(owner, []).append(place)
        return [(bound, places) for (_, bound), places in groups.items()]

    def batch_source(self) -> Hashable:
        """Return a cache key if batches can be drawn inside a CUDA graph, else None.

        :return: a key that changes with what drawing reads; None where the host takes part: while online transitions
            come in, where an environment's statistics normalise them, or where the buffer is in the host's memory.
        """
        buffer = self.model.replay_buffer
        is_normalised = self.model._vec_normalize_env is not None
        if buffer.size() or is_normalised or not buffer.placement.on_device:
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        generators = {"training": self.generator, "batches": self.host_generator}
        for replica, generator in enumerate(self.policy.generators):
            generators[f"acting {replica}"] = generator
        return generators


def clip_gradients(gradients: list[Tensor], groups: ClipGroups, replicas: int) -> Tensor:
    """Clip the gradients of each group jointly, replica by replica and in place.

    :param gradients: tensors (S, ...), or of any shape where S is 1; none shares memory with another.
    :param groups: at least one.
    :param replicas: S.
    :return: each replica's L2 norm over all groups before clipping, (S,).
    """
    norms = []
    for bound, places in groups:
        group = [gradients[place] for place in places]
        # one kernel takes many tensors, but only one factor
        by_replica = [tuple(group)]
        if replicas > 1:
            by_replica = list(zip(*map(torch.unbind, group), strict=True))
        for of_replica in by_replica:
            norm = torch.nn.utils.get_total_norm(of_replica)
            norms.append(norm)
            if bound is not None:
                torch._foreach_mul_(of_replica, (bound / norm).clamp(max=1.0))
    of_groups = torch.stack(norms).view(-1, replicas)
    return of_groups[0] if len(of_groups) == 1 else of_groups.norm(dim=0)
