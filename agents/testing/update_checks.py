"""Checks of one update: what the hooks return, depend on and change, and that it is the same however it is run.

Each takes the :class:`Subject`, returns what was measured, and raises :class:`Violation` where it does not hold.
"""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.nets.fast import FastMLP
from agents.common.sb3.model import FlowQLearning
from agents.testing.subject import SIZES, NotApplicable, Subject, Violation, make_batch, make_noise

TOLERANCE = 1e-4
"""Of numbers that are computed in another order: relative to the largest of a tensor."""
BF16_TOLERANCE = 0.05
"""Of a gradient's norm in low precision, relative."""
WIDE: dict[str, Any] = {"net_arch": [128, 256, 256], "batch_size": 256}
"""Where networks are evaluated in the fast ways."""
WIDE_TOLERANCE = 0.01
"""Of their gradients, relative to the largest entry of a tensor: rounding adds up along a flow's steps."""
STEP_TOLERANCE = 0.01
"""Of an optimiser's step, relative to the learning rate."""
REPORT = "this is a fault of the zoo: please report it with your file"


def check_hooks(subject: Subject) -> str:
    """Check that every hook is there and returns what it should, with chunks and without."""
    tried = []
    for settings in (*SIZES, *([{"best_of_n": 4}] if subject.rates_actions else [])):
        name = ", ".join(f"{name}={value}" for name, value in settings.items())
        if refusal := subject.refusal(settings):
            name += f" refused by the algorithm ({refusal})"
        else:
            subject.examine(**settings)
        tried.append(name)
    return f"tried with {'; '.join(tried)}"


def without(kind: str) -> Callable[[Subject], str]:
    """Return a check that refuses bad habits of a kind, of which training only warns.

    :param kind: of the findings.
    :return: the check.
    """

    def check(subject: Subject) -> str:
        found = [finding.text for finding in subject.findings if finding.kind == kind]
        if found:
            raise Violation("; ".join(found))
        return "nothing was found in an update on a made-up batch"

    return check


def check_noise(subject: Subject) -> str:
    """Check that every declared draw is used, and that nothing else is random."""
    without("noise")(subject)
    model = subject.make_model()
    batch, noise, nets = make_batch(model), make_noise(model), model.policy.nets
    acting = make_noise(model, acting=True)
    with torch.no_grad():
        planned = model.method.act(batch.observations, acting, nets)
        for name, draw in acting.items():
            changed = model.method.act(batch.observations, {**acting, name: draw.flip(1) + 0.1}, nets)
            if torch.equal(changed, planned):
                raise Violation(f"`act` does not use the draw `{name}`; remove it from `action_noise_table`")
    start, _ = model.trainer.losses(batch, noise)
    for name, draw in noise.items():
        changed, _ = model.trainer.losses(batch, {**noise, name: draw.roll(1, draw.ndim - 1)})
        if torch.equal(changed, start):
            raise Violation(f"no loss depends on the draw `{name}`; remove it from {_declared_in(name)}")
    return f"used: {', '.join([*noise, *acting])}"


def _declared_in(name: str) -> str:
    """Return where the author finds a draw."""
    if name.startswith("td_"):
        return "`update_noise`: return only `self.noise()` there if no loss needs a next action"
    return "`noise`"


def check_bounds(subject: Subject) -> str:
    """Check that `act` keeps to [-1, 1], and the model to the action box of its environment."""
    model = subject.make_model()
    batch, widest = make_batch(model), 0.0
    for scale in (1.0, 10.0):
        noise = {name: scale * draw for name, draw in make_noise(model, acting=True).items()}
        with torch.no_grad():
            actions = model.method.act(scale * batch.observations, noise, model.policy.nets)
        if not actions.isfinite().all():
            raise Violation(f"`act` returns actions that are not finite for inputs of size {scale:g}")
        widest = max(widest, actions.abs().max().item())
    if widest > 1 + 1e-5:
        raise Violation(f"`act` returns actions up to {widest:.3g}, expected [-1, 1]; end it with `.clamp(-1, 1)`")
    seen = batch.observations[0].numpy()
    played, _ = model.predict(seen)
    if not all(model.action_space.contains(action) for action in played):
        raise Violation("`predict` returns actions outside the environment's action box")
    return f"largest action {widest:.3g}, also for inputs ten times as large"


# -- the same however it is run ---------------------------------------------------------------------------------------


def check_replicas(subject: Subject) -> str:
    """Check that several seeds at once start, learn and act as each alone."""
    seeds = [3, 4]
    together = subject.make_model(seeds=seeds)
    batch, noise, acting = make_batch(together), make_noise(together), make_noise(together, 1, acting=True)
    info, gradients = _differentiate(together, batch, noise)
    planned = _act(together, batch, acting)
    for k, seed in enumerate(seeds):
        alone = subject.make_model(seeds=[seed])
        own = [{name: draw[k : k + 1] for name, draw in draws.items()} for draws in (noise, acting)]
        mine = batch.map(lambda tensor, k=k: tensor[k : k + 1])  # type: ignore[misc]  # a default is no argument
        _compare_start(together, alone, k, seed)
        found, slopes = _differentiate(alone, mine, own[0])
        for name in found:
            _require_close(f"`{name}`", info[name][k : k + 1], found[name], seed)
        for name in slopes:
            _require_close(f"the gradient of `{name}`", gradients[name][k : k + 1], slopes[name], seed)
        _require_close("the actions", planned[k : k + 1], _act(alone, mine, own[1]), seed)
    return f"losses, gradients and actions of two seeds, to {TOLERANCE:g}"


