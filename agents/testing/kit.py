"""The checks of the conformance kit, each for one requirement of training, saving or evaluation.

A check takes the :class:`Subject` and a seed, returns its measurement, and raises :class:`ViolationError` if it fails.
"""

from __future__ import annotations

import copy
import inspect
import random
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.method import Method
from agents.common.nets.mlp import StackedMLP
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.testing.subject import (
    CHOICE,
    CONSTANT,
    FIRST,
    GAMMA,
    MODE,
    ROWS,
    SLOPE,
    STATES,
    NotApplicable,
    Subject,
    ViolationError,
)

BF16_TOLERANCE = 0.05
"""Relative tolerance for the gradient's norm in low precision."""
TRIES = 3
"""Number of seeds of weights and batches; a check fails only if it fails with every seed."""


def check_hooks(subject: Subject, number: int) -> str:
    """Check that every hook exists and returns the right shapes."""
    for sizes in subject.accepted_sizes():
        check_first_update(*subject.example(**sizes))
    return check_habits("hooks", subject, number)


def check_habits(kind: str, subject: Subject, number: int) -> str:
    """Check that :func:`find_habits` finds no mistakes for the check ``kind``."""
    if findings := subject.findings.get(kind):
        raise ViolationError("; ".join(findings))
    return "no mistakes found in an update on a random batch"


# -- updates in low precision and compiled ----------------------------------------------------------------------------


def check_low_precision(subject: Subject, number: int) -> str:
    """Check that bfloat16 matrix products change the gradient's norm only slightly."""
    norms = []
    for precision in ("fp32", "bf16"):
        model = subject.make_model(number, precision=precision)
        if not any(isinstance(part, StackedMLP) for part in model.policy.nets.modules()):
            raise NotApplicable(
                "`precision` applies only to this library's layers, and no network has any"
            )
        norms.append(model.trainer.update(ROWS)["grad_norm"].item())
    change = abs(norms[1] - norms[0])
    if not change <= BF16_TOLERANCE * norms[0]:
        raise ViolationError(
            f"the gradient's norm changes by {change:.2g} of {norms[0]:.2g} in bfloat16, expected at most "
            f"{BF16_TOLERANCE:.0%}; compute differences of large numbers, exponentials and sums outside the "
            "networks' layers"
        )
    return f"the gradient's norm changes by {change:.2g} of {norms[0]:.2g}"


def check_compiled(subject: Subject, number: int) -> str:
    """Check that compiled updates equal eager ones."""
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise NotApplicable("compiling for a CPU needs a C++ compiler, and this machine has none")
    plain = subject.make_model(number).trainer.update(ROWS)
    model = subject.make_model(number, compile="on")
    compiled = model.trainer.update(ROWS)
    mode = model.trainer.mode
    # PyTorch 2.11 and 2.12 report one of these reasons
    if "autograd.grad" in mode.reason or "requires_grad_" in mode.reason:
        raise NotApplicable(
            "losses that call `torch.autograd.grad` run eagerly; `torch.func.grad` can be compiled"
        )
    if not mode.compiled:
        raise ViolationError(
            f"the losses cannot be compiled: {mode.reason}; use only tensor operations, and "
            "Python code that does not branch on values"
        )
    for name, value in plain.items():
        # fused kernels round differently
        difference = (compiled[name] - value).abs().max()
        if not difference <= 1e-3 * value.abs().max().clamp(min=1):
            raise ViolationError(
                f"`{name}` is {compiled[name].tolist()} compiled and {value.tolist()} uncompiled"
            )
    return "losses and the gradient's norm are equal to within 0.001"


# -- learning ---------------------------------------------------------------------------------------------------------

VALUE_MARGIN = 0.15
"""Absolute tolerance for a value."""
SLOPE_MARGIN = 0.2
"""Relative tolerance for the difference between the values of two actions."""
MIN_IMPROVEMENT = 0.08
"""Smallest accepted mean action in state CHOICE, where the mean action of the data is 0."""
MIN_MODE_SHARE = 0.2
"""Smallest accepted share of sampled actions near each of the two modes."""
SAMPLES = 256


