"""Every algorithm against recorded numbers of its reference implementation.

Fixtures are found in the folder named by the environment variable PARITY_FIXTURES (default: the copy beside this file).
Tolerances are those that were recorded with the fixtures: at least five times an independent implementation's error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import agents
from agents.common.batch import Batch
from agents.common.sb3.model import FlowQLearning
from tests.parity.reference import DIAGNOSTICS, INTERMEDIATES, LOSSES, WEIGHTED, Fixture, fixture_paths


@cache
def load(path: Path) -> Fixture:
    return Fixture(path)


@pytest.fixture(params=fixture_paths(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def fixture(request: pytest.FixtureRequest) -> Fixture:
    found = load(request.param)
    if found.id not in agents.algorithm_ids():
        pytest.skip(f"algorithm `{found.id}` is not built yet")
    return found


def relative_error(got: Tensor, expected: Tensor, floor: float) -> float:
    return float((got.detach() - expected).abs().max() / max(float(expected.abs().max()), floor))


def test_losses_equal_the_reference(fixture: Fixture) -> None:
    model = fixture.model()
    total, info = model.compute_losses(fixture.batch(), fixture.noise(1))
    masked = {name for name in fixture.keys("loss/") if f"{name}_masked" in fixture.keys("loss/")}
    for name in fixture.keys("loss/"):
        if name in masked:  # the reference logs these with a power in place of a product; the masked form is meant
            continue
        here = LOSSES.get(name.removesuffix("_masked"), name.removesuffix("_masked"))
        got = total if here == "total" else info[here if here in DIAGNOSTICS else f"{here}_loss"]
        got = got * model.loss_weights()[here] if (fixture.id, here) in WEIGHTED else got
        assert relative_error(got, fixture[f"loss/{name}"], 0.01) < 2e-5, name


def test_targets_and_adjoints_equal_the_reference(fixture: Fixture) -> None:
    model = fixture.model()
    with torch.no_grad():
        targets = model.targets(fixture.batch(), fixture.noise(1), model.policy.nets, {})
    recorded = [name for name in INTERMEDIATES if name in fixture.keys("out/") and INTERMEDIATES[name] in targets]
    assert "td_target" in recorded
    for name in recorded:
        assert relative_error(targets[INTERMEDIATES[name]][0], fixture[f"out/{name}"], 1.0) < 2e-5, name


def test_gradients_equal_the_reference(fixture: Fixture) -> None:
    model = fixture.model()
    total, _ = model.compute_losses(fixture.batch(), fixture.noise(1))
    total.sum().backward()
    tolerance = 1e-4 if fixture.id == "cgql_linex" else 2.5e-5
    norm = 0.0
    for path, parameter, expected in fixture.parameters(model, "grad"):
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = float(expected.abs().max())
        if scale == 0:
            assert float(got.abs().max()) == 0, path
        else:
            assert relative_error(got, expected, 0.0) < tolerance, path
        norm += float(got.double().square().sum())
    expected_norm = float(fixture["out/grad_global_norm"])
    assert abs(norm**0.5 - expected_norm) < max(tolerance, 3e-5) * expected_norm


def test_updates_equal_the_reference(fixture: Fixture) -> None:
    check_updates(fixture, fixture.model())


def test_updates_by_onednn_equal_the_reference(fixture: Fixture, onednn: None) -> None:
    check_updates(fixture, fixture.model())


@pytest.mark.slow
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_compiled_updates_equal_the_reference(id: str) -> None:
    path = next((path for path in fixture_paths() if load(path).id == id), None)
    if path is None:
        pytest.skip(f"`{id}` has no recorded numbers")
    model = load(path).model(compile="on")
    with compiling():
        check_updates(load(path), model)
    assert model.update_mode.compiled  # the compiler did not fail


@pytest.mark.gpu
@pytest.mark.parametrize("compile", ["off", "on"])
def test_updates_on_cuda_equal_the_reference(fixture: Fixture, compile: str) -> None:
    model = fixture.model("cuda", compile)
    with compiling() if compile == "on" else nullcontext():
        check_updates(fixture, model)
    assert model.update_mode.compiled == (compile == "on")


@contextmanager
def compiling() -> Iterator[None]:
    """Check that something is compiled inside, and all of it: a compiler that is switched off raises nothing."""
    torch._dynamo.reset()
    counters.clear()
    yield
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]


def check_updates(fixture: Fixture, model: FlowQLearning) -> None:
    """Take three updates, and compare losses, parameters and optimiser after them."""
    tolerance = 1e-4 if fixture.id == "cgql_linex" else 3e-5
    # rows that do not count add a constant where the reference takes a power in place of a product
    masked = "total_masked" in fixture.keys("loss/")
    constant = fixture["loss/total"] - fixture["loss/total_masked"] if masked else 0.0
    errors: dict[str, torch.Tensor] = {}
    for step in (1, 2, 3):
        batch = Batch(**{name: value.to(model.device) for name, value in vars(fixture.batch()).items()})
        noise = {name: draw.to(model.device) for name, draw in fixture.noise(step).items()}
        info = {name: value.cpu() for name, value in model.update(batch, noise).items()}
        expected = fixture[f"loss_total/step_{step}"] - constant
        assert relative_error(info["total_loss"], expected, 0.01) < 5e-5, step
        for name, got, recorded in fixture.multiplier(model, f"dual_after_{step}"):
            assert float((got.cpu() - recorded).abs().max()) < 1e-6, (name, step)
        if step in (1, 3):
            check_parameters(fixture, model, step, errors)
            check_optimiser(fixture, model, step, tolerance)


def check_parameters(fixture: Fixture, model: FlowQLearning, step: int, earlier: dict[str, torch.Tensor]) -> None:
    """Compare parameters; a target may be off by what it took over from a parameter that is off.

    Adam turns a gradient that is nothing but rounding into a whole step, in either direction. A target takes tau of
    such errors after the first and the second update (not recorded, as large as the first's or the third's).

    :param earlier: errors of the online parameters after the first update; filled by it.
    """
    learning_rate = fixture.meta["adam"]["lr"]
    errors = {
        path: (parameter.detach().cpu() - expected).abs()
        for path, parameter, expected in fixture.parameters(model, f"params_after_{step}")
    }
    off = total = 0
    for path, error in errors.items():
        if path.startswith("target_"):
            online = path.removeprefix("target_")
            taken_over = 0.0
            if step > 1:
                taken_over = model.tau * (earlier[online] + torch.maximum(earlier[online], errors[online]))
            assert float((error - taken_over).max()) < (5e-7 if step == 1 else 1e-6), path
            continue
        grad = fixture[f"grad/{path}"].abs().unsqueeze(0)
        reliable = grad > 1e-3 * grad.max()
        assert float((error * reliable).max()) < 2e-6, path
        off += int((error > 0.02 * learning_rate).sum())
        total += error.numel()
    assert off <= 1e-3 * total
    earlier.update(errors)


def check_optimiser(fixture: Fixture, model: FlowQLearning, step: int, tolerance: float) -> None:
    squares: dict[tuple[str, str], float] = {}
    for path, parameter, _ in fixture.parameters(model, "params_before"):
        state = model.policy.optimizer.state.get(parameter)
        if state:
            for kind, name in (("m", "exp_avg"), ("v", "exp_avg_sq")):
                key = (kind, path.partition("/")[0])
                squares[key] = squares.get(key, 0.0) + float(state[name].double().square().sum())
    for kind in ("m", "v"):
        for module in fixture.keys(f"adam_after_{step}/{kind}_norm/"):
            expected = float(fixture[f"adam_after_{step}/{kind}_norm/{module}"])
            assert abs(squares[kind, module] ** 0.5 - expected) <= tolerance * expected, (kind, module)


def test_sampled_actions_equal_the_reference(fixture: Fixture) -> None:
    model = fixture.model()
    with torch.no_grad():
        got = model.sample_actions(fixture["sample/obs"].unsqueeze(0), fixture.action_noise(), model.policy.nets)
    assert relative_error(got[0], fixture["sample/actions"], 1.0) < 2e-5
