"""Behaviour flows that were trained elsewhere: checks of a module before training, and the flow of a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from agents.common.batch import Batch
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.maths.flow import integrate_flow
from agents.common.method import Method
from agents.common.model_file import Source, read_model_file
from agents.common.nets.pretrained import PretrainedField, PretrainedFlow, PretrainedNetwork
from agents.common.nets.specs import start_from_behaviour
from agents.common.sb3.constructor import require_behaviour
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator

MAX_MISMATCHES = 3
"""Differences between two networks that a message names."""
ROWS = 256
"""Transitions of the dataset whose actions are compared with samples."""
CALLED_ROWS = 64
"""Rows of the calls before training: of a few, a small dropout may leave all alike."""


def check_fit(flow: PretrainedFlow, method: Method) -> None:
    """Refuse a pretrained flow that the algorithm and its settings cannot take.

    :param flow: the pretrained flow.
    :param method: the algorithm.
    :raises ValueError: for the first reason.
    """
    if not isinstance(flow, PretrainedFlow):
        raise TypeError(
            f"`behaviour` must be an `agents.PretrainedFlow`, got {type(flow).__name__}; wrap the module: "
            "`PretrainedFlow(module)`"
        )
    require_behaviour(method, "`behaviour`")
    is_tuned = flow.train or any(spec.role == "copy" for spec in method.networks().values())
    if is_tuned and not any(part.requires_grad for part in flow.module.parameters()):
        raise ValueError(
            f"{type(method).__name__} trains those parameters of `behaviour` that require gradients, got none; call "
            "`module.requires_grad_()`, or, to keep it frozen, take an algorithm that has no copy of it, such as FQL"
        )
    if method.trains_behaviour and not flow.train:
        raise ValueError(
            f"{type(method).__name__} has one flow, which it trains, got a frozen one; give `PretrainedFlow(..., "
            "train=True)`, or take an algorithm that fine-tunes a copy, such as QAM or TRQAM"
        )
    if method.observation_scale is not None:
        raise ValueError(
            f"`behaviour` gets observations as the environment returns them, got `observation_scale` = "
            f"{method.observation_scale}; set it to None (-params observation_scale=null)"
        )


def check_outputs(policy: FlowPolicy) -> None:
    """Call a policy's pretrained flow; refuse one that is no differentiable function of each row of its inputs.

    :param policy: with the flow among its networks.
    :raises ValueError: if it fails, changes its inputs, mixes rows, or returns another shape, NaN, other numbers each
        time or no gradient.
    """
    network = _pretrained(policy)
    field = network.field
    size = policy.chunk_size
    _check_chunk(field, policy)
    observations = policy.layout.zeros(CALLED_ROWS).to(policy.device)
    gradient: Tensor | None = None
    # no two coordinates alike, so that one cannot stand for another
    inputs = torch.linspace(-1, 1, CALLED_ROWS * size, dtype=torch.float32, device=policy.device)
    with torch.enable_grad():
        x = inputs.view(-1, size).requires_grad_()
        # in the middle: at the ends of the path a diffusion is singular
        times = torch.full((CALLED_ROWS, 1), 0.5, dtype=torch.float32, device=policy.device)
        # all replicas begin with the same weights: the first stands for them
        rows = [part.expand(policy.num_replicas, -1, -1) for part in (observations, x, times)]
        versions = [part._version for part in rows]
        try:
            first = network(*rows)[0]
            second = network(*rows)[0]
            # as in an episode, where a squeezed axis is missing
            network(*(part[:, :1] for part in rows))
        except Exception as error:
            shape = (CALLED_ROWS, *(field.action_shape or [size]))
            shapes = tree_map(lambda part: tuple(part.shape), field.read_rows(observations))
            raise ValueError(
                f"`behaviour` must map x of shape {shape}, observations of shape {shapes} and times of shape "
                f"({CALLED_ROWS},) to the shape of x, got {type(error).__name__}: {error}; let `call` convert what the "
                "module takes and returns, and set `horizon_length` to the length of its chunks"
            ) from error
        if versions != [part._version for part in rows]:
            raise ValueError(
                "`behaviour` must leave its inputs as they are, got observations or times that it changed in place, "
                "which others read after it; let `call` copy them"
            )
        if not torch.isfinite(first).all():
            raise ValueError(
                "`behaviour` must return finite numbers, got NaN or infinity in the middle of its path"
            )
        if not torch.equal(first, second):
            raise ValueError(
                "`behaviour` must be a function of its inputs, got other numbers at a second call; switch off what is "
                "random in it, e.g. dropout (p = 0)"
            )
        if first.requires_grad:
            (gradient,) = torch.autograd.grad(first[0].sum(), x, allow_unused=True)
    if gradient is None or not gradient[0].any():
        raise ValueError(
            "`behaviour` must pass gradients to x, got none; leave out `torch.no_grad`, `detach` and rounding"
        )
    if gradient[1:].any():
        raise ValueError(
            "`behaviour` must treat each row by itself, got one that depends on another; leave out statistics of the "
            "batch, and set `batch_first=True` in attention"
        )


def _check_chunk(field: PretrainedField, policy: FlowPolicy) -> None:
    """Refuse a shape or shift that is not that of the policy's chunks."""
    chunk = (policy.chunk_length, policy.action_size)
    if field.action_shape not in (None, chunk):
        raise ValueError(
            f"`action_shape` must be that of a chunk here, {chunk}, got {field.action_shape}; set `horizon_length` to "
            "its first number, and take an environment of as many actions as its second"
        )
    shifts = field.shift[0].numel()
    if shifts not in (1, policy.chunk_size):
        raise ValueError(
            f"`action_shift` must be a number, or {policy.chunk_size} for the actions of a chunk, got {shifts}"
        )


