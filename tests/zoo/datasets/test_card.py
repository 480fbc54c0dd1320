"""A dataset's page: its facts are those of the set, and it needs nothing but itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.zoo.datasets.conftest import NAME, TASK_1
from tests.zoo.datasets.own import episodes, write_npz
from zoo.dataset import main
from zoo.datasets.card import Trajectories, write_card
from zoo.datasets.sources import read_source


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
    assert not re.search(r"<(script|link|img|iframe)|url\(http|@import", page)


def test_a_name_cannot_bring_markup_into_the_page(tmp_path: Path) -> None:
    write_card(tmp_path / "a.html", "<script>", {"<b>": "<i>"}, read_source(write_npz(tmp_path, episodes(2))))
    assert not re.search("<(script|b|i)>", (tmp_path / "a.html").read_text())


def test_one_number_in_an_observation_is_drawn_too(tmp_path: Path) -> None:
    arrays = read_source(write_npz(tmp_path, episodes(2)))
    arrays["observations"] = arrays["observations"][:, :1]
    assert write_card(tmp_path / "a.html", "a", {}, arrays)["numbers in an observation"] == 1


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
