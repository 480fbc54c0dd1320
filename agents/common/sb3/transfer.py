"""What takes the place of pretraining: a flow that was trained elsewhere, or that of a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.common.method import Method
from agents.common.model_file import Source, read_model_file
from agents.common.nets.pretrained import PretrainedFlow
from agents.common.nets.specs import start_from_behaviour
from agents.common.sb3.constructor import require_behaviour
from agents.common.sb3.policy import FlowPolicy

MAX_MISMATCHES = 3
"""Differences between two networks that a message names."""


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
