"""Check an algorithm's hooks by one update on a small made-up batch, before training starts.

A loss of the wrong shape or a missing hook would otherwise show after thousands of updates, or never. The check builds
its own tiny networks for two replicas on the CPU; it changes neither the model nor any random generator.
"""

from __future__ import annotations

import functools
from collections import UserDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Info, Method
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

# different numbers, to tell the axes apart
REPLICAS = 2
ROWS = 7
# small networks are quick; neither precision nor crops change a shape
TINY = {"net_arch": [8, 8], "precision": "fp32", "random_crop": 0.0}


class AgentError(ValueError):
    """A hook of an algorithm does not keep its contract; the message names the hook and says what it should return."""


class Draws(UserDict[str, Tensor]):
    """Noise that knows which of its draws nobody has read; taking several at once reads all."""

    def __init__(self, draws: Mapping[str, Tensor]) -> None:
        self.unread = {*draws}
        super().__init__(draws)

    def __getitem__(self, name: str) -> Tensor:
        self.unread.discard(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Tensor:
        raise KeyError(unknown_name_message("draw", name, self.data))

    def __or__(self, right: Any) -> Any:
        return {**self, **right}  # by items, which reads them, where UserDict copies `data`


@dataclass
class Trial:
    """What was tried: an algorithm with tiny networks for two replicas on the CPU, and what an update had.

    :param policy: with the algorithm and its networks.
    :param batch: its batch.
    :param noise: its draws.
    :param action_noise: the draws of one call of `act`.
    :param info: its losses and diagnostics, as `after_update` gets them.
    """

    policy: FlowPolicy
    batch: Batch
    noise: dict[str, Tensor]
    action_noise: dict[str, Tensor]
    info: Info

    def copies(self) -> tuple[Batch, Draws, Draws]:
        """Return copies of the batch and of both kinds of noise, which hooks may spoil."""
        tables = []
        for table in (self.noise, self.action_noise):
            tables.append(Draws({name: draw.clone() for name, draw in table.items()}))
        return self.batch.map(Tensor.clone), *tables  # type: ignore[return-value]  # two


def check_first_update(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Trial:
    """Try an algorithm's hooks as an update and a plan will use them; the method remembers that it was tried.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :return: what was tried, to try more of it.
    :raises AgentError: if a hook is missing, fails, or returns another type, name, shape or NaN.
    """
    tiny = type(method)(**{**method.settings(), **TINY})
    with calling(tiny, "networks"):
        policy = FlowPolicy(observation_space, action_space, lambda _: 1e-3, tiny, range(REPLICAS))  # type: ignore[arg-type]  # the policy checks it
    nets = policy.nets
    generator = torch_generator(Purpose.CHECKS, 0, 0)
    with calling(tiny, "action_noise_table"):
        acting = policy.draw_noise(tiny.action_noise_table(), ROWS, generator)
    with calling(tiny, "noise"):
        training = policy.draw_noise(tiny.update_noise(), ROWS, generator)
    info: Info = {}
    trial = Trial(policy, random_batch(policy, ROWS, generator), training, acting, info)
    batch, noise, acting_noise = trial.copies()
    with calling(tiny, "act"), torch.no_grad():
        actions = tiny.act(batch.observations, acting_noise, nets)
        shape = REPLICAS, ROWS, policy.chunk_size
        _require("actions", actions, shape, "(S, B, D): replicas, rows, flattened chunk")
    if tiny.best_of_n > 1:
        with calling(tiny, "score"), torch.no_grad():
            scores = tiny.score(batch.observations, actions, nets)
            _require("scores", scores, shape[:2], "(S, B): replicas, rows")
    with calling(tiny, "targets"), torch.no_grad():
        targets = tiny.targets(batch, noise, nets, info)
        for name, value in targets.items():
            _require_finite(f"target `{name}`", value)
    with calling(tiny, "losses"):
        losses = tiny.losses(batch, targets, noise, nets, info)
        values = {f"loss `{name}`": loss for name, loss in losses.items()}
        values |= {f"`info[{name!r}]`": value for name, value in info.items()}
        for label, value in values.items():
            remedy = "one number per replica: take the mean over everything but the first axis"
            _require(label, value, (REPLICAS,), f"(S,), {remedy}")
        totals = [loss.sum() for loss in losses.values() if loss.requires_grad]
        if not totals:
            raise AgentError("must return losses with a gradient, got none that trains a network")
        trained = {name: p for name, p in nets.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(totals, [*trained.values()], allow_unused=True)
        for name, gradient in zip(trained, gradients, strict=True):
            _require_finite(f"a gradient of `{name}`", gradient)
    with calling(tiny, "loss_weights"):
        for name in tiny.loss_weights().keys() - losses.keys():
            raise AgentError(f"names an {unknown_name_message('loss', name, losses)}")
    # what the trainer adds before `after_update` gets it
    info |= {f"{name}_loss": loss for name, loss in losses.items()}
    info |= dict.fromkeys(("total_loss", "grad_norm"), torch.ones(REPLICAS, dtype=torch.float32))
    for name, value in info.items():
        info[name] = value.detach()
    method.hooks_checked = True
    return trial


def random_batch(policy: FlowPolicy, rows: int, generator: torch.Generator) -> Batch:
    """Return a random batch, different for every replica; one row in eight crosses a trajectory's end.

    :param policy: for the sizes.
    :param rows: B.
    :param generator: of the numbers.
    :return: the batch.
    """
    normals = functools.partial(
        torch.randn, policy.num_replicas, rows, generator=generator, dtype=torch.float32
    )
    size = policy.observation_mean.numel()
    valid = (torch.arange(rows) % 8 != 3).float().repeat(policy.num_replicas, 1)
    steps_of_chunks: dict[str, Tensor] = {}
    if policy.method.step_observations:
        for name in ("step_observations", "step_next_observations"):
            steps_of_chunks[name] = normals(policy.chunk_length, size)
    return Batch(
        observations=normals(size),
        actions=normals(policy.chunk_size).tanh(),
        rewards=normals(),
        # about one row in six terminates
        discounts=0.9 * (normals() > -1).float(),
        next_observations=normals(size),
        valid=valid,
        steps_valid=valid.unsqueeze(-1),
        updates=torch.full((policy.num_replicas,), 3.0, dtype=torch.float32),
        **steps_of_chunks,
    )


@contextmanager
def calling(method: Method, hook: str) -> Iterator[None]:
    """Make every failure inside the block name the algorithm and its hook.

    :param method: the algorithm.
    :param hook: name of the hook that is called.
    """
    name = f"{type(method).__name__}.{hook}"
    try:
        yield
    except (AgentError, NotImplementedError) as error:
        raise AgentError(f"{name} {error}") from error
    except Exception as error:
        advice = "; declare that network with `target=True`" if "_target'" in str(error) else ""
        raise AgentError(f"{name} failed: {type(error).__name__}: {error}{advice}") from error


def _require(label: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
    """Refuse anything but a finite tensor of a shape."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        shown: Any = type(value).__name__
        if isinstance(value, Tensor):
            shown = tuple(value.shape)
        raise AgentError(f"must give {label} of shape {shape} here, {meaning}; got {shown}")
    _require_finite(label, value)


def _require_finite(label: str, value: Any) -> None:
    """Refuse NaN and infinity."""
    if isinstance(value, Tensor) and not value.isfinite().all():
        raise AgentError(
            f"gives {label} that holds NaN or infinity, for standard normal observations and actions in [-1, 1]"
        )