def check_values(subject: Subject, number: int) -> str:
    """Check the learnt values of a constant reward, of a reward one step later, and of two actions."""
    if not subject.can_score:
        raise NotApplicable("it has neither a critic nor `score`, so it does not learn values")
    model = subject.learnt(number)
    for state, expected, rewards in (
        (CONSTANT, 1.0, "1 in the last step"),
        (FIRST, GAMMA, f"0 and then 1, with gamma {GAMMA}"),
    ):
        # the mean of the values at the two modes, since the data in CONSTANT have no actions between
        # them
        value = _rate(model, state, [-MODE, MODE]).mean()
        if not abs(value - expected) <= VALUE_MARGIN:
            raise ViolationError(
                f"`score` gives {value:.2f} for rewards of {rewards}, expected {expected} +- {VALUE_MARGIN}; "
                "check the TD target, its discount and the target networks"
            )
    low, high = _rate(model, CHOICE, [-0.5, 0.5])
    if not abs((high - low) / SLOPE - 1) <= SLOPE_MARGIN:
        raise ViolationError(
            f"`score` differs by {high - low:.1f} between two actions whose rewards differ by {SLOPE:.0f}; check "
            "that the critic receives the batch's actions, and that its loss is not masked or weighted by 0"
        )
    return f"values 1 and {GAMMA} within {VALUE_MARGIN}; two actions differ by {high - low:.1f} (expected {SLOPE:.0f})"


def check_actions(subject: Subject, number: int) -> str:
    """Check that better actions are preferred or, for algorithms without a value, that both data modes are cloned."""
    model = subject.learnt(number)
    if subject.can_score:
        mean = _sample(model, CHOICE).mean()
        if not mean >= MIN_IMPROVEMENT:
            raise ViolationError(
                f"the mean action is {mean:.2f}, expected at least {MIN_IMPROVEMENT}: the reward is {SLOPE:.0f} times "
                "the action, and the mean of the data is 0; check the sign and weight of the loss that maximises "
                "Q. If the default settings are meant to stay this close to the data, check with other settings"
            )
        return f"mean action {mean:.2f} (at least {MIN_IMPROVEMENT}; in the data 0)"
    actions = _sample(model, CONSTANT)
    share = min((actions * sign > MODE / 2).mean() for sign in (-1, 1))
    if not share >= MIN_MODE_SHARE:
        raise ViolationError(
            f"{share:.0%} of the sampled actions are near the rarer of the data's two modes, expected at least "
            f"{MIN_MODE_SHARE:.0%}; a flow clones both modes, whereas a regression predicts their mean"
        )
    return f"{share:.0%} or more near each mode of the data (at least {MIN_MODE_SHARE:.0%})"


def _rate(model: FlowAlgorithm, state: int, actions: list[float]) -> NDArray[Any]:
    observations = torch.eye(STATES)[state].expand(1, len(actions), STATES)
    candidates = torch.tensor(actions).view(1, -1, 1)
    with torch.no_grad():
        return model.method.score(observations, candidates, model.policy.nets)[0].numpy()


def _sample(model: FlowAlgorithm, state: int) -> NDArray[Any]:
    """Return sampled actions in [-1, 1]."""
    # seeded again, since a cached model may already have sampled
    model.policy.set_random_seed(0)
    observations = np.eye(STATES, dtype=np.float32)[[state] * SAMPLES]
    return model.policy.scale_action(model.predict(observations)[0])[:, 0]


# -- phases and files -------------------------------------------------------------------------------------------------


def check_phases(subject: Subject, number: int) -> str:
    """Check training offline, then online, with each of the :data:`SIZES` that the algorithm accepts."""
    accepted = subject.accepted_sizes()
    for sizes in accepted:
        model = subject.make_model(**sizes)
        start = copy.deepcopy(model.policy.state_dict())
        # 30 updates, since a network may be trained only at every N-th update
        model.learn_offline(30)
        if not first_difference(start, model):
            raise ViolationError(f"30 offline updates with {sizes} did not change any network")
        # 16 steps exceed `learning_starts`, so updates take place
        model.learn(16, reset_num_timesteps=False)
        for problem in model.find_divergence().values():
            raise ViolationError(f"{problem} after {model._n_updates} updates with {sizes}")
    return f"{model._n_updates} updates with each of {len(accepted)} lengths of chunks and returns"


def first_difference(tensors: Mapping[str, Tensor], model: FlowAlgorithm) -> str | None:
    """Return the name of the first tensor that differs bitwise from the tensor of this name in a model's policy."""
    state = model.policy.state_dict()
    return next((name for name in tensors if not torch.equal(tensors[name], state[name])), None)


def check_saving(subject: Subject, number: int) -> str:
    """Check that a loaded model and policy equal the saved ones."""
    model = subject.make_model(number).learn_offline(3)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model")
        model.policy.save(f"{folder}/policy")
        loaded = type(model).load(f"{folder}/model", device="cpu")
        policy = type(model.policy).load(f"{folder}/policy", device="cpu")
    if name := first_difference(model.policy.state_dict(), loaded):
        raise ViolationError(f"`{name}` of a loaded model differs from the saved one")
    observations = np.random.default_rng(0).standard_normal((6, STATES)).astype(np.float32)
    # the files are deleted by now, so predictions cannot read them
    expected, _ = model.predict(observations, deterministic=True)
    loaded_actors: dict[str, Any] = {"model": loaded, "policy": policy}
    for kind, actor in loaded_actors.items():
        actions, _ = actor.predict(observations, deterministic=True)
        if not np.array_equal(actions, expected):
            raise ViolationError(
                f"a loaded {kind} samples other actions than the saved one; `act` may depend "
                "only on settings, observations, noise and the networks of `networks`"
            )
    return "parameters and sampled actions are equal bitwise"


