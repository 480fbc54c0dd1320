"""Behaviour flows trained elsewhere: checks of custom networks, and loading the flow of a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.files import safe
from agents.common.maths.flow import integrate_flow
from agents.common.method import Method
from agents.common.model_file import ModelFile, Source, read_model_file
from agents.common.nets.pretrained import PretrainedFlow, PretrainedNetwork
from agents.common.nets.specs import require_behaviour, start_from_behaviour
from agents.common.normalization import Normalization
from agents.common.sb3.policy import FlowPolicy
from agents.common.streams import Purpose, torch_generator

MAX_MISMATCHES = 3
"""Largest number of differences between two networks that a message lists."""
SAMPLED_ROWS, CALLED_ROWS = 256, 64
"""Number of samples compared with the dataset's actions, and number of rows in the test calls before training."""


# -- a custom network --------------------------------------------------------------------------------------------------


def check_fit(method: Method, normalizer: VecNormalize | None = None) -> None:
    """Check that an algorithm and its settings can use its custom flow.

    :param method: the algorithm.
    :param normalizer: the environment's `VecNormalize`, or None.
    :raises TypeError: if the flow is not a :class:`PretrainedFlow`.
    :raises ValueError: if the algorithm or its settings cannot use the flow.
    """
    flow = method.pretrained
    if not isinstance(flow, PretrainedFlow):
        raise TypeError(
            f"`behaviour` must be an `agents.PretrainedFlow`, got {type(flow).__name__}; wrap the module: "
            "`PretrainedFlow(module)`"
        )
    require_behaviour(method, None if flow.train else "`behaviour` without `train=True`")
    is_tuned = flow.train or any(spec.role == "copy" for spec in method.networks().values())
    if is_tuned and not any(part.requires_grad for part in flow.module.parameters()):
        raise ValueError(
            f"{type(method).__name__} trains `behaviour` or a copy of it, got a module without trainable parameters; "
            "call `module.requires_grad_()`, or use an algorithm that keeps it frozen, e.g. FQL without `train=True`"
        )
    if method.trains_behaviour and not flow.train:
        raise ValueError(
            f"{type(method).__name__} trains its only flow, got a frozen one; pass `PretrainedFlow(..., train=True)`, "
            "or use an algorithm that fine-tunes a copy, such as QAM or TRQAM"
        )
    normalizes = normalizer is not None and normalizer.norm_obs
    if normalizes or method.observation_scale is not None:
        raise ValueError(
            "`behaviour` needs observations as the environment returns them, got `observation_scale` = "
            f"{method.observation_scale} and {'a' if normalizes else 'no'} VecNormalize (`normalize`); use neither"
        )


def check_outputs(policy: FlowPolicy) -> None:
    """Call a policy's custom flow; raise unless it is deterministic and differentiable and treats rows separately.

    :param policy: policy whose networks include the flow.
    :raises ValueError: if the flow fails, changes observations, mixes rows, is random, returns a wrong shape or NaN,
        or has no gradient.
    """
    networks = _own_flows(policy)
    # check a trained copy if there is one; all copies start with the same weights
    network = max(networks, key=lambda net: any(part.requires_grad for part in net.parameters()))
    weights = [part for part in network.parameters() if part.requires_grad]
    chunk = policy.chunk_length, policy.action_size

    def require(holds: Any, rule: str) -> None:
        if not holds:
            raise ValueError(f"`behaviour` must {rule}")

    shape = network.field.action_shape or chunk
    require(shape == chunk, f"have chunks of shape {chunk} here, got {shape}; set `horizon_length`")
    inputs = _inputs(policy)
    observations = inputs[-1].detach().clone()
    sources = [part for part in inputs if part.requires_grad]
    leaves = [*sources, *weights]

    def call(count: int = CALLED_ROWS, *other_times: float) -> Tensor:
        """Return the first replica's velocities of the first rows; all replicas start with the same weights."""
        x, times, rows = (part[:count].expand(policy.num_replicas, -1, -1) for part in inputs)
        return network.at(rows)(x, *(other_times or [times]))[0]

    gradients: Sequence[Tensor | None] = [None] * len(leaves)
    try:
        with torch.enable_grad():
            first, second = call(), call()
            if first.requires_grad:
                gradients = torch.autograd.grad(first[-1].sum(), leaves, allow_unused=True)
        # a single row, as in an episode; some modules squeeze its axis
        call(1)
        ends = [call(CALLED_ROWS, time) for time in (0.0, 1.0)]
    except Exception as error:
        shape_of_x = (CALLED_ROWS, *(network.field.action_shape or [policy.chunk_size]))
        advice = ""
        if network.field.action_shape is None:
            advice = f", or pass `action_shape={chunk}` if its actions are (B, H, A)"
        raise ValueError(
            f"`behaviour` must map x of shape {shape_of_x}, observations and times to the shape of x, got "
            f"{type(error).__name__}: {error}; convert inputs and outputs in `call`{advice}, set `horizon_length` to "
            "the chunk length, or leave out gradient checkpointing"
        ) from error
    # PyTorch rejects such changes, except those of images, which have no gradient
    rule = "not change observations in place; copy them in `call`"
    require(torch.equal(inputs[-1], observations), rule)
    for time, velocity in zip((0.5, 0, 1), (first, *ends), strict=True):
        rule = f"return finite velocities, got NaN or infinity at time {time}"
        require(velocity.isfinite().all(), rule)
    rule = "be deterministic, got different outputs at a second call; leave out random numbers"
    require(torch.equal(first, second), rule)
    # the gradient may be zero: the last layer of an untrained transformer often is
    rule = "pass gradients to x, got none; leave out `torch.no_grad` and `detach`"
    require(gradients[0] is not None, rule)
    for gradient in gradients[: len(sources)]:
        rule = "treat each row separately; avoid batch statistics, and use attention with `batch_first`"
        require(gradient is None or not gradient[:-1].any(), rule)
    is_used = any(gradient is not None for gradient in gradients[len(sources) :])
    require(
        is_used or not weights,
        "use the module passed to `call`, got no gradient for its parameters",
    )


