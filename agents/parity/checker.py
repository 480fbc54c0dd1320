"""Comparing an implementation with recorded numbers: losses, gradients, actions, and three updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.common.validation import closest_names
from agents.parity.adapter import Adapter, Arrays, line_of, to_array
from agents.parity.fixture import STEPS, STEPS_WITH_PARAMETERS, TARGET, TOLERANCES, Array, Fixture, require_tolerances

LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Adam divides by the gradient's own size, so entries with a tiny gradient carry amplified rounding."""
OFF = 0.02
"""Share of the learning rate from which on a parameter is off."""

HINTS = {
    "intermediate": "what makes it, e.g. networks, clipping, discount and masks",
    "loss": "its sign, weight and mean, and rows that do not count",
    "total": "the weights of the losses",
    "gradient": "what is detached, and the order of detaching and clipping",
    "gradient_norm": "whether it is the norm before clipping",
    "update": "whether it is the total at the update's start, with the update's own draws",
    "parameter": "the optimiser: learning rate, epsilon, clipping",
    "parameter_share": "the optimiser: learning rate, epsilon, clipping",
    "target": "tau, and whether the average takes the parameters before the step or after it",
    "adam": "clipping: one norm over all modules, or one each; Adam's betas",
    "dual": "its learning rate, its clipping, and when it is updated",
    "action": "number and times of steps, clipping, and the choice among candidates",
}
"""Where to look if a quantity is the first that does not hold."""

ORDER = ("intermediates", "losses", "total", "gradients", "update 1", "update 2", "update 3")
"""Stages of training: each builds on those before it."""


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


@dataclass(frozen=True)
class Measured:
    """How far numbers are from the recorded ones.

    :param error: the largest; NaN if they could not be compared.
    :param found: in what way they differ, or why they could not be compared.
    """

    error: float
    found: str


class _Unusable(Exception):
    """A function of the adapter raised, or returned something that cannot be compared."""


def compare(fixture: Fixture, adapter: Adapter, tolerances: Mapping[str, float] | None = None) -> Comparison:
    """Compare an implementation with recorded numbers.

    :param fixture: the recorded numbers.
    :param adapter: of the implementation.
    :param tolerances: over those of the fixture, which are over :data:`TOLERANCES`.
    :return: what was compared.
    :raises ParityError: for an unknown tolerance.
    :raises NotImplementedError: if the adapter does not implement the fixture's algorithm.
    """
    own = tolerances or {}
    require_tolerances(own)
    return _Check(fixture, adapter, {**TOLERANCES, **fixture.tolerances, **own}).run()


