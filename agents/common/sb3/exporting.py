"""Export policies as ONNX files, for programs without PyTorch.

The sampler is recorded operation by operation, including gradients of Q, so algorithms need no code for the export. The
file maps raw observations and noise to a chunk of actions in the environment's units.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from agents.common.files import atomic_path
from agents.common.nets.mlp import StackedMLP
from agents.common.nets.modules import VmappedModule
from agents.common.observations import ObservationLayout
from agents.common.sb3.model import FlowAlgorithm
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator
from agents.registry import name_of

FORMAT = "flow-rl-zoo onnx 1"
OPSET = 20
OBSERVATIONS, ACTIONS = "observations", "actions"
# rounding errors grow where a diffusion divides by little signal
TOLERANCE = 1e-4
CHECKED_ROWS = 100
# an unusual size, so that the exporter does not mistake another axis for the rows
_TRACED_ROWS = 61


def export_onnx(
    policy: FlowPolicy | FlowAlgorithm, path: str | Path, about: Mapping[str, Any] | None = None
) -> float:
    """Convert a policy to ONNX, check that both give the same actions for random observations, and write the file.

    The inputs are ``observations`` (B, observation shape) and each noise tensor (B, ...) under its name. Images are
    uint8 with the channels last, (B, height, width, channels); discrete values are int64; all else is float32. The
    parts of a Dict are separate inputs, e.g. ``observations.camera``. The output is ``actions`` (B, H, action shape), a
    chunk of H actions in the environment's units. ``flow_rl_zoo`` in the file's metadata is JSON with the policy's
    settings, its inputs, the distribution of its noise, and ``about``.

    :param policy: policy or model with one replica, e.g. from ``agents.load_policy`` or ``agents.load``.
    :param path: file, usually with the suffix ``.onnx``.
    :param about: further metadata in plain JSON values.
    :return: the largest difference from PyTorch's actions over 100 observations, in units of the action range.
    :raises ImportError: if onnx, onnxscript or onnxruntime is missing.
    :raises ValueError: if the policy has several replicas, or a custom module that ONNX cannot express.
    :raises ArithmeticError: if the file's actions differ from the policy's by more than 1e-4 of the action range.

    >>> model = agents.BC("MlpPolicy", "Pendulum-v1", net_arch=[32])
    >>> error = export_onnx(model, "policy.onnx")  # doctest: +SKIP
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"exporting needs {name}; `pip install onnx onnxscript onnxruntime`")
    plain = _in_float32(policy if isinstance(policy, FlowPolicy) else policy.policy)
    plain.normalization = policy.normalization  # a model's, also if its environment normalises
    if plain.num_replicas != 1:
        raise ValueError(
            f"expected a policy with one replica, got {plain.num_replicas}; export each `model.replica(k)`"
        )
    own_modules = [name for name, net in plain.nets.items() if isinstance(net, VmappedModule)]
    try:
        graph = _convert(plain)
        largest_error = _largest_error(graph, plain)
    except Exception as error:
        if not own_modules or isinstance(error, ArithmeticError):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        first_line = str(cause).partition("\n")[0]
        raise ValueError(
            f"expected modules that ONNX can express, got {', '.join(own_modules)} with {type(cause).__name__}: "
            f"{first_line}; use only PyTorch's float32 operations in the module and its `call` (no NumPy, `.item()` or "
            "`if` on a tensor's values), or use the model with PyTorch"
        ) from error
    description = {**_describe(plain), "about": dict(about or {})}
    graph.metadata_props.add(key="flow_rl_zoo", value=json.dumps(description, default=str))
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(graph.SerializeToString())
    return largest_error


def _in_float32(policy: FlowPolicy) -> FlowPolicy:
    """Return a copy on the CPU in float32, which every ONNX runtime supports."""
    plain = copy.deepcopy(policy).to("cpu")
    plain.set_training_mode(False)
    for network in plain.modules():
        if isinstance(network, StackedMLP):
            network.matmul_dtype = None
    return plain.requires_grad_(False)


def _as_rows(layout: ObservationLayout, values: Sequence[Tensor]) -> Tensor:
    """Convert the file's observation inputs, one for each part, to rows (B, O)."""
    rows = []
    for part, value in zip(layout.parts, values, strict=True):
        if part.is_image:
            value = value.movedim(-1, 1)  # networks expect channels first
        rows.append(value.reshape(value.shape[0], -1).to(layout.dtype))
    return torch.cat(rows, 1)


