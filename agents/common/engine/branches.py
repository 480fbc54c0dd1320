"""Losses of disjoint networks, evaluated and differentiated beside one another on streams of a GPU.

Which losses these are follows from what each one trains. A branch computes its own losses only: the compiler drops what
none of them needs. All noise is drawn before, so that draws keep their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from agents.common.batch import Batch
from agents.common.engine.update import Learner
from agents.common.method import Info, Losses, Noise
from agents.common.nets.fast import separate_chains

Evaluate = Callable[[Batch, Noise], tuple[Tensor, Info]]


@dataclass(frozen=True)
class Branch:
    """Losses that train networks which no loss of another branch trains.

    :param learner: the model.
    :param losses: their names.
    :param diagnostics: names of what is logged besides and computed from nearly the same.
    :param trained: positions of the trained parameters in the list of all.
    """

    learner: Learner
    losses: tuple[str, ...]
    diagnostics: tuple[str, ...]
    trained: tuple[int, ...]

    def compute_losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Evaluate the branch's losses, as :meth:`Learner.compute_losses` does with all of them.

        :param batch: the batch.
        :param noise: all draws of the update.
        :return: the weighted total of every replica with its graph, (S,), and losses and diagnostics without.
        """
        losses, info = _evaluate(self.learner, batch, noise)
        own = {name: losses[name] for name in self.losses}
        return self.learner.method.total(own, {name: info[name] for name in self.diagnostics})


class BranchedLosses:
    """Evaluates branches, each on a stream of its own, and joins them.

    Memory needs no further care: what a branch reads from outside lives until the join, and what it hands over is freed
    after it, by a stream that the branch's next evaluation waits for.

    :param branches: the first one stays on the current stream.
    :param count: number of parameters of all branches together, and of those that no loss trains.
    :param device: where they are evaluated.
    :param evaluate: of every branch, what computes its losses; None: :meth:`Branch.compute_losses`.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        count: int,
        device: torch.device,
        evaluate: Sequence[Evaluate] | None = None,
    ) -> None:
        self.branches, self.count, self.device = branches, count, device
        self._evaluate = [branch.compute_losses for branch in branches] if evaluate is None else evaluate
        self._streams = [torch.cuda.Stream(device) for _ in branches[1:]]

    def __call__(self, batch: Batch, noise: Noise, parameters: Sequence[Tensor]) -> tuple[Info, list[Tensor | None]]:
        """Return diagnostics, and the gradient of the total loss; None for parameters that no loss depends on.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param parameters: of all branches.
        :return: name -> (S,), and one tensor per parameter.
        """
        here = torch.cuda.current_stream(self.device)
        for stream in self._streams:
            stream.wait_stream(here)
        infos, grads = [], list[Tensor | None]([None] * self.count)
        for k, branch in reversed(list(enumerate(self.branches))):  # the current stream's last
            with torch.cuda.stream(self._streams[k - 1] if k else here), separate_chains():
                total, info = self._evaluate[k](batch, noise)
                own = [parameters[i] for i in branch.trained]
                found = torch.autograd.grad(total, own, torch.ones_like(total), allow_unused=True)
            infos.append(info)
            for i, grad in zip(branch.trained, found, strict=True):
                grads[i] = grad
        for stream in self._streams:
            here.wait_stream(stream)
        merged = {name: value for info in infos for name, value in info.items()}
        return merged | {"total_loss": torch.stack([info["total_loss"] for info in infos]).sum(0)}, grads


def find_branches(learner: Learner, parameters: Sequence[Tensor], batch: Batch, noise: Noise) -> list[Branch]:
    """Return the branches of a model's losses, from tensors that have shapes and no numbers.

    :param learner: the model.
    :param parameters: that the next step moves.
    :param batch: any batch.
    :param noise: any draws of an update.
    :return: at least one.
    """
    origins = _Origins()
    with FakeTensorMode(allow_non_fake_inputs=True), separate_chains():
        with origins:
            losses, info = _evaluate(learner, batch, noise)
        trained = {name: _trained_by(loss, parameters) for name, loss in losses.items()}
    groups = disjoint(trained)
    needed = [_union(origins.of(losses[name]) for name in group) for group in groups]
    homes = {name: max(range(len(groups)), key=lambda k: _shared(needed[k], origins.of(info[name]))) for name in info}
    return [
        Branch(
            learner,
            tuple(group),
            tuple(name for name, home in homes.items() if home == k),
            tuple(sorted(set().union(*(trained[name] for name in group)))),
        )
        for k, group in enumerate(groups)
    ]


def disjoint(trained: Mapping[str, frozenset[int]]) -> list[list[str]]:
    """Return groups of losses, as many as possible, such that no two groups train the same parameter.

    :param trained: loss -> the parameters that it trains.
    :return: names; a loss that trains nothing is in the first group.
    """
    groups: list[list[str]] = []
    for name, own in trained.items():
        if own:
            touching = [group for group in groups if any(trained[other] & own for other in group)]
            apart = [group for group in groups if group not in touching]
            groups = [*apart, [*itertools.chain.from_iterable(touching), name]]
    idle = [name for name, own in trained.items() if not own]
    return [[*groups[0], *idle], *groups[1:]] if groups else [idle]


def _evaluate(learner: Learner, batch: Batch, noise: Noise) -> tuple[Losses, Info]:
    return learner.method.all_losses(learner.crop_images(batch, noise), noise, learner.policy.nets)


def _trained_by(loss: Tensor, parameters: Sequence[Tensor]) -> frozenset[int]:
    """Return the positions of the parameters that a loss depends on."""
    if not loss.requires_grad:
        return frozenset()
    found = torch.autograd.grad(loss.sum(), list(parameters), allow_unused=True, retain_graph=True)
    return frozenset(i for i, grad in enumerate(found) if grad is not None)


class _Origins(TorchDispatchMode):
    """Notes which operations every tensor was computed by, directly or not, as the bits of a number."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = WeakTensorKeyDictionary()
        self._operations = 0

    def of(self, tensor: Tensor) -> int:
        return int(self._known.get(tensor, 0))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        origins = _union(map(self.of, inputs)) | 1 << self._operations
        self._operations += 1
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._known[leaf] = origins
        return result


def _union(origins: Iterable[int]) -> int:
    united = 0
    for each in origins:
        united |= each
    return united


def _shared(first: int, second: int) -> int:
    return (first & second).bit_count()
