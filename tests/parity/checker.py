"""Comparison of an algorithm with recorded numbers: losses, gradients, actions, and three updates."""

from typing import NamedTuple

import numpy as np
from scipy.stats import ks_2samp
from torch import Tensor

TOLERANCES = {
    "draw": 2.5,
    "loss": 2e-5,
    "total": 5e-5,
    "intermediate": 2e-5,
    "gradient": 2.5e-5,
    "gradient_norm": 3e-5,
    "action": 2e-5,
    "parameter": 2e-6,
    "parameter_share": 1e-3,
    "target_1": 5e-7,
    "target_3": 1e-6,
    "adam": 3e-5,
    "dual": 1e-6,
}
"""Tolerances for float32, at least five times an independent implementation's error; see ``docs/parity.md``."""
TARGET = "target_"
"""Prefix of a target network: module ``target_x`` tracks module ``x``."""
LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Smallest reliable gradient: Adam divides by its magnitude, which amplifies the rounding of tiny gradients."""
OFF = 0.02
"""A parameter is wrong if its error exceeds this fraction of the learning rate."""


class Row(NamedTuple):
    """A compared quantity, with its error and tolerance."""

    quantity: str
    error: float
    tolerance: float

    @property
    def holds(self):
        """Whether the error is small enough; NaN is not."""
        return self.error <= self.tolerance


def compare(fixture, ours, tolerances=None):
    """Compare an algorithm with recorded numbers.

    :param tolerances: override some of `TOLERANCES`.
    """
    limits = {**TOLERANCES, **(tolerances or {})}
    return [Row(name, error, limits[kind]) for name, kind, error in _quantities(fixture, ours)]


def _quantities(fixture, ours):
    """Yield what is compared, the name of the tolerance, and the error.

    Noise and losses come first, because the other quantities depend on them.
    """
    yield from _draws(fixture, ours.create(fixture))
    intermediates = ours.create(fixture).intermediates()
    assert "td_target" in intermediates or "out/td_target" not in fixture
    for name, value in intermediates.items():
        yield name, "intermediate", _error(value, fixture[f"out/{name}"], 1.0)
    losses = ours.create(fixture).losses()
    for name, recorded in fixture.losses.items():
        yield f"loss {name}", "loss", _error(losses[name], recorded, LOSS_FLOOR)
    yield from _gradients(fixture, ours.create(fixture).gradients())
    yield from _updates(fixture, ours.create(fixture))
    agent, noise = ours.create(fixture), fixture.below("sample/noise/")
    actions = agent.sample(fixture["sample/obs"], noise)
    yield "sampled actions", "action", _error(actions, fixture["sample/actions"], 1.0)


def _draws(fixture, agent):
    """Compare the declared noise of an update with the recorded noise: name, shape and distribution.

    The error is the largest distance between the two distribution functions times the square root of the number of
    recorded values (Kolmogorov and Smirnov). For equal distributions, it exceeds 2.5 once in 100,000 times. The
    error is infinite if shapes differ.
    """
    declared, many = agent.draws(len(fixture.batch["rewards"])), agent.draws(2_000)
    updates = [fixture.noise(step) for step in (1, 2, 3)]
    for name in declared.keys() | updates[0].keys():
        error = np.inf
        if name in declared and [declared[name].shape[1:]] * 3 == [u[name].shape for u in updates]:
            values = np.concatenate([update[name].ravel() for update in updates])
            test = ks_2samp(values, to_array(many[name]).ravel(), method="asymp")
            error = float(test.statistic) * len(values) ** 0.5
        yield f"draw {name}", "draw", error


def _gradients(fixture, gradients):
    """Compare each parameter's gradient and the gradient norm; parameters outside the loss have no gradient."""
    recorded = fixture.below("grad/")
    assert gradients.keys() <= recorded.keys()
    square = 0.0
    for path, expected in recorded.items():
        gradient = to_array(gradients.get(path, np.zeros_like(expected)))
        square += np.square(gradient, dtype=np.float64).sum()
        yield f"gradient of {path}", "gradient", _error(gradient, expected, 0.0)
    norm = fixture["out/grad_global_norm"]
    yield "norm of the gradient", "gradient_norm", _error(square**0.5, norm, 0.0)


def _updates(fixture, agent):
    """Compare total loss, parameters, optimiser state and multipliers over three updates."""
    earlier = {}
    for step in (1, 2, 3):
        total = np.asarray(fixture.total(step))
        yield f"total at update {step}", "total", _error(agent.update(step), total, LOSS_FLOOR)
        recorded = fixture.below(f"params_after_{step}/")
        if recorded:  # not recorded after the second update
            parameters = agent.as_recorded(dict(agent.parameters()))
            errors = {
                path: np.abs(to_array(parameters[path]) - array) for path, array in recorded.items()
            }
            yield from _parameters(fixture, step, errors, earlier)
            earlier = errors
        state = agent.state()
        for kind, floor in (("adam", 0.0), ("dual", None)):
            for name, expected in fixture.below(f"{kind}_after_{step}/").items():
                error = _error(state[f"{kind}/{name}"], expected, floor)
                yield f"{kind} after update {step}: {name}", kind, error


def _parameters(fixture, step, errors, earlier):
    """Compare all parameters.

    Trained parameters with a reliable gradient are compared one by one. For all others, the fraction of wrong
    parameters is compared, because Adam turns a gradient that is only rounding error into a full step in either
    direction. In each update, a target network takes over a share tau of this error. The error of the second update is
    not recorded, and is assumed to be as large as in the first or third update.
    """
    rate, tau = float(fixture.meta["adam"]["lr"]), float(fixture.config["tau"])
    off, count = 0, 0
    for path, error in errors.items():
        online = path.removeprefix(TARGET)
        if online == path:
            gradient = np.abs(fixture[f"grad/{path}"])
            reliable = error * (gradient > RELIABLE * gradient.max())
            yield f"parameters after update {step}: {path}", "parameter", _largest(reliable)
            off += int((error > OFF * rate).sum())
            count += error.size
        else:
            inherited = 0.0
            if earlier:
                second = np.maximum(earlier[online], errors[online])
                inherited = tau * (earlier[online] + second)
            excess = _largest(error - inherited)
            yield f"targets after update {step}: {path}", f"target_{step}", excess
    yield f"share off after update {step}", "parameter_share", off / count


def _error(value, expected, floor):
    """Return the error relative to the largest recorded magnitude, or to the floor if that is larger.

    Without a floor, the error is absolute.
    """
    value = to_array(value).astype(np.float64)
    assert value.shape == expected.shape
    error = _largest(np.abs(value - expected))
    if floor is None or error == 0:
        return error
    return float(np.divide(error, max(_largest(np.abs(expected)), floor)))


def _largest(values):
    """Return the largest value; NaN if any is NaN, 0 for an empty array."""
    return float(np.max(values, initial=0.0))


def to_array(value):
    """Return a number or tensor as a NumPy array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
