"""Start from the behaviour flow of a saved model instead of pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.common.model_file import read_model_file
from agents.common.pretraining import no_behaviour_message, start_from_behaviour
from agents.common.saved import find_model
from agents.common.sb3.policy import FlowPolicy


def load_behaviour(policy: FlowPolicy, behaviour: str | None, path: str | Path | BufferedIOBase) -> None:
    """Copy a saved model's behaviour flow into the policy's; see :meth:`FlowQLearning.load_pretrained_actor`.

    ``behaviour`` names the policy's flow, None if it has none. A policy that scales observations must have their
    statistics already.
    """
    method = policy.method
    if behaviour is None:
        raise ValueError(no_behaviour_message(type(method).__name__))
    if method.pretraining_steps:
        raise ValueError(
            f"a pretrained actor takes the place of `pretraining_steps`, got {method.pretraining_steps}; set them to 0"
        )
    path = find_model(path) if isinstance(path, str | Path) else path
    file = read_model_file(path)
    saved, (parameters, _) = file.attributes, file.parameters(policy.device)
    flow = saved.get("behaviour_flow")
    if flow is None:
        raise ValueError(
            f"a pretrained actor must be a saved model with a behaviour flow, got {path} without one; "
            "train one with e.g. `bc`"
        )
    state: Mapping[str, Tensor] = parameters["policy"]
    _require_fit(policy, behaviour, saved, state, f"{path}")
    own = policy.nets[behaviour].state_dict()
    with torch.no_grad():
        for name, value in own.items():  # one replica of the source serves all of ours
            value.copy_(state[f"nets.{flow}.{name}"])
    start_from_behaviour(policy.nets, method.networks())


def _require_fit(
    policy: FlowPolicy, behaviour: str, saved: Mapping[str, Any], state: Mapping[str, Tensor], origin: str
) -> None:
    """Refuse a behaviour flow that does not see, compute or mean the same as the policy's own."""
    own_state = policy.state_dict()
    own = {
        **policy.method.settings(),
        "behaviour_flow": behaviour,
        "observation_space": policy.observation_space,
        "action_space": policy.action_space,
        "policy_kwargs": {"activation_fn": policy.activation_fn},
    }
    wanted, got = _describe(own, own_state), _describe(saved, state)
    wrong = [f"expected {name} {value}, got {got[name]}" for name, value in wanted.items() if got[name] != value]
    replicas, ours = len(state[f"nets.{saved['behaviour_flow']}.mlp.weights.0"]), policy.num_replicas
    if replicas not in (1, ours):
        wrong.append(f"expected 1 or {ours} replicas, got {replicas}")
    if wrong:
        raise ValueError(
            f"the behaviour flow of {origin} does not fit: {'; '.join(wrong)}; give both models the same settings"
        )
    for name in ("observation_mean", "observation_factor"):
        if not torch.allclose(own_state[name], state[name].to(own_state[name].device), rtol=1e-5, atol=1e-6):
            raise ValueError(
                f"the behaviour flow of {origin} does not fit: expected the observation statistics of this model's "
                f"dataset, got others (`{name}` differs); load the dataset that it was trained on first"
            )


def _describe(attributes: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what must be equal for a behaviour flow to mean the same, in words and numbers."""
    prefix = f"nets.{attributes['behaviour_flow']}."
    parts = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    weights = [value for name, value in parts.items() if name.startswith("mlp.weights.")]
    actions, activation = attributes["action_space"], attributes["policy_kwargs"].get("activation_fn")
    return {
        "observation size": len(state["observation_mean"]),
        "action size": int(np.prod(actions.shape)),
        "lowest actions": actions.low.tolist(),
        "highest actions": actions.high.tolist(),
        "actions in a chunk": attributes["horizon_length"] if attributes["action_chunking"] else 1,
        "layer widths": [*(w.shape[-2] for w in weights), weights[-1].shape[-1]],
        "layer norm": any(name.startswith("mlp.norm_scales") for name in parts),
        "activation": None if activation is None else activation.__name__,
        "features": {name: list(value.shape) for name, value in parts.items() if name.startswith("features_extractor")},
        "parameters and buffers": sorted(parts),
        "observation scale": attributes["observation_scale"],
    }
