"""What the checks find in broken files, and that they find nothing in sound ones."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.common import bounded
from tests.zoo.datasets.conftest import NAME, TASK_1, small_arrays
from zoo.datasets.check import (
    check_dataset,
    check_shapes,
    check_structure,
    check_values,
    read_arrays,
    remedy,
    require_sound,
)
from zoo.datasets.environment import make_raw_env, relabel
from zoo.datasets.files import checksum_file
from zoo.datasets.names import DATASETS
from zoo.errors import UsageError

SPEC = DATASETS[NAME]
ROWS = 33

Write = Callable[..., Path]


def messages(path: Path) -> list[str]:
    return [finding.message for finding in check_structure(path, SPEC)]


def errors_in(**changes: np.ndarray) -> list[str]:
    arrays = {**small_arrays(), **changes}
    values = {name: array for name, array in arrays.items() if name != "terminals"}
    return [finding.message for finding in check_values(values, arrays["terminals"])]


def test_sound_file_has_no_structural_findings(write_dataset: Write) -> None:
    assert messages(write_dataset()) == []


def test_sound_values_have_no_findings() -> None:
    assert errors_in() == []


def test_missing_file_is_found(tmp_path: Path) -> None:
    assert messages(tmp_path / "none.npz") == ["expected a file, got nothing"]


def test_file_of_another_kind_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("<html>404 Not Found</html>")
    (message,) = messages(tmp_path / "a.npz")
    assert message.startswith("expected a whole npz file, got a damaged one")


def test_file_without_its_last_bytes_is_found(write_dataset: Write) -> None:
    path = write_dataset()
    path.write_bytes(path.read_bytes()[:-30])
    (message,) = messages(path)
    assert message.startswith("expected a whole npz file, got a damaged one")


@pytest.mark.parametrize("array", ["observations", "actions", "terminals", "qpos"])
def test_missing_array_is_found(write_dataset: Write, array: str) -> None:
    (message,) = messages(write_dataset(**{array: None}))
    assert message.startswith(f"expected an array `{array}`, got only ")


def test_scene_and_puzzle_need_button_states(write_dataset: Write) -> None:
    findings = check_structure(write_dataset(), DATASETS["scene-play-v0"])
    assert [finding.array for finding in findings] == ["button_states"]


def test_array_of_another_length_is_found(write_dataset: Write) -> None:
    path = write_dataset(actions=np.zeros((30, 2), np.float32))
    assert messages(path) == ["`actions` must have 33 rows like `observations`, got 30"]


def test_pickled_objects_are_found_and_not_loaded(write_dataset: Write) -> None:
    path = write_dataset(actions=np.full((ROWS, 2), None))
    assert messages(path) == ["`actions` must be numbers, got dtype object"]


def test_sizes_of_another_environment_are_found(write_dataset: Write) -> None:
    path = write_dataset(observations=np.zeros((ROWS, 29), np.float32), actions=np.zeros((ROWS, 8), np.float32))
    env = make_raw_env("pointmaze-medium-v0")
    assert [finding.message for finding in check_shapes(path, DATASETS["pointmaze-medium-navigate-v0"], env)] == [
        "`observations` must have rows of shape (2,) as in the environment, got (29,)",
        "`actions` must have rows of shape (2,) as in the environment, got (8,)",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_found_with_its_row(value: float) -> None:
    observations = small_arrays()["observations"]
    observations[[7, 9], 1] = value
    assert errors_in(observations=observations) == [
        "`observations` must be finite, got NaN or infinity in 2 of 33 rows, first in row 7"
    ]


def test_actions_out_of_range_are_found() -> None:
    actions = small_arrays()["actions"]
    actions[:] = 0.0
    actions[3, 1] = 1.5
    assert errors_in(actions=actions) == [
        "`actions` must lie in [-1, 1], got 1.5 in row 3, coordinate 1; 1 of 33 rows lies outside"
    ]


def test_action_that_a_rounding_error_took_out_of_range_is_only_a_warning(write_dataset: Write) -> None:
    actions = small_arrays()["actions"]
    actions[5, 1] = 1 + 5e-6
    (finding, _) = check_dataset(write_dataset(actions=actions), SPEC)  # the other one is about tasks
    assert (finding.severity, finding.array) == ("warning", "actions")
    assert finding.message.endswith("are clipped: 1 of 33 rows, by up to 5e-06")


def test_last_trajectory_without_an_end_is_found() -> None:
    terminals = small_arrays()["terminals"]
    terminals[-1] = False
    assert errors_in(terminals=terminals) == ["`terminals` must end with 1, got 0 in the last row"]


def test_trajectory_of_one_row_is_found() -> None:
    terminals = small_arrays()["terminals"]
    terminals[11] = True
    assert errors_in(terminals=terminals) == [
        "`terminals` must leave at least 2 rows to each trajectory, got 1 at row 11"
    ]


def test_terminals_that_are_not_flags_are_found() -> None:
    terminals = small_arrays()["terminals"].astype(np.float32)
    terminals[4] = 0.5
    assert errors_in(terminals=terminals) == ["`terminals` must be 0 or 1, got 0, 0.5, 1"]


def test_damaged_bytes_are_traced_to_their_array(write_dataset: Write) -> None:
    path = write_dataset(compressed=False)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("qpos.npy")
    content = bytearray(path.read_bytes())
    content[member.header_offset + 300] ^= 0xFF
    path.write_bytes(content)
    (finding,) = check_dataset(path, SPEC)
    assert "qpos" in finding.message


def test_file_that_changed_after_its_checksum_was_written_is_found(write_dataset: Write) -> None:
    path = write_dataset()
    checksum_file(path).write_text(f"{'0' * 64}  {path.name}\n")
    (finding,) = check_dataset(path, SPEC)
    assert finding.message.startswith(f"expected the recorded sha256 {'0' * 64}, got ")


def test_unsolved_tasks_are_a_warning(write_dataset: Write) -> None:
    (finding,) = check_dataset(write_dataset(), SPEC)  # data lie within x, y in [0, 8], but for three rows at (20, 20)
    assert finding.severity == "warning"
    assert finding.message.startswith("expected a state that achieves each task, got none for tasks 2, ")


def test_error_names_file_problem_and_remedy(write_dataset: Write) -> None:
    path = write_dataset(actions=None)
    with pytest.raises(UsageError) as caught:
        require_sound(check_structure(path, SPEC), SPEC, path)
    assert str(caught.value) == (
        f"{path} cannot be used: expected an array `actions`, got only observations, terminals, qpos, qvel; make it "
        f"again with `zoo dataset download {NAME} --force --dataset-dir {path.parent}` or "
        f"`zoo dataset generate {NAME} --force --dataset-dir {path.parent}`"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "antmaze-large-navigate-v0",
            "make it again with `zoo dataset download antmaze-large-navigate-v0 --force --dataset-dir /data`",
        ),
        (
            "cube-octuple-play-v0",
            "make it again with `zoo dataset generate cube-octuple-play-v0 --force --dataset-dir /data`",
        ),
        ("cube-octuple-play-100m-v0", "give another file"),
    ],
)
def test_remedy_is_what_works_for_the_dataset(name: str, text: str) -> None:
    assert remedy(DATASETS[name], Path(f"/data/{name}.npz")) == text


def test_relabelling_in_parts_equals_distance_to_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.datasets.environment._CHUNK_ROWS", 7)
    env_id = TASK_1.replace("navigate-", "")
    qpos = small_arrays()["qpos"]
    rewards, masks = relabel(env_id, {"qpos": qpos}, make_raw_env(env_id))
    is_success = np.linalg.norm(qpos - np.array([20.0, 20.0]), axis=1) <= 1.0
    np.testing.assert_array_equal(rewards, np.where(is_success, 0.0, -1.0))
    np.testing.assert_array_equal(masks, np.where(is_success, 0.0, 1.0))


# -- hostile files ----------------------------------------------------------------------------------------------------


def test_header_of_more_rows_than_there_are_is_found(write_dataset: Write) -> None:
    path = write_dataset()
    content = path.read_bytes()
    arrays = {name: np.asarray(array) for name, array in small_arrays().items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.save(file, array)
            huge = file.getvalue().replace(f"({ROWS},".encode(), b"(9999999999,") if name == "qpos" else file.getvalue()
            archive.writestr(f"{name}.npy", huge)
    assert path.read_bytes() != content
    (message,) = messages(path)
    assert message.startswith("expected a whole npz file, got a damaged one (`qpos.npy` is damaged (")


def test_file_without_its_end_and_with_a_header_of_gigabytes_takes_little_memory(write_dataset: Write) -> None:
    path = write_dataset()
    length = 64 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("observations.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + b" " * length)
    path.write_bytes(path.read_bytes()[:-30])
    tracemalloc.start()
    assert messages(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_file_larger_than_the_memory_of_this_machine_is_found_and_not_read(
    write_dataset: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dataset()
    monkeypatch.setattr(bounded, "available_memory", lambda: 1000)
    monkeypatch.setattr(bounded, "_CHUNK_BYTES", 100)
    findings = check_dataset(path, SPEC)
    assert [finding.message.partition(",")[0] for finding in findings][-1].startswith("it claims ")
    with pytest.raises(UsageError, match=r"claims .* expected at most the 1\.0 kB of memory"):
        read_arrays(path, SPEC)
