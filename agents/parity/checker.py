"""Comparing an implementation with recorded numbers: losses, gradients, actions, and three updates."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
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
    norm,
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
"""Where to look if a quantity, or one with this tolerance, does not hold."""

Measured = tuple[str, str, float, str]
"""A quantity, the name of its tolerance, its error, and in what way it differs."""


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
    check, rows = _Check(fixture, adapter), list[Row]()
    for group in (check.intermediates, check.losses, check.gradients, check.updates, check.actions):
        try:
            for quantity, kind, error, found in group():
                row = Row(quantity, error, limits[kind])
                rows.append(row if row.holds else replace(row, found=found, look=HINTS.get(quantity, HINTS[kind])))
        except _Unusable as reason:
            rows.append(Row(group.__name__, math.nan, 0.0, str(reason), "the adapter"))
    optional = [*fixture.below("out/"), *check.states]
    return Comparison(rows, [name for name in optional if name not in check.compared])


class _Check:
    """One comparison, group by group."""

    def __init__(self, fixture: Fixture, adapter: Adapter) -> None:
        self.fixture, self.adapter = fixture, adapter
        self.compared: set[str] = set()
        self.states = {
            f"{kind}/{name}": array
            for kind in ("adam", "dual")
            for name, array in fixture.below(f"{kind}_after_1/").items()
        }

    def intermediates(self) -> Iterator[Measured]:
        """Compare what the losses are made of, as far as the adapter returns it."""
        recorded = self.fixture.below("out/")
        for name, value in (self._on_first("intermediates", recorded) if self._has("intermediates") else {}).items():
            self.compared.add(name)
            yield name, "intermediate", *_measure(value, recorded[name], 1.0, name)

    def losses(self) -> Iterator[Measured]:
        """Compare every loss of the first update, the total last."""
        recorded = self.fixture.losses
        got = self._on_first("losses", recorded, complete=True)
        for name in sorted(recorded, key=lambda name: name == "total"):
            yield f"loss {name}", "loss", *_measure(got[name], recorded[name], LOSS_FLOOR, name)

    def gradients(self) -> Iterator[Measured]:
        """Compare the gradient module by module, and its norm."""
        recorded = self.fixture.below("grad/")
        got = {path: np.zeros_like(array) for path, array in recorded.items()} | self._on_first("gradients", recorded)
        modules: dict[str, tuple[float, str]] = {}
        for path, expected in recorded.items():
            module = path.partition("/")[0]
            modules[module] = max(modules.get(module, (0.0, "")), _measure(got[path], expected, 0.0, path))
        for module, measured in modules.items():
            yield f"gradient of {module}", "gradient", *measured
        if "out/grad_global_norm" in self.fixture:
            self.compared.add("grad_global_norm")
            measured = _measure(norm(got), self.fixture["out/grad_global_norm"], 0.0, "the norm")
            yield "norm of the gradient", "gradient_norm", *measured

    def updates(self) -> Iterator[Measured]:
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
            yield f"total at update {step}", "total", *measured
            if step in STEPS_WITH_PARAMETERS:
                earlier = yield from self._parameters(step, returned, earlier)
            if self._has("state"):
                yield from self._states(step, agent)

    def actions(self) -> Iterator[Measured]:
        """Compare sampled actions."""
        agent = self._call("create", self.fixture)
        got = self._call("sample", agent, self.fixture["sample/obs"], self.fixture.below("sample/noise/"))
        yield "sampled actions", "action", *_measure(got, self.fixture["sample/actions"], 1.0, "actions")

    def _parameters(self, step: int, returned: Any, earlier: Arrays) -> Generator[Measured, None, dict[str, Array]]:
        """Compare all parameters; return their errors.

        Trained ones with a reliable gradient are compared each, of the others how many are off. A moving average may be
        off by what it took over from a parameter that is off: Adam turns a gradient that is nothing but rounding into a
        whole step, in either direction, and an average takes tau of such errors after the first and the second update
        (not recorded, as large as the first's or the third's).
        """
        recorded = self.fixture.below(f"params_after_{step}/")
        parameters = _by_name("update", returned, recorded, complete=True)
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

        def change(quantity: str, kind: str, errors: Arrays) -> Measured:
            """Return the largest error, and how that array's change since the start differs from the recorded one."""
            path = max(errors, key=lambda path: _largest(errors[path]))
            start = self.fixture[f"params_before/{path}"]
            found = f"the change of `{path}` {_explain(parameters[path] - start, recorded[path] - start)}"
            return f"{quantity} {after}", kind, _largest(errors[path]), found

        after = f"after {step} update{'s' * (step > 1)}"
        yield change("parameters", "parameter", trained)
        if adam:
            found = f"{off} of {count} are off by more than {OFF:.0%} of the learning rate"
            yield f"share off {after}", "parameter_share", off / count, found
        if averages:
            yield change("targets", f"target_{step}", averages)
        return errors

    def _states(self, step: int, agent: Any) -> Iterator[Measured]:
        """Compare the optimiser's state and multipliers, as far as they are returned and recorded."""
        kinds: dict[str, tuple[float, str]] = {}
        for name, value in _by_name("state", self._call("state", agent), self.states).items():
            kind, _, rest = name.partition("/")
            self.compared.add(name)
            if (key := f"{kind}_after_{step}/{rest}") in self.fixture:
                measured = _measure(value, self.fixture[key], 0.0 if kind == "adam" else None, name)
                kinds[kind] = max(kinds.get(kind, (0.0, "")), measured)
        for kind, measured in kinds.items():
            quantity = "optimiser" if kind == "adam" else "multiplier"
            yield f"{quantity} after {step} update{'s' * (step > 1)}", kind, *measured

    def _has(self, name: str) -> bool:
        return hasattr(self.adapter, name)

    def _on_first(self, name: str, recorded: Arrays, complete: bool = False) -> dict[str, Array]:
        """Return what a function says of the first update, by name."""
        agent = self._call("create", self.fixture)
        return _by_name(name, self._call(name, agent, self.fixture.batch, self.fixture.noise(1)), recorded, complete)

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


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """Return numbers as an array, which must have a shape."""
    try:
        array = to_array(value)
    except (TypeError, ValueError) as error:
        raise _Unusable(f"`{name}`: {error}") from error
    if array.shape != shape:
        raise _Unusable(f"`{name}` has shape {array.shape}, recorded is {shape}")
    return array


def _by_name(function: str, answer: Any, recorded: Arrays, complete: bool = False) -> dict[str, Array]:
    """Return arrays that a function gave by their recorded names; ``complete``: it must give all of them."""
    if not isinstance(answer, Mapping):
        raise _Unusable(f"`{function}` must return numbers by name, in a dict, got {type(answer).__name__}")
    names, known, does = (
        (recorded, answer, "does not return") if complete else (answer, recorded, "must return what is recorded, got")
    )
    for name in names:
        if name not in known:
            closest = ", ".join(closest_names(name, map(str, known))) or "nothing"
            raise _Unusable(f"`{function}` {does} `{name}`; closest: {closest}")
    return {name: _array(name, answer[name], array.shape) for name, array in recorded.items() if name in answer}


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest
