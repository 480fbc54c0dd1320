"""Custom datasets: all formats give the same arrays, and errors in a dataset are explained in one sentence."""

import os
import re
import shutil
import sys
from functools import partial

import gymnasium
import h5py
import minari
import numpy as np
import pyarrow
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Tuple, flatten
from gymnasium.vector.utils import batch_space, iterate
from numpy.testing import assert_array_equal
from pyarrow import compute, parquet

from tests.zoo.datasets.conftest import changed
from tests.zoo.datasets.samples import (
    ENV,
    WRITERS,
    change_metadata,
    episodes,
    joined,
    read,
    refusal,
    regular,
    without_steps,
    write_d4rl,
    write_folder,
    write_minari,
    write_npz,
    write_parquet,
)
from tests.zoo.outcomes import refuses
from zoo.datasets.custom import load_custom
from zoo.datasets.formats.base import (
    COMPACT,
    compact,
    write_set,
)
from zoo.datasets.formats.read import has_rewards, metadata_of, name_of, read_source

MINARI = "minari:spring/random-v0"
ENDS = np.isin(np.arange(39), (18, 38))
FOLLOWING = regular(episodes())["next_observations"]


@pytest.fixture(autouse=True)
def _minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def assert_equal(arrays, expected):
    for name in COMPACT:
        assert_array_equal(arrays[name], expected[name], err_msg=name)


def minari_data(root):
    return root / "spring" / "random-v0" / "data"


def change_hdf5(path, **changes):
    """Replace entries of an HDF5 file, or of the second episode of a Minari dataset; None removes an entry."""
    prefix = ""
    if path.is_dir():
        write_minari(path)
        path, prefix = minari_data(path) / "main_data.hdf5", "episode_1/"
    with h5py.File(path, "a") as file:
        for name, value in changes.items():
            if prefix + name in file:
                del file[prefix + name]
            if value is not None:
                file[prefix + name] = value
    return MINARI if prefix else path


def rows_of(root, changes=(), drop=()):
    """Write all rows of two episodes to one parquet file, with some columns changed or dropped."""
    table = parquet.read_table(write_parquet(root))
    table = table.select(set(table.column_names) - {*drop, *changes})
    for name in changes:
        table = table.append_column(name, pyarrow.array(changes[name]))
    parquet.write_table(table, root / "a.parquet")
    return root / "a.parquet"


# -- content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [write_npz, partial(write_d4rl, next_observations=FOLLOWING), write_folder, write_minari],
)
def test_whole_episodes_keep_their_last_observation_and_end(tmp_path, write):
    parts = episodes()
    arrays = read(write(tmp_path, parts))
    assert_array_equal(arrays["valids"], [1] * 19 + [0] + [1] * 20 + [0])
    assert_array_equal(arrays["terminals"], [0] * 18 + [1, 1] + [0] * 19 + [1, 1])
    assert_array_equal(np.flatnonzero(arrays["masks"] == 0), [18])
    assert_array_equal(arrays["observations"], joined(parts, "observations").astype(np.float32))
    valid = arrays["valids"] > 0
    for name in ("actions", "rewards"):
        assert_array_equal(arrays[name][valid], joined(parts, name).astype(np.float32))


@pytest.mark.parametrize("write", [write_parquet, partial(write_d4rl, timeouts=np.zeros(39))])
def test_rows_without_a_last_observation_repeat_or_drop_it(tmp_path, write, capsys):
    first, second = parts = episodes()
    second["actions"][-1] = np.nan  # dropped
    arrays = read(write(tmp_path, parts))
    assert "is dropped in 1 trajectory without a termination" in capsys.readouterr().err
    assert_array_equal(arrays["valids"], [1] * 19 + [0] + [1] * 19 + [0])
    assert_array_equal(np.flatnonzero(arrays["masks"] == 0), [18])
    states = [*first["observations"][:19], first["observations"][18], *second["observations"][:20]]
    assert_array_equal(arrays["observations"], np.array(states, np.float32))
    assert_array_equal(arrays["actions"][20:39], second["actions"][:19])
    assert_array_equal(arrays["rewards"][:19], first["rewards"].astype(np.float32))


def test_a_file_may_hold_several_episodes_and_an_episode_may_go_on_in_the_next(tmp_path):
    expected = read(write_parquet(tmp_path))
    rows = parquet.read_table(tmp_path / "robot").append_column("next.success", [[False] * 39])
    (tmp_path / "three" / "meta").mkdir(parents=True)
    for name, part in {"a": rows[:25], "b": rows[25:], "meta/episodes": rows[:1]}.items():
        parquet.write_table(part, tmp_path / "three" / f"{name}.parquet")
    assert_equal(read(tmp_path / "three"), expected)