class _Check:
    """One comparison."""

    def __init__(self, fixture: Fixture, adapter: Adapter, limits: Mapping[str, float]) -> None:
        self.fixture, self.adapter, self.limits = fixture, adapter, limits
        self.compared: set[str] = set()
        self.failing: dict[str, list[str]] = {}
        """Stage -> quantities that do not hold."""

    def run(self) -> Comparison:
        """Compare group by group; what an adapter's function cannot do ends only its own group."""
        groups: dict[str, Callable[[], Iterator[Row]]] = {
            "intermediates": self.intermediates,
            "losses": self.losses,
            "gradients": self.gradients,
            "updates": self.updates,
            "actions": self.actions,
        }
        rows: list[Row] = []
        for name, group in groups.items():
            try:
                for row in group():
                    rows.append(row)  # also of a group that ends early
            except _Unusable as reason:
                rows.append(Row(name, math.nan, 0.0, str(reason), "the adapter"))
        optional = [*self.fixture.below("out/"), *self._recorded_states()]
        return Comparison(rows, [key for key in optional if key not in self.compared])

    def intermediates(self) -> Iterator[Row]:
        """Compare what the losses are made of, as far as the adapter returns it."""
        if not hasattr(self.adapter, "intermediates"):
            return
        recorded = self.fixture.below("out/")
        got = self._mapping("intermediates", self._create(), self.fixture.batch, self.fixture.noise(1))
        for name, value in got.items():
            _require_recorded("intermediates", name, recorded)
            self.compared.add(name)
            yield self._row("intermediates", name, "intermediate", _measure(value, recorded[name], 1.0))

    def losses(self) -> Iterator[Row]:
        """Compare every loss of the first update."""
        got = self._mapping("losses", self._create(), self.fixture.batch, self.fixture.noise(1))
        recorded = self.fixture.losses
        for name in sorted(recorded, key=lambda name: name == "total"):
            stage, kind = ("total", "total") if name == "total" else ("losses", "loss")
            measured = Measured(math.nan, _missing("losses", name, got))
            if name in got:
                measured = _measure(got[name], recorded[name], LOSS_FLOOR)
            yield self._row(stage, f"loss {name}", kind, measured, self.limits["loss"])

    def gradients(self) -> Iterator[Row]:
        """Compare the gradient module by module, and its norm."""
        recorded = self.fixture.below("grad/")
        returned = self._mapping("gradients", self._create(), self.fixture.batch, self.fixture.noise(1))
        for path in returned:
            _require_recorded("gradients", path, recorded)
        got = {path: _array(f"gradient of {path}", value) for path, value in returned.items()}
        modules: dict[str, Measured] = {}
        for path, expected in recorded.items():
            measured = _measure(got.get(path, np.zeros_like(expected)), expected, 0.0, path)
            module = path.partition("/")[0]
            modules[module] = max(modules.get(module, measured), measured, key=_badness)
        for module, measured in modules.items():
            yield self._row("gradients", f"gradient of {module}", "gradient", measured)
        if "out/grad_global_norm" in self.fixture:
            self.compared.add("grad_global_norm")
            norm = math.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in got.values()))
            measured = _measure(norm, self.fixture["out/grad_global_norm"], 0.0)
            yield self._row("gradients", "norm of the gradient", "gradient_norm", measured)

    def updates(self) -> Iterator[Row]:
        """Compare total loss, parameters and state over three updates."""
        agent, earlier = self._create(), dict[str, Array]()
        for step in STEPS:
            answer = self._call("update", agent, self.fixture.batch, self.fixture.noise(step))
            if not isinstance(answer, tuple) or len(answer) != 3:
                raise _Unusable(
                    "`update` must return the agent after it, the total loss at its start and the parameters after it, "
                    f"got {type(answer).__name__}"
                )
            agent, total, returned = answer
            measured = _measure(total, np.asarray(self.fixture.total(step)), LOSS_FLOOR)
            yield self._row(f"update {step}", f"total at update {step}", "update", measured, self.limits["total"])
            if step in STEPS_WITH_PARAMETERS:
                parameters = self._parameters(returned)
                recorded = self.fixture.below(f"params_after_{step}/")
                errors = {path: np.abs(parameters[path] - recorded[path]) for path in recorded}
                yield from self._online(step, parameters, errors)
                yield from self._targets(step, parameters, errors, earlier)
                earlier.update(errors)
            yield from self._states(step, agent)

    def actions(self) -> Iterator[Row]:
        """Compare sampled actions."""
        observations, noise = self.fixture["sample/obs"], self.fixture.below("sample/noise/")
        got = self._call("sample", self._create(), observations, noise)
        yield self._row("", "sampled actions", "action", _measure(got, self.fixture["sample/actions"], 1.0))

    def _online(self, step: int, parameters: Arrays, errors: Arrays) -> Iterator[Row]:
        """Compare trained parameters: those with a reliable gradient each, of the others how many are off."""
        adam = self.fixture.meta.get("adam")
        reliable, off, count = {}, 0, 0
        for path, error in errors.items():
            if path.startswith(TARGET):
                continue
            gradient = np.abs(self.fixture[f"grad/{path}"])
            reliable[path] = error * (gradient > RELIABLE * gradient.max()) if adam else error
            off += int((error > OFF * adam["lr"]).sum()) if adam else 0
            count += error.size
        measured = self._measure_change(step, parameters, reliable)
        yield self._row(f"update {step}", f"parameters after {_updates(step)}", "parameter", measured)
        if adam:
            measured = Measured(off / count, f"{off} of {count} are off by more than {OFF:.0%} of the learning rate")
            yield self._row(f"update {step}", f"share off after {_updates(step)}", "parameter_share", measured)

    def _targets(self, step: int, parameters: Arrays, errors: Arrays, earlier: Arrays) -> Iterator[Row]:
        """Compare moving averages; one may be off by what it took over from a parameter that is off.

        Adam turns a gradient that is nothing but rounding into a whole step, in either direction. An average takes tau
        of such errors after the first and the second update (not recorded, as large as the first's or the third's).
        """
        left = {path: error for path, error in errors.items() if path.startswith(TARGET)}
        for path in left if earlier else ():
            online = path.removeprefix(TARGET)
            taken_over = self.fixture.tau * (earlier[online] + np.maximum(earlier[online], errors[online]))
            left[path] = np.maximum(left[path] - taken_over, 0)
        if left:
            measured = self._measure_change(step, parameters, left)
            limit = self.limits[f"target_{step}"]
            yield self._row(f"update {step}", f"targets after {_updates(step)}", "target", measured, limit)

    def _states(self, step: int, agent: Any) -> Iterator[Row]:
        """Compare the optimiser's state and multipliers, as far as the adapter returns them and they are recorded."""
        if not hasattr(self.adapter, "state"):
            return
        kinds: dict[str, Measured] = {}
        recorded = self._recorded_states()
        for name, value in self._mapping("state", agent).items():
            kind, _, rest = name.partition("/")
            _require_recorded("state", name, recorded)
            self.compared.add(name)
            if (key := f"{kind}_after_{step}/{rest}") in self.fixture:
                measured = _measure(value, self.fixture[key], 0.0 if kind == "adam" else None, name)
                kinds[kind] = max(kinds.get(kind, measured), measured, key=_badness)
        for kind, measured in kinds.items():
            quantity = "optimiser" if kind == "adam" else "multiplier"
            yield self._row(f"update {step}", f"{quantity} after {_updates(step)}", kind, measured)

    def _row(self, stage: str, quantity: str, kind: str, measured: Measured, limit: float | None = None) -> Row:
        """Return a row; one that fails says where to look: at the earliest stage with a failure, if that is another."""
        tolerance = self.limits[kind] if limit is None else limit
        if measured.error <= tolerance:
            return Row(quantity, measured.error, tolerance)
        before = ORDER[: ORDER.index(stage)] if stage else ()
        causes = next((self.failing[earlier] for earlier in before if earlier in self.failing), None)
        self.failing.setdefault(stage, []).append(quantity)
        if math.isnan(measured.error):
            look = "the adapter"
        else:
            look = f"first mend {', '.join(causes)}" if causes else HINTS[kind]
        return Row(quantity, measured.error, tolerance, measured.found, look)

    def _measure_change(self, step: int, parameters: Arrays, errors: Arrays) -> Measured:
        """Return the largest error, and how the change of that array since the start differs from the recorded one."""
        path, largest = max(((path, _largest(error)) for path, error in errors.items()), key=lambda found: found[1])
        start, recorded = self.fixture[f"params_before/{path}"], self.fixture[f"params_after_{step}/{path}"]
        return Measured(largest, f"the change of `{path}` {_explain(parameters[path] - start, recorded - start)}")

    def _recorded_states(self) -> dict[str, Array]:
        """Return what ``state`` may return after the first update, by name."""
        groups = {kind: self.fixture.below(f"{kind}_after_1/") for kind in ("adam", "dual")}
        return {f"{kind}/{rest}": value for kind, found in groups.items() for rest, value in found.items()}

    def _parameters(self, returned: Any) -> dict[str, Array]:
        """Return the parameters that ``update`` returned, which must be all of them, each of its shape."""
        got, found = _require_mapping("update", returned), {}
        for path, start in self.fixture.parameters.items():
            if path not in got:
                raise _Unusable(_missing("update", path, got))
            found[path] = _array(path, got[path])
            if found[path].shape != start.shape:
                raise _Unusable(f"`{path}` after an update has shape {found[path].shape}, and must have {start.shape}")
        return found

    def _create(self) -> Any:
        return self._call("create", self.fixture)

    def _mapping(self, name: str, *arguments: Any) -> Mapping[str, Any]:
        return _require_mapping(name, self._call(name, *arguments))

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the adapter."""
        try:
            return getattr(self.adapter, name)(*arguments)
        except Exception as error:
            if name == "create" and isinstance(error, NotImplementedError):
                raise
            raise _Unusable(f"`{name}` raised {type(error).__name__}: {error}{line_of(error)}") from error


def _measure(got: Any, expected: Array, floor: float | None, path: str = "") -> Measured:
    """Return the error of numbers, relative to the largest recorded one and at least to a floor; without, absolute."""
    name = f"`{path}` " if path else ""
    try:
        value = to_array(got).astype(np.float64)
    except (TypeError, ValueError) as reason:
        return Measured(math.nan, f"{name}{reason}")
    if value.shape != expected.shape:
        return Measured(math.nan, f"{name}has shape {value.shape}, recorded is {expected.shape}")
    error = _largest(np.abs(value - expected))
    if floor is not None:
        scale = max(_largest(np.abs(expected)), floor)
        error = error / scale if scale else (0.0 if error == 0 else math.inf)
    return Measured(error, f"{name}{_explain(value, expected)}")


def _explain(got: Array, expected: Array) -> str:
    """Say in what way numbers differ from the recorded ones."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(got).all():
        return "is not finite"
    if not got.any():
        return "is 0, and the recorded one is not"
    if not expected.any():
        return f"is up to {_largest(np.abs(got)):.3g}, and the recorded one is 0"
    factor = float((got * expected).sum() / np.square(expected).sum())
    is_multiple = _largest(np.abs(got - factor * expected)) <= 1e-3 * _largest(np.abs(got)) and abs(factor - 1) > 1e-3
    if is_multiple and got.size > 1:
        return "has the opposite sign" if abs(factor + 1) < 1e-3 else f"is {factor:.4g} times the recorded one"
    index = np.unravel_index(int(np.abs(got - expected).argmax()), got.shape)
    place = f"at {tuple(map(int, index))} " if got.shape else ""
    whole = max(abs(factor), 1 / abs(factor)) if is_multiple else 0.5
    factor_told = f" ({factor:.4g} times)" if abs(whole - round(whole)) < 1e-3 else ""
    return f"{place}is {got[index]:.6g}, recorded is {expected[index]:.6g}{factor_told}"


def _array(name: str, value: Any) -> Array:
    try:
        return to_array(value)
    except (TypeError, ValueError) as error:
        raise _Unusable(f"{name}: {error}") from error


def _require_mapping(function: str, answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise _Unusable(f"`{function}` must return numbers by name, in a dict, got {type(answer).__name__}")
    return answer


def _require_recorded(function: str, name: str, recorded: Mapping[str, Any]) -> None:
    if name not in recorded:
        known = f"closest: {', '.join(closest_names(name, recorded))}" if recorded else "nothing is recorded"
        raise _Unusable(f"`{function}` returns `{name}`, which is not recorded; {known}")


def _missing(function: str, name: str, got: Mapping[str, Any]) -> str:
    closest = f"; closest: {', '.join(closest_names(name, map(str, got)))}" if got else ""
    return f"`{function}` does not return `{name}`{closest}"


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest


def _badness(measured: Measured) -> float:
    """Order errors; what could not be compared comes last."""
    return math.inf if math.isnan(measured.error) else measured.error


def _updates(step: int) -> str:
    return "1 update" if step == 1 else f"{step} updates"
