"""Checks of a whole life: learning, both phases, chunks, saving, going on from a checkpoint.

Each takes the :class:`Subject`, returns what was measured, and raises :class:`Violation` where it does not hold.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.common.engine.checkpoint import find_checkpoints, load_checkpoint, save_checkpoint
from agents.common.sb3.model import FlowQLearning
from agents.testing.probe import CHOICE, CONSTANT, FIRST, GAMMA, MODE, SECOND, SLOPE, STATES, make_trajectories
from agents.testing.subject import SIZES, NotApplicable, Subject, Violation, first_difference, parameters_of

VALUE_MARGIN = 0.15
"""Of a value of 1."""
SLOPE_MARGIN = 0.2
"""Of the difference that an action makes, relative."""
LEAST_IMPROVEMENT = 0.08
"""Of the mean action over the data's, 0, where the reward is SLOPE times the action."""
LEAST_SHARE = 0.2
"""Of the sampled actions near each of two modes."""
SAMPLES = 256

# -- learning ---------------------------------------------------------------------------------------------------------


def check_values(subject: Subject) -> str:
    """Check the values that are learnt of a constant reward, of a reward one step later, and of two actions."""
    model = subject.learnt
    if not subject.rates_actions:
        raise NotApplicable("it declares no critic and rates no actions, so it learns no value")
    values = {state: _rate(model, state, [-MODE, MODE]).mean() for state in (CONSTANT, FIRST, SECOND)}
    wanted = {CONSTANT: 1.0, FIRST: GAMMA, SECOND: 1.0}
    rewards = {CONSTANT: "1 and the end", FIRST: f"0 and then 1, with gamma {GAMMA}", SECOND: "1 and the end"}
    for state, value in values.items():
        if not abs(value - wanted[state]) <= VALUE_MARGIN:
            raise Violation(
                f"`score` gives {value:.2f} where the rewards are {rewards[state]}, expected {wanted[state]} +- "
                f"{VALUE_MARGIN}; look at the TD target and its discount, and at the target networks"
            )
    low, high = _rate(model, CHOICE, [-0.5, 0.5])
    if not abs((high - low) / SLOPE - 1) <= SLOPE_MARGIN:
        raise Violation(
            f"`score` differs by {high - low:.1f} between two actions whose rewards differ by {SLOPE:.0f}; the critic "
            "does not see the batch's actions, or its loss is masked or weighted away"
        )
    shown = ", ".join(f"{value:.2f}" for value in values.values())
    return f"{shown} (1, {GAMMA}, 1 +- {VALUE_MARGIN}); two actions differ by {high - low:.1f} ({SLOPE:.0f})"


def check_actions(subject: Subject) -> str:
    """Check that better actions are preferred, or, where no value is learnt, that both modes of the data are cloned."""
    model = subject.learnt
    if subject.rates_actions:
        mean = _sample(model, CHOICE).mean()
        if not mean >= LEAST_IMPROVEMENT:
            raise Violation(
                f"the mean action is {mean:.2f} where the reward is {SLOPE:.0f} times the action and that of the data "
                f"is 0, expected at least {LEAST_IMPROVEMENT}; look at the sign and weight of the loss that climbs the "
                "critic. If the default settings are meant to stay this close to the data, check with others"
            )
        return f"mean action {mean:.2f}, of the data 0 (at least {LEAST_IMPROVEMENT})"
    actions = _sample(model, CONSTANT)
    shares = [(actions * sign > MODE / 2).mean() for sign in (-1, 1)]
    if not min(shares) >= LEAST_SHARE:
        raise Violation(
            f"of the sampled actions {shares[0]:.0%} and {shares[1]:.0%} are near the two modes of the data, expected "
            f"at least {LEAST_SHARE:.0%} each; a flow clones both, a mean lies between them"
        )
    return f"{shares[0]:.0%} and {shares[1]:.0%} near the two modes of the data (at least {LEAST_SHARE:.0%})"


def _rate(model: FlowQLearning, state: int, actions: list[float]) -> NDArray[Any]:
    observations = torch.eye(STATES)[state].expand(1, len(actions), STATES)
    with torch.no_grad():
        return model.method.score(observations, torch.tensor(actions).view(1, -1, 1), model.policy.nets)[0].numpy()


def _sample(model: FlowQLearning, state: int) -> NDArray[Any]:
    """Return sampled actions in [-1, 1]."""
    model.policy.set_random_seed(0)
    observations = np.eye(STATES, dtype=np.float32)[[state] * SAMPLES]
    return model.policy.scale_action(model.predict(observations)[0])[:, 0]


