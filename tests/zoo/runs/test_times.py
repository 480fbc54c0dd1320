"""How long a run has taken, from logs of every history."""

import json

import pytest

from tests.zoo.runs.helpers import write_run
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.read import read_speed, read_times

SPEED_HEADER = "time/total_timesteps,time/time_elapsed,time/updates_per_s,time/fps\n"
OFFLINE = (
    "time/total_timesteps,time/time_elapsed,time/updates_per_s,train/n_updates,eval/success_rate\n"
)


def run_with(folder, progress, versions=None, **config):
    write_run(folder, **config)
    (folder / "progress.csv").write_text(progress)
    (folder / "versions.json").write_text(json.dumps(versions or {}))
    return RunFolder(folder)


def test_rows_without_a_time_are_evaluations(tmp_path):
    text = OFFLINE + "100,10,10.0,100,\n100,,,,0.5\n200,20,10.0,200,\n"
    times = read_times(run_with(tmp_path / "a", text, {"device": "NVIDIA H200"}))
    assert times.steps.tolist() == [100, 200]
    assert times.seconds.tolist() == [10, 20]
    assert times.hours == pytest.approx(20 / 3600)
    assert (times.updates_per_second, times.replicas, times.machine) == (10, 1, "NVIDIA H200")


def test_the_parts_of_an_interrupted_run_of_an_older_release_add_up(tmp_path):
    text = OFFLINE + "100,10,10.0,100,\n200,20,10.0,200,\n300,10,10.0,300,\n400,20,10.0,400,\n"
    assert read_times(run_with(tmp_path / "a", text)).seconds.tolist() == [10, 20, 30, 40]


def test_a_slower_phase_after_a_faster_one_adds_up_though_its_clock_never_goes_back(tmp_path):
    text = SPEED_HEADER + "1000,7,99.5,\n1500,15,,33\n2000,30,,33\n"
    assert read_times(run_with(tmp_path / "a", text)).seconds.tolist() == [7, 22, 37]


def test_the_seconds_of_the_whole_run_count_where_they_are_logged(tmp_path):
    text = "time/total_timesteps,time/time_elapsed,time/total_seconds\n100,6,6.0\n200,6,12.0\n"
    assert read_times(run_with(tmp_path / "a", text)).seconds.tolist() == [6, 12]


def test_online_speed_has_another_name_and_the_phase_its_own_clock(tmp_path):
    text = (
        "time/total_timesteps,time/time_elapsed,time/updates_per_s,train/n_updates,time/fps\n"
        "1000,10,99.5,1000,\n2000,20,99.6,2000,\n2500,15,,2400,33\n3000,30,,2900,33\n"
    )
    times = read_times(run_with(tmp_path / "a", text))
    assert times.seconds.tolist() == [10, 20, 35, 50]
    assert times.updates_per_second == pytest.approx(1900 / 40)
    assert times.machine == "not recorded"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "time/total_timesteps,eval/mean_reward\n150,-1\n",
        OFFLINE + "100,ten,1,100,\n",
    ],
)
def test_damaged_logs_are_named(tmp_path, text):
    with pytest.raises(UnreadableRun, match=r"progress\.csv "):
        read_times(run_with(tmp_path / "a", text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SPEED_HEADER + "100,1,50.5,\n200,1,40.5,\n200,,,\n", (200, 40.5)),
        (SPEED_HEADER + "100,1,50.5,\n300,1,,20\n", (300, 20.0)),
        (SPEED_HEADER + "100,1,50.5,\n200,1,4", (100, 50.5)),  # a row that is not whole yet
        ("", None),
        ("a,b\n1,2\n", None),
        (SPEED_HEADER + "x,1,2,\n", None),
    ],
)
def test_the_last_row_with_a_sound_speed_counts(tmp_path, text, expected):
    (tmp_path / "progress.csv").write_text(text)
    assert read_speed(RunFolder(tmp_path)) == expected
