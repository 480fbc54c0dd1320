"""Sets of one's own: every format gives the same arrays, and what is wrong with a set is said in one sentence."""

import json
import math
import os
import shutil
import sys

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pytest
from gymnasium.spaces import Box, Dict, Tuple
from minari.serialization import serialize_space
from numpy.testing import assert_array_equal
from pyarrow import parquet

from tests.zoo.datasets.samples import (
    ENV,
    WRITERS,
    episodes,
    in_two,
    joined,
    metadata_of,
    read,
    regular,
    without_steps,
    write_d4rl,
    write_folder,
    write_minari,
    write_npz,
    write_parquet,
)
from zoo.datasets.custom import load_custom
from zoo.datasets.formats.base import COMPACT, ReadOptions, compact, transitions_of_rows, write_set
from zoo.datasets.formats.read import environment_of, has_rewards, read_source
from zoo.datasets.names import is_custom
from zoo.terminal.errors import UsageError


@pytest.fixture(autouse=True)
def _minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def refusal(source, **reading):
    """Return what is said about a set; one sentence."""
    with pytest.raises(UsageError) as error:
        read(source, ReadOptions(**reading))
    text = str(error.value)
    assert "\n" not in text
    return text


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "folder", "minari"])
def test_whole_episodes_keep_their_last_observation_and_why_they_end(tmp_path, kind):
    parts = episodes()
    arrays = read(WRITERS[kind](tmp_path, parts))
    assert tuple(arrays) == COMPACT or set(arrays) == set(COMPACT)
    assert_array_equal(arrays["valids"], [1] * 19 + [0] + [1] * 20 + [0])
    assert_array_equal(arrays["terminals"], [0] * 18 + [1, 1] + [0] * 19 + [1, 1])
    assert_array_equal(np.flatnonzero(arrays["masks"] == 0), [18])
    assert_array_equal(arrays["observations"], joined(parts, "observations").astype(np.float32))
    valid = arrays["valids"] > 0
    for name in ("actions", "rewards"):
        assert_array_equal(arrays[name][valid], joined(parts, name).astype(np.float32))


@pytest.mark.parametrize("kind", ["parquet", "d4rl"])
def test_rows_without_a_last_observation_repeat_it_at_a_termination_and_drop_a_step_at_a_cut(
    tmp_path, kind
):
    first, second = parts = episodes()
    arrays = read(WRITERS[kind](tmp_path, parts))
    assert_array_equal(arrays["valids"], [1] * 19 + [0] + [1] * 19 + [0])
    assert_array_equal(np.flatnonzero(arrays["masks"] == 0), [18])
    expected = [
        *first["observations"][:19],
        first["observations"][18],
        *second["observations"][:20],
    ]
    assert_array_equal(arrays["observations"], np.array(expected, np.float32))
    assert_array_equal(arrays["actions"][20:39], second["actions"][:19])
    assert_array_equal(arrays["rewards"][:19], first["rewards"].astype(np.float32))


def test_d4rl_with_next_observations_loses_no_transition(tmp_path):
    parts = episodes()
    arrays = read(write_d4rl(tmp_path, parts, ("next_observations",)))
    expected = read(write_npz(tmp_path, parts))
    for name in COMPACT:
        assert_array_equal(arrays[name], expected[name])


@pytest.mark.parametrize("kind", ["npz", "parquet", "d4rl"])
def test_the_case_of_an_extension_does_not_matter(tmp_path, kind):
    source = WRITERS[kind](tmp_path, episodes())
    files = [source] if source.is_file() else sorted(source.rglob("*.parquet"))
    expected = read(source)
    for file in files:
        file.rename(file.with_suffix(file.suffix.upper()))
    if source in files:
        source = source.with_suffix(source.suffix.upper())
    assert is_custom(str(source))
    assert has_rewards(source)
    for name, array in read(source).items():
        assert_array_equal(array, expected[name])


def test_hidden_files_are_not_read(tmp_path):
    folder = write_folder(tmp_path, episodes())
    expected = read(folder)
    (folder / "._000.npz").write_bytes(b"what macOS leaves")
    (folder / "001.npz.d").mkdir()
    (folder / "folder.npz").mkdir()
    assert_array_equal(read(folder)["observations"], expected["observations"])
    robot = write_parquet(tmp_path, episodes())
    (robot / "data" / "._a.parquet").write_bytes(b"the same")
    assert len(read(robot)["valids"]) == 40


