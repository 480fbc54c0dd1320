"""Comparing an implementation with recorded numbers: losses, gradients, actions, and three updates."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.common.validation import closest_names, unknown_name_message
from agents.parity.adapter import Adapter, Arrays, to_array
from agents.parity.fixture import STEPS, STEPS_WITH_PARAMETERS, TARGET, Array, Fixture, ParityError

TOLERANCES = {
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
"""Float32, at least five times the error of an independent implementation; ``docs/parity.md`` says what is measured."""

LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Adam divides by the gradient's own size, so entries with a tiny gradient carry amplified rounding."""
OFF = 0.02
"""Share of the learning rate from which on a parameter is off."""

HINTS = {
    "losses": "look at its sign, weight and mean, and at rows with `valid` 0; `intermediates` narrows it down",
    "intermediates": "the losses build on it: mend this first",
    "gradients": "if the losses hold, look at what is detached, and at the weights in the total",
    "actions": "look at the number and times of steps, clipping, and the choice among candidates",
    "totals": "if the first holds, the parameters after the update before it do not",
    "parameters": "if the gradients hold, look at the optimiser: learning rate, epsilon, clipping",
    "targets": "look at tau, and at whether the average takes the parameters before the step or after it",
    "adam": "if the gradients hold, look at clipping: one norm over all modules, or one each",
    "dual": "look at its learning rate, clipping, and the order of its update",
}