def _own_flows(policy: FlowPolicy) -> list[PretrainedNetwork]:
    """Return the policy's networks that contain the custom flow, the behaviour flow first."""
    return [net for net in policy.nets.values() if isinstance(net, PretrainedNetwork)]


def _inputs(policy: FlowPolicy) -> list[Tensor]:
    """Return rows of actions (B, D), times (B, 1) and observations (B, O) of the policy's space."""
    rows = policy.layout.flatten(policy.layout.sample(CALLED_ROWS))
    # all coordinates differ, so that exchanging two of them changes the result
    x = torch.linspace(-1, 1, CALLED_ROWS * policy.chunk_size)
    times = torch.full((CALLED_ROWS, 1), 0.5)
    inputs = [
        part.to(policy.device) for part in (x.view(CALLED_ROWS, -1), times, torch.as_tensor(rows))
    ]
    return [part.requires_grad_(part.is_floating_point()) for part in inputs]


def check_samples(policy: FlowPolicy, buffer: SequenceReplayBuffer) -> None:
    """Check that samples of a custom flow are not clearly farther from the dataset's actions than noise is.

    :param policy: policy whose networks include the flow.
    :param buffer: buffer with the dataset.
    :raises ValueError: if samples are at least 1.1 times as far from the dataset's actions as noise is.
    """
    device = policy.device if buffer.on_device else "cpu"
    batch = buffer.draw(SAMPLED_ROWS, None, torch_generator(Purpose.CHECKS, 0, 3, device=device))
    generator = torch_generator(Purpose.CHECKS, 0, 4)
    noise = torch.randn(batch.actions.shape, generator=generator).to(policy.device)
    with torch.no_grad():
        velocity = _own_flows(policy)[0].at(batch.observations)
        samples = integrate_flow(velocity, noise, policy.method.flow_steps)

    def error(actions: Tensor) -> float:
        squares = batch.valid * (actions - batch.actions).square().mean(-1)
        return float((squares.sum() / batch.valid.sum().clamp(min=1)).sqrt())

    # `not <` rejects NaN too; the factor is above 1 because, with two modes in the data, samples of a correct flow may
    # be as far away as noise
    if not error(samples) < 1.1 * error(noise):
        raise ValueError(
            f"samples of `behaviour` must be closer to the dataset's actions than noise is, got RMS distances of "
            f"{error(samples):.2f} (samples) and {error(noise):.2f} (noise); check `noise_at`, `action_scale` and "
            "`action_shift`, or pass `train=True` if the module is untrained"
        )


# -- a saved model ----------------------------------------------------------------------------------------------------