def _compare_start(together: FlowQLearning, alone: FlowQLearning, k: int, seed: int) -> None:
    stacked = together.policy.nets.state_dict()
    for name, value in alone.policy.nets.state_dict().items():
        if stacked[name].shape[:1] != (2,) or not torch.equal(stacked[name][k : k + 1], value):
            raise Violation(
                f"`{name}` of seed {seed} does not start as in a run of that seed alone; give every parameter the "
                "leading axis S and draw it in `initialise(replica, generator)`"
            )


def _differentiate(
    model: FlowQLearning, batch: Batch, noise: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and diagnostics, and the gradients that are there, by name."""
    total, info = model.trainer.losses(batch, noise)
    trained = {name: p for name, p in model.policy.nets.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(total.sum(), list(trained.values()), allow_unused=True)
    return info, {name: g for name, g in zip(trained, grads, strict=True) if g is not None}


def _act(model: FlowQLearning, batch: Batch, noise: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model.method.act(batch.observations, noise, model.policy.nets)


def _require_close(what: str, together: Tensor, alone: Tensor, seed: int) -> None:
    """Refuse what differs by more than another order of summation explains."""
    difference = (together - alone).abs().max().item() if alone.numel() else 0.0
    if not difference <= TOLERANCE * max(alone.abs().max().item(), 1.0 if what.startswith("`") else 1e-3):
        raise Violation(
            f"{what} of seed {seed} differ by {difference:.2g} from a run of that seed alone; take means over every "
            "axis but the first"
        )


def check_low_precision(subject: Subject) -> str:
    """Check that bfloat16 products change the gradient little."""
    norms = []
    for precision in ("fp32", "bf16"):
        model = subject.make_model(precision=precision)
        info = model.trainer.update_on(make_batch(model), make_noise(model))
        wrong = [name for name, value in info.items() if not value.isfinite().all()]
        if wrong:
            raise Violation(f"`{wrong[0]}` is not finite with `precision={precision}`")
        norms.append(info["grad_norm"].item())
    change = abs(norms[1] / norms[0] - 1)
    if not change <= BF16_TOLERANCE:
        raise Violation(
            f"the gradient's norm changes by {change:.0%} in bfloat16, expected at most {BF16_TOLERANCE:.0%}; keep "
            "differences of large numbers, exponentials and sums out of the networks' products"
        )
    return f"the gradient's norm changes by {change:.2%}"


def check_plain(subject: Subject) -> str:
    """Check that an update of wide networks is that of PyTorch's own operations and its plain Adam."""
    fast, plain = (subject.make_model(seeds=[3, 4], **WIDE) for _ in range(2))
    for network in plain.policy.nets.modules():
        if isinstance(network, FastMLP):
            network.evaluate_plainly()
    batch, noise = make_batch(fast, rows=fast.method.batch_size), make_noise(fast, rows=fast.method.batch_size)
    _, wanted = _differentiate(plain, batch, noise)
    _, found = _differentiate(fast, batch, noise)
    for name in wanted | found:
        zero = torch.zeros(())
        slope, expected = found.get(name, zero), wanted.get(name, zero)
        if not (slope - expected).abs().max() <= WIDE_TOLERANCE * expected.abs().max():
            raise Violation(f"the gradient of `{name}` is not that of plain evaluation; {REPORT}")
    fast.trainer.update_on(batch, noise)
    moved, started = (dict(model.policy.nets.named_parameters()) for model in (fast, plain))
    for name, parameter in started.items():
        parameter.grad = moved[name].grad
    optimizer = plain.policy.optimizer
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for group in optimizer.param_groups:
        group.update(foreach=False, fused=False)
    optimizer.step()
    for name, parameter in started.items():
        if moved[name].grad is None:
            continue
        if not (moved[name] - parameter).abs().max() <= STEP_TOLERANCE * rates[id(parameter)]:
            raise Violation(f"the step of `{name}` is not that of plain Adam with its gradient; {REPORT}")
    return f"gradients and step with widths {', '.join(map(str, WIDE['net_arch']))}, to {WIDE_TOLERANCE:g}"


def check_compiled(subject: Subject) -> str:
    """Check that compiled updates are those of plain execution."""
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise NotApplicable("there is no C++ compiler on this machine, which compiling for a CPU needs")
    infos = []
    for choice in ("off", "on"):
        model = subject.make_model(compile=choice)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            infos.append(model.trainer.update_on(make_batch(model), make_noise(model)))
        if choice == "on" and "autograd.grad" in model.trainer.mode.reason:
            raise NotApplicable("losses that call `torch.autograd.grad` run plainly; `torch.func.grad` can be compiled")
        if choice == "on" and not model.trainer.mode.compiled:
            raise Violation(
                f"the losses cannot be compiled: {model.trainer.mode.reason}; stay with tensor operations and Python "
                "that does not depend on values"
            )
    for name, plain in infos[0].items():
        difference = (infos[1][name] - plain).abs().max().item()
        if not (difference <= 1e-3 * max(plain.abs().max().item(), 1.0) or math.isnan(plain.max().item())):
            raise Violation(f"`{name}` is {infos[1][name].tolist()} compiled and {plain.tolist()} plainly")
    return "losses and gradient's norm, to 0.001"
