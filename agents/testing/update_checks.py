"""Checks of one update: what the hooks return, depend on and change, and that it is the same however it is run.

Each takes the :class:`Subject`, returns what was measured, and raises :class:`Violation` where it does not hold.
"""

from __future__ import annotations

import math
import random
import shutil
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.sb3.model import FlowQLearning
from agents.testing.subject import NotApplicable, Subject, Violation, make_batch, make_noise, parameters_of

TOLERANCE = 1e-4
"""Of numbers that are computed in another order: relative to the largest of a tensor."""
BF16_TOLERANCE = 0.05
"""Of a gradient's norm in low precision, relative."""
VARIANTS = (
    {"horizon_length": 5},
    {"horizon_length": 1},
    {"horizon_length": 5, "action_chunking": False},
    {"best_of_n": 4},
)


def check_hooks(subject: Subject) -> str:
    """Check that every hook is there and returns what it should, with chunks and without."""
    tried = []
    for settings in VARIANTS:
        name = ", ".join(f"{name}={value}" for name, value in settings.items())
        try:
            subject.examine(**settings)
        except ValueError as error:
            if not _is_refused(subject, settings):
                raise
            name += f" refused by the algorithm ({error})"
        tried.append(name)
    return f"tried with {'; '.join(tried)}"


def _is_refused(subject: Subject, settings: Mapping[str, object]) -> bool:
    """Return whether the algorithm's own check of a setting refuses it."""
    try:
        subject.method(**settings)
    except ValueError:
        return True
    return False


def no_findings(subject: Subject, *kinds: str) -> None:
    """Refuse bad habits of some kinds.

    :param subject: the algorithm.
    :param kinds: of the findings.
    :raises Violation: if there are any.
    """
    found = [finding.text for finding in subject.findings if finding.kind in kinds]
    if found:
        raise Violation("; ".join(found))


def check_networks(subject: Subject) -> str:
    """Check that there are no networks or parameters besides those of `networks`."""
    no_findings(subject, "networks")
    names = ", ".join(subject.make_model().policy.nets)
    return f"everything that is trained belongs to: {names}"


def check_gradients(subject: Subject) -> str:
    """Check that each loss trains the networks that it should."""
    no_findings(subject, "gradients")
    return "each loss trains one network" if not subject.method.trains else "as `trains` declares"


def check_masks(subject: Subject) -> str:
    """Check that losses leave out sequences that cross a trajectory's end."""
    no_findings(subject, "masks")
    return f"besides {', '.join(sorted(subject.method.unmasked_losses)) or 'none'}, no loss counts invalid rows"


def check_device(subject: Subject) -> str:
    """Check that an update never waits for the device."""
    no_findings(subject, "device")
    return "no value is read by the host"


def check_purity(subject: Subject) -> str:
    """Check that an update changes neither its inputs nor the algorithm, and gives the same result again."""
    no_findings(subject, "pure")
    model = subject.make_model()
    batch, noise = make_batch(model), make_noise(model)
    before, settings = parameters_of(model), model.method.settings()
    first, _ = model.compute_losses(batch, noise)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    second, _ = model.compute_losses(batch, noise)
    if not torch.equal(first, second):
        raise Violation("the losses are other numbers when they are computed again; see `noise`")
    if model.method.settings() != settings:
        raise Violation("an update changed a setting; settings are the user's, keep state in a network's buffer")
    after = parameters_of(model)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    if changed:
        raise Violation(f"computing the losses changed `{changed[0]}`; change state in `after_update`")
    return "the same losses twice, and inputs, networks and settings as before"


def check_noise(subject: Subject) -> str:
    """Check that every declared draw is used, and that nothing else is random."""
    no_findings(subject, "noise")
    model = subject.make_model()
    batch, noise, nets = make_batch(model), make_noise(model), model.policy.nets
    acting = make_noise(model, acting=True)
    with torch.no_grad():
        planned = model.method.act(batch.observations, acting, nets)
        for name, draw in acting.items():
            changed = model.method.act(batch.observations, {**acting, name: draw.flip(1) + 0.1}, nets)
            if torch.equal(changed, planned):
                raise Violation(f"`act` does not use the draw `{name}`; remove it from `action_noise_table`")
    start, _ = model.compute_losses(batch, noise)
    for name, draw in noise.items():
        changed, _ = model.compute_losses(batch, {**noise, name: draw.roll(1, draw.ndim - 1)})
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
    no_findings(subject, "replicas")
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
    total, info = model.compute_losses(batch, noise)
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
        info = model.update(make_batch(model), make_noise(model))
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


def check_compiled(subject: Subject) -> str:
    """Check that compiled updates are those of plain execution."""
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise NotApplicable("there is no C++ compiler on this machine, which compiling for a CPU needs")
    infos = []
    for choice in ("off", "on"):
        model = subject.make_model(compile=choice)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            infos.append(model.update(make_batch(model), make_noise(model)))
        if choice == "on" and not model.update_mode.compiled:
            raise Violation(
                f"the losses cannot be compiled: {model.update_mode.reason}; stay with tensor operations and Python "
                "that does not depend on values"
            )
    for name, plain in infos[0].items():
        difference = (infos[1][name] - plain).abs().max().item()
        if not (difference <= 1e-3 * max(plain.abs().max().item(), 1.0) or math.isnan(plain.max().item())):
            raise Violation(f"`{name}` is {infos[1][name].tolist()} compiled and {plain.tolist()} plainly")
    return "losses and gradient's norm, to 0.001"
