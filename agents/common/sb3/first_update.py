"""Check the shapes of an algorithm's hooks by one update on a small made-up batch, before training starts.

A loss of the wrong shape or a missing hook would otherwise show after thousands of updates, or never. The check builds
its own tiny networks for two replicas on the CPU; it changes neither the model nor any random generator.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from agents.common.batch import Batch
from agents.common.method import Draw, Method
from agents.common.nets.mlp import StackedMLP
from agents.common.nets.specs import NetworkSpec
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


def check_first_update(
    method: Method,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    policy_class: type[FlowPolicy] = FlowPolicy,
    **policy_kwargs: Any,
) -> Trial:
    """Try an algorithm's hooks as an update and a plan will use them.

    The method remembers that it was tried. A setting that does not act on networks of its own is warned of.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :param policy_class: of the model.
    :param policy_kwargs: further arguments of the policy.
    :return: what was tried, to try more of it.
    :raises AgentError: if a hook is missing, fails, or returns another type, name or shape than promised.
    """
    require_table(method, "networks", NetworkSpec)
    require_table(method, "action_noise_table", Draw)
    tiny = type(method)(**{**method.settings(), **TINY})
    with calling(tiny, "networks"):
        policy = policy_class(
            observation_space,
            action_space,  # type: ignore[arg-type]
            lambda _: 1e-3,
            tiny,
            seeds=list(range(REPLICAS)),
            features_extractor_class=FlattenExtractor,
            **policy_kwargs,
        )
    trial = Trial(policy)
    _check_acting(trial)
    _check_update(trial)
    name = type(method).__name__
    own_layers_note = "which have layers of their own (docs/register.md#networks-of-your-own)"
    if policy.own_layers and method.net_arch != type(method)().net_arch:
        networks = ", ".join(f"`{network}`" for network in policy.own_layers)
        warnings.warn(
            f"{name}: `net_arch` = {method.net_arch} does not act on networks {networks}, "
            f"{own_layers_note}; build them from `n.actor_arch` or `n.critic_arch` and declare "
            "`follows_net_arch=True`, or leave the setting out",
            stacklevel=3,
        )
    for network in policy.layered_networks:
        is_stacked = any(isinstance(part, StackedMLP) for part in policy.nets[network].modules())
        if method.precision == "bf16" and not is_stacked:
            warnings.warn(
                f"{name}: `precision` = bf16 does not act on network `{network}`, {own_layers_note}",
                stacklevel=3,
            )
    method.hooks_checked = True
    return trial


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


# -- the parts of the check -------------------------------------------------------------------------------------------


class Trial:
    """An algorithm with tiny networks for two replicas on the CPU, a batch and its noise."""

    def __init__(self, policy: FlowPolicy) -> None:
        self.policy = policy
        self.method = method = policy.method
        self.nets = policy.nets
        self.generator = torch_generator(Purpose.CHECKS, 0, 0)
        require_table(method, "noise", Draw)
        require_table(method, "loss_weights", Real)
        with calling(method, "noise"):
            self.noise = policy.draw_noise(method.update_noise(), ROWS, self.generator)
        self.batch = random_batch(policy, ROWS, self.generator)
        self.info: dict[str, Tensor] = {}  # of the update

    def copies(self) -> tuple[Batch, dict[str, Tensor]]:
        """Return copies of the batch and its noise, which hooks may spoil."""
        noise = {name: draw.clone() for name, draw in self.noise.items()}
        return self.batch.map(Tensor.clone), noise


def _check_acting(trial: Trial) -> None:
    """Check the sampler and the score."""
    policy = trial.policy
    method = trial.method
    # as in plans, where e.g. dropout is off
    policy.set_training_mode(False)
    shape = REPLICAS, ROWS, policy.observation_mean.numel()
    observations = torch.randn(shape, generator=trial.generator, dtype=torch.float32)
    with calling(method, "action_noise_table"):
        table = method.action_noise_table()
        for name, draw in table.items():
            if "B" not in draw.axes:
                raise AgentError(
                    f"must give the draw `{name}` the axis B (rows), got the axes {draw.axes!r}"
                )
    with calling(method, "act"), torch.no_grad():
        noise = policy.draw_noise(table, ROWS, trial.generator)
        actions = method.act(observations, noise, policy.nets)
        meaning = "(S, B, D): replicas, rows, flattened chunk"
        _require_tensor("actions", actions, (REPLICAS, ROWS, policy.chunk_size), meaning)
    if method.best_of_n > 1:
        with calling(method, "score"), torch.no_grad():
            scores = method.score(observations, actions, policy.nets)
            _require_tensor("scores", scores, (REPLICAS, ROWS), "(S, N): replicas, rows")
    policy.set_training_mode(True)


def _check_update(trial: Trial) -> None:
    """Check targets, losses and their weights."""
    batch, noise = trial.copies()
    method = trial.method
    nets = trial.nets
    info: dict[str, Any] = {}
    with calling(method, "targets"), torch.no_grad():
        targets = method.targets(batch, noise, nets, info)
        if not isinstance(targets, Mapping):
            raise AgentError(f"must return a dict of name -> tensor, got {_describe(targets)}")
    with calling(method, "losses"):
        losses = method.losses(batch, targets, noise, nets, info)
        if not isinstance(losses, Mapping) or not losses:
            raise AgentError(f"must return a dict of name -> loss, got {_describe(losses)}")
        for name, loss in losses.items():
            remedy = "one number per replica: take the mean over everything but the first axis"
            _require_tensor(f"loss `{name}`", loss, (REPLICAS,), f"(S,), {remedy}")
        for name, value in info.items():
            _require_tensor(f"`info[{name!r}]`", value, (REPLICAS,), "(S,), one number per replica")
        if not any(loss.requires_grad for loss in losses.values()):
            raise AgentError(
                "must return losses with a gradient, got none that depends on a network's parameters"
            )
    # what the trainer adds before `after_update` gets it
    info |= {f"{name}_loss": loss for name, loss in losses.items()}
    info |= dict.fromkeys(("total_loss", "grad_norm"), torch.ones(REPLICAS, dtype=torch.float32))
    trial.info = {name: value.detach() for name, value in info.items()}
    with calling(method, "loss_weights"):
        for name in method.loss_weights():
            if name not in losses:
                raise AgentError(f"names an {unknown_name_message('loss', name, losses)}")


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


def _require_tensor(label: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
    """Refuse anything but a tensor of a shape."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise AgentError(
            f"must give {label} as a tensor of shape {shape} here, {meaning}; got {_describe(value)}"
        )


def _describe(value: Any) -> str:
    """Return what a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    # a table of tensors prints as pages
    return f"{type(value).__name__} {value!r}"[:200]
