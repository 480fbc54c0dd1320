"""Comparing an algorithm with recorded numbers: losses, gradients, actions, and three updates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tests.parity.fixture import Array, Fixture

if TYPE_CHECKING:
    from tests.parity.reference import Agent, OurAgents

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
STEPS, STEPS_WITH_PARAMETERS = (1, 2, 3), (1, 3)
TARGET = "target_"
"""What the name of a moving average begins with: module ``target_x`` follows module ``x``."""
LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Adam divides by the gradient's own size, so entries with a tiny gradient carry amplified rounding."""
OFF = 0.02
"""Share of the learning rate from which on a parameter is off."""

Measured = tuple[str, str, float, str]
"""A quantity, the name of its tolerance, its error, and where it differs most."""


@dataclass(frozen=True)
class Row:
    """One quantity with its largest error, the error that is allowed, and where it differs most."""

    quantity: str
    error: float
    tolerance: float
    found: str

    @property
    def holds(self) -> bool:
        """Whether the error is small enough; NaN is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """Every quantity that was compared, and the keys of recorded numbers that were not."""

    rows: list[Row]
    not_compared: list[str]


def compare(fixture: Fixture, ours: OurAgents, tolerances: Mapping[str, float] | None = None) -> Comparison:
    """Compare an algorithm with recorded numbers.

    :param tolerances: over those of the fixture, which are over `TOLERANCES`.
    """
    limits = {**TOLERANCES, **fixture.meta.get("tolerances", {}), **(tolerances or {})}
    check = _Check(fixture, ours)
    rows = [Row(quantity, error, limits[kind], found) for quantity, kind, error, found in check.all()]
    optional = [*fixture.below("out/"), *check.states]
    return Comparison(rows, [name for name in optional if name not in check.compared])


class _Check:
    """One comparison, group by group."""

    def __init__(self, fixture: Fixture, ours: OurAgents) -> None:
        self.fixture, self.ours = fixture, ours
        self.compared: set[str] = set()
        self.states = [f"{kind}/{name}" for kind in ("adam", "dual") for name in fixture.below(f"{kind}_after_1/")]

    def all(self) -> Iterator[Measured]:
        """Compare everything; losses come first, since what follows builds on them."""
        first = (self.fixture.batch, self.fixture.noise(1))
        yield from self.intermediates(self.ours.intermediates(self.new(), *first))
        yield from self.losses(self.ours.losses(self.new(), *first))
        yield from self.gradients(self.ours.gradients(self.new(), *first))
        yield from self.updates()
        actions = self.ours.sample(self.new(), self.fixture["sample/obs"], self.fixture.below("sample/noise/"))
        yield "sampled actions", "action", *_measure(actions, self.fixture["sample/actions"], 1.0, "actions")

    def new(self) -> Agent:
        return self.ours.create(self.fixture)

    def intermediates(self, got: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare what the losses are made of, as far as it is given."""
        self.compared |= got.keys()
        for name, value in got.items():
            yield name, "intermediate", *_measure(value, self.fixture[f"out/{name}"], 1.0, name)

    def losses(self, got: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare every loss of the first update, the total last."""
        for name, recorded in sorted(self.fixture.losses.items(), key=lambda item: item[0] == "total"):
            yield f"loss {name}", "loss", *_measure(got[name], recorded, LOSS_FLOOR, name)

    def gradients(self, got: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare the gradient module by module, and its norm; a path that is left out has no gradient."""
        recorded = self.fixture.below("grad/")
        assert got.keys() <= recorded.keys()
        found = {path: to_array(got.get(path, np.zeros_like(array))) for path, array in recorded.items()}
        modules: dict[str, tuple[float, str]] = {}
        for path, expected in recorded.items():
            module = path.partition("/")[0]
            modules[module] = max(modules.get(module, (0.0, "")), _measure(found[path], expected, 0.0, path))
        for module, measured in modules.items():
            yield f"gradient of {module}", "gradient", *measured
        self.compared.add("grad_global_norm")
        norm = np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in found.values()))
        yield (
            "norm of the gradient",
            "gradient_norm",
            *_measure(norm, self.fixture["out/grad_global_norm"], 0.0, "the norm"),
        )

    def updates(self) -> Iterator[Measured]:
        """Compare total loss, parameters and state over three updates."""
        agent, earlier = self.new(), dict[str, Array]()
        for step in STEPS:
            agent, total, parameters = self.ours.update(agent, self.fixture.batch, self.fixture.noise(step))
            measured = _measure(total, np.asarray(self.fixture.total(step)), LOSS_FLOOR, "the total")
            yield f"total at update {step}", "total", *measured
            if step in STEPS_WITH_PARAMETERS:
                found = {path: to_array(value) for path, value in parameters.items()}
                recorded = self.fixture.below(f"params_after_{step}/")
                errors = {path: np.abs(found[path] - recorded[path]) for path in recorded}
                yield from self._parameters(step, found, errors, earlier)
                earlier = errors
            yield from self._states(step, agent)

    def _parameters(
        self, step: int, found: Mapping[str, Array], errors: Mapping[str, Array], earlier: Mapping[str, Array]
    ) -> Iterator[Measured]:
        """Compare all parameters.

        Trained ones with a reliable gradient are compared each, of the others how many are off. A moving average may be
        off by what it took over from a parameter that is off: Adam turns a gradient that is nothing but rounding into a
        whole step, in either direction, and an average takes tau of such errors after the first and the second update
        (not recorded, as large as the first's or the third's).
        """
        rate, tau = float(self.fixture.meta["adam"]["lr"]), float(self.fixture.config["tau"])
        trained, averages, off, count = {}, {}, 0, 0
        for path, error in errors.items():
            online = path.removeprefix(TARGET)
            if online != path:
                taken_over = tau * (earlier[online] + np.maximum(earlier[online], errors[online])) if earlier else 0
                averages[path] = np.maximum(error - taken_over, 0)
                continue
            gradient = np.abs(self.fixture[f"grad/{path}"])
            trained[path] = error * (gradient > RELIABLE * gradient.max())
            off += int((error > OFF * rate).sum())
            count += error.size
        after = f"after {step} update{'s' * (step > 1)}"
        for quantity, kind, group in (("parameters", "parameter", trained), ("targets", f"target_{step}", averages)):
            if group:
                path = max(group, key=lambda path: _largest(group[path]))
                differs = _explain(found[path], self.fixture[f"params_after_{step}/{path}"])
                yield f"{quantity} {after}", kind, _largest(group[path]), f"`{path}` {differs}"
        yield f"share off {after}", "parameter_share", off / count, f"{off} of {count} by over {OFF:.0%} of the rate"

    def _states(self, step: int, agent: Agent) -> Iterator[Measured]:
        """Compare the optimiser's state and multipliers, as far as they are recorded."""
        kinds: dict[str, tuple[float, str]] = {}
        for name, value in self.ours.state(agent).items():
            kind, _, rest = name.partition("/")
            self.compared.add(name)
            if (key := f"{kind}_after_{step}/{rest}") in self.fixture:
                measured = _measure(value, self.fixture[key], 0.0 if kind == "adam" else None, name)
                kinds[kind] = max(kinds.get(kind, (0.0, "")), measured)
        for kind, measured in kinds.items():
            yield f"{kind} after {step} update{'s' * (step > 1)}", kind, *measured


def _measure(got: Any, expected: Array, floor: float | None, name: str) -> tuple[float, str]:
    """Return the error of numbers, relative to the largest recorded one and at least to a floor, and where it is.

    Without a floor, the error is absolute.
    """
    value = to_array(got).astype(np.float64)
    assert value.shape == expected.shape, f"`{name}` has shape {value.shape}, recorded is {expected.shape}"
    error = _largest(np.abs(value - expected))
    scale = 1.0 if floor is None else max(_largest(np.abs(expected)), floor)
    relative = error / scale if scale else (0.0 if error == 0 else math.inf)
    return relative, f"`{name}` {_explain(value, expected)}"


def _explain(got: Array, expected: Array) -> str:
    """Say where numbers differ most from the recorded ones."""
    index = np.unravel_index(int(np.abs(got - expected).argmax()), got.shape)
    return f"at {tuple(map(int, index))} is {got[index]:.6g}, recorded is {expected[index]:.6g}"


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest


def to_array(value: Any) -> Array:
    """Return a number or tensor as a NumPy array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