@pytest.mark.parametrize("kind", ["folder", "minari"])
def test_an_episode_without_a_step_is_left_out_with_a_warning(tmp_path, kind):
    parts = episodes()
    parts.insert(1, without_steps(parts[0]))
    expected = read(write_npz(tmp_path, episodes()))
    if kind == "minari":
        source = write_minari(tmp_path, [parts[0], parts[0], parts[2]])
        with h5py.File(tmp_path / "spring" / "random-v0" / "data" / "main_data.hdf5", "a") as file:
            for name in ("observations", "actions", "rewards", "terminations", "truncations"):
                rows = file[f"episode_1/{name}"][: int(name == "observations")]
                del file[f"episode_1/{name}"]
                file[f"episode_1/{name}"] = rows
        path, metadata = metadata_of(tmp_path)
        path.write_text(json.dumps(metadata | {"total_steps": 39}))
    else:
        source = write_folder(tmp_path, parts)
    with pytest.warns(UserWarning, match="1 of 3 episodes have no transition and are left out"):
        arrays = read(source)
    for name, array in expected.items():
        assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("kind", ["npz", "folder", "parquet", "d4rl"])
def test_a_dataset_without_a_step_is_refused(tmp_path, kind):
    source = WRITERS[kind](tmp_path, episodes())
    if kind == "npz":
        np.savez(source, **{name: array[:0] for name, array in regular(episodes()).items()})
    elif kind == "d4rl":
        with h5py.File(source, "a") as file:
            for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
                del file[name]
                file[name] = regular(episodes())[name][:0]
    elif kind == "folder":
        for file in source.iterdir():
            np.savez(file, **without_steps(episodes()[0]))
    else:
        for file in source.rglob("*.parquet"):
            parquet.write_table(parquet.read_table(file).slice(0, 0), file)
    text = refusal(source)
    assert "must hold an episode with a transition" in text or "got float64 of shape (0, 4)" in text


def test_changes_that_single_precision_loses_are_warned_of(tmp_path):
    arrays = regular(episodes())
    arrays["observations"][:, 2] = 1.7e9 + np.arange(39) / 50  # the time since 1970, in seconds
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.warns(
        UserWarning, match=r"from 1700000000 to 170000000\d in coordinate 2.*subtract an offset"
    ):
        read(tmp_path / "a.npz")