def test_a_folder_keeps_its_dots_in_a_runs_name(tmp_path):
    (tmp_path / "2026.11.29").mkdir()
    assert name_of(tmp_path / "2026.11.29") == "2026.11.29"
    assert name_of(tmp_path / "set.v1.npz") == "set.v1"


def test_an_episode_without_a_step_is_left_out_with_a_warning(tmp_path):
    first, second = episodes()
    expected = read(write_npz(tmp_path, [first, second]))
    source = write_folder(tmp_path, [first | {"terminated": [1]}, without_steps(first), second])
    with pytest.warns(UserWarning, match="1 of 3 episodes have no transition and are left out"):
        assert_equal(read(source), expected)
    assert "contains no transitions" in refusal(write_folder(source, [without_steps(first)]))


def test_states_of_ogbench_get_the_rewards_of_a_task(tmp_path):
    path = write_npz(tmp_path, qpos=np.zeros(39))
    assert has_rewards(path, ENV)
    assert not has_rewards(path, "cube-double-play-singletask-task2-v0")
    path = write_npz(tmp_path, qpos=np.zeros(39), rewards=None)
    assert not has_rewards(path, ENV)
    assert not has_rewards(path.rename(tmp_path / "set-val.npz"), ENV)
    # the user's own folder, not one of converted arrays
    (write_folder(tmp_path) / "arrays").mkdir()
    assert has_rewards(tmp_path / "episodes", ENV)


def test_a_damaged_file_is_said_to_be_damaged_before_any_work(tmp_path):
    (tmp_path / "a.npz").touch()
    with refuses(r"a\.npz cannot be read: File is not a zip file"):
        has_rewards(tmp_path / "a.npz", ENV)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_sound_set_is_converted_with_the_same_fingerprint(tmp_path, kind, recwarn):
    source = WRITERS[kind](tmp_path, episodes(3))
    copy = tmp_path / "converted.npz"
    write_set(copy, read_source(source))
    original, converted = (load_custom(path, gymnasium.make(ENV)) for path in (source, copy))
    assert original.fingerprint == converted.fingerprint
    assert_equal(compact(original.content), compact(converted.content))
    assert (tmp_path / "converted.npz.sha256").is_file()
    assert not recwarn.list


def test_a_changed_converted_file_is_refused(tmp_path):
    path = write_npz(tmp_path)
    write_set(path, read_source(path))
    assert "as recorded; download or create it again" in refusal(
        write_npz(tmp_path, episodes(seed=1))
    )


@pytest.mark.parametrize("kind", ["npz", "folder", "parquet", "d4rl"])
def test_successes_become_rewards_and_ends_of_the_task(tmp_path, kind):
    parts = episodes()
    for part in parts:
        part["success"] = part["terminated"].copy()
        del part["rewards"]
    parts[1]["success"][5] = True  # before the episode's end
    source = WRITERS[kind](tmp_path, parts)
    assert "`--reward-from success`" in refusal(source)
    dataset = load_custom(source, gymnasium.make(ENV), reward_from="success")
    assert dataset.content.ends.sum() == 2
    success = joined(parts, "success")[: dataset.content.num_transitions]
    assert_array_equal(dataset.content.arrays["rewards"], np.where(success, 0, -1))
    assert_array_equal(dataset.content.arrays["masks"], ~success)


