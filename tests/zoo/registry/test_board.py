"""The board: its rows, and the page in a real browser at four sizes of screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.zoo.report.page import browser
from zoo.registry import board
from zoo.report import published_scores

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here; `apt install chromium` brings one"),
]
SIZES = [(390, 844), (800, 1100), (1400, 900), (2560, 1440)]
VISIBLE = "[...document.querySelectorAll('#board tbody tr')].map(row => row.cells[0].firstChild.textContent)"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("board") / "board.html"
    assert board.write_board(path) >= 24 + 27  # those of qam2026 and mini
    return path


@pytest.fixture(scope="module")
def rows(page_file: Path) -> list[dict[str, Any]]:
    text = page_file.read_text().partition('id="data">')[2].partition("</script>")[0]
    return list(json.loads(text)["rows"])


def test_every_set_has_its_rows_with_their_level(rows: list[dict[str, Any]]) -> None:
    assert {row["set"] for row in rows} == set(published_scores.set_names())
    assert len({row["id"] for row in rows}) == len(rows)
    of_qam = next(row for row in rows if row["id"] == "qam2026/QAM/offline")
    *numbers, text = of_qam["mean"]
    assert numbers == pytest.approx([44.4, 43.6, 45.1], abs=0.1)
    assert text == "{:.1f} [{:.1f}, {:.1f}]".format(*numbers)
    assert (of_qam["level"], of_qam["count"], len(of_qam["tasks"]), len(of_qam["domains"])) == ("raw", 50, 50, 10)
    assert next(row for row in rows if row["set"] == "rql2026")["level"] == "reported"


def test_sets_of_other_protocols_are_in_other_groups(rows: list[dict[str, Any]]) -> None:
    groups = {row["set"]: row["group"] for row in rows}
    assert len(set(groups.values())) == len(groups)  # none was made as another one
    assert groups["mini"] == "mini as in mini, 3,000 or 10,000 steps, networks 64x2 or 128x2"
    assert not any(row["curve"] for row in rows if row["set"] == "mini")  # its tasks share no step
    assert groups["qam2026"] == "qam50 as in qam2026, 1,000,000 + 500,000 steps, networks 512x4"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def choose(tab: Any, name: str, value: str) -> None:
    tab.evaluate(
        f"{{ const field = document.querySelector('[name={name}]'); field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})); field.dispatchEvent(new Event('change')); }"
    )


class TestInBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize("size", SIZES, ids=str)
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_is_whole_at_every_size(self, tab: Any, page_file: Path, size: tuple[int, int], scheme: str) -> None:
        tab.media(scheme=scheme)
        tab.resize(*size)
        tab.open(page_file.as_uri())
        groups = tab.evaluate("[...document.querySelector('[name=group]').options].map(option => option.value)")
        for group in groups:
            choose(tab, "group", group)
            assert tab.evaluate(VISIBLE)
            assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]  # the table scrolls, not the page
        assert tab.problems == []
        assert not [address for address in tab.requests if not address.startswith("file:")]

    def test_rows_are_sorted_filtered_and_found_by_their_link(self, tab: Any, page_file: Path) -> None:
        tab.media()
        tab.resize(1400)
        tab.open(page_file.as_uri())
        first = tab.evaluate(VISIBLE)
        means = tab.evaluate(
            "[...document.querySelectorAll('#board tbody tr')].map(row => parseFloat(row.cells[2].textContent))"
        )
        assert means == sorted(means, reverse=True)
        tab.evaluate("document.querySelector('th button').click()")
        assert tab.evaluate(VISIBLE) == sorted(first)
        choose(tab, "name", "qam-")
        assert set(tab.evaluate(VISIBLE)) == {"QAM-E", "QAM-F"}
        tab.open(page_file.as_uri() + "#mini%2FFQL%2Foffline")
        assert tab.evaluate("document.querySelector('[name=group]').value").startswith("mini as in mini")
        assert tab.evaluate("document.querySelector('tr:target, #mini\\\\/FQL\\\\/offline').id") == "mini/FQL/offline"
        choose(tab, "level", "retrained")
        assert len(tab.evaluate(VISIBLE)) in (0, 30 - 5)

    def test_the_shown_rows_are_downloaded_as_csv(self, tab: Any, page_file: Path) -> None:
        tab.open(page_file.as_uri())
        tab.evaluate("URL.createObjectURL = blob => { window.made = blob; return '#'; }")
        tab.evaluate("document.getElementById('download').click()")
        lines = tab.evaluate("window.made.text()").splitlines()
        assert lines[0] == "method,set,level,phase,group,column,mean,low,high"
        assert len(lines) == 1 + len(tab.evaluate(VISIBLE)) * 11  # the mean, and ten domains
