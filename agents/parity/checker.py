"""Comparing an implementation with recorded numbers: losses, gradients, actions, and three updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.common.validation import closest_names
from agents.parity.adapter import Adapter, Arrays, describe
from agents.parity.fixture import (
    STEPS,
    STEPS_WITH_PARAMETERS,
    TARGET,
    TOLERANCES,
    Array,
    Fixture,
    require_tolerances,
    to_array,
)

LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Adam divides by the gradient's own size, so entries with a tiny gradient carry amplified rounding."""
OFF = 0.02
"""Share of the learning rate from which on a parameter is off."""

HINTS = {
    "intermediate": "what makes it, e.g. networks, clipping, discount and masks",
    "loss": "its sign, weight and mean, and rows that do not count",
    "loss total": "the weights of the losses",
    "gradient": "what is detached, and the order of detaching and clipping",
    "gradient_norm": "whether it is the norm before clipping",
    "total": "whether it is the total at the update's start, with the update's own draws",
    "parameter": "the optimiser: learning rate, epsilon, clipping",
    "parameter_share": "the optimiser: learning rate, epsilon, clipping",
    "target_1": "tau, and whether the average takes the parameters before the step or after it",
    "target_3": "tau, and whether the average takes the parameters before the step or after it",
    "adam": "clipping: one norm over all modules, or one each; Adam's betas",
    "dual": "its learning rate, its clipping, and when it is updated",
    "action": "number and times of steps, clipping, and the choice among candidates",
}
"""Where to look if a quantity, or one with this tolerance, is the first that does not hold."""

INTERMEDIATES, LOSSES, TOTAL, GRADIENTS, UPDATES = range(5)
"""Stages of training: each builds on those before it. Update i has stage UPDATES + i."""
ACTIONS = -1