SCALAR, PAIR = Box(-np.inf, np.inf, (1,)), Box(-np.inf, np.inf, (2,))
STRUCTURED = {
    "nested": Dict([("z", Dict([("y", SCALAR), ("b", Tuple([SCALAR, PAIR]))])), ("a", PAIR)]),
    "a tuple of many": Tuple([SCALAR] * 12),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_a_structure_of_vectors_is_flattened_as_in_gymnasium(tmp_path, name):
    space = STRUCTURED[name]
    parts = episodes()
    vectors = []
    for part in parts:
        states = batch_space(space, len(part["observations"]))
        part["observations"] = states.sample()
        vectors += [flatten(space, state) for state in iterate(states, part["observations"])]
    observations = read(write_minari(tmp_path, parts, observation_space=space))["observations"]
    assert_array_equal(observations, vectors)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_every_format_of_minari_gives_the_same(tmp_path, data_format):
    expected = read(write_minari(tmp_path, name="spring/hdf5-v0"))
    source = write_minari(tmp_path, data_format=data_format)
    assert_equal(read(source), expected)
    folder = minari_data(tmp_path) / "1"
    file = next(folder.glob("part-*"))
    file.write_bytes(file.read_bytes()[:99])
    assert "cannot be read as a Minari dataset" in refusal(source)
    shutil.rmtree(folder)
    assert "its metadata state 2 episodes, but it has 1" in refusal(source)


# -- untrusted files: nothing is imported, and links are not followed -------------------------------------------------


def test_nothing_of_minaris_set_is_made_or_imported(tmp_path, monkeypatch):
    name = write_minari(tmp_path)
    spec = EnvSpec("Evil-v0", entry_point="antigravity:open")
    change_metadata(tmp_path, env_spec=spec.to_json())
    monkeypatch.setitem(sys.modules, "antigravity", None)  # importing it would fail
    assert len(read(name)["valids"]) == 41
    assert metadata_of(name).environment == "Evil-v0"


@pytest.mark.parametrize(
    ("file", "name", "link", "text"),
    [
        (
            "a.hdf5",
            "observations",
            h5py.ExternalLink("d4rl.hdf5", "observations"),
            "`observations` is a link",
        ),
        ("", "infos/a", h5py.SoftLink("/episode_0"), "`episode_1/infos/a` is a link"),
    ],
    ids=["file", "minari"],
)
def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path, file, name, link, text):
    write_d4rl(tmp_path)
    assert text in refusal(change_hdf5(tmp_path / file, **{name: link}))


def test_an_array_in_another_file_is_not_read(tmp_path):
    linked = write_d4rl(tmp_path)
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((39, 4), np.float64)
        layout[:] = h5py.VirtualSource(str(linked), "observations", (39, 4))
        file.create_virtual_dataset("observations", layout)
        file.create_dataset("actions", (3, 2), "f4", external=[(linked, 0, 24)])
    assert "`actions` is a link or a virtual array" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["actions"]
    assert "`observations` is a link or a virtual array" in refusal(path)


# -- rejected datasets ------------------------------------------------------------------------------------------------


def minari_of(root, **metadata):
    source = write_minari(root)
    change_metadata(root, **metadata)
    return source


def folder_of(root, **changes):
    """Write two episodes, the second with an error."""
    first, second = episodes()
    return write_folder(root, [second, changed(first, changes)])


def some_rows(root, condition):
    path = rows_of(root)
    parquet.write_table(parquet.read_table(path).filter(condition), path)
    return path


def one_index(root):
    """Write two files with an episode of the same index each, without the indices of frames."""
    path = rows_of(root, {"episode_index": [0] * 39}, ["frame_index"])
    folder = root / "two"
    folder.mkdir()
    for name in "ab":
        shutil.copy(path, folder / f"{name}.parquet")
    return folder


def two_kinds(root):
    write_npz(root)
    return rows_of(root).parent


FRAME = compute.field("frame_index")
NEST = "[" * 100_000
LIMITS = "`terminals` = 1 in every row whose `timeouts` is 1"


@pytest.mark.parametrize(("make", "changes", "text"), [
    (write_npz, {"observations": None}, "missing: observations"),
    (write_npz, {"actions": np.zeros((39, 2), int)}, "`actions` must be continuous"),
    (write_npz, {"observations": np.zeros((4, 39))}, "must have 39 rows like the other arrays, got shape (4, 39)"),
    (write_npz, {"observations": np.zeros((39, 3, 8, 8))}, "images as uint8 from 0 to 255"),
    (write_npz, {"observations": np.zeros((39, 1, 4))}, "must have shape (rows, size), or be images"),
    (some_rows, {"condition": FRAME < 0}, "contains no transitions"),
    (folder_of, {"observations": np.zeros((19, 4))}, "001.npz: `observations` must have 20 rows"),
    (folder_of, {"terminated": None}, "001.npz must have the arrays terminated"),
    (folder_of, {"terminated": np.arange(19) == 4}, "row 4, but the episode continues to row 18"),
    (some_rows, {"condition": FRAME != 5}, "got 6 instead of 5 in row 5"),
    (rows_of, {"changes": {"episode_index": [[0, 1]] * 39}}, "index must be one number"),
    (one_index, {}, "episodes are mixed or share an index"),
    (two_kinds, {}, "has .npz and .parquet files"),
    (rows_of, {"drop": ["next.reward"]}, "must have a column `next.reward` for rewards, got "),
    (rows_of, {"changes": {"next.reward": [None] * 39}}, "`next.reward` must have a value in each"),
    (rows_of, {"changes": {"action": [[1.0], *[[1.0] * 2] * 38]}}, "of one length, got 1 to 2"),
    (rows_of, {"changes": {"action": [{"arm": [1.0]}] * 39}}, "lists of them, got struct<arm"),
    (write_d4rl, {"terminals": ENDS, "next_observations": FOLLOWING}, LIMITS),
    (minari_of, {"total_episodes": 10**12}, "its metadata state 1,000,000,000,000 episodes, but it has 2"),
    (minari_of, {"total_episodes": None}, "cannot be read as a Minari dataset: 'total_episodes'"),
    (minari_of, {"env_spec": NEST, "observation_space": NEST}, "must record the spaces of observations"),
    (minari_of, {"total_steps": 139}, "its metadata state 139 steps, but it has 39"),
    (change_hdf5, {"rewards": np.zeros((20, 1))}, "episode 1: `rewards` must have rows of"),
])  # fmt: skip
def test_what_is_wrong_with_a_set_is_refused_by_its_name(tmp_path, make, changes, text):
    assert text in refusal(make(tmp_path, **changes))


