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
"""Prefix of a target network: module ``target_x`` follows module ``x``."""
LOSS_FLOOR = 0.01
RELIABLE = 1e-3
"""Adam divides by the gradient's own size, so entries with a tiny gradient carry amplified rounding."""
OFF = 0.02
"""A parameter is off if its error is larger than this share of the learning rate."""

Measured = tuple[str, str, float, str]
"""A quantity, the name of its tolerance, its error, and where it differs most."""


@dataclass(frozen=True)
class Row:
    """One quantity with its largest error, the error that is allowed, and where it differs most."""

    quantity: str
    error: float
    tolerance: float
    location: str

    @property
    def holds(self) -> bool:
        """Whether the error is small enough; NaN is not."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """Every quantity that was compared, and the keys of recorded numbers that were not."""

    rows: list[Row]
    not_compared: list[str]


def compare(
    fixture: Fixture, ours: OurAgents, tolerances: Mapping[str, float] | None = None
) -> Comparison:
    """Compare an algorithm with recorded numbers.

    :param tolerances: over those of the fixture, which are over `TOLERANCES`.
    """
    limits = {**TOLERANCES, **fixture.meta.get("tolerances", {}), **(tolerances or {})}
    check = _Check(fixture, ours)
    rows = [
        Row(quantity, error, limits[kind], location)
        for quantity, kind, error, location in check.all()
    ]
    optional = [*fixture.below("out/")]
    for kind in ("adam", "dual"):
        optional += [f"{kind}/{name}" for name in fixture.below(f"{kind}_after_1/")]
    return Comparison(rows, [name for name in optional if name not in check.compared])


class _Worst(dict[str, tuple[float, str]]):
    """The largest error of each group, and where it is."""

    def add(self, group: str, measured: tuple[float, str]) -> None:
        self[group] = max(self.get(group, measured), measured)


class _Check:
    """One comparison, group by group."""

    def __init__(self, fixture: Fixture, ours: OurAgents) -> None:
        self.fixture, self.ours = fixture, ours
        self.compared: set[str] = set()

    def all(self) -> Iterator[Measured]:
        """Compare everything; losses come first, since what follows builds on them."""
        fixture, create = self.fixture, self.ours.create
        yield from self.intermediates(create(fixture).intermediates())
        yield from self.losses(create(fixture).losses())
        yield from self.gradients(create(fixture).gradients())
        yield from self.updates(create(fixture))
        agent, noise = create(fixture), fixture.below("sample/noise/")
        actions = agent.sample(fixture["sample/obs"], noise)
        measured = _measure(actions, fixture["sample/actions"], 1.0, "actions")
        yield "sampled actions", "action", *measured

    def intermediates(self, values: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare intermediate values of the losses, as far as both sides have them."""
        self.compared |= values.keys()
        for name, value in values.items():
            yield name, "intermediate", *_measure(value, self.fixture[f"out/{name}"], 1.0, name)

    def losses(self, losses: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare every loss of the first update, and their total."""
        for name, recorded in self.fixture.losses.items():
            yield f"loss {name}", "loss", *_measure(losses[name], recorded, LOSS_FLOOR, name)

    def gradients(self, ours: Mapping[str, Any]) -> Iterator[Measured]:
        """Compare the gradient module by module, and its norm; a path that is left out has no gradient."""
        recorded = self.fixture.below("grad/")
        assert ours.keys() <= recorded.keys()
        worst = _Worst()
        square = 0.0
        for path, expected in recorded.items():
            gradient = to_array(ours.get(path, np.zeros_like(expected)))
            square += np.square(gradient, dtype=np.float64).sum()
            worst.add(path.partition("/")[0], _measure(gradient, expected, 0.0, path))
        for module, measured in worst.items():
            yield f"gradient of {module}", "gradient", *measured
        self.compared.add("grad_global_norm")
        norm = self.fixture["out/grad_global_norm"]
        yield "norm of the gradient", "gradient_norm", *_measure(square**0.5, norm, 0.0, "the norm")

    def updates(self, agent: Agent) -> Iterator[Measured]:
        """Compare total loss, parameters and state over three updates."""
        fixture, earlier = self.fixture, dict[str, Array]()
        for step in STEPS:
            total = np.asarray(fixture.total(step))
            measured = _measure(agent.update(step), total, LOSS_FLOOR, "the total")
            yield f"total at update {step}", "total", *measured
            if step in STEPS_WITH_PARAMETERS:
                recorded = fixture.below(f"params_after_{step}/")
                parameters = agent.as_recorded(dict(agent.parameters()))
                arrays = {path: to_array(value) for path, value in parameters.items()}
                errors = {path: np.abs(arrays[path] - recorded[path]) for path in recorded}
                yield from self._parameters(step, arrays, errors, earlier)
                earlier = errors
            yield from self._states(step, agent)

    def _parameters(
        self,
        step: int,
        arrays: Mapping[str, Array],
        errors: Mapping[str, Array],
        earlier: Mapping[str, Array],
    ) -> Iterator[Measured]:
        """Compare all parameters.

        Trained parameters with a reliable gradient are compared one by one; of the rest, the share that is off. Adam
        turns a gradient that is pure rounding into a whole step in either direction. A target network takes over tau
        of such an error in each update; that of the second is not recorded, and counts as large as the first or third.
        """
        rate, tau = float(self.fixture.meta["adam"]["lr"]), float(self.fixture.config["tau"])
        trained, averages, off, count = {}, {}, 0, 0
        for path, error in errors.items():
            online = path.removeprefix(TARGET)
            if online != path:
                averages[path] = error
                if earlier:
                    second = np.maximum(earlier[online], errors[online])
                    averages[path] = np.maximum(error - tau * (earlier[online] + second), 0)
                continue
            gradient = np.abs(self.fixture[f"grad/{path}"])
            trained[path] = error * (gradient > RELIABLE * gradient.max())
            off += int((error > OFF * rate).sum())
            count += error.size
        label = f"after {step} update{'s' * (step > 1)}"
        groups = {"parameters": ("parameter", trained), "targets": (f"target_{step}", averages)}
        for quantity, (kind, group) in groups.items():
            if group:
                path = max(group, key=lambda path: _largest(group[path]))
                differs = _explain(arrays[path], self.fixture[f"params_after_{step}/{path}"])
                yield f"{quantity} {label}", kind, _largest(group[path]), f"`{path}` {differs}"
        share = f"{off} of {count} by over {OFF:.0%} of the rate"
        yield f"share off {label}", "parameter_share", off / count, share

    def _states(self, step: int, agent: Agent) -> Iterator[Measured]:
        """Compare the optimiser's state and multipliers, as far as they are recorded."""
        worst = _Worst()
        for name, value in agent.state().items():
            kind, _, path = name.partition("/")
            self.compared.add(name)
            key = f"{kind}_after_{step}/{path}"
            if key in self.fixture:
                floor = 0.0 if kind == "adam" else None
                worst.add(kind, _measure(value, self.fixture[key], floor, name))
        for kind, measured in worst.items():
            yield f"{kind} after {step} update{'s' * (step > 1)}", kind, *measured


def _measure(value: Any, expected: Array, floor: float | None, name: str) -> tuple[float, str]:
    """Return the error of numbers, relative to the largest recorded one and at least to a floor, and where it is.

    Without a floor, the error is absolute.
    """
    value = to_array(value).astype(np.float64)
    assert value.shape == expected.shape, (
        f"`{name}` has shape {value.shape}, recorded is {expected.shape}"
    )
    error = _largest(np.abs(value - expected))
    scale = 1.0 if floor is None else max(_largest(np.abs(expected)), floor)
    relative = error / scale if scale else (0.0 if error == 0 else math.inf)
    return relative, f"`{name}` {_explain(value, expected)}"


def _explain(values: Array, expected: Array) -> str:
    """Say where numbers differ most from the recorded ones."""
    index = np.unravel_index(int(np.abs(values - expected).argmax()), values.shape)
    return f"at {tuple(map(int, index))} is {values[index]:.6g}, recorded is {expected[index]:.6g}"


def _largest(values: Array) -> float:
    """Return the largest value, infinity if one is not a number; 0 of none."""
    largest = float(values.max()) if values.size else 0.0
    return math.inf if math.isnan(largest) else largest


def to_array(value: Any) -> Array:
    """Return a number or tensor as a NumPy array."""
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
