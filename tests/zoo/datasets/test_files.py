"""Places of files, and checksums."""

import threading

from zoo.datasets.files import locked_for_writing


def test_second_maker_waits_for_the_first(tmp_path, capsys):
    order = []
    started = threading.Event()

    def second():
        started.set()
        with locked_for_writing(tmp_path / "a.npz"):
            order.append("second")

    with locked_for_writing(tmp_path / "a.npz"):
        thread = threading.Thread(target=second)
        thread.start()
        started.wait()
        thread.join(timeout=1.0)  # longer than the second one tries before it says that it waits
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert ", which is writing " in capsys.readouterr().err
