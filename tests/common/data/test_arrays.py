"""A user's arrays: where trajectories end, which arrays are derived, and which are rejected, with the reason."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal

from agents.common.data import arrays as module
from agents.common.data.arrays import ActionRange, prepare
from tests.common.data.helpers import compacted, loaded_buffer
from tests.common.toys import refuses, tiny_model, toy_dataset, warns

UNIT = ActionRange.of(spaces.Box(-1, 1, (2,), np.float32))


def prepared(dataset, horizon_length=3):
    """Return a dataset of four observations and two actions, prepared without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return prepare(dataset, (4,), UNIT, horizon_length)


def limited_dataset(rows=60):
    """Return trajectories of 12 steps in D4RL's layout: the second terminates, a time limit truncates the others."""
    dataset = toy_dataset(rows)
    ends = np.flatnonzero(dataset["terminals"])
    dataset["terminals"] = np.isin(np.arange(rows), ends[1:2])
    dataset["timeouts"] = np.isin(np.arange(rows), np.delete(ends, 1))
    return dataset


# -- where trajectories end -------------------------------------------------------------------------------------------


def test_trajectories_end_by_terminals_and_by_timeouts():
    transitions = prepared(limited_dataset())
    assert np.flatnonzero(transitions.ends).tolist() == [11, 23, 35, 47, 59]
    assert transitions.description == (
        "dataset: 60 transitions, 5 trajectories; ends by termination: 0, by truncation: 5, of which unmarked: 0"
    )
    assert transitions.warnings == ()


# rows read at a time; with 13, a trajectory ends at the border of two pieces
@pytest.mark.parametrize("piece", [13, 1 << 16])
def test_trajectory_ends_where_the_next_row_does_not_follow(piece, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", piece)
    dataset = toy_dataset(60)
    dataset["next_observations"][[25, 40]] += 1
    transitions = prepared(dataset)
    ends = np.flatnonzero(transitions.ends)
    assert ends.tolist() == [11, 23, 25, 35, 40, 47, 59]
    assert_array_equal(transitions.final_observations, dataset["next_observations"][ends])
    assert transitions.description.endswith("of which unmarked: 2")
    first = transitions.keep(np.arange(7) < 3).description
    assert first.startswith("dataset: 26 transitions, 3 trajectories; ")
    assert first.endswith("of which unmarked: 1")
    assert_array_equal(transitions.arrays["masks"], dataset["masks"])
    with warns("2 of 7 trajectories end only because"):
        buffer = loaded_buffer(dataset)
    assert buffer._get_samples(torch.tensor([[[24, 25, 26], [12, 13, 14]]])).valid.tolist() == [
        [0, 1]
    ]


def test_a_compact_dataset_without_a_last_end_is_refused():
    dataset = {name: array[:-1] for name, array in compacted(toy_dataset(24)).items()}
    with refuses("every trajectory ends with one row whose `valids` is 0"):
        prepared(dataset)


def test_timeouts_that_contradict_a_compact_layout_are_refused():
    dataset = compacted(toy_dataset(60))
    dataset["timeouts"] = dataset["terminals"].copy()
    assert np.flatnonzero(prepared(dataset).ends).tolist() == [11, 23, 35, 47, 59]
    dataset["timeouts"][[20, 30]] = 1
    message = r"`timeouts` = 1 inside a trajectory, in 2 rows, first in row 20"
    with refuses(message):
        prepared(dataset)


# -- too few chunks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [dict, compacted])
def test_trajectories_that_are_shorter_than_a_chunk_are_refused(layout):
    dataset = layout(toy_dataset(60, length=4))
    assert prepared(dataset, horizon_length=4).ends.sum() == 15
    message = "15 trajectories, the longest of 4 transitions. .* use a smaller `horizon_length`"
    with refuses(message):
        prepared(dataset, horizon_length=5)


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["terminals", "timeouts", "masks", "valids"])
@pytest.mark.parametrize("value", [0.5, -1.0])
def test_flag_that_is_neither_zero_nor_one_is_refused_by_row(name, value):
    dataset = compacted(toy_dataset(36)) if name == "valids" else limited_dataset(36)
    dataset[name] = dataset[name].astype(np.float32)
    dataset[name][7] = value
    with refuses(f"`{name}` must hold 0 or 1, got {value} in row 7;"):
        prepared(dataset)


# -- masks ------------------------------------------------------------------------------------------------------------


def test_masks_are_derived_where_timeouts_tell_time_limits_apart():
    dataset = limited_dataset()
    del dataset["masks"]
    transitions = prepared(dataset)
    assert_array_equal(transitions.arrays["masks"], 1 - dataset["terminals"])
    buffer = loaded_buffer(dataset)
    assert torch.equal((buffer.dones & buffer.masks)[:60], torch.from_numpy(dataset["timeouts"]))


@pytest.mark.parametrize(
    ("missing", "added", "message"),
    [
        ("masks", {}, r"lacks the arrays masks, .*or add `timeouts`"),
        ("next_observations", {}, r"lacks the arrays next_observations \(regular"),
        ("rewards", {"reward": 0}, r"lacks the arrays rewards, got observations, .*reward;"),
    ],
)
def test_missing_arrays_are_named_with_the_way_on(missing, added, message):
    dataset = toy_dataset() | added
    del dataset[missing]
    with refuses(message):
        prepared(dataset)


# -- ways to pass arrays ----------------------------------------------------------------------------------------------


def test_model_trains_on_lists_tensors_and_a_path(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **toy_dataset())
    sources = [path, str(path)]
    for kind in (np.array, list, torch.tensor):
        sources.append({name: kind(array) for name, array in toy_dataset().items()})
    models = [tiny_model().learn_offline(2, dataset=source) for source in sources]
    assert len({float(model._last_info["total_loss"]) for model in models}) == 1
    for source in (tmp_path, "minari:pen/human-v2"):
        with refuses("is not an .npz file"):
            models[0].load_dataset(source)


@pytest.mark.parametrize(
    "values",
    [[[1.0, 2.0], [3.0]] * 30, ["a"] * 60, [None] * 60, torch.zeros(60, requires_grad=True), 5.0],
)
def test_values_that_are_no_array_of_numbers_are_refused(values):
    with refuses("dataset array `rewards`"):
        prepared({**toy_dataset(), "rewards": values})


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "kind"), [(dict, np.float64), (compacted, np.float32)])
def test_no_array_is_copied_as_a_whole_on_the_way(layout, kind, monkeypatch):
    monkeypatch.setattr(module, "PIECE_ROWS", 1000)
    dataset = layout(toy_dataset(50_000, length=1000, actions=20))
    dataset = {name: array.astype(kind) for name, array in dataset.items()}
    box = ActionRange.of(spaces.Box(-2, 2, (20,), np.float32))
    tracemalloc.start()
    prepare(dataset, (4,), box, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000 * 20 * 4 / 4  # float32 actions take four times as much
