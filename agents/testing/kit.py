"""The conformance kit: one check for each thing that training, saving and reporting need of an algorithm.

A check takes the :class:`Subject`, returns what it measured, and raises :class:`ViolationError` if it fails.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import shutil
import tempfile
import traceback
import warnings
from collections import UserDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.common.batch import Batch
from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint
from agents.common.method import Method
from agents.common.nets.mlp import StackedMLP
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.common.validation import unknown_name_message
from agents.testing.subject import (
    CHOICE,
    CONSTANT,
    FIRST,
    GAMMA,
    MODE,
    SECOND,
    SIZES,
    SLOPE,
    STATES,
    NotApplicable,
    Subject,
    ViolationError,
    make_batch,
    make_noise,
)

Tensors: TypeAlias = Mapping[str, Tensor]

TOLERANCE = 1e-4
"""Of numbers that are computed in another order: relative to the largest of a tensor."""
BF16_TOLERANCE = 0.05
"""Of a gradient's norm in low precision, relative."""
TRIES = 3
"""Different weights and batches with which numbers must differ before an algorithm is blamed."""


def in_some_try(check: Callable[[Subject, int], str]) -> Callable[[Subject], str]:
    """Return a check that fails only if it fails in all tries, each with other weights and another batch."""

    @wraps(check)
    def repeated(subject: Subject) -> str:
        # one unlucky draw of weights may miss a tolerance that a sound algorithm keeps
        for number in range(TRIES - 1):
            with contextlib.suppress(ViolationError):
                return check(subject, number)
        return check(subject, TRIES - 1)

    return repeated


def check_hooks(subject: Subject) -> str:
    """Check that every hook is there and returns what it should, with chunks and without."""

    def run(**settings: Any) -> str:
        check_first_update(*subject.example(**settings))
        return "tried"

    choices = [*SIZES]
    if subject.rates_actions:
        choices.append({"best_of_n": 4})
    return subject.try_settings(run, choices)


def without(kind: str) -> Callable[[Subject], str]:
    """Return a check that refuses bad habits of a kind.

    :param kind: of the findings.
    :return: the check.
    """

    def check(subject: Subject) -> str:
        findings = subject.findings.get(kind)
        if findings:
            raise ViolationError("; ".join(findings))
        return "nothing was found in an update on a made-up batch"

    return check


def check_noise(subject: Subject) -> str:
    """Check that every declared draw is read, and that nothing else is random."""
    without("noise")(subject)
    model = subject.make_model()
    method = model.method
    nets = model.policy.nets
    batch = make_batch(model)
    acting = RecordedDraws(make_noise(model, acting=True))
    training = RecordedDraws(make_noise(model))
    model.trainer.losses(batch, training)
    with torch.no_grad():
        method.act(batch.observations, acting, nets)
    problems = []
    for name in acting.unread:
        problems.append(
            f"`act` does not use the draw `{name}`; remove it from `action_noise_table`"
        )
    for name in training.unread:
        problems.append(
            f"no loss depends on the draw `{name}`; remove it from `noise`, or from `update_noise`"
        )
    if problems:
        raise ViolationError("; ".join(problems))
    return f"used: {', '.join((*acting, *training))}"


class RecordedDraws(UserDict[str, Tensor]):
    """Noise dict that records which draws are not read; taking several at once reads all."""

    def __init__(self, draws: Mapping[str, Tensor]) -> None:
        self.unread = [*draws]
        super().__init__(draws)

    def __getitem__(self, name: str) -> Tensor:
        if name in self.unread:
            self.unread.remove(name)
        return self.data[name]

    def __or__(self, right: Any) -> Any:
        return {**self, **right}  # by items, which reads them, where UserDict copies `data`


def check_bounds(subject: Subject) -> str:
    """Check that `act` keeps to [-1, 1], and the model to the action box of its environment."""
    model = subject.make_model()
    batch = make_batch(model)
    widest = 0.0
    table = model.method.action_noise_table()
    # actions that stay in bounds by chance leave them for larger inputs
    for scale in (1.0, 10.0):
        noise = make_noise(model, acting=True)
        for name, draw in table.items():
            if draw.kind == "normal":
                noise[name] *= scale
        with torch.no_grad():
            actions = model.method.act(scale * batch.observations, noise, model.policy.nets)
        if not actions.isfinite().all():
            raise ViolationError(
                f"`act` returns actions that are not finite for inputs of size {scale:g}"
            )
        widest = max(widest, actions.abs().max().item())
    if widest > 1 + 1e-5:
        raise ViolationError(
            f"`act` returns actions up to {widest:.3g}, expected [-1, 1]; end it with `.clamp(-1, 1)`"
        )
    observations = batch.observations[0].numpy()
    played, _ = model.predict(observations)
    if not all(model.action_space.contains(action) for action in played):
        raise ViolationError("`predict` returns actions outside the environment's action box")
    return f"largest action {widest:.3g}, also for inputs ten times as large"