def _inputs(policy: FlowPolicy, count: int, seed: int = 0) -> dict[str, Tensor]:
    """Return random inputs, name -> tensor: the observations, one entry for each part, then the noise.

    The channels of images are last.
    """
    layout = policy.layout
    observations = layout.sample(count, seed)
    if not layout.is_dict:
        observations = {"": observations}
    inputs = {}
    for part in layout.parts:
        value = torch.as_tensor(observations[part.key])
        if part.is_image:
            value = value.movedim(1, -1).contiguous()  # channels last, as in environments
        elif part.count is None:
            value = value.float()
        else:
            value = value.long()
        inputs[f"{OBSERVATIONS}.{part.key}" if layout.is_dict else OBSERVATIONS] = value
    return inputs | policy.draw_action_noise(count, torch_generator(Purpose.CHECKS, 0, seed))


def sample_actions(policy: FlowPolicy, *inputs: Tensor) -> Tensor:
    """Sample one chunk for every raw observation, in the environment's units.

    :param policy: policy with one replica.
    :param inputs: each (B, ...), in the order of :func:`_inputs`.
    :return: (B, H, *action shape).
    """
    parts = len(policy.layout.parts)
    observations = _as_rows(policy.layout, inputs[:parts])
    values = [value.unsqueeze(0) for value in inputs[parts:]]
    draws = policy.method.candidate_noise()
    noise = policy.method.move_row_axes(dict(zip(draws, values, strict=True)))
    scaled = policy.sample(observations[None], noise, policy.nets)[0]
    space = policy.action_space
    low, high = (torch.as_tensor(np.float32(bound)) for bound in (space.low, space.high))
    chunks = scaled.unflatten(-1, (policy.chunk_length, *space.shape))
    actions = low + (high - low) * (chunks + 1) / 2
    # rounded actions may exceed the bounds by a unit in the last place
    return actions.clamp(low, high)


def _convert(policy: FlowPolicy) -> Any:
    """Convert a policy to an ONNX model that accepts any number of rows."""
    inputs = _inputs(policy, _TRACED_ROWS)
    values = tuple(inputs.values())
    record = make_fx(
        partial(sample_actions, policy),
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
        decomposition_table=dict(torch._decomp.core_aten_decompositions()),
    )
    rows = torch.export.Dim("N", min=1)
    disabled = logging.root.manager.disable
    # the converter warns of packages that it does not need, and of deprecated functions that it calls
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                record(*values),
                values,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=[ACTIONS],
                dynamic_shapes=({0: rows},) * len(values),
                verbose=False,
            )
    finally:
        logging.disable(disabled)
    assert program is not None
    return program.model_proto


def _describe(policy: FlowPolicy) -> dict[str, Any]:
    """Return the metadata of the file."""
    space = policy.action_space
    draws = policy.method.candidate_noise()
    inputs = {
        name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape[1:])}
        for name, value in _inputs(policy, 1).items()
    }
    return {
        "format": FORMAT,
        "algorithm": name_of(type(policy.method)),
        "settings": policy.method.settings(),
        "chunk_length": policy.chunk_length,
        "execution_horizon": policy.executed_length,
        "observations": {name: value for name, value in inputs.items() if name not in draws},
        "action_low": space.low.tolist(),
        "action_high": space.high.tolist(),
        "noise": {name: {**inputs[name], "kind": draw.kind} for name, draw in draws.items()},
    }


def _largest_error(graph: Any, policy: FlowPolicy) -> float:
    """Return the largest difference between a file's and a policy's actions, in units of the action range."""
    layout = policy.layout
    inputs = _inputs(policy, CHECKED_ROWS, seed=1)  # rows that were not traced
    names = [value.name for value in graph.graph.input]
    exported_actions = run_onnx(
        graph.SerializeToString(), {name: inputs[name].numpy() for name in names}
    )
    rows = _as_rows(layout, list(inputs.values())[: len(layout.parts)])
    noise = {name: inputs[name][None] for name in policy.method.candidate_noise()}
    policy_actions = policy.sample_chunks(rows[None].numpy(), noise)[0]
    span = policy.action_space.high - policy.action_space.low
    error = float(np.max(np.abs(exported_actions - policy_actions) / span))
    if not error <= TOLERANCE:  # true for NaN too
        raise ArithmeticError(
            f"expected the file's actions within {TOLERANCE:g} of PyTorch's over {CHECKED_ROWS} observations, got "
            f"{error:.2g}"
        )
    return error


def run_onnx(file: bytes | str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the actions of an exported policy, (B, H, *action shape).

    :param file: content or path of the ONNX file.
    :param inputs: inputs by name.
    :return: the chunks.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([ACTIONS], dict(inputs))[0])
