"""One gradient step: batch and noise, losses, joint clip, target networks, optimiser. Nothing algorithmic is here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.common_settings import Rate
from agents.common.engine.strategies import (
    COMPILE_AFTER_UPDATES,
    Evaluate,
    Mode,
    Recorder,
    choose_mode,
    compiled,
    failures,
    optimiser_told,
    shortened,
    with_own_code,
)
from agents.common.method import Info, Method, Noise, normal, uniform
from agents.common.nets.fast import float32_products
from agents.common.nets.specs import find_behaviour, start_from_behaviour
from agents.common.nets.views import RememberedFeatures
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Every random draw of an update while pretraining."""
CROP_PIXELS = 3
"""By how many pixels random crops shift images at most, as in FQL's implementation."""


class Trainer:
    """Takes a model's gradient steps; none waits for the device or branches on values.

    :param model: its replay buffer is drawn from, its policy trained, and its updates counted.
    :param seeds: of all replicas; batches and noise, which they draw together, follow from all of them.
    """

    mode: Mode
    """How updates are run at present, and why."""
    evaluate: Evaluate
    """The losses, plain or compiled."""
    recorder: Recorder | None
    """Replays whole updates, drawing included, where they are recorded."""
    pretraining: bool
    """Whether the coming update trains the behaviour flow alone; kept, since compiled losses would watch the counts."""

    def __init__(self, model: Any, seeds: Sequence[int]) -> None:
        self.model = model
        self.policy = model.policy
        self.device = model.device
        self.method: Method = self.policy.method
        self.optimizer: torch.optim.Optimizer = self.policy.optimizer
        self.behaviour = find_behaviour(self.method.networks())
        self.has_extractors = any(getattr(net, "features_extractor", None) for net in self.policy.nets.values())
        self.rounds_step_size = self.device.type == "cuda"
        self.number = torch.zeros(self.policy.num_replicas, dtype=torch.float32, device=self.device)
        """Number of updates so far, which the batch passes on to the method."""
        self.skipped: frozenset[str] | None = None
        self._settings_read = -1
        self._own_losses = with_own_code(self.losses)
        self.seed(seeds)
        self.prepare()
        self._read_settings()
        self.select(self.skipped_networks())

    def seed(self, seeds: Sequence[int]) -> None:
        """Begin the random numbers of batches and noise again."""
        self.generator = torch_generator(Purpose.UPDATES, seeds, device=self.device)
        self.host_generator = torch_generator(Purpose.HOST_BATCHES, seeds)

    # -- how updates are run ------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Choose how the coming updates are run; what was compiled or recorded before is dropped."""
        self.pretraining = self.model._n_updates < self.method.pretraining_steps
        mode = choose_mode(self.method, self.device, self.model._n_updates)
        if mode.captured and failures:
            mode = replace(mode, captured=False, reason=f"an earlier recording failed: {shortened(failures[0])}")
        self._use(mode)
        if mode.captured and not all(group.get("fused") for group in self.optimizer.param_groups):
            self.give_up("captured", f"{type(self.optimizer).__name__} is not fused Adam; its step may need the host")

    def _use(self, mode: Mode) -> None:
        self.mode = mode
        self.evaluate = compiled(self._own_losses) if mode.compiled else self.losses
        self.recorder = Recorder(self) if mode.captured else None

    def give_up(self, what: str, why: str) -> None:
        """Go on without compiling or capturing, and say so once.

        :param what: ``"compiled"`` or ``"captured"``.
        :param why: the reason.
        """
        reason = f"not {what}: {shortened(why)}"
        warnings.warn(f"updates are {reason}; continuing without it", stacklevel=2)
        mode = self.mode
        self._use(Mode(mode.compiled and what != "compiled", mode.captured and what != "captured", reason))

    # -- the update ---------------------------------------------------------------------------------------------------

    def update(self, batch_size: int) -> Info:
        """Sample a batch and the noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        buffer = self.model.replay_buffer
        if buffer.loader is not None:
            buffer.rotate_dataset(self.model._n_updates)

        def step() -> Info:  # `_take` may choose another recorder first
            if self.recorder is not None:
                return self.recorder.update(batch_size)
            return self.step(self.draw_batch(batch_size), self.draw_noise(batch_size))

        return self._take(step)

    def update_on(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step on all networks, or while pretraining on the behaviour flow.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,), on the device.
        """
        return self._take(lambda: self.step(batch, noise))

    def _take(self, step: Callable[[], Info]) -> Info:
        """Take a step, and do what comes before and after it: mode, step sizes, hooks, copies and the count."""
        model = self.model
        method = self.method
        networks = self.policy.nets
        if model._n_updates == COMPILE_AFTER_UPDATES and method.compile == "auto" and not self.mode.compiled:
            mode = choose_mode(method, self.device, model._n_updates)
            self._use(replace(mode, captured=self.mode.captured))  # what failed before is not tried again
            if mode.compiled and model.verbose >= 1:
                print("The coming updates are compiled, which takes about a minute.", flush=True)
        self.number.fill_(model._n_updates)
        self._read_settings()
        info = step()
        if self.pretraining:
            start_from_behaviour(networks, method.networks())
        else:
            method.after_update(networks, info)
        model._n_updates += 1
        self.pretraining = model._n_updates < method.pretraining_steps
        return info

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, observations as the networks see them.
        """
        buffer = self.model.replay_buffer
        generator = self.generator if buffer.placement.on_device else self.host_generator
        batch: Batch = buffer.sample(batch_size, self.model._vec_normalize_env, generator)
        return batch if self.method.observation_scale is None else batch.with_observations(self.policy.preprocess)

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Draw the noise of one update.

        :param batch_size: B.
        :return: every draw of ``method.update_noise()`` (while pretraining, of cloning) and of crops by name.
        """
        table = (CLONING_NOISE if self.pretraining else self.method.update_noise()) | self.method.crop_noise()
        noise: dict[str, Tensor] = self.policy.draw_noise(table, batch_size, self.generator)
        return noise

    def step(self, batch: Batch, noise: Noise) -> Info:
        """Evaluate the losses, clip their gradient, and move parameters and target networks.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,).
        """
        method = self.method
        if not self.policy.training:  # acting switches dropout and batch statistics off
            self.policy.set_training_mode(True)
        self.select(self.skipped_networks())
        batch = replace(batch, updates=self.number)
        products = method.precision, self.device
        with float32_products(*products):
            info, found = self.differentiate(batch, noise)
        self.apply(found, info)
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
            losses, weights = {"bc_flow": method.pretraining_loss(nets[self.behaviour], batch, noise)}, {}
        else:
            if self.has_extractors:
                nets = RememberedFeatures(nets)
            with torch.no_grad():
                targets = method.targets(batch, noise, nets, info)
            losses, weights = method.losses(batch, targets, noise, nets, info), method.loss_weights()
        total = torch.stack([loss * weights[name] if name in weights else loss for name, loss in losses.items()]).sum(0)
        info |= {f"{name}_loss": loss for name, loss in losses.items()} | {"total_loss": total}
        return total, {name: value.detach() for name, value in info.items()}

    def crop_images(self, batch: Batch, noise: Noise) -> Batch:
        """Shift the images of a batch at random, with the probability `random_crop`.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: the batch with other observations.
        """
        is_cropped = (noise["crop"] < self.method.random_crop).unsqueeze(-1)  # (S, 1)
        ways = 2 * CROP_PIXELS + 1
        y, x = (((noise[name] * ways).long() - CROP_PIXELS) * is_cropped for name in ("crop_y", "crop_x"))

        def shifted(rows: Tensor) -> Tensor:
            inside = (..., *[None] * (rows.ndim - 3))  # of a chunk, all states are shifted as its first one
            return self.policy.layout.shifted(rows, y[inside], x[inside])

        return batch.with_observations(shifted)

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Info, Sequence[Tensor | None]]:
        """Return diagnostics, and the gradient of the total loss; None for parameters that no loss depends on.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: name -> (S,), and one tensor per parameter.
        """
        try:
            total, info = self.evaluate(batch, noise)
            if not self.parameters:  # all networks wait for a later update
                return info, []
            return info, torch.autograd.grad(total, self.parameters, torch.ones_like(total), allow_unused=True)
        except Exception as error:  # if the losses themselves raised it, they raise it again uncompiled
            if not self.mode.compiled or self._is_recording:  # the compiler is done before recording begins
                raise
            self.give_up("compiled", f"{type(error).__name__}: {error}")
            return self.differentiate(batch, noise)

    @property
    def _is_recording(self) -> bool:
        return self.recorder is not None and self.recorder.is_recording

    def apply(self, found: Sequence[Tensor | None], info: Info) -> None:
        """Clip the gradient, move the targets towards the weights from before the step, and take the step.

        :param found: one tensor per parameter; one without a gradient stays as it is, as in PyTorch, without decay.
        :param info: gets ``grad_norm``, each replica's norm before clipping, (S,).
        """
        grads = []
        for grad, parameter in zip(found, self.parameters, strict=True):
            own = torch.zeros_like(parameter) if grad is None else grad
            if own.stride() != parameter.stride():  # a fused optimiser walks memory and looks at no strides
                own = torch.empty_like(parameter).copy_(own)
            grads.append(own)
        bounds = [(self.method.max_grad_norm if own is None else own, places) for own, places in self.bounds]
        if any(bound is not None for bound, _ in bounds):
            grads = _own_memory(grads)
        norms = [] if grads else [torch.zeros(self.policy.num_replicas, dtype=torch.float32, device=self.device)]
        for bound, places in bounds:
            part = [grads[place] for place in places]
            norms.append(joint_norm(part, self.policy.num_replicas))
            if bound is not None:
                scale(part, (bound / norms[-1]).clamp(max=1.0))
        info["grad_norm"] = norms[0] if len(norms) == 1 else torch.stack(norms).norm(dim=0)
        with torch.no_grad():
            for own_rate, online, target in self.averages:
                torch._foreach_lerp_(target, online, self.method.tau if own_rate is None else own_rate)
            for online_one, target_one in self.statistics:
                target_one.copy_(online_one)
        for parameter, grad, given in zip(self.parameters, grads, found, strict=True):
            parameter.grad = None if given is None else grad
        if not self.rounds_step_size or self._is_recording:
            self.optimizer.step()
            return
        # a recording reads the step size in float32; other updates round it too, so that all have the same bits
        with optimiser_told(self.optimizer, [float(np.float32(group["lr"])) for group in self.optimizer.param_groups]):
            self.optimizer.step()

    # -- what an update reads and moves -------------------------------------------------------------------------------

    def skipped_networks(self) -> frozenset[str]:
        """Return which networks the coming update leaves as they are: while pretraining, all but the behaviour flow."""
        if self.pretraining:
            return frozenset(self.policy.nets) - {self.behaviour}
        updates = self.model._n_updates
        resting = {name for name, every in self.every.items() if (updates + 1) % every}
        return frozenset(resting.union(self.method.skipped_networks(updates)))

    def _read_settings(self) -> None:
        """Read each network's own training options again if a setting has changed, and set all step sizes."""
        if self._settings_read != self.method.changes:
            self._settings_read = self.method.changes
            self.skipped = None
            self.trainings = {name: spec.training for name, spec in self.method.specs().items()}
            self.every = {name: own.train_every for name, own in self.trainings.items()}
            self.every |= {f"{name}_target": own.target_every for name, own in self.trainings.items()}
            for group in self.optimizer.param_groups:
                if "network" in group:
                    group.update(self.trainings[group["network"]].options())
            rates = {name: own.learning_rate for name, own in self.trainings.items()}
            self.own_rates = {name: Rate(rate) for name, rate in rates.items() if rate is not None}
        for group in self.optimizer.param_groups:
            rate: Rate = self.own_rates.get(group.get("network", ""), self.model.lr_schedule)
            group["lr"] = rate(self.model._current_progress_remaining, self.model._n_updates)

    def select(self, skipped: frozenset[str]) -> None:
        """Choose what the next step moves.

        :param skipped: names of the networks that stay as they are.
        """
        if skipped == self.skipped:
            return
        nets = self.policy.nets
        for name in skipped - set(nets):
            raise ValueError(f"`skipped_networks` names an {unknown_name_message('network', name, nets)}")
        still = {id(p) for name in skipped for p in nets[name].parameters()}
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters = [p for p in every if id(p) not in still]
        for parameter in every:
            parameter.grad = None  # the optimiser leaves a parameter without gradient, and its moments, alone
        following = [pair for pair in nets.targets() if all(id(q) not in still for q in pair[1].parameters())]
        own_rates = {id(nets[name]): own.tau for name, own in self.trainings.items()}
        # weight of the moving averages, None for the setting's; what they follow, and they themselves
        self.averages = [(own_rates[id(one)], list(one.parameters()), list(its.parameters())) for one, its in following]
        bounded = {name: own.max_grad_norm for name, own in self.trainings.items() if own.max_grad_norm is not None}
        owners = {id(p): name for name in bounded for p in nets[name].parameters()}
        places: dict[str, list[int]] = {}
        for place, parameter in enumerate(self.parameters):
            places.setdefault(owners.get(id(parameter), ""), []).append(place)
        # bound on a norm, None for the setting's, and the places of the gradients that the norm is of
        self.bounds = [(bounded.get(name), own) for name, own in places.items()]
        # statistics that a features extractor gathers, e.g. those of batch normalisation
        self.statistics = [pair for one, its in following for pair in zip(one.buffers(), its.buffers(), strict=True)]
        self.skipped = skipped

    def batch_source(self) -> Hashable:
        """Return what drawing a batch reads, where that is on the device and stays as it is between updates.

        :return: a key that changes with it, or None where the host takes part: while online transitions come in, where
            an environment's statistics normalise them, or where the buffer is in the host's memory.
        """
        buffer = self.model.replay_buffer
        if buffer.size() or not buffer.placement.on_device or self.model._vec_normalize_env is not None:
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        generators = {"training": self.generator, "batches": self.host_generator}
        for replica in range(self.policy.num_replicas):
            generators[f"acting {replica}"] = self.policy.generators[replica]
            generators[f"prediction {replica}"] = self.policy.prediction_generators[replica]
        return generators


