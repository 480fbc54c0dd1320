import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tools.make_published import convert, main
from tools.pickled_arrays import read_pickle_of_arrays

TASK = "scene-play-singletask-task1-v0"


def test_scores_off_the_grid_of_episodes_are_refused():
    with pytest.raises(ValueError, match="expected fractions of 50 episodes for QAM"):
        convert({(TASK, "QAM"): np.full((30, 12), 0.123)})


def test_counts_of_single_tasks_are_aligned_at_the_last_step():
    random = np.random.RandomState(0)
    content = {
        (TASK, "QAM"): random.randint(0, 51, (30, 12)) / 50,
        (TASK, "RLPD"): random.randint(0, 51, (10, 12)) / 50,
        ("scene-play", "QAM"): random.rand(30, 12),
    }
    found = convert(content)
    assert (list(found["methods"]), list(found["environments"])) == (["QAM", "RLPD"], [TASK])
    assert found["steps"][[0, -1]].tolist() == [50_000, 1_500_000]
    assert (found["successes"][0, 0] == np.rint(50 * content[TASK, "QAM"])).all()
    assert (found["successes"][1, 0, :20] == -1).all()
    assert (found["successes"][1, 0, 20:] == np.rint(50 * content[TASK, "RLPD"])).all()


def test_another_file_is_refused_unread(tmp_path: Path):
    (tmp_path / "other.pkl").write_bytes(b"other")
    with pytest.raises(ValueError, match="expected the file with SHA-256 fd57d0f8"):
        main(tmp_path / "other.pkl")


# -- reading the published file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_of_numbers_are_read(protocol):
    content = {("a", "x"): np.arange(6.0).reshape(2, 3), ("b",): np.asfortranarray(np.arange(6).reshape(2, 3))}
    found = read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert found.keys() == content.keys()
    for key, array in content.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype


class Evil:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 4])
def test_pickle_that_calls_anything_is_refused_and_nothing_runs(tmp_path, protocol):
    evil = Evil(os.mkdir, str(tmp_path / "made"))
    for content in ({("a", "x"): evil}, {(evil,): np.ones(1)}, evil, {("a", "x"): np.ones(1), ("b", "x"): [evil]}):
        with pytest.raises(ValueError, match="refused this one: it asks for"):
            read_pickle_of_arrays(pickle.dumps(content, protocol=protocol))
    assert not (tmp_path / "made").exists()