# -- the same however it is run ---------------------------------------------------------------------------------------


@in_some_try
def check_replicas(subject: Subject, number: int) -> str:
    """Check that several seeds at once start, learn and act as each alone."""
    # other weights in every try
    seeds = [3 + 2 * number, 4 + 2 * number]
    together = subject.make_model(seeds=seeds)
    stacked = together.policy.nets.state_dict()
    batch = make_batch(together, number)
    noise = make_noise(together, number)
    acting = make_noise(together, number + 1, acting=True)
    expected = _measure(together, batch, noise, acting)
    for k, seed in enumerate(seeds):
        alone = subject.make_model(seeds=[seed])
        of_replica = itemgetter(slice(k, k + 1))
        replica_noise = {name: of_replica(draw) for name, draw in noise.items()}
        replica_acting = {name: of_replica(draw) for name, draw in acting.items()}
        for name, value in alone.policy.nets.state_dict().items():
            if stacked[name].shape[:1] != (2,) or not torch.equal(of_replica(stacked[name]), value):
                raise ViolationError(
                    f"`{name}` of seed {seed} does not start as in a run of that seed alone; give every parameter the "
                    "leading axis S and draw it in `initialise(replica, generator)`"
                )
        measured = _measure(alone, batch.map(of_replica), replica_noise, replica_acting)
        for quantity, value in measured.items():
            difference = (of_replica(expected[quantity]) - value).abs().max().item()
            # of logged values; gradients and actions are smaller
            scale = 1.0 if quantity.startswith("`") else 1e-3
            # sums of stacked replicas may run in another order
            if not difference <= TOLERANCE * max(value.abs().max().item(), scale):
                raise ViolationError(
                    f"{quantity} of seed {seed} differ by {difference:.2g} from a run of that seed alone; take "
                    "means over every axis but the first"
                )
    return f"losses, gradients and actions of two seeds, to {TOLERANCE:g}"


