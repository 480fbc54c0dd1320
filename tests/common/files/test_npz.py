"""Arrays in ``.npz`` files are read as they were saved, or the file is rejected."""

import pickle
import zipfile

import numpy as np

from agents.common.files import DamagedFileError
from agents.common.files.npz import read_npz, read_npz_headers
from tests.common.toys import refuses


def test_only_arrays_that_are_asked_for_or_headers_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((2, 3), np.float32), b=np.array([{}], dtype=object))
    assert list(read_npz(tmp_path / "a.npz", ["a", "c"])) == ["a"]
    assert read_npz_headers(tmp_path / "a.npz") == {"a": ((2, 3), np.float32), "b": ((1,), object)}
    with refuses(r"`b\.npy` must hold numbers, got Python objects", DamagedFileError):
        read_npz(tmp_path / "a.npz")


def test_no_flipped_bit_or_cut_file_is_read_as_other_content(tmp_path):
    array, path, silent = np.arange(4.0), tmp_path / "a.npz", []
    np.savez(path, a=array)
    content = path.read_bytes()
    for position in range(0, 8 * len(content), 11):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            arrays = read_npz(path)
        except DamagedFileError:
            continue
        if "a" in arrays and not np.array_equal(arrays["a"], array):
            silent.append(position)
    assert silent == []
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with refuses(r"a\.npz cannot be read: ", DamagedFileError):
            read_npz(path)


def test_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(DamagedFileError("a.npz", "it is bad", "make it again")))
    assert str(error) == "a.npz cannot be read: it is bad; make it again"


def test_header_that_promises_more_than_file_has_takes_no_memory(tmp_path):
    header = {"descr": "<f8", "fortran_order": False, "shape": (1 << 50,)}
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(bytes(8))
    with refuses("has 8 bytes, which does not match float64 of shape", DamagedFileError):
        read_npz(tmp_path / "a.npz")
