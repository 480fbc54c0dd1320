"""Recording: what is written is what is read, and what would make a useless fixture is refused."""

from __future__ import annotations

import contextlib
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.parity import Fixture, ParityError, Recorder, norm, note_draws, perturb, read_fixture
from tests.parity.reference import OWN_FIXTURES


def record_again(fixture: Fixture) -> Recorder:
    """Hand everything that a fixture holds to a recorder."""
    told = {"reference": fixture.meta["reference_agent"], "adam": fixture.meta["adam"], "sizes": fixture.sizes}
    recorder = Recorder(fixture.id, config=fixture.config, **told)
    recorder.start(fixture.parameters, fixture.batch, fixture.below("dual_before/"))
    recorder.losses(fixture.below("loss/"), fixture.below("out/"))
    recorder.gradients({path: array for path, array in fixture.below("grad/").items() if array.any()})
    for step in (1, 2, 3):
        state = {
            f"{kind}/{rest}": array
            for kind in ("adam", "dual")
            for rest, array in fixture.below(f"{kind}_after_{step}/").items()
        }
        parameters = fixture.below(f"params_after_{step}/") or fixture.parameters
        recorder.update(fixture.noise(step), fixture[f"loss_total/step_{step}"], parameters, state)
    recorder.sample(fixture["sample/obs"], fixture.below("sample/noise/"), fixture["sample/actions"])
    return recorder


@pytest.mark.parametrize("name", ["trqam", "rebrac", "dac"])
def test_a_recorded_fixture_is_read_as_it_was(name: str, tmp_path: Path) -> None:
    fixture = read_fixture(OWN_FIXTURES / "open" / f"{name}.npz")
    record_again(fixture).save(tmp_path / "new" / f"{name}.npz")
    again = read_fixture(tmp_path / "new" / f"{name}.npz")
    missing = {key for key in fixture.arrays if key not in again}
    assert all(key.startswith(("info/", "sample/critic_q")) for key in missing)
    for key, array in again.arrays.items():
        np.testing.assert_allclose(array, fixture[key], rtol=1e-6 if "norm" in key else 0, err_msg=key)
    assert (again.id, again.config, again.meta["algo"]) == (fixture.id, fixture.config, name)


def small(**changes: Any) -> Recorder:
    """Return a recorder that lacks only what is changed to None."""
    parameters = perturb({"critic": {"w": np.zeros(2)}, "target_critic": {"w": np.zeros(2)}}, seed=0)
    given = {"tau": 0.1, "parameters": parameters, "total": 1.0, "updates": 3, "actions": np.zeros((4, 1)), **changes}
    recorder = Recorder("mine", reference="here", config={"tau": given["tau"]})
    recorder.start(given["parameters"], {"observations": np.zeros((3, 2)), "rewards": np.zeros(3)})
    recorder.losses({"td": 1.0, "total": 1.0})
    recorder.gradients({"critic": {"w": np.ones(2)}})
    for _ in range(given["updates"]):
        recorder.update({}, given["total"], parameters)
    recorder.sample(np.zeros((4, 2)), {}, given["actions"])
    return recorder


def test_what_is_not_trained_has_no_gradient(tmp_path: Path) -> None:
    small().save(tmp_path / "mine.npz")
    fixture = read_fixture(tmp_path / "mine.npz")
    assert not fixture["grad/target_critic/w"].any()
    assert fixture["out/grad_global_norm"] == np.float32(2**0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"updates": 2}, "3 updates, got 2"),
        ({"updates": 4}, "3 updates, got 4"),
        ({"total": 2.0}, "total 2, and `losses` was given 1"),
        ({"total": float("nan")}, "`loss_total/step_1`"),
        ({"actions": np.zeros((5, 1))}, "sample/actions"),
        ({"tau": {1, 2}}, "settings"),
        ({"parameters": {"critic": {"w": np.ones(2)}, "target_critic": {"w": np.ones(2)}}}, "`target_critic/w`"),
        ({"parameters": {"critic": {"w": np.ones(3)}}}, "critic/w`"),
    ],
)
def test_a_useless_recording_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=message):
        small(**changes).save(tmp_path / "mine.npz")
    assert not list(tmp_path.iterdir())


def test_draws_are_noted_and_the_functions_put_back() -> None:
    owner = types.SimpleNamespace(normal=lambda size: np.arange(size), uniform=lambda: torch.ones(2))
    own = dict(vars(owner))
    with contextlib.suppress(ZeroDivisionError), note_draws(owner, "normal", "uniform") as draws:
        assert owner.normal(3).tolist() == [0, 1, 2]
        owner.uniform()
        raise ZeroDivisionError
    assert [(name, draw.tolist()) for name, draw in draws] == [("normal", [0, 1, 2]), ("uniform", [1, 1])]
    assert vars(owner) == own


def test_every_entry_is_perturbed_and_the_norm_is_of_all_entries_together() -> None:
    found = perturb({"a": {"b": np.zeros((2, 3))}, "c": np.ones(1)}, seed=0)
    assert found["a"]["b"].all()
    assert found["c"] != 1
    assert found["a"]["b"].dtype == np.float32
    assert norm({"a": {"b": np.array([3.0])}, "c": np.array(4.0)}) == 5