def check_resuming(subject: Subject, number: int) -> str:
    """Check that updates after resuming from a checkpoint of either phase equal uninterrupted ones bitwise."""
    uninterrupted = subject.make_model()
    for phase in ("offline", "online"):
        if phase == "offline":
            uninterrupted.learn_offline(3)
        else:
            uninterrupted.learn(14, reset_num_timesteps=False)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = save_checkpoint(uninterrupted, Path(folder))
            uninterrupted.learn_offline(3)
            # as in a new process, whose generators have another state
            random.seed(11)
            np.random.seed(12)
            torch.manual_seed(13)
            resumed = subject.make_model()
            load_checkpoint(resumed, checkpoint)
        resumed.learn_offline(3)
        if name := first_difference(uninterrupted.policy.state_dict(), resumed):
            raise ViolationError(
                f"`{name}` differs after resuming from an {phase} checkpoint; keep state in "
                "networks or their buffers, and take random numbers from `noise`"
            )
    return "updates after checkpoints of both phases are equal bitwise"


# -- all checks -------------------------------------------------------------------------------------------------------

State = Literal["holds", "fails", "fails by design", "does not apply", "skipped"]
CheckFunction = Callable[[Subject, int], str]
"""Takes the subject and a seed for weights and batches; returns the measurement or raises an error."""
HABITS = ("networks", "gradients", "masks", "noise", "purity", "bounds", "replicas")
CHECKS: dict[str, CheckFunction] = {
    "hooks": check_hooks,
    **{kind: partial(check_habits, kind) for kind in HABITS},
    "bf16": check_low_precision,
    "phases": check_phases,
    "saving": check_saving,
    "resuming": check_resuming,
    "values": check_values,
    "actions": check_actions,
    "compiled": check_compiled,
}
"""Checks by name, in the order in which they run: quick ones first, each after the checks it depends on."""
NEEDED = ("hooks", "phases")
"""Checks that end the run if they fail, since later checks would fail with misleading messages, e.g. about NaN."""
PAGE = "docs/register.md#checks"
"""Page with a description of each check."""


class Outcome(NamedTuple):
    """The name of a check, its state, and its measurement or its failure with the remedy."""

    check: str
    state: State
    detail: str


def run_checks(
    method: type[Method], settings: Mapping[str, Any] | None = None, skip: Collection[str] = ()
) -> Iterator[Outcome]:
    """Run the checks one after the other, up to a check in `NEEDED` that fails.

    :param method: the algorithm.
    :param settings: settings that override the checks' small settings.
    :param skip: names of checks to leave out.
    :yields: the outcome of each check, as soon as it is known.
    """
    subject = Subject(method, settings or {})
    for name in CHECKS:
        outcome = Outcome(name, "skipped", "")
        if name not in skip:
            outcome = try_check(name, subject)
        yield outcome
        if name in NEEDED and outcome.state == "fails":
            return


def try_check(name: str, subject: Subject) -> Outcome:
    """Run one check; an exception of any type becomes its outcome.

    :param name: name of the check.
    :param subject: the algorithm, with models that earlier checks have trained.
    :return: the outcome.
    """
    # with some initial weights, even a correct algorithm exceeds a tolerance
    for number in range(TRIES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the checks themselves report such problems
                return Outcome(name, "holds", CHECKS[name](subject, number))
        except NotApplicable as error:
            return Outcome(name, "does not apply", str(error))
        except (ViolationError, AgentError) as error:
            text = f"{error}{_line_of(error, subject.method)}"
        except Exception as error:  # a crash is always a bug, so other seeds are not tried
            text = f"{type(error).__name__}: {error}{_line_of(error, subject.method)}"
            return Outcome(name, "fails", text)
    reason = subject.method.fails_by_design.get(name)
    if reason is not None:
        return Outcome(name, "fails by design", f"{reason}: {text}")
    return Outcome(name, "fails", text)


def _line_of(error: BaseException, method: type[Method]) -> str:
    """Return the innermost line of the author's file in the traceback of an error or of its cause; empty if none."""
    file = inspect.getsourcefile(method)
    line = ""
    for cause in (error, error.__cause__):
        for frame in traceback.extract_tb(cause.__traceback__) if cause else ():
            if frame.filename == file:
                line = f" ({Path(file).name}:{frame.lineno})"
    return line
