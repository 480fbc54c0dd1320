"""The page of runs at the papers' size."""

from benchmarks import full_size
from zoo.runs.folder import RunFolder


def test_runs_without_an_evaluation_are_refused_with_what_to_do(tmp_path, capsys):
    RunFolder.create(tmp_path, "qam", "scene-play-singletask-task4-v0", 0)
    assert full_size.main(["-f", str(tmp_path), "-o", str(tmp_path)]) == 2
    assert "train some first" in capsys.readouterr().err
