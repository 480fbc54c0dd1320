"""OCBench's files: read as its own loader reads them, and refused where they are not what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.datasets.formats.ocbench import is_ocbench_format
from zoo.datasets.formats.read import is_own, read_source
from zoo.errors import UsageError

LENGTHS = (3, 1, 4)


def arrays(lengths: tuple[int, ...] = LENGTHS, size: int = 5, **changes: Any) -> dict[str, np.ndarray]:
    """Return episodes of some lengths in OCBench's format; the last is cut off, the others terminate."""
    generator, steps = np.random.default_rng(0), sum(lengths)
    terminals = np.zeros(steps, bool)
    terminals[np.cumsum(lengths) - 1] = True
    masks = 1 - terminals.astype(np.float32)
    masks[-1] = 1
    found = {
        "observations": generator.normal(size=(steps + len(lengths), size)).astype(np.float32),
        "observation_interval": np.asarray(1, np.int32),
        "actions": generator.uniform(-1, 1, (steps, 7)).astype(np.float32),
        "rewards": generator.integers(0, 2, steps).astype(np.float32),
        "masks": masks,
        "terminals": terminals,
        "qpos": np.zeros((steps, 3), np.float32),  # what training does not need
    }
    return {name: value for name, value in (found | changes).items() if value is not None}


def write(folder: Path, name: str = "a", **changes: Any) -> Path:
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **arrays(**changes))
    return path


def test_every_transition_is_that_of_ocbenchs_loader(tmp_path: Path) -> None:
    ocbench = pytest.importorskip("ocbench", reason="needs OCBench")
    path = write(tmp_path)
    theirs, ours = ocbench.load_dataset(path), read_source(path)
    steps, rows = ocbench.get_episode_offsets(theirs)
    np.testing.assert_array_equal(ours["observations"], theirs["observations"])
    is_step = ours["valids"] == 1
    for name in ("actions", "rewards", "masks"):
        np.testing.assert_array_equal(ours[name][is_step], theirs[name], err_msg=name)
    np.testing.assert_array_equal(np.flatnonzero(~is_step), rows[1:] - 1)
    np.testing.assert_array_equal(ours["terminals"][is_step], theirs["terminals"])
    assert steps[-1] == is_step.sum() == sum(LENGTHS)


def test_several_files_follow_one_another_without_those_for_validation(tmp_path: Path) -> None:
    write(tmp_path, "set-000")
    write(tmp_path, "set-001", lengths=(2,))
    write(tmp_path, "set-000-val", lengths=(9,))
    found = read_source(tmp_path)
    assert (found["valids"] == 1).sum() == sum(LENGTHS) + 2
    np.testing.assert_array_equal(found["observations"][-3:], arrays((2,))["observations"])


def test_a_set_of_ocbench_is_told_from_one_of_ogbench_and_from_episodes(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert is_ocbench_format([path])
    assert is_own(path)
    np.savez(tmp_path / "other.npz", observations=np.zeros((2, 3)), qpos=np.zeros((2, 3)))
    assert not is_ocbench_format([tmp_path / "other.npz"])
    assert not is_ocbench_format([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation_interval": np.asarray(5)}, "`observation_interval` 5, expected 1: it leaves observations out"),
        ({"observation_interval": np.asarray([1, 1])}, r"`observation_interval` \[1, 1\], expected 1"),
        ({"rewards": None}, "missing: rewards"),
        ({"observations": np.zeros((11, 3, 8, 8), np.uint8)}, "these are images"),
        ({"observations": np.zeros((8, 5), np.float32)}, r"must have 11 rows, .* 8 actions .* 3 episodes, got 8"),
        ({"terminals": np.zeros(8, bool)}, "`terminals` must be"),
        ({"terminals": np.full(8, 2)}, "`terminals` must be 0 or 1"),
        ({"rewards": np.zeros(7, np.float32)}, "`rewards` must have shape"),
        ({"actions": np.zeros((8, 7), np.int64)}, "`actions` must be continuous"),
        ({"actions": np.zeros(8, np.float32)}, r"`actions` must have shape \(rows, size\), got \(8,\)"),
        ({"rewards": np.full(8, np.nan, np.float32)}, "rewards"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError, match=message):
        read_source(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = write(tmp_path, rewards=np.array([print] * 8, object))
    with pytest.raises(UsageError, match="rewards"):
        read_source(path)
