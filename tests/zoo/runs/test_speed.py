import pytest

from zoo.runs.folder import RunFolder
from zoo.runs.speed import read_speed

HEADER = "time/total_timesteps,train/loss,time/updates_per_s,time/fps\n"


def speed_of(tmp_path, text):
    (tmp_path / "progress.csv").write_text(text)
    return read_speed(RunFolder(tmp_path))


def test_the_last_row_with_a_speed_counts(tmp_path):
    assert speed_of(tmp_path, HEADER + "100,1,50.5,\n200,1,40.5,\n200,,,\n") == (200, 40.5)
    assert speed_of(tmp_path, HEADER + "100,1,50.5,\n300,1,,20\n") == (300, 20.0)


def test_a_row_that_is_not_whole_yet_does_not_count(tmp_path):
    assert speed_of(tmp_path, HEADER + "100,1,50.5,\n200,1,4") == (100, 50.5)


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    rows = "".join(f"{step},{'1' * 100},50.5,\n" for step in range(1, 10_001))
    assert speed_of(tmp_path, HEADER + rows) == (10_000, 50.5)


@pytest.mark.parametrize(
    "text", ["", HEADER, "a,b\n1,2\n", HEADER + "x,1,2,\n", HEADER + "-5,1,2,\n", HEADER + "100,1,inf,\n100,1,nan,0\n"]
)
def test_a_log_without_a_sound_speed_tells_nothing(tmp_path, text):
    assert speed_of(tmp_path, text) is None


def test_a_run_without_a_log_tells_nothing(tmp_path):
    assert read_speed(RunFolder(tmp_path)) is None
