"""Archives, arrays and texts that are sound, damaged, or larger than they may be."""

from __future__ import annotations

import contextlib
import io
import pickle
import resource
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.common.files import DamagedFile, TooLarge, bounded, memory
from agents.common.files.bounded import read_npz, read_npz_headers, read_text

FEW_MEGABYTES = 8 << 20


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "available_memory", lambda: 100_000_000)


def write_zeros(path: Path, megabytes: int) -> Path:
    """Write an npz file of zeros, a thousandth of what it unpacks to."""
    np.savez_compressed(path, a=np.zeros(megabytes << 17))
    return path


def peak_of(read: Callable[[], Any]) -> int:
    """Return how much memory a call takes, whether or not it ends with `DamagedFile`."""
    tracemalloc.start()
    with contextlib.suppress(DamagedFile):
        read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# -- sound files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_that_were_saved(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = {
        "numbers": np.random.default_rng(0).normal(size=(300_000, 2)),  # more than a piece
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "single": np.array(3),
        "none": np.zeros((0, 5), np.float32),
        "words": np.array(["a", "bcd"]),
        "flags": np.array([True, False]),
        "big": np.arange(3, dtype=">i4"),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].flags.writeable
        assert found[name].flags.f_contiguous == array.flags.f_contiguous


def test_only_the_arrays_that_are_asked_for_are_read_or_their_headers_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones((2, 3), np.float32), b=np.array([{}], dtype=object))
    assert list(read_npz(tmp_path / "a.npz", ["a", "c"])) == ["a"]
    assert read_npz_headers(tmp_path / "a.npz") == {"a": ((2, 3), np.float32), "b": ((1,), object)}
    with pytest.raises(DamagedFile, match="Object arrays cannot be loaded"):
        read_npz(tmp_path / "a.npz")


def test_an_open_file_is_read_and_stays_open(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    assert read_npz(file)["a"].tolist() == [1, 1]
    with pytest.raises(DamagedFile, match=r"^the file cannot be read: "):
        read_npz(io.BytesIO(b"nonsense"))
    assert not file.closed


def test_reading_takes_the_memory_of_the_arrays_once_however_well_they_pack(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 32)
    assert path.stat().st_size < 40_000
    assert peak_of(lambda: read_npz(path)) < 1.1 * (32 << 20)
    assert not read_npz(path)["a"].any()


# -- claims -----------------------------------------------------------------------------------------------------------


def test_more_than_the_machine_has_is_refused_with_both_numbers(tmp_path: Path, small_machine: None) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 128)
    with pytest.raises(TooLarge, match=r"zeros\.npz .*claims 134\.2 MB .* 100\.0 MB of memory .*; use a machine"):
        read_npz(path)
    assert read_npz(path, ["b"]) == {}  # what is not wanted needs no memory


def test_more_than_a_file_of_its_kind_needs_is_refused(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 64)
    with pytest.raises(DamagedFile, match=r"its arrays take 67\.1 MB, expected at most 1\.0 MB"):
        read_npz(path, most_bytes=1_000_000)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00\xff\xff{"])
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", content)
    for read in (read_npz, read_npz_headers):
        with pytest.raises(DamagedFile, match=r"`a\.npy` is damaged"):
            read(tmp_path / "a.npz")


# -- damage -----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_is_read_as_other_content(tmp_path: Path) -> None:
    arrays = {"a": np.arange(4.0), "b": np.arange(2).reshape(2, 1)}
    np.savez(tmp_path / "sound.npz", **arrays)
    content, path, silent = (tmp_path / "sound.npz").read_bytes(), tmp_path / "flipped.npz", []
    for position in range(0, 8 * len(content), 11):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            found = read_npz(path)
        except DamagedFile:
            continue
        if found.keys() != arrays.keys() or not all(np.array_equal(found[name], arrays[name]) for name in arrays):
            silent.append(position)
    assert silent == []


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_cut_file_is_read(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "sound.npz", a=np.arange(4.0))
    content, path = (tmp_path / "sound.npz").read_bytes(), tmp_path / "cut.npz"
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFile, match=r"cut\.npz cannot be read: "):
            read_npz(path)


def test_error_survives_the_way_between_processes() -> None:
    error = DamagedFile("a.npz", "it is bad", "make it again")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a.npz cannot be read: it is bad; make it again"


# -- text -------------------------------------------------------------------------------------------------------------


def test_text_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("wörd", encoding="utf-8")
    assert read_text(tmp_path / "a.txt", 5) == "wörd"
    with pytest.raises(DamagedFile, match=r"a\.txt"):
        read_text(tmp_path / "a.txt", 4)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "a.txt", tmp_path):
        with pytest.raises(DamagedFile):
            read_text(path, 4)


# -- how much memory there is -----------------------------------------------------------------------------------------


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    return tmp_path


def test_memory_is_what_the_machine_has_free_without_other_limits(cgroups: Path) -> None:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    assert memory.available_memory() == pytest.approx(1024 * int(line.split()[1]), rel=0.2)


@pytest.mark.parametrize(
    ("folder", "limit", "usage"),
    [(".", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")],
)
def test_a_container_leaves_its_limit_without_what_is_used_apart_from_page_cache(
    cgroups: Path, folder: str, limit: str, usage: str
) -> None:
    (cgroups / folder).mkdir(exist_ok=True)
    (cgroups / folder / limit).write_text("1000000\n")
    (cgroups / folder / usage).write_text("700000\n")
    (cgroups / folder / "memory.stat").write_text("anon 1\ninactive_file 200000\nactive_file 50000\n")
    assert memory.available_memory() == 550_000


def test_limit_of_the_address_space_counts(cgroups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (used + 5_000_000, used + 5_000_000))
    assert 0 <= memory.available_memory() <= 6_000_000