@dataclass(frozen=True)
class Row:
    """One quantity.

    :param quantity: what was compared.
    :param error: the largest; NaN if it could not be compared.
    :param tolerance: the largest error that is allowed.
    :param where: what differs and where to look; empty if the quantity holds.
    """

    quantity: str
    error: float
    tolerance: float
    where: str = ""

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

    :param fixture: the recorded numbers.
    :param adapter: of the implementation.
    :param tolerances: over those of the fixture, which are over :data:`TOLERANCES`.
    :return: what was compared.
    :raises ParityError: for an unknown tolerance.
    :raises NotImplementedError: if the adapter does not implement the fixture's algorithm.
    """
    return _Check(fixture, adapter, _limits(fixture, tolerances or {})).run()


def _limits(fixture: Fixture, tolerances: Mapping[str, float]) -> dict[str, float]:
    """Return every tolerance by its name."""
    limits = dict(TOLERANCES)
    for name, limit in {**fixture.meta.get("tolerances", {}), **tolerances}.items():
        if name not in limits:
            raise ParityError(unknown_name_message("tolerance", name, limits))
        limits[name] = float(limit)
    return limits


class _Check:
    """One comparison."""

    def __init__(self, fixture: Fixture, adapter: Adapter, limits: Mapping[str, float]) -> None:
        self.fixture, self.adapter, self.limits = fixture, adapter, limits
        self.compared: set[str] = set()

    def run(self) -> Comparison:
        """Compare group by group; what an adapter's function cannot do ends only its own group."""
        groups: dict[str, Callable[[], Iterator[Row]]] = {
            "losses": self.losses,
            "intermediates": self.intermediates,
            "gradients": self.gradients,
            "actions": self.actions,
            "updates": self.updates,
        }
        rows: list[Row] = []
        for name, group in groups.items():
            try:
                for row in group():
                    rows.append(row)  # also of a group that ends early
            except _Unusable as reason:
                rows.append(Row(name, math.nan, 0.0, str(reason)))
        optional = [*self.fixture.below("out/"), *self._recorded_states()]
        return Comparison(rows, [key for key in optional if key not in self.compared])

    def losses(self) -> Iterator[Row]:
        """Compare every loss of the first update."""
        got = self._mapping("losses", self._create(), self.fixture.batch, self.fixture.noise(1))
        recorded = self.fixture.losses
        for name in sorted(recorded, key=lambda name: name == "total"):
            quantity, limit = f"loss {name}", self.limits["loss"]
            if name in got:
                yield _row(quantity, got[name], recorded[name], LOSS_FLOOR, limit, HINTS["losses"])
            else:
                yield Row(quantity, math.nan, limit, _missing("losses", name, got))

    def intermediates(self) -> Iterator[Row]:
        """Compare what the losses are made of, as far as the adapter returns it."""
        if not hasattr(self.adapter, "intermediates"):
            return
        recorded = self.fixture.below("out/")
        got = self._mapping("intermediates", self._create(), self.fixture.batch, self.fixture.noise(1))
        for name, value in got.items():
            self._require_recorded("intermediates", name, recorded)
            self.compared.add(name)
            yield _row(name, value, recorded[name], 1.0, self.limits["intermediate"], HINTS["intermediates"])

    def gradients(self) -> Iterator[Row]:
        """Compare the gradient module by module, and its norm."""
        recorded, limit = self.fixture.below("grad/"), self.limits["gradient"]
        returned = self._mapping("gradients", self._create(), self.fixture.batch, self.fixture.noise(1))
        for path in returned:
            self._require_recorded("gradients", path, recorded)
        got = {path: self._array(f"gradient of {path}", value) for path, value in returned.items()}
        rows: dict[str, Row] = {}
        for path, expected in recorded.items():
            value = got.get(path, np.zeros_like(expected))
            row = _row(f"gradient of {_module(path)}", value, expected, 0.0, limit, HINTS["gradients"], f"`{path}` ")
            rows.setdefault(row.quantity, row)
            rows[row.quantity] = max(rows[row.quantity], row, key=_badness)
        yield from rows.values()
        if "out/grad_global_norm" in self.fixture:
            self.compared.add("grad_global_norm")
            expected = self.fixture["out/grad_global_norm"]
            norm = math.sqrt(sum(float(np.square(value, dtype=np.float64).sum()) for value in got.values()))
            yield _row("norm of the gradient", norm, expected, 0.0, self.limits["gradient_norm"], HINTS["gradients"])

    def actions(self) -> Iterator[Row]:
        """Compare sampled actions."""
        observations, noise = self.fixture["sample/obs"], self.fixture.below("sample/noise/")
        got = self._call("sample", self._create(), observations, noise)
        expected = self.fixture["sample/actions"]
        yield _row("sampled actions", got, expected, 1.0, self.limits["action"], HINTS["actions"])

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
            expected = np.asarray(self.fixture.total(step))
            yield _row(f"total at update {step}", total, expected, LOSS_FLOOR, self.limits["total"], HINTS["totals"])
            if step in STEPS_WITH_PARAMETERS:
                parameters = self._parameters(returned)
                errors = {path: np.abs(got - self._after(step)[path]) for path, got in parameters.items()}
                yield from self._online(step, parameters, errors)
                yield from self._targets(step, parameters, errors, earlier)
                earlier.update(errors)
            yield from self._states(step, agent)

    def _online(self, step: int, parameters: Arrays, errors: Arrays) -> Iterator[Row]:
        """Compare trained parameters: those with a reliable gradient each, of the others how many are off."""
        adam = self.fixture.meta.get("adam")
        off, count, worst = 0, 0, ("", -1.0)
        for path, error in errors.items():
            if path.startswith(TARGET):
                continue
            gradient = np.abs(self.fixture[f"grad/{path}"])
            reliable = gradient > RELIABLE * gradient.max() if adam else np.ones_like(gradient, dtype=bool)
            worst = max(worst, (path, _largest(error * reliable)), key=lambda found: found[1])
            off += int((error > OFF * adam["lr"]).sum()) if adam else 0
            count += error.size
        path, largest = worst
        explained = self._explain_change(step, path, parameters[path])
        yield _judged(
            f"parameters after {_updates(step)}", largest, self.limits["parameter"],
            f"{explained}; {HINTS['parameters']}",
        )  # fmt: skip
        if adam:
            yield _judged(
                f"share of parameters off after {_updates(step)}", off / count, self.limits["parameter_share"],
                HINTS["parameters"],
            )  # fmt: skip

    def _targets(self, step: int, parameters: Arrays, errors: Arrays, earlier: Arrays) -> Iterator[Row]:
        """Compare moving averages; one may be off by what it took over from a parameter that is off.

        Adam turns a gradient that is nothing but rounding into a whole step, in either direction. An average takes tau
        of such errors after the first and the second update (not recorded, as large as the first's or the third's).
        """
        worst = ("", -math.inf)
        for path, error in errors.items():
            if path.startswith(TARGET):
                online = path.removeprefix(TARGET)
                before = earlier.get(online, np.zeros_like(error))
                taken_over = self.fixture.tau * (before + np.maximum(before, errors[online])) * (step > 1)
                worst = max(worst, (path, _largest(error - taken_over)), key=lambda found: found[1])
        path, largest = worst
        if path:
            explained = self._explain_change(step, path, parameters[path])
            yield _judged(
                f"targets after {_updates(step)}", max(largest, 0.0), self.limits[f"target_{step}"],
                f"{explained}; {HINTS['targets']}",
            )  # fmt: skip

    def _states(self, step: int, agent: Any) -> Iterator[Row]:
        """Compare the optimiser's state and multipliers, as far as the adapter returns them and they are recorded."""
        if not hasattr(self.adapter, "state"):
            return
        rows: dict[str, Row] = {}
        for name, value in self._mapping("state", agent).items():
            kind, _, rest = name.partition("/")
            self._require_recorded("state", name, dict.fromkeys(self._recorded_states()))
            self.compared.add(name)
            if (key := f"{kind}_after_{step}/{rest}") in self.fixture:
                floor = 0.0 if kind == "adam" else None
                quantity = f"{'optimiser' if kind == 'adam' else 'multiplier'} after {_updates(step)}"
                row = _row(quantity, value, self.fixture[key], floor, self.limits[kind], HINTS[kind], f"`{name}` ")
                rows[quantity] = max(rows.get(quantity, row), row, key=_badness)
        yield from rows.values()

    def _recorded_states(self) -> list[str]:
        """Return the names that ``state`` may return."""
        return [f"{kind}/{rest}" for kind in ("adam", "dual") for rest in self.fixture.below(f"{kind}_after_1/")]

    def _after(self, step: int) -> dict[str, Array]:
        return self.fixture.below(f"params_after_{step}/")

    def _parameters(self, returned: Any) -> dict[str, Array]:
        """Return the parameters that ``update`` returned, which must be all of them, each of its shape."""
        got = self._require_mapping("update", returned)
        found = {}
        for path, start in self.fixture.parameters.items():
            if path not in got:
                raise _Unusable(_missing("update", path, got))
            found[path] = self._array(path, got[path])
            if found[path].shape != start.shape:
                raise _Unusable(f"`{path}` after an update has shape {found[path].shape}, and must have {start.shape}")
        return found

    def _explain_change(self, step: int, path: str, got: Array) -> str:
        start = self.fixture.parameters[path]
        return f"the change of `{path}` {_explain(got - start, self._after(step)[path] - start)}"

    def _create(self) -> Any:
        return self._call("create", self.fixture)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the adapter."""
        try:
            return getattr(self.adapter, name)(*arguments)
        except NotImplementedError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]  # without this one
            own = [frame for frame in frames if frame.filename == frames[0].filename] if frames else []
            place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
            raise _Unusable(f"`{name}` raised {type(error).__name__}: {error}{place}") from error

    def _mapping(self, name: str, *arguments: Any) -> Mapping[str, Any]:
        return self._require_mapping(name, self._call(name, *arguments))

    def _require_mapping(self, name: str, answer: Any) -> Mapping[str, Any]:
        if not isinstance(answer, Mapping):
            raise _Unusable(f"`{name}` must return numbers by name, in a dict, got {type(answer).__name__}")
        return answer

    def _require_recorded(self, function: str, name: str, recorded: Mapping[str, Any]) -> None:
        if name not in recorded:
            known = f"closest: {', '.join(closest_names(name, recorded))}" if recorded else "nothing is recorded"
            raise _Unusable(f"`{function}` returns `{name}`, which is not recorded; {known}")

    def _array(self, name: str, value: Any) -> Array:
        try:
            return to_array(value)
        except (TypeError, ValueError) as error:
            raise _Unusable(f"{name}: {error}") from error


def _row(
    quantity: str, got: Any, expected: Array, floor: float | None, tolerance: float, hint: str, name: str = ""
) -> Row:
    """Return a row for numbers, with their error relative to the largest recorded one, at least to the floor.

    Without a floor, the error is absolute.
    """
    try:
        value = to_array(got).astype(np.float64)
    except (TypeError, ValueError) as reason:
        return Row(quantity, math.nan, tolerance, f"{name}{reason}")
    if value.shape != expected.shape:
        return Row(quantity, math.nan, tolerance, f"{name}has shape {value.shape}, recorded is {expected.shape}")
    error = _largest(np.abs(value - expected))
    if floor is not None:
        scale = max(_largest(np.abs(expected)), floor)
        error = error / scale if scale else (0.0 if error == 0 else math.inf)
    return _judged(quantity, error, tolerance, f"{name}{_explain(value, expected)}; {hint}")


def _judged(quantity: str, error: float, tolerance: float, where: str) -> Row:
    """Return a row, with where to look only if it does not hold."""
    row = Row(quantity, error, tolerance, where)
    return Row(quantity, error, tolerance) if row.holds else row


def _explain(got: Array, expected: Array) -> str:
    """Say in what way numbers differ from the recorded ones."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if not np.isfinite(got).all():
        return "is not finite"
    if not got.any():
        return "is 0, which the recorded one is not"
    if not expected.any():
        return f"is up to {_largest(np.abs(got)):.3g}, and the recorded one is 0"
    factor = float((got * expected).sum() / np.square(expected).sum())
    is_multiple = _largest(np.abs(got - factor * expected)) <= 1e-3 * _largest(np.abs(got)) and abs(factor - 1) > 1e-3
    multiple = f"{'the negative of' if abs(factor + 1) < 1e-3 else f'{factor:.4g} times'} what is recorded"
    if is_multiple and got.size > 1:
        return f"is {multiple}"
    index = np.unravel_index(int(np.abs(got - expected).argmax()), got.shape)
    place = f"at {tuple(map(int, index))} " if got.shape else ""
    told = f"{place}is {got[index]:.6g}, recorded is {expected[index]:.6g}"
    return f"{told} ({multiple})" if is_multiple else told


def _missing(function: str, name: str, got: Mapping[str, Any]) -> str:
    closest = f"; closest: {', '.join(closest_names(name, map(str, got)))}" if got else ""
    return f"`{function}` does not return `{name}`{closest}"


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest


def _badness(row: Row) -> float:
    """Order rows by how far they are from holding; one that could not be compared comes last."""
    if math.isnan(row.error):
        return math.inf
    return row.error / row.tolerance if row.tolerance else row.error


def _module(path: str) -> str:
    return path.partition("/")[0]


def _updates(step: int) -> str:
    return "1 update" if step == 1 else f"{step} updates"
