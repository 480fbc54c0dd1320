"""Files that claim more than they hold. Each hostile file is made in `tmp_path`, and is small."""

from __future__ import annotations

import contextlib
import io
import pickle
import resource
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.common.files import DamagedFile, TooLarge, bounded, memory
from agents.common.files.bounded import open_zip, read_member, read_npz, read_npz_headers, read_text

FEW_MEGABYTES = 8 << 20


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "available_memory", lambda: 100_000_000)


def npy(shape: object, dtype: str = "<f8", content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an npy file with a header that says anything at all."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + content


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that come twice
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_zeros(path: Path, megabytes: int) -> Path:
    """Write an npz file of zeros, a thousandth of what it unpacks to."""
    np.savez_compressed(path, a=np.zeros(megabytes << 17))
    return path


def claim(path: Path, member: str, **claims: int) -> Path:
    """Rewrite what the directory at the end of a zip file says about a member."""
    offsets = {"flags": 8, "method": 10, "crc": 16, "packed": 20, "size": 24, "begin": 42}
    content = bytearray(path.read_bytes())
    entry = content.rindex(member.encode()) - 46  # the directory's entry, not the member's own header
    for name, value in claims.items():
        struct.pack_into("<H" if name in ("flags", "method") else "<I", content, entry + offsets[name], value)
    path.write_bytes(content)
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
    with pytest.raises(DamagedFile, match=r"a\.npz .*`b` holds Python objects.* nothing is unpickled"):
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


def test_members_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"text": b"word" * 1000, "empty": b"", "folder/": b"", "folder/a": b"1"})
    with open_zip(path) as archive:
        assert read_member(archive, "text") == b"word" * 1000
        assert read_member(archive, "empty") == b""
        assert read_member(archive, "folder/a") == b"1"
        with pytest.raises(DamagedFile, match=r"a\.zip cannot be read: `b` is damaged"):
            read_member(archive, "b")


# -- claims -----------------------------------------------------------------------------------------------------------


def test_more_than_the_machine_has_is_refused_with_both_numbers(tmp_path: Path, small_machine: None) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 128)
    with pytest.raises(TooLarge, match=r"zeros\.npz .*claims 134\.2 MB .* 100\.0 MB of memory .*; use a machine"):
        read_npz(path)
    with pytest.raises(TooLarge, match="claims 134"), open_zip(path):
        pass
    assert peak_of(lambda: read_npz(path)) < FEW_MEGABYTES


def test_members_that_are_not_wanted_need_no_memory(tmp_path: Path, small_machine: None) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 128)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.npy", npy((1,), content=bytes(8)))
    assert read_npz(path, ["b"])["b"].tolist() == [0]
    with open_zip(path, members=["b.npy"]) as archive:
        assert len(read_member(archive, "b.npy")) > 8


def test_more_than_a_file_of_its_kind_needs_is_refused(tmp_path: Path) -> None:
    path = write_zeros(tmp_path / "zeros.npz", 64)
    with pytest.raises(DamagedFile, match=r"its arrays take 67\.1 MB, expected at most 1\.0 MB"):
        read_npz(path, most_bytes=1_000_000)
    assert peak_of(lambda: read_npz(path, most_bytes=1_000_000)) < FEW_MEGABYTES


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10**12,), "<f8"), ((2**62, 4), "<f8"), ((3,), "<f8"), ((1,), "<f8"), ((-2, -1), "<f8"), ((True, 2), "<f8"),
        ((2,), "V0"), ((10**12,), "<U0"), ((1,), "<f8,<f8"), ((2,), "nonsense"), ((1,), "<U4294967295"),
    ],
)  # fmt: skip
def test_header_that_does_not_describe_the_bytes_after_it_is_refused(
    tmp_path: Path, shape: object, dtype: str, version: tuple[int, int]
) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy(shape, dtype, bytes(16), version)})
    for read in (read_npz, read_npz_headers):
        with pytest.raises(DamagedFile, match=r"a\.npz cannot be read: `a\.npy` is damaged \("):
            read(path)
    assert peak_of(lambda: read_npz(path)) < FEW_MEGABYTES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        npy((2,), content=bytes(16), version=(3, 0)),
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"{" * 9000,
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 4000 + b"-" * 5000,
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 6) + b"'''\n(\xff",
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"9" * 9000,
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 2) + b"{}",
    ],
)
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": content})
    with pytest.raises(DamagedFile, match=r"`a\.npy` is damaged"):
        read_npz(path)


