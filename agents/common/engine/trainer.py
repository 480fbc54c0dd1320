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
    COMPILE_AFTER_UPDATES,
    Evaluate,
    GraphCache,
    Mode,
    choose_mode,
    compiled,
    first_lines,
    remove_unloadable_library,
)
from agents.common.method import Draw, Info, Method, Noise, normal, uniform
from agents.common.nets.precision import matmul_precision
from agents.common.nets.specs import find_behaviour, start_from_behaviour
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Every random draw of an update while pretraining."""
CROP_PIXELS = 3
"""By how many pixels random crops shift images at most, as in FQL's implementation."""


@dataclass(frozen=True)
class UpdatePlan:
    """What an update trains, which depends on the networks that it skips.

    :param skipped: names of the networks that stay as they are.
    :param parameters: what the gradient is taken of, in the optimiser's order.
    :param clip_groups: bound on the norm of a group of gradients (None: no bound), and their places in ``parameters``.
    :param polyak_pairs: weight of the new value, online parameters, and the target parameters that follow them.
    :param buffers: buffers of online networks and those of their targets, e.g. the statistics of batch normalisation.
    """

    skipped: frozenset[str]
    parameters: list[Tensor]
    clip_groups: list[tuple[float | None, list[int]]]
    polyak_pairs: list[tuple[float, list[Tensor], list[Tensor]]]
    buffers: list[tuple[Tensor, Tensor]]

    @property
    def is_clipped(self) -> bool:
        """Whether some group has a bound."""
        return any(bound is not None for bound, _ in self.clip_groups)