def test_changed_bytes_of_a_parquet_file_are_found(tmp_path):
    path = tmp_path / "a.parquet"
    rows = parquet.read_table(rows_of(tmp_path))
    parquet.write_table(
        rows, path, compression="none", write_page_checksum=True, use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    place = content.find(np.float32(rows["observation.state"][20][1].as_py()).tobytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert "could not verify page integrity" in refusal(path)
    path.write_bytes(content[:100])
    assert refusal(path).count(str(path)) == 1


def test_a_minari_set_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))

    def download(name):
        raise ConnectionError(f"no route to {name}")

    monkeypatch.setattr(minari, "download_dataset", download)
    text = refusal("minari:a/b-v0")
    assert f"{tmp_path}/.minari/datasets/a/b-v0, and its download failed" in text
    assert "copy the dataset to this folder from a machine with internet" in text
    for id in ("../b-v0", "/a/b-v0"):
        assert "must be followed by the id" in refusal(f"minari:{id}")


@pytest.mark.parametrize("name", ["nothing.npz", "empty", "pipe.npz", "long" * 99])
def test_no_dataset_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    assert refusal(tmp_path / name)


@pytest.mark.parametrize("write", [write_folder, write_parquet])
def test_a_link_to_a_missing_episode_is_refused(tmp_path, write):
    folder = write(tmp_path)
    file = next(path for path in folder.rglob("*") if path.is_file())
    file.unlink()
    file.symlink_to("missing")
    assert file.name in refusal(folder)


# -- warnings ---------------------------------------------------------------------------------------------------------


ENDS_OF_THREE = np.isin(np.arange(59), (18, 58))


@pytest.mark.parametrize(("make", "changes", "text"), [
    (write_d4rl, {"parts": episodes(3), "terminals": ENDS_OF_THREE}, "1 of 2 time limits are also marked as"),
    (rows_of, {"changes": {"next.success": np.arange(39) == 7}, "drop": [
        "episode_index", "frame_index", "next.terminated"]},
        "1 of 2 episodes succeed before"),
])  # fmt: skip
def test_what_is_probably_a_mistake_is_warned_of(tmp_path, make, changes, text):
    with pytest.warns(UserWarning, match=text):
        masks = read(make(tmp_path, **changes))["masks"]
    assert masks.all() == (make is rows_of)


def test_a_file_without_rows_is_left_out_with_a_warning(tmp_path):
    folder = write_parquet(tmp_path)
    empty = pyarrow.table({"action": pyarrow.nulls(0)})
    parquet.write_table(empty, folder / "data" / "chunk-000" / "episode_000002.parquet")
    with pytest.warns(UserWarning, match="000002.parquet: it has no rows and is left out"):
        read(folder)


@pytest.mark.parametrize(
    ("write", "text"), [(write_d4rl, "got nan in row 44"), (write_folder, "002.npz: .* in row 5")]
)
def test_a_bad_row_is_told_as_it_stands_in_the_file(tmp_path, write, text):
    parts = episodes(3)
    parts[2]["observations"][5, 1] = np.nan
    assert re.search(text, refusal(write(tmp_path, parts)))


def test_a_set_of_another_environment_is_told_of(tmp_path):
    name = write_minari(tmp_path, env="Pendulum-v1")
    with pytest.warns(UserWarning, match="was recorded in Pendulum-v1"):
        load_custom(name, gymnasium.make(ENV))
