"""Places of files, and checksums."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.datasets.files import making


def test_second_maker_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = []
    started = threading.Event()

    def second() -> None:
        started.set()
        with making(tmp_path / "a.npz"):
            order.append("second")

    with making(tmp_path / "a.npz"):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert "waiting for another process that is writing" in capsys.readouterr().err


def fail_making(path: Path, work: Callable[[], object]) -> None:
    with making(path):
        work()
        raise ZeroDivisionError


def test_second_maker_goes_on_after_the_first_has_failed_and_removed_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.npz"

    def make_second() -> None:
        with making(file):
            file.write_text("second")

    second = threading.Thread(target=make_second)

    def let_second_wait() -> None:
        second.start()
        second.join(timeout=0.2)

    with pytest.raises(ZeroDivisionError):
        fail_making(file, let_second_wait)
    second.join(timeout=10)
    assert file.read_text() == "second"
