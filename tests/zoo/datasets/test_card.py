"""A dataset's page: its facts are those of the set, and it needs nothing but itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.datasets.conftest import NAME, TASK_1
from tests.zoo.datasets.own import episodes, write_npz
from zoo.dataset import main
from zoo.datasets import card
from zoo.datasets.card import Trajectories, write_card
from zoo.datasets.formats.episodes import digest_of_arrays
from zoo.datasets.formats.read import read_source

ROOT = Path(__file__).parents[3]


def test_returns_lengths_and_ends_are_those_of_the_trajectories(tmp_path: Path) -> None:
    parts = episodes(3)
    found = Trajectories.of(read_source(write_npz(tmp_path, parts)))
    np.testing.assert_allclose(found.returns, [part["rewards"].sum() for part in parts], rtol=1e-5)
    assert found.lengths.tolist() == [19, 20, 20]
    assert found.terminated.tolist() == [True, False, False]


def test_the_page_stands_alone_and_shows_facts_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npz(tmp_path, episodes(3))
    assert main(["show", str(path), "-o", str(tmp_path / "card.html")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["trajectories"] == 3
    page = (tmp_path / "card.html").read_text()
    assert page.count("<svg") == 4
    assert "33.3%" in page
    assert f"zoo dataset show {path} -o" in page
    assert digest_of_arrays(read_source(path)) in page
    assert not re.search(r"<(script|link|img|iframe)|url\(http|@import", page)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [True, False])
@pytest.mark.filterwarnings("ignore:no state in")
def test_states_of_ogbenchs_sets_are_drawn_where_something_draws(
    write_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, draws: bool
) -> None:
    write_dataset()
    seen = []
    picture = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr("zoo.dataset.choose_platform", lambda: "egl" if draws else None)
    monkeypatch.setattr(card, "_draw", lambda env, state: seen.append(state) or picture)
    assert main(["show", NAME, "--dataset-dir", str(tmp_path), "-o", str(tmp_path / "card.html")]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ("States" in (tmp_path / "card.html").read_text()) is draws
    assert ("install EGL" in facts.get("states are not drawn", "")) is not draws
    if draws:
        with np.load(next(tmp_path.glob(f"{NAME}.npz"))) as file:
            np.testing.assert_array_equal(seen[-1][0], file["qpos"][-1])
            np.testing.assert_array_equal(seen[-1][1], file["qvel"][-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pointmaze-medium-navigate-v0", "scene-play-v0"])
def test_a_picture_shows_the_state_of_its_row(tmp_path: Path, name: str) -> None:
    script = f"""
from zoo.envs.rendering import choose_platform
if choose_platform() is None:
    raise SystemExit(3)
import numpy as np
from zoo.datasets.generate.ogbench import generate_dataset
from zoo.datasets.names import single_task_names
from zoo.datasets.card import draw_states
generate_dataset({name!r}, {str(tmp_path)!r}, num_episodes=2, num_workers=1)
found = draw_states(single_task_names({name!r})[0], [0, 500, 1000], {str(tmp_path)!r})
again = draw_states(single_task_names({name!r})[0], [0, 500, 1000], {str(tmp_path)!r})
images = list(found.values())
assert len(images) == 3 and all(image.dtype == np.uint8 and image.ndim == 3 for image in images)
assert all((image == again[row]).all() for row, image in found.items())
assert (images[0] != images[1]).any() and (images[1] != images[2]).any()
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode == 3:
        pytest.skip("nothing draws here")
    assert ran.returncode == 0, ran.stderr


def test_a_name_cannot_bring_markup_into_the_page(tmp_path: Path) -> None:
    write_card(tmp_path / "a.html", "<script>", {"<b>": "<i>"}, read_source(write_npz(tmp_path, episodes(2))))
    assert not re.search("<(script|b|i)>", (tmp_path / "a.html").read_text())


@pytest.mark.filterwarnings("ignore:no state in")
@pytest.mark.parametrize("name", [NAME, TASK_1])
def test_ogbenchs_sets_have_the_rewards_of_a_task(
    write_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    words = ["show", name, "--dataset-dir", str(tmp_path), "-o", str(tmp_path / "card.html")]
    assert main(words) == 2
    assert "there is no dataset" in capsys.readouterr().err
    write_dataset()
    assert main(words) == 0
    assert "singletask" in json.loads(capsys.readouterr().out.splitlines()[-1])["rewards of"]
