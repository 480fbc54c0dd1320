"""Check an algorithm's hooks by one update on a small made-up batch, before training starts.

A loss of the wrong shape or a missing hook would otherwise show after thousands of updates, or never. The check builds
its own tiny networks for two replicas on the CPU; it changes neither the model nor any random generator.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Draw, Info, Method
from agents.common.nets.specs import NetworkSpec
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.common.validation import unknown_name_message

# different numbers, to tell the axes apart
REPLICAS = 2
ROWS = 7
# small networks are quick; neither precision nor crops change a shape
TINY = {"net_arch": [8, 8], "precision": "fp32", "random_crop": 0.0}
TABLES = {"action_noise_table": Draw, "noise": Draw, "loss_weights": Real}
"""Hooks -> what their tables hold."""


class AgentError(ValueError):
    """A hook of an algorithm does not keep its contract; the message names the hook and says what it should return."""


@dataclass
class Trial:
    """What was tried: an algorithm with tiny networks for two replicas on the CPU, and what an update had.

    :param policy: with the algorithm and its networks.
    :param batch: its batch.
    :param noise: its draws.
    :param info: its losses and diagnostics, as `after_update` gets them.
    """

    policy: FlowPolicy
    batch: Batch
    noise: dict[str, Tensor]
    info: Info = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: Method,
        observation_space: Any,
        action_space: Any,
        policy_class: type[FlowPolicy],
        policy_kwargs: dict[str, Any],
    ) -> Trial:
        """Make the networks, a batch and its noise."""
        tiny = type(method)(**{**method.settings(), **TINY})
        arguments = {**policy_kwargs, "features_extractor_class": FlattenExtractor}
        with calling(tiny, "networks"):
            policy = policy_class(
                observation_space,
                action_space,
                lambda _: 1e-3,
                tiny,
                list(range(REPLICAS)),
                **arguments,
            )
        generator = torch_generator(Purpose.CHECKS, 0, 0)
        with calling(tiny, "noise"):
            noise = policy.draw_noise(tiny.update_noise(), ROWS, generator)
        return cls(policy, random_batch(policy, ROWS, generator), noise)

    def copies(self) -> tuple[Batch, dict[str, Tensor]]:
        """Return copies of the batch and its noise, which hooks may spoil."""
        noise = {name: draw.clone() for name, draw in self.noise.items()}
        return self.batch.map(Tensor.clone), noise


def check_first_update(
    method: Method,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    policy_class: type[FlowPolicy] = FlowPolicy,
    **policy_kwargs: Any,
) -> Trial:
    """Try an algorithm's hooks as an update and a plan will use them; the method remembers that it was tried.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :param policy_class: of the model.
    :param policy_kwargs: further arguments of the policy.
    :return: what was tried, to try more of it.
    :raises AgentError: if a hook is missing, fails, or returns another type, name, shape or NaN.
    """
    require_table(method, "networks", NetworkSpec)
    tables = {hook: require_table(method, hook, kind) for hook, kind in TABLES.items()}
    trial = Trial.of(method, observation_space, action_space, policy_class, policy_kwargs)
    tiny, policy = trial.policy.method, trial.policy
    batch, noise = trial.copies()
    nets = policy.nets
    _try_acting(trial, tables["action_noise_table"])
    info: dict[str, Any] = {}
    with calling(tiny, "targets"), torch.no_grad():
        targets = tiny.targets(batch, noise, nets, info)
        if not isinstance(targets, Mapping):
            raise AgentError(f"must return a dict of name -> tensor, got {_describe(targets)}")
        for name, value in targets.items():
            _require_finite(f"target `{name}`", value)
    with calling(tiny, "losses"):
        losses = tiny.losses(batch, targets, noise, nets, info)
        if not isinstance(losses, Mapping) or not losses:
            raise AgentError(f"must return a dict of name -> loss, got {_describe(losses)}")
        values = {f"loss `{name}`": loss for name, loss in losses.items()}
        values |= {f"`info[{name!r}]`": value for name, value in info.items()}
        for label, value in values.items():
            remedy = "one number per replica: take the mean over everything but the first axis"
            _require(label, value, (REPLICAS,), f"(S,), {remedy}")
            _require_finite(label, value)
        if not any(loss.requires_grad for loss in losses.values()):
            raise AgentError(
                "must return losses with a gradient, got none that depends on a network's parameters"
            )
    for name in tables["loss_weights"].keys() - losses.keys():
        message = unknown_name_message("loss", name, losses)
        raise AgentError(f"{type(method).__name__}.loss_weights names an {message}")
    # what the trainer adds before `after_update` gets it
    info |= {f"{name}_loss": loss for name, loss in losses.items()}
    info |= dict.fromkeys(("total_loss", "grad_norm"), torch.ones(REPLICAS, dtype=torch.float32))
    trial.info = {name: value.detach() for name, value in info.items()}
    method.hooks_checked = True
    _warn_of_own_layers(method, policy)
    return trial


def _try_acting(trial: Trial, table: Mapping[str, Draw]) -> None:
    """Sample actions with the draws of a table, and rate them where several candidates compete."""
    policy = trial.policy
    method, nets = policy.method, policy.nets
    batch, _ = trial.copies()
    # as in plans, where e.g. dropout is off
    policy.set_training_mode(False)
    for name, draw in table.items():
        if "B" not in draw.axes:
            raise AgentError(
                f"{type(method).__name__}.action_noise_table must give the draw `{name}` the axis B (rows), got the "
                f"axes {draw.axes!r}"
            )
    generator = torch_generator(Purpose.CHECKS, 0, 1)
    action_noise = policy.draw_noise(table, ROWS, generator)
    with calling(method, "act"), torch.no_grad():
        actions = method.act(batch.observations, action_noise, nets)
        shape = REPLICAS, ROWS, policy.chunk_size
        _require("actions", actions, shape, "(S, B, D): replicas, rows, flattened chunk")
    if method.best_of_n > 1:
        with calling(method, "score"), torch.no_grad():
            scores = method.score(batch.observations, actions, nets)
            _require("scores", scores, (REPLICAS, ROWS), "(S, B): replicas, rows")
    policy.set_training_mode(True)


def require_table(method: Method, hook: str, kind: type) -> dict[str, Any]:
    """Call the hook of that name and return its table, refusing anything but a dict of name -> ``kind``."""
    with calling(method, hook):
        table = getattr(method, hook)()
        # None is of no kind, so what is no table is refused too
        values = table.values() if isinstance(table, Mapping) else [None]
        if not all(isinstance(value, kind) for value in values):
            raise AgentError(
                f"must return a dict of name -> {kind.__name__}; got {_describe(table)}"
            )
    return dict(table)


def _warn_of_own_layers(method: Method, policy: FlowPolicy) -> None:
    """Warn where `net_arch` is set and does not act on all networks."""
    if policy.own_layers and method.net_arch != type(method)().net_arch:
        networks = ", ".join(f"`{network}`" for network in policy.own_layers)
        warnings.warn(
            f"{type(method).__name__}: `net_arch` = {method.net_arch} does not act on networks {networks}, which have "
            "layers of their own (docs/register.md#networks-of-your-own); build them from `n.actor_arch` or "
            "`n.critic_arch` and declare `follows_net_arch=True`, or leave the setting out",
            stacklevel=4,
        )


# -- made-up input ----------------------------------------------------------------------------------------------------


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


# -- messages ---------------------------------------------------------------------------------------------------------


@contextmanager
def calling(method: Method, hook: str) -> Iterator[None]:
    """Make every failure inside the block name the algorithm and its hook.

    :param method: the algorithm.
    :param hook: name of the hook that is called.
    """
    name = f"{type(method).__name__}.{hook}"
    try:
        yield
    except AgentError as error:
        raise AgentError(f"{name} {error}") from error
    except NotImplementedError as error:
        raise AgentError(f"{name} {error or 'is not implemented'}") from error
    except Exception as error:
        raise AgentError(f"{name} failed: {type(error).__name__}: {error}") from error


def _require(label: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
    """Refuse anything but a tensor of a shape."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise AgentError(
            f"must give {label} as a tensor of shape {shape} here, {meaning}; got {_describe(value)}"
        )


def _require_finite(label: str, value: Any) -> None:
    """Refuse NaN and infinity."""
    if isinstance(value, Tensor) and not value.isfinite().all():
        raise AgentError(
            f"gives {label} that holds NaN or infinity, for standard normal observations and actions in [-1, 1]"
        )


def _describe(value: Any) -> str:
    """Return what a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    # a table of tensors prints as pages
    return f"{type(value).__name__} {value!r}"[:200]