def check_samples(policy: FlowPolicy, buffer: SequenceReplayBuffer) -> None:
    """Compare samples of a policy's pretrained flow in states of the dataset with the dataset's actions and with noise.

    :param policy: with the flow among its networks.
    :param buffer: with the dataset.
    :raises ValueError: if samples are not nearer to the data than noise is.
    """
    device = policy.device if buffer.placement.on_device else "cpu"
    batch = buffer.draw(ROWS, None, torch_generator(Purpose.CHECKS, 0, 3, device=device))
    generator = torch_generator(Purpose.CHECKS, 0, 4)
    noise = torch.randn(batch.actions.shape, generator=generator, dtype=torch.float32)
    noise = noise.to(policy.device)
    with torch.no_grad():
        velocity = _pretrained(policy).at(batch.observations)
        samples = integrate_flow(velocity, noise, policy.method.flow_steps)
    sample_error = _error(samples, batch)
    noise_error = _error(noise, batch)
    # also where a sample is NaN
    if not sample_error < noise_error:
        raise ValueError(
            f"samples of `behaviour` must be nearer to the data's actions than noise is, got a root mean square of "
            f"{sample_error:.2f} from samples and {noise_error:.2f} from noise; is `noise_at` right, and are "
            "`action_scale` and `action_shift` those between actions in [-1, 1] and the module's?"
        )


def load_behaviour(policy: FlowPolicy, path: Source) -> None:
    """Copy a saved model's behaviour flow into the policy's; see :meth:`FlowAlgorithm.load_pretrained_actor`.

    A policy that scales observations must have their statistics already.

    :param policy: whose flow is replaced.
    :param path: of the saved model.
    :raises ValueError: if one of the two has no such flow, or they do not fit together.
    """
    method = policy.method
    behaviour = require_behaviour(method, "a pretrained actor")
    file = read_model_file(path)
    saved = file.attributes()
    parameters, _ = file.parameters()
    flow = saved.get("behaviour_flow")
    if flow is None:
        raise ValueError(
            f"a pretrained actor must be a saved model with a behaviour flow, got {file.name} without one; "
            "train one with e.g. `bc`"
        )
    state: Mapping[str, Tensor] = parameters["policy"]
    prefix = f"nets.{flow}."
    own_state = policy.nets[behaviour].state_dict()
    saved_state = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    expected = _compatibility(method.settings(), policy.action_space, policy.activation_fn)
    activation = saved["policy_kwargs"].get("activation_fn")
    saved_values = _compatibility(saved, saved["action_space"], activation)
    wrong = []
    for name, value in expected.items():
        if saved_values[name] != value:
            wrong.append(f"expected {name} {value}, got {saved_values[name]}")
    wrong += shape_mismatches(own_state, saved_state)
    for name in ("observation_mean", "observation_factor"):
        # means of one dataset differ in their last bits where they are summed in another order
        if not torch.allclose(
            getattr(policy, name), state[name].to(policy.device), rtol=1e-5, atol=1e-6
        ):
            wrong.append(f"got another `{name}`: load the dataset that it was trained on first")
    refuse_misfit(f"the behaviour flow of {file.name}", wrong)
    with torch.no_grad():
        for name, value in own_state.items():
            value.copy_(saved_state[name])
    # as pretraining would leave them
    start_from_behaviour(policy.nets, method.networks())


def refuse_misfit(noun: str, mismatches: Sequence[str]) -> None:
    """Refuse a saved model that differs from the one that takes it.

    :param noun: what it is and its file.
    :param mismatches: what was expected and got, of which the message has the first.
    :raises ValueError: if there are any.
    """
    if mismatches:
        raise ValueError(
            f"{noun} does not fit: {'; '.join(mismatches[:MAX_MISMATCHES])}; give both models the same settings and "
            "the same `behaviour`"
        )


def shape_mismatches(expected: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> list[str]:
    """Return what differs in the shapes of two state dicts; one replica of the saved one serves all of the other."""
    mismatches = []
    expected_shapes = {name: tuple(value.shape) for name, value in expected.items()}
    saved_shapes = {name: tuple(value.shape) for name, value in saved.items()}
    for name in sorted({*expected, *saved}):
        shape = expected_shapes.get(name)
        saved_shape = saved_shapes.get(name)
        if shape is None or saved_shape not in (shape, (1, *shape[1:])):
            mismatches.append(f"expected `{name}` of shape {shape}, got {saved_shape}")
    return mismatches


def _compatibility(settings: Mapping[str, Any], actions: Any, activation: Any) -> dict[str, Any]:
    """Return what must be equal for equal parameters to mean the same."""
    chunk_length = 1
    if settings["action_chunking"]:
        chunk_length = settings["horizon_length"]
    return {
        "actions in a chunk": chunk_length,
        "lowest actions": actions.low.tolist(),
        "highest actions": actions.high.tolist(),
        "activation": getattr(activation, "__name__", None),
        "observation scale": settings["observation_scale"],
    }


def _error(actions: Tensor, batch: Batch) -> float:
    """Return the root mean square difference of actions, (S, B, D), from those of the valid rows of a batch."""
    squares = (actions - batch.actions).square().mean(-1)
    # a batch may have no valid row
    return float(((batch.valid * squares).sum() / batch.valid.sum().clamp(min=1)).sqrt())


def _pretrained(policy: FlowPolicy) -> PretrainedNetwork:
    """Return the network of a policy that stands for the behaviour flow."""
    networks = policy.nets.values()
    return next(network for network in networks if isinstance(network, PretrainedNetwork))