# -- phases -----------------------------------------------------------------------------------------------------------

OFFLINE, ONLINE = 3, 16


def check_phases(subject: Subject) -> str:
    """Check training offline, then online, with single actions, chunks of five, and returns of five steps only."""
    sizes = []
    for settings in SIZES:
        if refusal := subject.refusal(settings):
            sizes.append(f"refused by the algorithm: {refusal}")
            continue
        updates = _train(subject, **settings)
        sizes.append(" ".join(f"{name}={value}" for name, value in settings.items()) + f": {updates} updates")
    return "; ".join(sizes)


def _train(subject: Subject, **settings: Any) -> int:
    """Train a model in both phases; return the number of updates."""
    model = subject.make_model(**settings)
    start = parameters_of(model)
    model.learn_offline(OFFLINE, dataset=make_trajectories(model.action_space))
    if model._n_updates != OFFLINE or first_difference(start, parameters_of(model)) is None:
        raise Violation(f"{OFFLINE} updates offline with {settings} changed no network")
    model.learn(ONLINE, reset_num_timesteps=False)
    wrong = [name for name, value in parameters_of(model).items() if not value.isfinite().all()]
    wrong += [f"info[{name!r}]" for name, value in model._last_info.items() if not value.isfinite().all()]
    if wrong:
        raise Violation(f"`{wrong[0]}` is not finite after {model._n_updates} updates with {settings}")
    wanted = model.policy.action_size * model.policy.chunk_length
    if model.policy.chunk_size != wanted:
        raise Violation(f"a plan holds {model.policy.chunk_size} numbers with {settings}, expected {wanted}")
    _plan(model)
    return int(model._n_updates)


# -- files ------------------------------------------------------------------------------------------------------------


def check_saving(subject: Subject) -> str:
    """Check that a model and a policy that are loaded are those that were saved."""
    model = subject.make_trained_model()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        model.policy.save(str(Path(folder) / "policy"))
        loaded = type(model).load(Path(folder) / "model", device="cpu")
        policy = type(model.policy).load(str(Path(folder) / "policy"), device="cpu")
    if loaded.settings() != model.settings():
        raise Violation("a loaded model has other settings than the saved one")
    name = first_difference(parameters_of(model), parameters_of(loaded))
    if name is not None:
        raise Violation(f"`{name}` of a loaded model differs from that of the saved one")
    wanted = _plan(model)
    for what, other in (("model", loaded), ("policy", policy)):
        if not np.array_equal(wanted, _plan(other)):
            raise Violation(
                f"a loaded {what} plans other actions than the saved one; `act` may depend on nothing but settings, "
                "its draws and the networks of `networks`"
            )
    return "parameters, settings and planned actions, to the last bit"


def _plan(model: Any) -> NDArray[Any]:
    """Return actions of a model, or of a policy, for some observations."""
    seen = np.random.default_rng(0).standard_normal((6, STATES)).astype(np.float32)
    actions, _ = model.predict(seen, deterministic=True)
    if actions.shape != (6, *model.action_space.shape) or not np.isfinite(actions).all():
        raise Violation(f"`predict` returns actions of shape {actions.shape} that are not all finite")
    return np.asarray(actions)


def check_resuming(subject: Subject) -> str:
    """Check that training that goes on from a checkpoint, in both phases, differs in no bit."""
    with tempfile.TemporaryDirectory() as folder:
        for phase in ("offline", "online"):
            whole, parts = _trained_twice(subject, phase, Path(folder) / phase)
            name = first_difference(parameters_of(whole), parameters_of(parts))
            if name is not None:
                raise Violation(
                    f"`{name}` differs after training that went on from a checkpoint {phase}; keep state in networks "
                    "or their buffers, and take random numbers from `noise`"
                )
    return "offline and online, to the last bit"


def _trained_twice(subject: Subject, phase: str, folder: Path) -> tuple[FlowQLearning, FlowQLearning]:
    """Return a model that trained on after a checkpoint, and another one that went on from it."""

    def begin() -> FlowQLearning:
        model = subject.make_model()
        model.load_dataset(make_trajectories(model.action_space))
        return model

    def go_on(model: FlowQLearning) -> FlowQLearning:
        if phase == "offline":
            return model.learn_offline(3)
        return model.learn(8, reset_num_timesteps=False)

    whole = begin().learn_offline(3)
    if phase == "online":
        whole.learn(14, reset_num_timesteps=False)
    save_checkpoint(whole, folder)
    go_on(whole)
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    parts = begin()
    load_checkpoint(parts, find_checkpoints(folder)[0])
    return whole, go_on(parts)