def test_a_csv_file_is_told_how_it_becomes_a_dataset(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.csv").touch()
    for source in (tmp_path / "logs", tmp_path / "logs" / "a.csv"):
        text = refusal(source)
        assert "`pandas.read_csv(file).to_parquet(path)`" in text
        with pytest.raises(UsageError, match="a dataset must be"):
            has_rewards(source)
    assert "logs with .csv files" in refusal(tmp_path / "logs")


def test_npz_files_beside_parquet_files_are_told_of(tmp_path):
    robot = write_parquet(tmp_path, episodes())
    np.savez(robot / "episode.npz", **episodes()[0])
    with pytest.warns(UserWarning, match=".npz files are not read beside its .parquet files"):
        read(robot)


def test_states_of_ogbench_get_the_rewards_of_a_task_and_others_keep_their_own(tmp_path):
    np.savez(tmp_path / "a.npz", qpos=np.zeros(39), **regular(episodes()))
    assert has_rewards(tmp_path / "a.npz", ENV)
    assert not has_rewards(tmp_path / "a.npz", "cube-double-play-singletask-task2-v0")
    np.savez(tmp_path / "b.npz", qpos=np.zeros(39), **without(regular(episodes()), "rewards"))
    assert not has_rewards(tmp_path / "b.npz", ENV)


def test_a_damaged_file_is_said_to_be_damaged_before_any_work(tmp_path):
    (tmp_path / "a.npz").touch()
    with pytest.raises(UsageError, match=r"a\.npz cannot be read: File is not a zip file"):
        has_rewards(tmp_path / "a.npz", ENV)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_converted_set_reads_back_the_same_and_has_the_same_fingerprint(tmp_path, kind):
    source = WRITERS[kind](tmp_path, episodes())
    write_set(tmp_path / "converted.npz", read_source(source))
    original, converted = (
        load_custom(path, ENV, {}) for path in (source, tmp_path / "converted.npz")
    )
    assert original.fingerprint == converted.fingerprint
    assert_array_equal(
        compact(original.content)["observations"], compact(converted.content)["observations"]
    )
    assert (tmp_path / "converted.npz.sha256").is_file()


def test_a_changed_converted_file_is_refused(tmp_path):
    write_set(tmp_path / "a.npz", read_source(write_npz(tmp_path, episodes())))
    np.savez(tmp_path / "a.npz", **regular(episodes(seed=1)))
    assert "recorded sha256" in refusal(tmp_path / "a.npz")


def test_what_formats_leave_open_can_be_given(tmp_path):
    (part,) = episodes(1)
    table = pyarrow.table(
        {"joints": list(part["observations"][:-1]), "torque": list(part["actions"])}
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    columns = {"observations": "joints", "actions": "torque"}
    assert "`--columns observations=NAME`" in refusal(tmp_path / "a.parquet")
    assert "`--step-reward -1`" in refusal(
        tmp_path / "a.parquet", columns=columns, done="terminated"
    )
    assert "`--done truncated`" in refusal(tmp_path / "a.parquet", columns=columns, step_reward=-1)
    arrays = read(tmp_path / "a.parquet", ReadOptions(columns, -1.0, "truncated"))
    assert (arrays["rewards"][:-1] == -1).all()
    assert (arrays["masks"] == 1).all()
    assert len(arrays["valids"]) == 19
    assert "closest: rewards" in refusal(tmp_path / "a.parquet", columns={"reward": "cost"})


@pytest.mark.parametrize("kind", ["npz", "folder", "parquet", "d4rl"])
def test_successes_become_rewards_and_ends_of_the_task(tmp_path, kind):
    parts = episodes()
    for part in parts:
        part["success"] = part["terminated"].copy()
        del part["rewards"]
    parts[1]["success"][5] = True  # and the episode goes on
    source = WRITERS[kind](tmp_path, parts)
    assert "`--reward-from success`" in refusal(source)
    assert "leave out `--step-reward` and `--done`" in refusal(
        source, reward_from="success", step_reward=0.0
    )
    dataset = load_custom(source, ENV, {}, reward_from="success")
    success = joined(parts, "success")[: dataset.num_transitions]
    assert_array_equal(dataset.content.arrays["rewards"], np.where(success, 0, -1))
    assert_array_equal(dataset.content.arrays["masks"], ~success)


def test_an_episode_without_a_number_ends_where_it_is_done(tmp_path):
    folder = write_parquet(tmp_path, episodes())
    parquet.write_table(
        parquet.read_table(folder).drop_columns(["episode_index", "frame_index"]),
        tmp_path / "a.parquet",
    )
    for name, array in read(folder).items():
        assert_array_equal(read(tmp_path / "a.parquet")[name], array)


@pytest.mark.parametrize("done", ["terminated", "truncated"])
def test_terminals_that_mark_every_end_end_as_is_said(tmp_path, done):
    parts = episodes()
    path = write_d4rl(tmp_path, parts)
    assert "leave out `--done`" in refusal(path, done=done)
    assert "has rewards; leave out `--step-reward`" in refusal(path, step_reward=-1.0)
    with h5py.File(path, "a") as file:
        file["terminals"][len(parts[0]["actions"]) - 1 :: len(parts[1]["actions"])] = True
        del file["timeouts"]
    assert "or `--done` if `terminals` marks every end" in refusal(path)
    arrays = read(path, ReadOptions(done=done))
    assert np.flatnonzero(arrays["masks"] == 0).tolist() == (
        [18, 39] if done == "terminated" else []
    )
    assert int((arrays["valids"] == 0).sum()) == 2


@pytest.mark.parametrize("kind", ["npz", "folder", "minari"])
def test_what_a_format_does_not_leave_open_cannot_be_given(tmp_path, kind):
    assert "leave out `--done`" in refusal(WRITERS[kind](tmp_path, episodes()), done="truncated")


def test_dataset_size_keeps_whole_trajectories_and_changes_the_fingerprint(tmp_path):
    path = write_npz(tmp_path, episodes(3))
    full, first_part = load_custom(path, ENV, {}), load_custom(path, ENV, {}, size=20)
    assert full.num_transitions == 59
    assert first_part.num_transitions == 39
    assert full.fingerprint != first_part.fingerprint


# -- what is never done -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_every_format_of_minari_gives_the_same(tmp_path, data_format):
    expected = read(write_minari(tmp_path, episodes(), "spring/hdf5-v0"))
    source = write_minari(tmp_path, episodes(), data_format=data_format)
    for name, array in read(source).items():
        assert_array_equal(array, expected[name])
    folder = tmp_path / "spring" / "random-v0" / "data"
    file = next((folder / "1").glob("part-*"))
    content = file.read_bytes()
    file.write_bytes(content[:99])
    assert "cannot be read as a Minari dataset" in refusal(source)
    shutil.rmtree(folder / "1")
    assert "its metadata have 2 episodes, got 1" in refusal(source)


def test_an_episode_of_which_minari_reads_only_the_beginning_is_refused(tmp_path):
    source = write_minari(tmp_path, episodes(), data_format="arrow")
    path, metadata = metadata_of(tmp_path)
    path.write_text(json.dumps(metadata | {"total_steps": 139}))
    assert "its metadata have 139 steps, got 39" in refusal(source)


def test_a_download_of_minari_that_was_stopped_says_what_to_remove(tmp_path):
    source = write_minari(tmp_path, episodes())
    metadata_of(tmp_path)[0].unlink()
    assert "as after a download that was stopped; remove the folder" in refusal(source)


HOSTILE = {
    "total_episodes": (10**12, "its metadata have 1000000000000 episodes, got 2"),
    "observation_space": ("[" * 100_000, "must record the spaces of observations and actions"),
    "env_spec": ("[" * 100_000, "cannot be read as a Minari dataset"),
    "minari_version": ("9.0.0", "does not support the dataset generated by Minari 9.0.0"),
    "data_format": ("evil", "cannot be read as a Minari dataset"),
}


@pytest.mark.parametrize("key", HOSTILE)
def test_metadata_of_minari_that_lie_are_refused(tmp_path, key):
    value, message = HOSTILE[key]
    source = write_minari(tmp_path, episodes())
    path, metadata = metadata_of(tmp_path)
    path.write_text(json.dumps(metadata | {key: value}))
    assert message in refusal(source)
    assert environment_of(source) == (None if key == "env_spec" else "Spring-v0")


def test_nothing_of_minaris_set_is_made_or_imported(tmp_path, monkeypatch):
    name = write_minari(tmp_path, episodes())
    path, metadata = metadata_of(tmp_path)
    spec = json.loads(metadata["env_spec"]) | {"id": "Evil-v0", "entry_point": "antigravity:open"}
    path.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    monkeypatch.setitem(sys.modules, "antigravity", None)  # importing it fails
    assert len(read(name)["valids"]) == 41
    assert environment_of(name) == "Evil-v0"


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path):
    linked = write_d4rl(tmp_path, episodes())
    with h5py.File(tmp_path / "linked.hdf5", "w") as file:
        file["observations"] = h5py.ExternalLink(str(linked), "observations")
        file["actions"] = np.zeros((3, 2))
    assert "missing: observations, terminals" in refusal(tmp_path / "linked.hdf5")
    name = write_minari(tmp_path, episodes())
    with h5py.File(tmp_path / "spring" / "random-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = h5py.ExternalLink(str(linked), "actions")
    assert "episode 1 must have the arrays" in refusal(name)
    with h5py.File(tmp_path / "spring" / "random-v0" / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = np.zeros((20, 2))
        file["episode_1/infos/more"] = h5py.ExternalLink(str(linked), "actions")
    assert "`episode_1/infos/more` must lie in the file, got a link" in refusal(name)
    with h5py.File(tmp_path / "virtual.hdf5", "w") as file:
        layout = h5py.VirtualLayout((39, 4), np.float64)
        layout[:] = h5py.VirtualSource(str(linked), "observations", (39, 4))
        file.create_virtual_dataset("observations", layout)
        file["actions"] = np.zeros((3, 2))
    assert "must lie in the file" in refusal(tmp_path / "virtual.hdf5")


# -- what is refused --------------------------------------------------------------------------------------------------

BROKEN = {
    "wrong keys": (
        lambda a: {"obs": a["observations"], **without(a, "observations")},
        "missing: observations, got obs",
    ),
    "no rewards": (lambda a: without(a, "rewards"), "missing: rewards"),
    "shape": (lambda a: a | {"rewards": a["rewards"][:-1]}, "must have shape (39,)"),
    "discrete actions": (
        lambda a: a | {"actions": np.arange(78).reshape(39, 2)},
        "`actions` must be continuous",
    ),
    "images": (
        lambda a: a | {"observations": np.zeros((39, 3, 8, 8), np.float32)},
        "images as uint8 from 0 to 255",
    ),
    "NaN": (lambda a: a | {"rewards": np.full(39, np.nan)}, "must hold finite numbers"),
    "pickled": (
        lambda a: a | {"rewards": np.array([print] * 39)},
        "Object arrays cannot be loaded",
    ),
    "no masks": (lambda a: without(a, "timeouts"), "masks"),
}


def without(arrays, name):
    return {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_npz_is_refused_by_what_is_wrong_with_it(tmp_path, case):
    change, text = BROKEN[case]
    np.savez(tmp_path / "a.npz", **change(regular(episodes())))
    assert text in refusal(tmp_path / "a.npz")


EPISODE = {
    "last observation": (
        lambda a: a | {"observations": a["observations"][:-1]},
        "the observation after the last action belongs",
    ),
    "no ending": (lambda a: without(a, "terminated"), "must have `terminated`"),
    "goes on": (
        lambda a: a | {"terminated": np.arange(19) == 4},
        "in row 4, but the episode goes on to row 18",
    ),
    "another size": (lambda a: a | {"actions": a["actions"][:, :1]}, "like the first episode"),
}


@pytest.mark.parametrize("case", EPISODE)
def test_a_broken_episode_is_refused_by_its_file(tmp_path, case):
    change, text = EPISODE[case]
    first, second = episodes()
    folder = write_folder(tmp_path, [second, second])
    np.savez(folder / "001.npz", **change(first))
    message = refusal(folder)
    assert text in message
    assert "001.npz" in message


def test_rows_of_mixed_trajectories_are_refused(tmp_path):
    folder = write_parquet(tmp_path, episodes())
    table = pyarrow.concat_tables(
        [parquet.read_table(path) for path in sorted(folder.rglob("*.parquet"))]
    )
    parquet.write_table(table.sort_by("frame_index"), tmp_path / "mixed.parquet")
    assert "must follow one another, got them mixed" in refusal(tmp_path / "mixed.parquet")
    parquet.write_table(
        table.filter(pyarrow.compute.field("frame_index") != 5), tmp_path / "gap.parquet"
    )
    assert "got 6 instead of 5 in row 5" in refusal(tmp_path / "gap.parquet")
    for path in sorted(folder.rglob("*.parquet"))[
        1:
    ]:  # sets that were recorded apart, each from episode 0 on
        rows = parquet.read_table(path).drop_columns(["episode_index", "frame_index"])
        parquet.write_table(rows.append_column("episode_index", [np.zeros(len(rows), int)]), path)
    assert "every file must have a column for frame" in refusal(folder)
    next(folder.rglob("*0.parquet")).unlink()
    parquet.write_table(parquet.read_table(path), path.with_name("z.parquet"))
    assert "got them mixed, or in several files" in refusal(folder)


@pytest.mark.parametrize("name", ["actions", "observations"])
def test_a_minari_set_of_another_space_is_refused(tmp_path, name):
    source = write_minari(tmp_path, episodes())
    with h5py.File(tmp_path / "spring" / "random-v0" / "data" / "main_data.hdf5", "a") as file:
        length = len(file[f"episode_1/{name}"])
        del file[f"episode_1/{name}"]
        file[f"episode_1/{name}"] = np.zeros(length, np.int64)
    assert "episode 1 must have observations and actions of the shapes" in refusal(source)


SCALAR, PAIR = Box(-np.inf, np.inf, (1,)), Box(-np.inf, np.inf, (2,))
STRUCTURED = {
    "sorted": Dict({"z": PAIR, "a": PAIR}),
    "in its own order": Dict([("z", PAIR), ("a", PAIR)]),
    "nested": Dict([("z", Dict([("y", SCALAR), ("b", SCALAR)])), ("a", PAIR)]),
    "a tuple of many": Tuple([SCALAR] * 12),
    "a tuple in a Dict": Dict([("z", Tuple([SCALAR, PAIR])), ("a", SCALAR)]),
}


def structured(space, rows):
    """Return observations, (n, O), as a space has them."""
    if isinstance(space, Box):
        return rows
    parts = space.spaces
    if isinstance(space, Tuple):
        parts = dict(enumerate(space.spaces))
    observations = {}
    for key, part in parts.items():
        size = gymnasium.spaces.flatdim(part)
        observations[key] = structured(part, rows[:, :size])
        rows = rows[:, size:]
    if isinstance(space, Tuple):
        return tuple(observations.values())
    return observations


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_structure_of_vectors_is_one_vector_as_gymnasium_flattens_it(tmp_path, name):
    space, parts = STRUCTURED[name], episodes()
    size, generator = gymnasium.spaces.flatdim(space), np.random.default_rng(0)
    vectors = []
    for part in parts:
        vectors.append(generator.normal(size=(len(part["observations"]), size)).astype(np.float32))
        part["observations"] = structured(space, vectors[-1])
    observations = read(write_minari(tmp_path, parts, observation_space=space))["observations"]
    assert_array_equal(observations, np.concatenate(vectors))


@pytest.mark.parametrize("recorded", [None, Dict({"a": PAIR, "b": PAIR}), PAIR])
def test_parts_whose_order_is_not_recorded_are_refused(tmp_path, recorded):
    name = write_minari(
        tmp_path, in_two(episodes()), observation_space=Dict({"z": PAIR, "a": PAIR})
    )
    path, metadata = metadata_of(tmp_path)
    changes = {} if recorded is None else {"observation_space": serialize_space(recorded)}
    path.write_text(json.dumps(without(metadata, "observation_space") | changes))
    text = refusal(name)
    assert (
        "parts of the recorded space" in text
        or "must record the spaces of observations and actions" in text
    )


@pytest.mark.parametrize("has_next", [False, True], ids=["alone", "with next_observations"])
def test_time_limits_that_all_terminate_are_refused_and_some_are_warned_of(tmp_path, has_next):
    path = write_d4rl(tmp_path, episodes(3), ("next_observations",) * has_next)
    with h5py.File(path, "a") as file:
        file["terminals"][-1] = True
    with pytest.warns(UserWarning, match="1 of 2 time limits are marked as terminations too"):
        read(path)
    with h5py.File(path, "a") as file:
        file["terminals"][...] |= file["timeouts"][...]
    assert "`terminals` = 1 in every row whose `timeouts` is 1" in refusal(path)


def test_masks_of_an_hdf5_file_count_where_terminals_mark_every_end(tmp_path):
    path = write_d4rl(tmp_path, episodes())
    with h5py.File(path, "a") as file:
        masks = 1 - file["terminals"][...]
        masks[3] = 0
        file["masks"] = masks
        file["terminals"][...] |= file["timeouts"][...]
    arrays = read(path)
    assert np.flatnonzero(arrays["masks"] == 0).tolist() == [3, 18]
    assert np.flatnonzero(arrays["valids"] == 0).tolist() == [19, 39]


COLUMNS = {
    "null": (
        "next.reward",
        [None, *[1.0] * 38],
        "`next.reward` must have a value in each row, got none in 1",
    ),
    "text": (
        "next.reward",
        ["a"] * 39,
        "`next.reward` must hold numbers or lists of them, got string",
    ),
    "fractions": (
        "next.success",
        [0.5] * 39,
        "`success` must be 0 or 1 in each of the 39 steps, got 0.5 in row 0",
    ),
    "ragged": (
        "action",
        [[1.0] * (2 + row % 2) for row in range(39)],
        "lists of one length, got 2 to 3",
    ),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_column_that_is_not_what_it_should_be_is_refused_by_name(tmp_path, case):
    name, column, text = COLUMNS[case]
    table = parquet.read_table(write_parquet(tmp_path, episodes()))
    changed = table.drop_columns(name).append_column(name, pyarrow.array(column))
    parquet.write_table(changed, tmp_path / "a.parquet")
    assert text in refusal(tmp_path / "a.parquet")


def test_a_column_may_serve_twice(tmp_path):
    path = write_d4rl(tmp_path, episodes())
    arrays = read(path, ReadOptions({"rewards": "terminals", "terminated": "terminals"}))
    assert np.flatnonzero(arrays["rewards"]).tolist() == [18]
    assert "closest: actions" in refusal(path, columns={"rewards": "cost"})


@pytest.mark.parametrize(("low", "high"), [(96.262799, 3076.8331017826877), (192.0, 6000.0)])
def test_reference_scores_of_shorter_episodes_are_told_of(tmp_path, recwarn, low, high):
    name = write_minari(tmp_path, episodes())
    path, metadata = metadata_of(tmp_path)
    path.write_text(json.dumps(metadata | {"ref_min_score": low, "ref_max_score": high}))
    read(name)
    messages = [
        str(warning.message)
        for warning in recwarn
        if "whose episodes have 100 steps" in str(warning.message)
    ]
    assert len(messages) == (low < 100)


def change_success(folder, change):
    for path in folder.rglob("*.parquet"):
        rows = parquet.read_table(path)
        flags = change(rows["next.success"].to_numpy(zero_copy_only=False))
        parquet.write_table(
            rows.drop_columns("next.success").append_column("next.success", [flags]), path
        )


def test_successes_that_do_not_end_an_episode_are_warned_of(tmp_path):
    folder = write_parquet(tmp_path, episodes())
    change_success(folder, lambda flags: np.arange(len(flags)) == 7)
    with pytest.warns(
        UserWarning, match="2 of 2 episodes succeed before their last row and not in it"
    ):
        arrays = read(folder)
    assert arrays["masks"].all()


def test_demonstrations_without_a_success_are_warned_of(tmp_path):
    folder = write_parquet(tmp_path, episodes())
    change_success(folder, np.zeros_like)
    with pytest.warns(UserWarning, match="no step achieves the task"):
        read(folder)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-20, 3230.5, (-20.0, 3230.5)),
        (1.0, None, None),
        (2.0, 2.0, None),
        ("0", 1.0, None),
        (0.0, math.inf, None),
    ],
)
def test_references_are_two_different_finite_numbers_of_a_minari_set(tmp_path, low, high, expected):
    name = write_minari(tmp_path, episodes())
    path, metadata = metadata_of(tmp_path)
    path.write_text(json.dumps(metadata | {"ref_min_score": low, "ref_max_score": high}))
    assert load_custom(name, ENV, {}).reference_scores == expected


def test_a_minari_set_that_is_not_there_says_how_to_get_it(monkeypatch):
    def download(name):
        raise ConnectionError(f"no route to {name}")

    monkeypatch.setattr(minari, "download_dataset", download)
    assert "its download failed (no route to a/b-v0)" in refusal("minari:a/b-v0")
    assert "must be followed by the id" in refusal("minari:../b-v0")


def test_a_set_of_another_environment_is_told_of(tmp_path):
    name = write_minari(tmp_path, episodes(), env="Pendulum-v1")
    with pytest.warns(UserWarning, match="was recorded in Pendulum-v1"):
        load_custom(name, ENV, {})


def test_rows_after_the_last_marked_end_are_a_trajectory_too():
    rows = {
        "observations": np.arange(7.0)[:, None],
        "actions": np.zeros((7, 1)),
        "rewards": np.zeros(7),
    }
    transitions = transitions_of_rows("set", rows, np.arange(7) == 2, np.ones(7))
    assert_array_equal(np.flatnonzero(transitions.ends), [1, 4])
    assert_array_equal(transitions.final_observations[:, 0], [2, 6])


@pytest.mark.parametrize("name", ["nothing.npz", "a.txt", "empty", "pipe.npz", "long" * 99])
def test_no_dataset_is_refused(tmp_path, name):
    (tmp_path / "a.txt").touch()
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    assert refusal(tmp_path / name)