@dataclass(frozen=True)
class Row:
    """One quantity.

    :param quantity: what was compared.
    :param error: the largest; NaN if it could not be compared.
    :param tolerance: the largest error that is allowed.
    :param found: in what way it differs; empty if it holds.
    :param look: where to look for the mistake; empty if it holds.
    """

    quantity: str
    error: float
    tolerance: float
    found: str = ""
    look: str = ""

    @property
    def holds(self) -> bool:
        """Whether the error is small enough."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """An implementation beside one fixture.

    :param rows: every quantity that was compared.
    :param not_compared: keys of recorded numbers that the adapter does not return; all are optional.
    """

    rows: list[Row]
    not_compared: list[str]

    @property
    def holds(self) -> bool:
        """Whether every quantity holds."""
        return all(row.holds for row in self.rows)


class _Unusable(Exception):
    """A function of the adapter raised, or returned something that cannot be compared."""


def compare(fixture: Fixture, adapter: Adapter, tolerances: Mapping[str, float] | None = None) -> Comparison:
    """Compare an implementation with recorded numbers.

    What an adapter's function cannot do ends only its own group of quantities.

    :param fixture: the recorded numbers.
    :param adapter: of the implementation.
    :param tolerances: over those of the fixture, which are over :data:`TOLERANCES`.
    :return: what was compared.
    :raises ParityError: for an unknown tolerance.
    :raises NotImplementedError: if the adapter does not implement the fixture's algorithm.
    """
    require_tolerances(tolerances or {})
    limits = {**TOLERANCES, **fixture.meta.get("tolerances", {}), **(tolerances or {})}
    check = _Check(fixture, adapter, limits)
    for group in (check.intermediates, check.losses, check.gradients, check.updates, check.actions):
        try:
            group()
        except _Unusable as reason:
            check.rows.append(Row(group.__name__, math.nan, 0.0, str(reason), "the adapter"))
    optional = [*fixture.below("out/"), *check.recorded_states]
    return Comparison(check.rows, [name for name in optional if name not in check.compared])


class _Check:
    """One comparison, group by group."""

    def __init__(self, fixture: Fixture, adapter: Adapter, limits: Mapping[str, float]) -> None:
        self.fixture, self.adapter, self.limits = fixture, adapter, limits
        self.rows: list[Row] = []
        self.compared: set[str] = set()
        self.failing: dict[int, list[str]] = {}
        """Stage -> quantities that do not hold."""
        self.recorded_states = {
            f"{kind}/{name}": array
            for kind in ("adam", "dual")
            for name, array in fixture.below(f"{kind}_after_1/").items()
        }

    def intermediates(self) -> None:
        """Compare what the losses are made of, as far as the adapter returns it."""
        if not hasattr(self.adapter, "intermediates"):
            return
        recorded = self.fixture.below("out/")
        for name, value in self._on_first("intermediates", recorded).items():
            self.compared.add(name)
            self._add(INTERMEDIATES, name, "intermediate", _measure(value, recorded[name], 1.0, name))

    def losses(self) -> None:
        """Compare every loss of the first update."""
        recorded = self.fixture.losses
        got = self._on_first("losses")
        _require_names("losses", recorded, got, "does not return")
        for name in sorted(recorded, key=lambda name: name == "total"):
            stage = TOTAL if name == "total" else LOSSES
            self._add(stage, f"loss {name}", "loss", _measure(got[name], recorded[name], LOSS_FLOOR, name))

    def gradients(self) -> None:
        """Compare the gradient module by module, and its norm."""
        recorded = self.fixture.below("grad/")
        got = {**{path: np.zeros_like(array) for path, array in recorded.items()}}
        got |= {path: _array(path, value) for path, value in self._on_first("gradients", recorded).items()}
        modules: dict[str, tuple[float, str]] = {}
        for path, expected in recorded.items():
            module = path.partition("/")[0]
            modules[module] = max(modules.get(module, (0.0, "")), _measure(got[path], expected, 0.0, path))
        for module, measured in modules.items():
            self._add(GRADIENTS, f"gradient of {module}", "gradient", measured)
        if "out/grad_global_norm" in self.fixture:
            self.compared.add("grad_global_norm")
            norm = math.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in got.values()))
            measured = _measure(norm, self.fixture["out/grad_global_norm"], 0.0, "the norm")
            self._add(GRADIENTS, "norm of the gradient", "gradient_norm", measured)

    def updates(self) -> None:
        """Compare total loss, parameters and state over three updates."""
        agent, earlier = self._call("create", self.fixture), dict[str, Array]()
        for step in STEPS:
            answer = self._call("update", agent, self.fixture.batch, self.fixture.noise(step))
            if not isinstance(answer, tuple) or len(answer) != 3:
                raise _Unusable(
                    "`update` must return the agent after it, the total loss at its start and the parameters after it, "
                    f"got {type(answer).__name__}"
                )
            agent, total, returned = answer
            measured = _measure(total, np.asarray(self.fixture.total(step)), LOSS_FLOOR, "the total")
            self._add(UPDATES + step, f"total at update {step}", "total", measured)
            if step in STEPS_WITH_PARAMETERS:
                earlier = self._parameters(step, returned, earlier)
            self._states(step, agent)

    def actions(self) -> None:
        """Compare sampled actions."""
        agent = self._call("create", self.fixture)
        got = self._call("sample", agent, self.fixture["sample/obs"], self.fixture.below("sample/noise/"))
        measured = _measure(got, self.fixture["sample/actions"], 1.0, "actions")
        self._add(ACTIONS, "sampled actions", "action", measured)

    def _parameters(self, step: int, returned: Any, earlier: Arrays) -> dict[str, Array]:
        """Compare all parameters; return their errors.

        Trained ones with a reliable gradient are compared each, of the others how many are off. A moving average may be
        off by what it took over from a parameter that is off: Adam turns a gradient that is nothing but rounding into a
        whole step, in either direction, and an average takes tau of such errors after the first and the second update
        (not recorded, as large as the first's or the third's).
        """
        recorded, got = self.fixture.below(f"params_after_{step}/"), _require_mapping("update", returned)
        _require_names("update", recorded, got, "does not return")
        parameters = {path: _array(path, got[path], recorded[path].shape) for path in recorded}
        errors = {path: np.abs(parameters[path] - recorded[path]) for path in recorded}
        adam, tau = self.fixture.meta.get("adam"), float(self.fixture.config.get("tau", 0.0))
        trained, averages, off, count = {}, {}, 0, 0
        for path, error in errors.items():
            online = path.removeprefix(TARGET)
            if online != path:
                taken_over = tau * (earlier[online] + np.maximum(earlier[online], errors[online])) if earlier else 0
                averages[path] = np.maximum(error - taken_over, 0)
                continue
            gradient = np.abs(self.fixture[f"grad/{path}"])
            trained[path] = error * (gradient > RELIABLE * gradient.max()) if adam else error
            off += int((error > OFF * adam["lr"]).sum()) if adam else 0
            count += error.size
        after = f"after {step} update{'s' * (step > 1)}"
        self._add_change(step, f"parameters {after}", "parameter", parameters, trained)
        if adam:
            found = f"{off} of {count} are off by more than {OFF:.0%} of the learning rate"
            self._add(UPDATES + step, f"share off {after}", "parameter_share", (off / count, found))
        if averages:
            self._add_change(step, f"targets {after}", f"target_{step}", parameters, averages)
        return errors

    def _states(self, step: int, agent: Any) -> None:
        """Compare the optimiser's state and multipliers, as far as the adapter returns them and they are recorded."""
        if not hasattr(self.adapter, "state"):
            return
        kinds: dict[str, tuple[float, str]] = {}
        got = _require_mapping("state", self._call("state", agent))
        _require_names("state", got, self.recorded_states, "returns", "which is not recorded")
        for name, value in got.items():
            kind, _, rest = name.partition("/")
            self.compared.add(name)
            if (key := f"{kind}_after_{step}/{rest}") in self.fixture:
                measured = _measure(value, self.fixture[key], 0.0 if kind == "adam" else None, name)
                kinds[kind] = max(kinds.get(kind, (0.0, "")), measured)
        for kind, measured in kinds.items():
            quantity = "optimiser" if kind == "adam" else "multiplier"
            self._add(UPDATES + step, f"{quantity} after {step} update{'s' * (step > 1)}", kind, measured)

    def _add_change(self, step: int, quantity: str, kind: str, parameters: Arrays, errors: Arrays) -> None:
        """Add the largest error, and how the change of that array since the start differs from the recorded one."""
        path, largest = max(((path, _largest(error)) for path, error in errors.items()), key=lambda found: found[1])
        start, recorded = self.fixture[f"params_before/{path}"], self.fixture[f"params_after_{step}/{path}"]
        change = f"the change of `{path}` {_explain(parameters[path] - start, recorded - start)}"
        self._add(UPDATES + step, quantity, kind, (largest, change))

    def _add(self, stage: int, quantity: str, kind: str, measured: tuple[float, str]) -> None:
        """Add a row; one that fails says where to look: at the earliest stage with a failure, if that is another."""
        error, found = measured
        row = Row(quantity, error, self.limits[kind])
        if not row.holds:
            cause = min((earlier for earlier in self.failing if earlier < stage), default=None)
            hint = HINTS.get(quantity, HINTS[kind])
            look = hint if cause is None else f"first mend {', '.join(self.failing[cause])}"
            self.failing.setdefault(stage, []).append(quantity)
            row = Row(quantity, error, self.limits[kind], found, look)
        self.rows.append(row)

    def _on_first(self, name: str, recorded: Arrays | None = None) -> Mapping[str, Any]:
        """Return what a function says of the first update, by name."""
        agent = self._call("create", self.fixture)
        got = _require_mapping(name, self._call(name, agent, self.fixture.batch, self.fixture.noise(1)))
        if recorded is not None:
            _require_names(name, got, recorded, "returns", "which is not recorded")
        return got

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the adapter."""
        try:
            return getattr(self.adapter, name)(*arguments)
        except Exception as error:
            if name == "create" and isinstance(error, NotImplementedError):
                raise
            raise _Unusable(f"`{name}` raised {describe(error)}") from error


def _measure(got: Any, expected: Array, floor: float | None, name: str) -> tuple[float, str]:
    """Return the error of numbers, relative to the largest recorded one and at least to a floor, and what differs.

    Without a floor, the error is absolute.
    """
    value, scale = _array(name, got, expected.shape).astype(np.float64), 1.0
    error = _largest(np.abs(value - expected))
    if floor is not None:
        scale = max(_largest(np.abs(expected)), floor)
    relative = error / scale if scale else (0.0 if error == 0 else math.inf)
    return relative, f"`{name}` {_explain(value, expected)}"


def _explain(got: Array, expected: Array) -> str:
    """Say where numbers differ most from the recorded ones, and whether they are a multiple of them."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(got).all():
        return "is not finite"
    index = np.unravel_index(int(np.abs(got - expected).argmax()), got.shape)
    place = f"at {tuple(map(int, index))} " if got.shape else ""
    square = float(np.square(expected).sum())
    factor = float((got * expected).sum()) / square if square else 0.0
    is_multiple = factor and np.abs(got - factor * expected).max() <= 1e-3 * np.abs(got).max()
    multiple = f" ({factor:.4g} times)" if is_multiple else ""
    return f"{place}is {got[index]:.6g}, recorded is {expected[index]:.6g}{multiple}"


def _array(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """Return numbers as an array, which must have a shape if one is given."""
    try:
        array = to_array(value)
    except (TypeError, ValueError) as error:
        raise _Unusable(f"`{name}`: {error}") from error
    if shape is not None and array.shape != shape:
        raise _Unusable(f"`{name}` has shape {array.shape}, recorded is {shape}")
    return array


def _require_mapping(function: str, answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise _Unusable(f"`{function}` must return numbers by name, in a dict, got {type(answer).__name__}")
    return answer


def _require_names(function: str, names: Mapping[str, Any], known: Mapping[str, Any], does: str, why: str = "") -> None:
    """Refuse a name that is not known."""
    for name in names:
        if name not in known:
            closest = ", ".join(closest_names(name, map(str, known))) or "nothing"
            raise _Unusable(f"`{function}` {does} `{name}`{', ' * bool(why)}{why}; closest: {closest}")


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest
