"""Check an algorithm's hooks before training: call them as an update would, on a small random batch.

A loss of the wrong shape or a missing hook might otherwise be noticed only after thousands of updates, or never. The
check builds its own tiny networks for two replicas on the CPU; it changes neither the model nor any random generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Info, Method
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

# two different sizes, so that exchanged axes are noticed
REPLICAS = 2
ROWS = 7
# small networks are quick; low precision and crops are switched off, because they change no shape, and the encoder,
# because observations are vectors of features here
TINY = {"net_arch": [8, 8], "precision": "fp32", "random_crop": 0.0, "encoder": None}


class AgentError(ValueError):
    """A hook of an algorithm breaks its contract; the message names the hook and its expected result."""


class Trial(NamedTuple):
    """A policy with tiny networks, a batch, the noise of an update and of `act`, and the logged values."""

    policy: FlowPolicy
    batch: Batch
    noise: dict[str, Tensor]
    action_noise: dict[str, Tensor]
    info: Info


def check_first_update(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Trial:
    """Call an algorithm's hooks as an update and a prediction would, and set its `hooks_checked`.

    :param method: the algorithm; only `hooks_checked` changes.
    :param observation_space: space of the networks' input, a Box with one axis.
    :param action_space: action space of the environment.
    :return: the inputs and networks of the check, for further checks.
    :raises AgentError: if a hook is missing, fails, or returns a wrong type, name or shape, or NaN.
    """
    tiny = type(method)(**{**method.settings(), **TINY})
    with calling(tiny, "networks"):
        policy = FlowPolicy(observation_space, action_space, lambda _: 1e-3, tiny, range(REPLICAS))  # type: ignore[arg-type]  # the policy checks it
    nets = policy.nets
    generator = torch_generator(Purpose.CHECKS, 0, 0)
    with calling(tiny, "action_noise_table"):
        table = tiny.action_noise_table()
        for name, draw in table.items():
            if "B" not in draw.axes:
                raise AgentError(f"must give draw `{name}` the axis B (rows), got {draw.axes!r}")
        action_noise = policy.draw_noise(table, ROWS, generator)
    with calling(tiny, "noise"):
        noise = policy.draw_noise(tiny.update_noise(), ROWS, generator)
    batch = random_batch(policy, ROWS, generator)
    info: Info = {}
    with calling(tiny, "act"), torch.no_grad():
        actions = tiny.act(batch.observations, action_noise, nets)
        shape = REPLICAS, ROWS, policy.chunk_size
        require("actions", actions, shape, "(S, B, D): replicas, rows, flattened chunk")
    if tiny.best_of_n > 1:
        with calling(tiny, "score"), torch.no_grad():
            scores = tiny.score(batch.observations, actions, nets)
            require("scores", scores, shape[:2], "(S, B): replicas, rows")
    with calling(tiny, "targets"), torch.no_grad():
        targets = tiny.targets(batch, noise, nets, info)
        require_all("target `{}`", targets, None)
    with calling(tiny, "losses"):
        losses = tiny.losses(batch, targets, noise, nets, info)
        require_all("loss `{}`", losses)
        require_all("`info[{!r}]`", info)
        totals = [loss.sum() for loss in losses.values() if loss.requires_grad]
        if not totals:
            raise AgentError("must return losses with a gradient, got none that trains a network")
        trained = {name: p for name, p in nets.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(totals, [*trained.values()], materialize_grads=True)
        require_all("a gradient of `{}`", dict(zip(trained, gradients, strict=True)), None)
    with calling(tiny, "loss_weights"):
        for name in sorted(tiny.loss_weights().keys() - losses):
            raise AgentError(f"names an {unknown_name_message('loss', name, losses)}")
    # the trainer adds these values before it calls `after_update`
    info |= {f"{name}_loss": loss for name, loss in losses.items()}
    info |= dict.fromkeys(("total_loss", "grad_norm"), torch.ones(REPLICAS))
    info = {name: value.detach() for name, value in info.items()}
    method.hooks_checked = True
    return Trial(policy, batch, noise, action_noise, info)


def random_batch(policy: FlowPolicy, rows: int, generator: torch.Generator) -> Batch:
    """Return a random batch, different for every replica; one row in eight crosses a trajectory's end.

    :param policy: policy that determines the sizes.
    :param rows: B.
    :param generator: random generator.
    :return: the batch.
    """
    normals = partial(torch.randn, policy.num_replicas, rows, generator=generator)
    size = policy.observation_mean.numel()
    valid = (torch.arange(rows) % 8 != 3).float().repeat(policy.num_replicas, 1)
    return Batch(
        observations=normals(size),
        # a third of them is at a bound, as many actions of datasets are
        actions=normals(policy.chunk_size).clamp(-1, 1),
        rewards=normals(),
        # the episode terminates in about one row in six
        discounts=0.9 * (normals() > -1).float(),
        next_observations=normals(size),
        valid=valid,
        steps_valid=valid.unsqueeze(-1).repeat(1, 1, policy.chunk_length),
    )


@contextmanager
def calling(method: Method, hook: str) -> Iterator[None]:
    """Re-raise an error of the block as an :class:`AgentError` that names the algorithm and the hook.

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


def require(
    label: str, value: Any, shape: tuple[int, ...] | None = None, meaning: str = ""
) -> None:
    """Raise an error if a value is not a finite tensor or, given a shape, has another shape."""
    is_tensor = isinstance(value, Tensor)
    received = tuple(value.shape) if is_tensor else type(value).__name__
    if not is_tensor or shape not in (None, received):
        expected = f"of shape {shape} here, {meaning}" if shape else "as a tensor"
        raise AgentError(f"must give {label} {expected}; got {received}")
    if not value.isfinite().all():
        raise AgentError(
            f"gives {label} with NaN or infinity, for standard normal observations and actions in [-1, 1]"
        )


def require_all(
    label: str, values: Mapping[str, Any], shape: tuple[int, ...] | None = (REPLICAS,)
) -> None:
    """Raise an error if the values are not a dict of finite tensors, by default one number per replica.

    :param label: label of a value, with a placeholder for its name.
    :param values: the values by name.
    :param shape: shape of each value; None: any.
    """
    if not isinstance(values, Mapping):
        raise AgentError(f"must return a dict of tensors by name, got {type(values).__name__}")
    for name, value in values.items():
        require(
            label.format(name),
            value,
            shape,
            "(S,), one number per replica: take the mean over all axes but the first",
        )
