"""The page on OCBench: its commands train, evaluate, resume and compare on three tasks, at a small size."""

import pytest

from tests.docs.commands import run_all
from zoo.envs.tasks import OCBENCH

TINY = "-params net_arch=[16,16] ensemble_size=2 flow_steps=2 batch_size=16 horizon_length=2 buffer_size=1000"
SMALL = {"--offline-steps": "12", "--eval-freq": "6", "--episodes": "2", "--eval-episodes": "1"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one and where OCBench's data go."""
    pytest.importorskip("ocbench", reason="needs OCBench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("zoo.datasets.generate.EPISODES", 2)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_ocbenchs_page_works(place, capsys):
    extra = {"train": ["--n-eval-envs", "1", *TINY.split()], "compare": ["--reps", "50"]}
    name = "test_every_command_of_ocbenchs_page_works"
    results = run_all(name, capsys, lambda words: extra.get(words[1], []), SMALL)
    assert len({word for line in results for word in line.split() if word in OCBENCH}) == 3
    trained = {line: result for line, result in results.items() if line.startswith("zoo train")}
    assert len(trained) == 4
    assert [result["already_done"] for line, result in trained.items() if "--resume" in line] == [
        True
    ]
    assert all(
        (result["success"] is None) == ("bowling" in line) for line, result in trained.items()
    )
    report = (place / "report" / "report.html").read_text()
    assert all(name in report for name in OCBENCH if any(name in line for line in trained))
    assert (
        next(result for line, result in results.items() if " benchmark " in line)["runs"]
        == 5 * 28 * 4
    )