def test_long_header_is_not_read_as_a_whole(tmp_path: Path) -> None:
    content = b"\x93NUMPY\x02\x00" + struct.pack("<I", 64 << 20) + b" " * (64 << 20)
    path = write_zip(tmp_path / "a.npz", {"a.npy": content})
    assert peak_of(lambda: read_npz(path)) < FEW_MEGABYTES


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"size": 2_000_000}, r"claims 2\.0 MB, but its .* in the file can hold"),
        ({"packed": 4_000_000_000}, "claims 4,000,000,000 bytes from byte 0 of a file of"),
        ({"begin": 4_000_000_000}, "claims .* bytes from byte 4,000,000,000 of a file of"),
        ({"method": 12}, "is packed by method 12, expected stored or deflated"),
        ({"method": 0}, r"claims 1\.0 kB, but its"),
        ({"flags": 1}, "is encrypted, expected stored or deflated"),
    ],
)
def test_directory_that_cannot_be_true_is_refused(tmp_path: Path, claims: dict[str, int], problem: str) -> None:
    path = claim(write_zip(tmp_path / "a.zip", {"a": bytes(1024)}), "a", **claims)
    with pytest.raises(DamagedFile, match=rf"a\.zip cannot be read: its member 'a' {problem}"), open_zip(path):
        pass


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    content = {name: np.random.default_rng(0).bytes(1000) for name in "abc"}
    path = write_zip(tmp_path / "a.zip", content, zipfile.ZIP_STORED)
    for name in "abc":
        claim(path, name, begin=0, packed=3000, size=3000)
    with pytest.raises(DamagedFile, match=r"members claim 9\.0 kB of a file of 3\.\d kB"), open_zip(path):
        pass


def test_member_that_holds_more_than_it_claims_is_not_unpacked(tmp_path: Path) -> None:
    path = claim(write_zip(tmp_path / "a.zip", {"a": bytes(64 << 20)}), "a", size=5, crc=zlib.crc32(bytes(5)))
    with open_zip(path) as archive:
        assert peak_of(lambda: read_member(archive, "a")) < FEW_MEGABYTES
        assert read_member(archive, "a") == bytes(5)


def test_member_that_ends_before_its_claim_is_refused(tmp_path: Path) -> None:
    path = claim(write_zip(tmp_path / "a.zip", {"a": b"12345"}), "a", size=9)
    with open_zip(path) as archive, pytest.raises(DamagedFile, match=r"`a` is damaged \(it ends 4 bytes early\)"):
        read_member(archive, "a")


@pytest.mark.parametrize("name", ["/etc/a", "a/../../b", "..\\a", "\\a", "C:a", "\x1b[2Ja"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "a.zip", {name: b"1"})
    with pytest.raises(DamagedFile, match="is not a plain relative name") as raised, open_zip(path):
        pass
    assert str(raised.value).isprintable()


def test_two_members_or_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy((1,), content=bytes(8)), "b.npy": npy((), content=bytes(8))})
    path.write_bytes(path.read_bytes().replace(b"b.npy", b"a.npy"))
    with pytest.raises(DamagedFile, match="two of its members have the same name"):
        read_npz(path)
    path = write_zip(tmp_path / "a.npz", {"a.npy": npy((), content=bytes(8)), "a": npy((), content=bytes(8))})
    with pytest.raises(DamagedFile, match="two of its arrays have the same name"):
        read_npz(path)


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


def test_directory_that_has_lost_an_entry_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a": b"1", "b": b"2"})
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 32, 47)  # the first entry's comment is the second
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match="its directory has 1 members, expected 2"), open_zip(path):
        pass


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