def check_saved_flow(file: ModelFile, flow: Any, is_whole: bool = True) -> None:
    """Check that a saved model is loaded with the custom flow that it was trained with.

    :param file: the saved model.
    :param flow: the custom flow passed as `behaviour`, or None.
    :param is_whole: whether the whole model is loaded, not just its behaviour flow; if so, `train` must be equal too.
    :raises ValueError: if the flow is missing, or its conventions differ from those of the saved weights.
    """
    described = file.described.get("behaviour")
    if described is None:
        return
    if not isinstance(flow, PretrainedFlow):
        raise ValueError(
            f"{file.name} lacks `behaviour` (--behaviour), the custom network that the model was trained with; pass it "
            "as an argument or in `custom_objects`"
        )
    conventions = flow.conventions()
    for name, expected in safe.from_json(described["conventions"]).items():
        if conventions[name] != expected and (is_whole or name != "train"):
            raise ValueError(
                f"`behaviour` must equal the flow of {file.name}, which has `{name}` = {expected!s:.60}, got "
                f"{conventions[name]!s:.60}; create it as in training"
            )


def load_behaviour(policy: FlowPolicy, path: Source, normalization: Normalization | None) -> None:
    """Copy a saved model's behaviour flow into a policy; see :meth:`FlowAlgorithm.load_pretrained_actor`.

    If the policy scales observations, set their mean and scale before the call.

    :param policy: policy whose flow is replaced.
    :param path: path of the saved model.
    :param normalization: `VecNormalize` statistics that the policy uses, or None.
    :raises ValueError: if the policy or the saved model has no behaviour flow, or if the two flows do not match.
    """
    method = policy.method
    behaviour = require_behaviour(method, "a pretrained actor")
    file = read_model_file(path)
    check_saved_flow(file, method.pretrained, is_whole=False)
    saved = file.attributes({"behaviour"})
    parameters, _ = file.parameters()
    flow = saved.get("behaviour_flow")
    if flow is None:
        raise ValueError(
            f"a pretrained actor must be a saved model with a behaviour flow, got {file.name} without one; "
            "train one with e.g. `bc`"
        )
    state: Mapping[str, Tensor] = parameters["policy"]
    prefix = f"nets.{flow}."
    flow_state = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    own_state = policy.nets[behaviour].state_dict()
    wrong = []
    # the same parameters give the same flow only if activation, action space and statistics are equal too
    activation, space = saved["policy_kwargs"].get("activation_fn"), saved["action_space"]
    if activation is not policy.activation_fn:
        wrong.append(f"expected activation_fn {policy.activation_fn}, got {activation}")
    if space != policy.action_space:
        wrong.append(f"expected actions in {policy.action_space}, got {space}")
    for name in ("observation_mean", "observation_factor"):
        # means of the same dataset may differ in their last bits, because of the order of summation
        expected, value = getattr(policy, name), state[name].to(policy.device)
        if expected.shape != value.shape or not torch.allclose(expected, value, 1e-5, 1e-6):
            wrong.append(f"got a different `{name}`: load the dataset of that model first")
    statistics = saved.get("_saved_normalization") or {"norm_obs": False}
    if statistics["norm_obs"] or (normalization is not None and normalization.norm_obs):
        wrong.append("got `VecNormalize` statistics: load the whole model instead, e.g. with -i")
    require_fit(f"the behaviour flow of {file.name}", own_state, flow_state, wrong)
    with torch.no_grad():
        for name, value in own_state.items():
            value.copy_(flow_state[name])
    # networks that start from the behaviour flow become copies of it, as after pretraining
    start_from_behaviour(policy.nets, method.networks())


def require_fit(
    noun: str,
    expected: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    differences: Sequence[str] = (),
) -> None:
    """Check the shapes of saved parameters; a single saved replica fits any number of replicas.

    :param noun: owner of the parameters and its file, for the message.
    :param expected: the state dict into which they are loaded.
    :param saved: the saved parameters.
    :param differences: other differences between the two networks or models.
    :raises ValueError: if there are differences; the message lists the first ones.
    """
    mismatches = []
    expected_shapes = {name: tuple(value.shape) for name, value in expected.items()}
    saved_shapes = {name: tuple(value.shape) for name, value in saved.items()}
    for name in sorted({*expected, *saved}):
        shape = expected_shapes.get(name)
        saved_shape = saved_shapes.get(name)
        if shape is None or saved_shape not in (shape, (1, *shape[1:])):
            mismatches.append(f"expected `{name}` of shape {shape}, got {saved_shape}")
    mismatches += differences
    if mismatches:
        raise ValueError(
            f"{noun} does not fit: {'; '.join(mismatches[:MAX_MISMATCHES])}; give both models the same settings and "
            "the same `behaviour`"
        )