def joint_norm(grads: list[Tensor], replicas: int) -> Tensor:
    """Return the L2 norm of each replica's whole gradient.

    :param grads: tensors (S, ...), or of any shape where S is 1.
    :param replicas: S.
    :return: (S,).
    """
    if replicas == 1:
        return torch.nn.utils.get_total_norm(grads).view(1)
    parts = [part for own in _by_replica(grads, replicas) for part in own]
    return torch.stack(torch._foreach_norm(parts)).view(replicas, -1).norm(dim=1)


def scale(grads: list[Tensor], factor: Tensor) -> None:
    """Multiply each replica's whole gradient by a factor, in place.

    :param grads: tensors (S, ...), or of any shape where S is 1; none shares memory with another.
    :param factor: (S,).
    """
    # one kernel takes many tensors, but only one factor
    for own, number in zip(_by_replica(grads, len(factor)), factor.unbind(), strict=True):
        torch._foreach_mul_(own, number)


def _by_replica(tensors: list[Tensor], replicas: int) -> list[list[Tensor]]:
    """Return each replica's part of tensors (S, ...)."""
    if replicas == 1:
        return [tensors]
    return [list(own) for own in zip(*(tensor.unbind() for tensor in tensors), strict=True)]


def _own_memory(grads: list[Tensor]) -> list[Tensor]:
    """Return gradients that may be changed in place; as they come, one tensor may be that of two parameters."""
    seen: set[int] = set()
    own = []
    for grad in grads:
        memory = grad.untyped_storage()._cdata
        own.append(grad.clone() if memory in seen else grad)
        seen.add(memory)
    return own
