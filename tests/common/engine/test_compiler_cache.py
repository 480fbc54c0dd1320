"""Cut libraries in the compiler's cache."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from agents.common.engine.strategies import remove_cut_libraries
from tests.common.toys import step, tiny_model

_found = importlib.util.find_spec("_ctypes")
WHOLE = Path(_found.origin).read_bytes() if _found is not None and _found.origin else b""  # some library
pytestmark = pytest.mark.skipif(not WHOLE.startswith(b"\x7fELF"), reason="needs a library in Linux's format")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a library in the compiler's cache that has lost its end."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    path = tmp_path / "ab" / "cabc.main.so"
    path.parent.mkdir()
    path.write_bytes(WHOLE[:-1])
    return path


@pytest.mark.parametrize("size", [0, 1, 63, 64, len(WHOLE) // 2])
def test_a_cut_library_is_removed_and_named(library: Path, size: int) -> None:
    library.write_bytes(WHOLE[:size])
    with pytest.warns(UserWarning, match=str(library)):
        remove_cut_libraries()
    assert not library.exists()


def test_a_whole_library_stays(library: Path, recwarn: pytest.WarningsRecorder) -> None:
    library.write_bytes(WHOLE)
    remove_cut_libraries()
    assert library.read_bytes() == WHOLE
    assert not recwarn.list


def test_a_library_that_another_process_is_compiling_is_left_alone(library: Path) -> None:
    (library.parents[1] / "locks").mkdir()
    with FileLock(library.parents[1] / "locks" / "cabc.lock"):
        remove_cut_libraries()
    assert library.exists()


def test_it_is_removed_before_updates_are_compiled(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    model = tiny_model("bc", compile="on")
    with pytest.warns(UserWarning, match=str(library)):
        step(model)
    assert not library.exists()
    assert model.trainer.mode.compiled