class Trainer:
    """Takes a model's gradient steps; none waits for the device or branches on values.

    :param model: its replay buffer is drawn from, its policy trained, and its updates counted.
    :param seeds: of all replicas; batches and noise, which they draw together, follow from all of them.
    """

    mode: Mode
    """How updates are run at present, and why."""
    evaluate: Evaluate
    """The losses, plain or compiled."""
    graphs: GraphCache | None
    """Replays whole updates, drawing included, where they are captured."""
    plan: UpdatePlan
    """What the coming update trains."""
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone; an attribute, since compiled losses would watch the
    count of updates."""

    def __init__(self, model: Any, seeds: Sequence[int]) -> None:
        self.model = model
        self.policy = model.policy
        self.device = model.device
        self.method: Method = self.policy.method
        self.optimizer: torch.optim.Optimizer = self.policy.optimizer
        self.behaviour = find_behaviour(self.method.networks())
        self.has_extractors = bool(self.policy.nets.with_extractor())
        self.update_count = torch.zeros(
            self.policy.num_replicas, dtype=torch.float32, device=self.device
        )
        """Number of updates so far, which a batch hands to the method."""
        self.capture_failure: str | None = None
        """Why an update of this model could not be captured: there is no second attempt."""
        self.keeps_rates_on_device = self.device.type == "cuda"
        """Whether learning rates are tensors, which a captured step reads, and not numbers, which it would repeat."""
        self._settings_read = -1
        self.seed(seeds)
        self.prepare()
        self._read_settings()
        self._choose_plan()

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin the random numbers of batches and noise again."""
        self.generator = torch_generator(Purpose.UPDATES, seeds, device=self.device)
        self.host_generator = torch_generator(Purpose.HOST_BATCHES, seeds)

    # -- how updates are run ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Choose how the coming updates are run; what was compiled or captured before is dropped."""
        self.pretraining = self.model._n_updates < self.method.pretraining_steps
        self._prepare_optimizer()
        mode = choose_mode(self.method, self.device, self.model._n_updates)
        if mode.captured and self.capture_failure is not None:
            mode = replace(
                mode, captured=False, reason=f"capturing failed before: {self.capture_failure}"
            )
        self._use(mode)
        if mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            self.fall_back(
                "captured",
                f"{type(self.optimizer).__name__} is not fused Adam; its step may need the host",
            )

    def _prepare_optimizer(self) -> None:
        """Let a fused optimiser be captured where learning rates are on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"])  # a file may hold a tensor of another device
            if not group.get("fused"):
                continue
            group["capturable"] = self.keeps_rates_on_device
            if self.keeps_rates_on_device:
                group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=self.device)
        # PyTorch would warn of a capturable optimiser at the updates before a capture
        self.optimizer._warned_capturable_if_run_uncaptured = True

    def _use(self, mode: Mode) -> None:
        self.mode = mode
        self.evaluate = compiled(self.losses) if mode.compiled else self.losses
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
        compiled_still = self.mode.compiled and feature != "compiled"
        captured_still = self.mode.captured and feature != "captured"
        self._use(Mode(compiled_still, captured_still, reason))

    # -- the update ---------------------------------------------------------------------------------------------------

    def update(self, batch_size: int) -> Info:
        """Sample a batch and the noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        buffer = self.model.replay_buffer
        if buffer.loader is not None:
            buffer.rotate_dataset(self.model._n_updates)
        self._before_update()
        if self.graphs is None:
            info = self.step(self.draw_batch(batch_size), self.draw_noise(batch_size))
        else:
            info = self.graphs.update(batch_size)
        self._after_update(info)
        return info

    def update_on(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step on a given batch, whatever the mode.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,), on the device.
        """
        self._before_update()
        info = self.step(batch, noise)
        self._after_update(info)
        return info

    def _before_update(self) -> None:
        """Bring mode, settings, learning rates and plan up to date."""
        model = self.model
        if (
            model._n_updates == COMPILE_AFTER_UPDATES
            and self.method.compile == "auto"
            and not self.mode.compiled
        ):
            mode = choose_mode(self.method, self.device, model._n_updates)
            self._use(
                replace(mode, captured=self.mode.captured)
            )  # what failed before is not tried again
            if mode.compiled and model.verbose >= 1:
                print("The coming updates are compiled, which takes about a minute.", flush=True)
        self.update_count.fill_(model._n_updates)
        self._read_settings()
        self._set_learning_rates()
        self._choose_plan()

    def _after_update(self, info: Info) -> None:
        """Call the method's hook, or hand the pretrained flow on, and count the update."""
        model = self.model
        if self.pretraining:
            start_from_behaviour(self.policy.nets, self.method.networks())
        else:
            self.method.after_update(self.policy.nets, info)
        model._n_updates += 1
        self.pretraining = model._n_updates < self.method.pretraining_steps

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, observations as the networks see them.
        """
        buffer = self.model.replay_buffer
        generator = self.generator if buffer.placement.on_device else self.host_generator
        batch: Batch = buffer.sample(batch_size, self.model._vec_normalize_env, generator)
        return (
            batch
            if self.method.observation_scale is None
            else batch.with_observations(self.policy.preprocess)
        )

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Draw the noise of one update.

        :param batch_size: B.
        :return: every draw of ``method.update_noise()`` (while pretraining, of cloning) and of crops by name.
        """
        self._read_settings()
        if self.pretraining not in self.noise_tables:
            table = CLONING_NOISE if self.pretraining else self.method.update_noise()
            self.noise_tables[self.pretraining] = table | self.method.crop_noise()
        table = self.noise_tables[self.pretraining]
        noise: dict[str, Tensor] = self.policy.draw_noise(table, batch_size, self.generator)
        return noise

    def step(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step: losses, clipped gradients, target networks, parameters.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        if not self.policy.training:  # acting switches dropout and batch statistics off
            self.policy.set_training_mode(True)
        batch = replace(batch, updates=self.update_count)
        with matmul_precision(self.method.precision, self.device):
            info, gradients = self.compute_gradients(batch, noise)
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
        if method.random_crop:
            batch = self.crop_images(batch, noise)
        if self.pretraining:
            losses = {"bc_flow": method.pretraining_loss(nets[self.behaviour], batch, noise)}
            weights: dict[str, float] = {}
        else:
            with nets.caching_features() if self.has_extractors else nullcontext():
                with torch.no_grad():
                    targets = method.targets(batch, noise, nets, info)
                losses = method.losses(batch, targets, noise, nets, info)
            weights = method.loss_weights()
        terms = []
        for name, loss in losses.items():
            info[f"{name}_loss"] = loss
            terms.append(loss * weights[name] if name in weights else loss)
        total = info["total_loss"] = torch.stack(terms).sum(0)
        return total, {name: value.detach() for name, value in info.items()}

    def crop_images(self, batch: Batch, noise: Noise) -> Batch:
        """Shift the images of a batch at random, with the probability `random_crop`.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: the batch with other observations.
        """
        is_cropped = (noise["crop"] < self.method.random_crop).unsqueeze(-1)  # (S, 1)
        positions = 2 * CROP_PIXELS + 1
        shift_y = ((noise["crop_y"] * positions).long() - CROP_PIXELS) * is_cropped
        shift_x = ((noise["crop_x"] * positions).long() - CROP_PIXELS) * is_cropped

        def shift(rows: Tensor) -> Tensor:
            over_steps = (
                ...,
                *[None] * (rows.ndim - 3),
            )  # all states of a chunk are shifted as its first one
            return self.policy.layout.shifted(rows, shift_y[over_steps], shift_x[over_steps])

        return batch.with_observations(shift)

    def compute_gradients(self, batch: Batch, noise: Noise) -> tuple[Info, Sequence[Tensor | None]]:
        """Return diagnostics, and the gradient of the total loss; None for parameters that no loss depends on.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: name -> (S,), and one tensor per parameter.
        """
        try:
            total, info = self.evaluate(batch, noise)
            parameters = self.plan.parameters
            if not parameters:  # all networks wait for a later update
                return info, []
            return info, torch.autograd.grad(
                total, parameters, torch.ones_like(total), allow_unused=True
            )
        except (
            Exception
        ) as error:  # if the losses themselves raised it, they raise it again uncompiled
            if (
                not self.mode.compiled or self._is_capturing
            ):  # the compiler is done before a capture begins
                raise
            text = f"{type(error).__name__}: {error}"
            if library := remove_unloadable_library(text):
                warnings.warn(f"{library} could not be loaded and is compiled again", stacklevel=2)
            else:
                self.fall_back("compiled", text)
            return self.compute_gradients(batch, noise)

    @property
    def _is_capturing(self) -> bool:
        return self.graphs is not None and self.graphs.is_capturing

    def apply_gradients(self, gradients: Sequence[Tensor | None], info: Info) -> None:
        """Clip gradients, move the targets towards the weights from before the step, and take the step.

        :param gradients: one tensor per parameter; without one it stays as it is, as in PyTorch, without weight decay.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        plan = self.plan
        clipped = [
            lay_out(gradient, p) for gradient, p in zip(gradients, plan.parameters, strict=True)
        ]
        if plan.is_clipped:
            clipped = unshare_memory(clipped)
        if clipped:
            info["grad_norm"] = clip_gradients(clipped, plan.clip_groups, self.policy.num_replicas)
        else:
            info["grad_norm"] = torch.zeros_like(self.update_count)
        with torch.no_grad():
            for weight, online, target in plan.polyak_pairs:
                torch._foreach_lerp_(target, online, weight)
            for buffer, target_buffer in plan.buffers:
                target_buffer.copy_(buffer)
        for parameter, gradient, clipped_gradient in zip(
            plan.parameters, gradients, clipped, strict=True
        ):
            parameter.grad = None if gradient is None else clipped_gradient
        self.optimizer.step()

    # -- what an update reads and moves -------------------------------------------------------------------------------

    def skipped_networks(self) -> frozenset[str]:
        """Return which networks the coming update leaves as they are: while pretraining, all but the behaviour flow."""
        if self.pretraining:
            return frozenset(self.policy.nets) - {self.behaviour}
        updates = self.model._n_updates
        # the N-th update is the one after N - 1
        resting = {
            name for name, interval in self.update_intervals.items() if (updates + 1) % interval
        }
        return frozenset(resting.union(self.method.skipped_networks(updates)))

    def _read_settings(self) -> None:
        """Read what each network has of its own in training again if a setting has changed."""
        if self._settings_read == self.method.changes:
            return
        self._settings_read = self.method.changes
        self.trainings = {name: spec.training for name, spec in self.method.specs().items()}
        self.update_intervals: dict[str, int] = {}
        self.schedules: dict[str, LearningRateSchedule] = {}
        for name, training in self.trainings.items():
            self.update_intervals[name] = training.train_every
            self.update_intervals[f"{name}_target"] = training.target_every
            if training.learning_rate is not None:
                self.schedules[name] = LearningRateSchedule(training.learning_rate)
        for group in self.optimizer.param_groups:
            if "network" in group:
                options = self.trainings[group["network"]].options()
                options.pop("lr", None)  # set before every update
                group.update(options)
        self.plans: dict[frozenset[str], UpdatePlan] = {}
        self.noise_tables: dict[bool, dict[str, Draw]] = {}  # by whether it is pretraining

    def _set_learning_rates(self) -> None:
        """Set the learning rate of every group for the coming update."""
        for group in self.optimizer.param_groups:
            schedule: LearningRateSchedule = self.schedules.get(
                group.get("network", ""), self.model.lr_schedule
            )
            rate = schedule(self.model._current_progress_remaining, self.model._n_updates)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _choose_plan(self) -> None:
        """Choose the plan of the coming update."""
        skipped = self.skipped_networks()
        if skipped not in self.plans:
            self.plans[skipped] = self._make_plan(skipped)
        if self.plans[skipped] is not getattr(self, "plan", None):
            self.plan = self.plans[skipped]
            self.optimizer.zero_grad()  # the optimiser leaves a parameter without gradient, and its moments, alone

    def _make_plan(self, skipped: frozenset[str]) -> UpdatePlan:
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
            tau = self.trainings[name].tau
            weight = self.method.tau if tau is None else tau
            polyak_pairs.append((weight, list(online.parameters()), list(target.parameters())))
            buffers += zip(online.buffers(), target.buffers(), strict=True)
        return UpdatePlan(skipped, trained, self._clip_groups(trained), polyak_pairs, buffers)

    def _clip_groups(self, parameters: list[Tensor]) -> list[tuple[float | None, list[int]]]:
        """Return the groups of parameters: one of each network with a bound of its own, and one of all others."""
        owners: dict[int, str] = {}
        for name, training in self.trainings.items():
            if training.max_grad_norm is not None:
                owners |= dict.fromkeys(map(id, self.policy.nets[name].parameters()), name)
        places: dict[str, list[int]] = {}
        for place, parameter in enumerate(parameters):
            places.setdefault(owners.get(id(parameter), ""), []).append(place)
        groups = []
        for name, group in places.items():
            bound = self.trainings[name].max_grad_norm if name else self.method.max_grad_norm
            groups.append((bound, group))
        return groups

    def batch_source(self) -> Hashable:
        """Return a cache key if batches can be drawn inside a CUDA graph, else None.

        :return: a key that changes with what drawing reads; None where the host takes part: while online transitions
            come in, where an environment's statistics normalise them, or where the buffer is in the host's memory.
        """
        buffer = self.model.replay_buffer
        if (
            buffer.size()
            or not buffer.placement.on_device
            or self.model._vec_normalize_env is not None
        ):
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        generators = {"training": self.generator, "batches": self.host_generator}
        for replica, generator in enumerate(self.policy.generators):
            generators[f"acting {replica}"] = generator
        return generators


def lay_out(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """Return a gradient with the memory layout of its parameter, zeros for None."""
    if gradient is None:
        return torch.zeros_like(parameter)
    if gradient.stride() == parameter.stride():
        return gradient
    # a fused optimiser walks through memory and reads no strides
    return torch.empty_like(parameter).copy_(gradient)


def unshare_memory(gradients: list[Tensor]) -> list[Tensor]:
    """Return gradients that can be scaled in place: autograd may return one tensor for two parameters."""
    storages: set[int] = set()
    unshared = []
    for gradient in gradients:
        storage = gradient.untyped_storage()._cdata
        unshared.append(gradient.clone() if storage in storages else gradient)
        storages.add(storage)
    return unshared


def clip_gradients(
    gradients: list[Tensor], groups: Sequence[tuple[float | None, list[int]]], replicas: int
) -> Tensor:
    """Clip the gradients of each group jointly, in place.

    :param gradients: tensors (S, ...), or of any shape where S is 1; none shares memory with another.
    :param groups: bound on a group's norm (None: no bound), and the places of its gradients; at least one.
    :param replicas: S.
    :return: each replica's norm over all groups before clipping, (S,).
    """
    norms = []
    for bound, places in groups:
        group = [gradients[place] for place in places]
        norms.append(joint_norm(group, replicas))
        if bound is not None:
            scale(group, (bound / norms[-1]).clamp(max=1.0))
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm(dim=0)


def joint_norm(gradients: list[Tensor], replicas: int) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param gradients: tensors (S, ...), or of any shape where S is 1.
    :param replicas: S.
    :return: (S,).
    """
    if replicas == 1:
        return torch.nn.utils.get_total_norm(gradients).view(1)
    slices = [part for replica in _by_replica(gradients, replicas) for part in replica]
    return torch.stack(torch._foreach_norm(slices)).view(replicas, -1).norm(dim=1)


def scale(gradients: list[Tensor], factor: Tensor) -> None:
    """Multiply each replica's whole gradient by a factor, in place.

    :param gradients: tensors (S, ...), or of any shape where S is 1; none shares memory with another.
    :param factor: (S,).
    """
    # one kernel takes many tensors, but only one factor
    for slices, number in zip(_by_replica(gradients, len(factor)), factor.unbind(), strict=True):
        torch._foreach_mul_(slices, number)


def _by_replica(tensors: list[Tensor], replicas: int) -> list[list[Tensor]]:
    """Return each replica's slices of tensors (S, ...)."""
    if replicas == 1:
        return [tensors]
    slices = (tensor.unbind() for tensor in tensors)
    return [list(of_replica) for of_replica in zip(*slices, strict=True)]
