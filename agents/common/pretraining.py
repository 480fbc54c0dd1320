"""Pretraining: the behaviour flow is cloned from the data before the algorithm begins, or taken from a saved model.

An algorithm says with the roles of its networks (:class:`NetworkSpec`) which one is cloned and how others start from
it; nothing else about pretraining is in its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file
from torch import Tensor

from agents.common.batch import Batch
from agents.common.maths.flow import flow_matching_loss
from agents.common.nets.specs import Networks, NetworkSpec
from agents.common.noise import Noise, normal, uniform
from agents.common.saved import find_model

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning

CLONING_NOISE = {"bc_x0": normal(), "bc_t": uniform()}
"""Every random draw of an update while pretraining."""


def find_behaviour(specs: Mapping[str, NetworkSpec]) -> str | None:
    """Return the name of the behaviour flow.

    :param specs: an algorithm's networks.
    :return: its name; None where the algorithm has none.
    """
    return next((name for name, spec in specs.items() if spec.role == "behaviour"), None)


def cloning_losses(behaviour: Any, batch: Batch, noise: Noise) -> dict[str, Tensor]:
    """Return the flow-matching loss alone.

    :param behaviour: the behaviour flow.
    :param batch: the batch.
    :param noise: the draws of :data:`CLONING_NOISE`.
    :return: ``bc_flow``, (S,).
    """
    velocity = behaviour.at(batch.observations)
    return {"bc_flow": flow_matching_loss(velocity, noise["bc_x0"], batch.actions, noise["bc_t"], batch.valid)}


@torch.no_grad()
def start_from_behaviour(nets: Networks, specs: Mapping[str, NetworkSpec]) -> None:
    """Let the networks that begin at the behaviour flow do so, and their moving averages with them.

    :param nets: the networks.
    :param specs: their specs.
    """
    behaviour = find_behaviour(specs)
    assert behaviour is not None
    for name, spec in specs.items():
        if spec.role == "copy":
            _copy(nets[behaviour], nets[name])
        elif spec.role == "residual":
            network: Any = nets[name]
            network.mlp.weights[-1].zero_()
            network.mlp.biases[-1].zero_()
        if spec.role is not None and spec.target:
            _copy(nets[name], nets[f"{name}_target"])


def _copy(source: torch.nn.Module, copy: torch.nn.Module) -> None:
    torch._foreach_copy_(list(copy.parameters()), list(source.parameters()))
    for own, other in zip(copy.buffers(), source.buffers(), strict=True):  # statistics of a features extractor
        own.copy_(other)


# -- from a saved model -----------------------------------------------------------------------------------------------


def load_behaviour(model: FlowQLearning, path: str | Path | BufferedIOBase) -> None:
    """Copy a saved model's behaviour flow into a model; see :meth:`FlowQLearning.load_pretrained_actor`.

    :param model: the model, its dataset loaded where it scales observations.
    :param path: what ``save`` wrote, or the folder of a run.
    :raises ValueError: if one of the two has no behaviour flow, or they do not fit.
    """
    if model.behaviour_flow is None:
        raise ValueError(no_behaviour_message(type(model).__name__))
    if model.pretraining_steps:
        raise ValueError(
            f"a pretrained actor takes the place of `pretraining_steps`, got {model.pretraining_steps}; set them to 0"
        )
    path = find_model(path) if isinstance(path, str | Path) else path
    saved, parameters, _ = load_from_zip_file(path, device=model.device)
    flow = (saved or {}).get("behaviour_flow")
    if saved is None or flow is None:
        raise ValueError(
            f"a pretrained actor must be a saved model with a behaviour flow, got {path} without one; "
            "train one with e.g. `bc`"
        )
    state: Mapping[str, Tensor] = parameters["policy"]  # type: ignore[assignment]
    _require_fit(model, saved, state, f"{path}")
    own = model.policy.nets[model.behaviour_flow].state_dict()
    with torch.no_grad():
        for name, value in own.items():  # one replica of the source serves all of ours
            value.copy_(state[f"nets.{flow}.{name}"])
    start_from_behaviour(model.policy.nets, model.networks())


def no_behaviour_message(algorithm: str) -> str:
    """Return why an algorithm cannot be pretrained.

    :param algorithm: its name.
    :return: one sentence.
    """
    return (
        f"{algorithm} has no behaviour flow to pretrain; leave pretraining out, or take an algorithm that clones the "
        "data with a flow, such as QAM"
    )


def _require_fit(model: FlowQLearning, saved: Mapping[str, Any], state: Mapping[str, Tensor], origin: str) -> None:
    """Refuse a behaviour flow that does not see, compute or mean the same as the model's own."""
    own_state = model.policy.state_dict()
    wanted, got = _describe(vars(model), own_state), _describe(saved, state)
    wrong = [f"expected {name} {value}, got {got[name]}" for name, value in wanted.items() if got[name] != value]
    replicas, ours = _replicas(saved, state), model.policy.num_replicas
    if replicas not in (1, ours):
        wrong.append(f"expected 1 or {ours} stacked seeds, got {replicas}")
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
        "observation size": int(np.prod(attributes["observation_space"].shape)),
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


def _replicas(attributes: Mapping[str, Any], state: Mapping[str, Tensor]) -> int:
    return len(state[f"nets.{attributes['behaviour_flow']}.mlp.weights.0"])