def _measure(
    model: FlowAlgorithm, batch: Batch, noise: Tensors, acting: Tensors
) -> dict[str, Tensor]:
    """Return losses and diagnostics, the gradients that are not None, and actions, by what messages call them."""
    nets = model.policy.nets
    total, info = model.trainer.losses(batch, noise)
    trained = {name: p for name, p in nets.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(total.sum(), list(trained.values()), allow_unused=True)
    values = {f"`{name}`": value for name, value in info.items()}
    for name, grad in zip(trained, grads, strict=True):
        if grad is not None:
            values[f"the gradient of `{name}`"] = grad
    with torch.no_grad():
        values["the actions"] = model.method.act(batch.observations, acting, nets)
    return values


@in_some_try
def check_low_precision(subject: Subject, number: int) -> str:
    """Check that bfloat16 products change the gradient little."""
    norms = []
    for precision in ("fp32", "bf16"):
        model = subject.make_model(precision=precision, seeds=[number])
        if not any(isinstance(part, StackedMLP) for part in model.policy.nets.modules()):
            raise NotApplicable("no network has layers of the zoo, which alone follow `precision`")
        info = model.trainer.update_on(make_batch(model, number), make_noise(model, number))
        _require_finite(info, f"with `precision={precision}`")
        norms.append(info["grad_norm"].item())
    if norms[0] == 0:
        raise ViolationError("the gradient is zero, so its precision cannot be measured")
    change = abs(norms[1] / norms[0] - 1)
    if not change <= BF16_TOLERANCE:
        raise ViolationError(
            f"the gradient's norm changes by {change:.0%} in bfloat16, expected at most {BF16_TOLERANCE:.0%}; keep "
            "differences of large numbers, exponentials and sums out of the networks' products"
        )
    return f"the gradient's norm changes by {change:.2%}"


def _require_finite(tensors: Tensors, circumstances: str) -> None:
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ViolationError(f"`{name}` is not finite {circumstances}")


@in_some_try
def check_compiled(subject: Subject, number: int) -> str:
    """Check that compiled updates are those of plain execution."""
    if not any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++")):
        raise NotApplicable(
            "there is no C++ compiler on this machine, which compiling for a CPU needs"
        )
    infos = []
    for choice in ("off", "on"):
        model = subject.make_model(compile=choice, seeds=[number])
        infos.append(model.trainer.update_on(make_batch(model, number), make_noise(model, number)))
    mode = model.trainer.mode
    # PyTorch 2.11 and 2.12 name what makes the actions differentiable
    if "autograd.grad" in mode.reason or "requires_grad_" in mode.reason:
        raise NotApplicable(
            "losses that call `torch.autograd.grad` run plainly; `torch.func.grad` can be compiled"
        )
    if not mode.compiled:
        raise ViolationError(
            f"the losses cannot be compiled: {mode.reason}; stay with tensor operations and Python that does not "
            "depend on values"
        )
    for name, plain in infos[0].items():
        compiled = infos[1][name]
        # fused kernels round in another order
        tolerance = 1e-3 * max(plain.abs().max().item(), 1.0)
        if not torch.allclose(compiled, plain, rtol=0, atol=tolerance, equal_nan=True):
            raise ViolationError(
                f"`{name}` is {compiled.tolist()} compiled and {plain.tolist()} plainly"
            )
    return "losses and gradient's norm, to 0.001"


# -- learning ---------------------------------------------------------------------------------------------------------

VALUE_MARGIN = 0.15
"""Of a value of 1."""
SLOPE_MARGIN = 0.2
"""Of the difference that an action makes, relative."""
MIN_IMPROVEMENT = 0.08
"""Of the mean action over the data's, 0, where the reward is SLOPE times the action."""
MIN_MODE_SHARE = 0.2
"""Of the sampled actions near each of two modes."""
SAMPLES = 256


@in_some_try
def check_values(subject: Subject, number: int) -> str:
    """Check the learnt values of a constant reward, of a reward one step later, and of two actions."""
    if not subject.rates_actions:
        raise NotApplicable("it declares no critic and rates no actions, so it learns no value")
    model = subject.learnt(number)
    shown = []
    for state, expected, rewards in (
        (CONSTANT, 1.0, "1 and the end"),
        (FIRST, GAMMA, f"0 and then 1, with gamma {GAMMA}"),
        (SECOND, 1.0, "1 and the end"),
    ):
        # at both modes of the data in CONSTANT, between which it has no actions
        value = _rate(model, state, [-MODE, MODE]).mean()
        shown.append(f"{value:.2f}")
        if not abs(value - expected) <= VALUE_MARGIN:
            raise ViolationError(
                f"`score` gives {value:.2f} where the rewards are {rewards}, expected {expected} +- {VALUE_MARGIN}; "
                "look at the TD target and its discount, and at the target networks"
            )
    low, high = _rate(model, CHOICE, [-0.5, 0.5])
    if not abs((high - low) / SLOPE - 1) <= SLOPE_MARGIN:
        raise ViolationError(
            f"`score` differs by {high - low:.1f} between two actions whose rewards differ by {SLOPE:.0f}; the critic "
            "does not see the batch's actions, or its loss is masked or weighted away"
        )
    return f"{', '.join(shown)} (1, {GAMMA}, 1 +- {VALUE_MARGIN}); two actions differ by {high - low:.1f} ({SLOPE:.0f})"


@in_some_try
def check_actions(subject: Subject, number: int) -> str:
    """Check that better actions are preferred, or, where no value is learnt, that both modes of the data are cloned."""
    model = subject.learnt(number)
    if subject.rates_actions:
        mean = _sample(model, CHOICE).mean()
        if not mean >= MIN_IMPROVEMENT:
            raise ViolationError(
                f"the mean action is {mean:.2f} where the reward is {SLOPE:.0f} times the action and that of the data "
                f"is 0, expected at least {MIN_IMPROVEMENT}; look at the sign and weight of the loss that climbs the "
                "critic. If the default settings are meant to stay this close to the data, check with others"
            )
        return f"mean action {mean:.2f}, of the data 0 (at least {MIN_IMPROVEMENT})"
    actions = _sample(model, CONSTANT)
    shares = [(actions * sign > MODE / 2).mean() for sign in (-1, 1)]
    if not min(shares) >= MIN_MODE_SHARE:
        raise ViolationError(
            f"of the sampled actions {shares[0]:.0%} and {shares[1]:.0%} are near the two modes of the data, expected "
            f"at least {MIN_MODE_SHARE:.0%} each; a flow clones both, a mean lies between them"
        )
    return f"{shares[0]:.0%} and {shares[1]:.0%} near the two modes of the data (at least {MIN_MODE_SHARE:.0%})"


def _rate(model: FlowAlgorithm, state: int, actions: list[float]) -> NDArray[Any]:
    observations = torch.eye(STATES)[state].expand(1, len(actions), STATES)
    candidates = torch.tensor(actions).view(1, -1, 1)
    with torch.no_grad():
        return model.method.score(observations, candidates, model.policy.nets)[0].numpy()


def _sample(model: FlowAlgorithm, state: int) -> NDArray[Any]:
    """Return sampled actions in [-1, 1]."""
    # a cached model may have sampled before
    model.policy.set_random_seed(0)
    observations = np.eye(STATES, dtype=np.float32)[[state] * SAMPLES]
    return model.policy.scale_action(model.predict(observations)[0])[:, 0]


# -- phases -----------------------------------------------------------------------------------------------------------


def check_phases(subject: Subject) -> str:
    """Check training offline, then online, with single actions, chunks of five, and returns of five steps only."""

    def train(**settings: Any) -> str:
        model = subject.make_loaded_model(**settings)
        start = copy.deepcopy(model.policy.state_dict())
        for _ in range(10):  # networks may be trained at every N-th update only
            model.learn_offline(3)
            if first_difference(start, model):
                break
        else:
            raise ViolationError(
                f"{model._n_updates} updates offline with {settings} changed no network"
            )
        # past `learning_starts`, so that updates follow
        model.learn(16, reset_num_timesteps=False)
        circumstances = f"after {model._n_updates} updates with {settings}"
        _require_finite(model.policy.state_dict(), circumstances)
        _require_finite(model._last_info, circumstances)
        _plan(model)
        return f"{model._n_updates} updates"

    return subject.try_settings(train, SIZES)


# -- files ------------------------------------------------------------------------------------------------------------


def first_difference(tensors: Tensors, model: FlowAlgorithm) -> str | None:
    """Return the name of the first tensor of a model's policy that differs in a bit from that of the same name."""
    state = model.policy.state_dict()
    return next((name for name in tensors if not torch.equal(tensors[name], state[name])), None)


def check_saving(subject: Subject) -> str:
    """Check that a model and a policy that are loaded are those that were saved."""
    model = subject.make_loaded_model().learn_offline(3)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model")
        model.policy.save(f"{folder}/policy")
        loaded = type(model).load(f"{folder}/model", device="cpu")
        policy = type(model.policy).load(f"{folder}/policy", device="cpu")
    if loaded.settings() != model.settings():
        raise ViolationError("a loaded model has other settings than the saved one")
    if name := first_difference(model.policy.state_dict(), loaded):
        raise ViolationError(f"`{name}` of a loaded model differs from that of the saved one")
    # after the files are gone, so that nothing is read late
    planned = _plan(model)
    for kind, restored in (("model", loaded), ("policy", policy)):
        if not np.array_equal(planned, _plan(restored)):
            raise ViolationError(
                f"a loaded {kind} plans other actions than the saved one; `act` may depend on nothing but settings, "
                "its draws and the networks of `networks`"
            )
    return "parameters, settings and planned actions, to the last bit"


def _plan(model: Any) -> NDArray[Any]:
    """Return actions of a model, or of a policy, for some observations."""
    observations = np.random.default_rng(0).standard_normal((6, STATES)).astype(np.float32)
    actions, _ = model.predict(observations, deterministic=True)
    if actions.shape != (6, *model.action_space.shape) or not np.isfinite(actions).all():
        raise ViolationError(
            f"`predict` returns actions of shape {actions.shape} that are not all finite"
        )
    return np.asarray(actions)


def check_resuming(subject: Subject) -> str:
    """Check that updates that go on from a checkpoint, written in either phase, differ in no bit."""
    uninterrupted = subject.make_loaded_model()
    phases: dict[str, Callable[[FlowAlgorithm], object]] = {
        "offline": lambda model: model.learn_offline(3),
        "online": lambda model: model.learn(14, reset_num_timesteps=False),
    }
    for phase, learn in phases.items():
        learn(uninterrupted)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = save_checkpoint(uninterrupted, Path(folder))
            uninterrupted.learn_offline(3)
            # as in a new process, whose generators are in another state
            random.seed(11)
            np.random.seed(12)
            torch.manual_seed(13)
            resumed = subject.make_loaded_model()
            load_checkpoint(resumed, checkpoint)
        resumed.learn_offline(3)
        if name := first_difference(uninterrupted.policy.state_dict(), resumed):
            raise ViolationError(
                f"`{name}` differs after updates that went on from a checkpoint written {phase}; keep state in "
                "networks or their buffers, and take random numbers from `noise`"
            )
    return "updates after checkpoints of both phases, to the last bit"


# -- all checks -------------------------------------------------------------------------------------------------------

State = Literal["holds", "fails", "fails by design", "does not apply", "skipped", "not tried"]
PAGE = "docs/register.md"


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    :param name: for ``--skip``.
    :param promise: what must hold.
    :param section: where the page of registration explains it.
    :param run: returns what was measured, or raises.
    """

    name: str
    promise: str
    section: str
    run: Callable[[Subject], str]

    @property
    def where(self) -> str:
        """Where to look."""
        return f"{PAGE}#{self.section}"


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    :param check: the check.
    :param state: whether it holds.
    :param detail: the measurement; or why it does not hold, and what to do.
    """

    check: Check
    state: State
    detail: str


CHECKS = (
    Check("hooks", "every hook is there and returns what it should", "the-hooks", check_hooks),
    Check(
        "networks",
        "every network is declared in `networks`",
        "the-hooks",
        without("networks"),
    ),
    Check(
        "gradients",
        "each loss trains the networks that it should",
        "rules",
        without("gradients"),
    ),
    Check(
        "masks", "losses leave out sequences across a trajectory's end", "rules", without("masks")
    ),
    Check("noise", "declared noise is used, and nothing else is random", "rules", check_noise),
    Check("purity", "`targets` and `losses` change nothing", "rules", without("purity")),
    Check("bounds", "actions keep to their bounds", "the-hooks", check_bounds),
    Check("replicas", "several seeds at once equal each alone", "rules", check_replicas),
    Check("bf16", "low precision changes the gradient little", "checks", check_low_precision),
    Check(
        "phases",
        "it trains offline and goes on online, with chunks of 1 and of 5",
        "checks",
        check_phases,
    ),
    Check("saving", "a loaded model is the saved one", "rules", check_saving),
    Check("resuming", "updates resume bit for bit", "rules", check_resuming),
    Check("values", "known values are learnt", "what-must-be-learnt", check_values),
    Check(
        "actions",
        "better actions are preferred, or both modes cloned",
        "what-must-be-learnt",
        check_actions,
    ),
    Check("compiled", "compiled updates equal plain ones", "checks", check_compiled),
)
"""In the order in which they run: quick ones first, and each after those that it builds on."""


def require_names(names: Collection[str]) -> None:
    """Refuse unknown names of checks.

    :param names: to look up.
    :raises ValueError: for the first unknown one; the closest are named.
    """
    known_checks = [check.name for check in CHECKS]
    for name in names:
        if name not in known_checks:
            raise ValueError(unknown_name_message("check", name, known_checks))


def run_checks(
    method: type[Method], settings: Mapping[str, Any] | None = None, skip: Collection[str] = ()
) -> Iterator[Outcome]:
    """Try every check, one after the other.

    Without working hooks nothing else can be tried, so the first check that breaks a contract ends the rest.

    :param method: the algorithm.
    :param settings: over the small ones that the checks choose.
    :param skip: names of checks to leave out.
    :yields: an outcome for each check, as soon as it is there.
    :raises ValueError: if a name is not one of a check.
    """
    # refused before the first check, which may take a minute
    require_names([*skip, *method.fails_by_design])
    subject = Subject(method, settings or {})
    broken = False
    for check in CHECKS:
        if check.name in skip:
            yield Outcome(check, "skipped", "")
        elif broken:
            yield Outcome(check, "not tried", "needs hooks that keep their contract")
        else:
            outcome = try_check(check, subject)
            broken = check.name == "hooks" and outcome.state == "fails"
            yield outcome


def try_check(check: Check, subject: Subject) -> Outcome:
    """Try one check; an exception of any type is its outcome.

    :param check: the check.
    :param subject: the algorithm, with models that earlier checks have trained.
    :return: the outcome.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what training warns of is a finding here
            return Outcome(check, "holds", check.run(subject))
    except NotApplicable as error:
        return Outcome(check, "does not apply", str(error))
    except Exception as error:
        method = subject.method
        # only what a check measured may be meant; a crash is a fault
        explains_itself = isinstance(error, ViolationError | AgentError)
        if explains_itself and check.name in method.fails_by_design:
            reason = method.fails_by_design[check.name]
            return Outcome(check, "fails by design", f"{reason}: {error}")
        kind = "" if explains_itself else f"{type(error).__name__}: "
        return Outcome(check, "fails", f"{kind}{error}{_line_of(error, method)}")


def _line_of(error: BaseException, method: type[Method]) -> str:
    """Return the innermost line of the author's file that an error, or its cause, passed through; or nothing."""
    file = inspect.getsourcefile(method)
    line = ""
    cause: BaseException | None = error
    while cause is not None:
        for frame in traceback.extract_tb(cause.__traceback__):
            if frame.filename == file:
                line = f" ({Path(file).name}:{frame.lineno})"
        cause = cause.__cause__ or cause.__context__
    return line
