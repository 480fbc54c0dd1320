from unittest.mock import Mock

import pytest

from tests.zoo.outcomes import change_status
from tests.zoo.runs.helpers import write_run
from zoo import monitor

RETURNS = {"algo": "sac", "env": "Pendulum-v1", "offline": (), "has_success": False}


@pytest.fixture
def run(call):
    """Return a function that runs the program, and returns its result and its tables' lines, with single spaces."""

    def run(*words):
        result, shown = call(monitor.main, *words)
        return result, [" ".join(line.split()) for line in shown.splitlines()]

    return run


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


def test_states_are_shown_once_and_a_dead_run_is_named(tmp_path, run, monkeypatch):
    monkeypatch.setattr("time.sleep", None)
    write_run(tmp_path / "done", offline=(25,))
    write_run(tmp_path / "running", seed=1, offline=(25,), state="running")
    folder = write_run(tmp_path / "dead", seed=2, offline=(25,), state="running")
    change_status(folder, updated="2026-11-01T00:00:00+00:00")
    for name in ("diverged", "again"):
        folder = write_run(tmp_path / name, seed=3, offline=(25,), state="failed")
        change_status(folder, failure="diverged", reason="actor_loss is not finite")
    (write_run(tmp_path / "broken") / "config.yml").write_text("{")
    result, lines = run(tmp_path)
    counts = {"done": 1, "running": 1, "dead": 1, "diverged": 2, "unknown": 1}
    assert result == {"runs": 6, **counts}
    assert any("broken: config.yml cannot be read" in line for line in lines)
    assert " ".join(lines).count("diverged: at offline step 1,000 of 1,000") == 2
    assert "method environment runs step left score at" in lines
    assert "its process is gone; --resume continues it" in " ".join(lines)


def test_the_run_that_is_furthest_behind_says_the_step(tmp_path, run):
    steps = {"offline_steps": 499_900, "online_steps": 500_000, "pretraining_steps": 100_000}
    for seed, (done, speed) in enumerate([(600_000, 100), (300_000, 200)]):
        folder = write_run(tmp_path / str(seed), seed=seed, offline=(25,), state="running", **steps)
        change_status(folder, offline_step=done + 10_000)
        log = f"""\
time/total_timesteps,time/total_seconds,time/updates_per_s,time/fps,eval/success_rate
{done},1,1,,
{done + 100_000},9,{speed},,
{done},,,,0.5
"""
        (folder / "progress.csv").write_text(log)
    # a finished run contributes nothing to the remaining time
    write_run(tmp_path / "done", seed=2, offline=(25,), **steps)
    (line,) = [line for line in run(tmp_path)[1] if line.startswith("qam")]
    assert "310k/1M" in line  # the checkpoint is newer than the log
    assert "1:06:39" in line  # 399,900 steps at 100 per second, not 699,900 at 200


def test_scores_are_those_of_the_last_step_that_all_runs_have_reached(tmp_path, run):
    runs = [(1, (50, 50)), (0, (5, 20)), (1, (15,))]  # the last one replaces the first
    for day, (seed, online) in enumerate(runs, start=1):
        options = {"seed": seed, "state": "running", "online_steps": 2000}
        folder = write_run(tmp_path / str(day), offline=(25,), online=online, **options)
        time = f"2026-11-0{day}T00:00:00+00:00"
        change_status(folder, offline_step=1000, online_step=40, updated=time)
    (line,) = [line for line in run(tmp_path)[1] if line.startswith("qam")]
    assert "3 dead 1.04k/3k - 20.0% 2k" in line


def test_watch_refreshes_until_the_last_run_is_done(tmp_path, run, monkeypatch):
    write_run(tmp_path / "c", env="Third-v0")
    naps, folder = [], write_run(tmp_path / "a", state="running", **RETURNS | {"offline": (-1.0,)})

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            change_status(folder, state="done")
            write_run(tmp_path / "b", **RETURNS | {"env": "Other-v0", "offline": (-1500.0,)})

    monkeypatch.setattr("time.sleep", sleep)
    result, lines = run(tmp_path, "--watch", "3")
    assert naps == [3.0, 3.0]
    assert result == {"runs": 3, "done": 3}
    assert "sac Other 1 done 1k/1k - -1,500 1k" in lines
    change_status(folder, state="running")
    monkeypatch.setattr("time.sleep", Mock(side_effect=KeyboardInterrupt))
    assert run(tmp_path, "--watch")[0]["running"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{}/nowhere", "expected a folder of runs, got `{}/nowhere`"),
        ("{}/empty", "there are no run folders in {}/empty; to see the trials of a study"),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(tmp_path, refusal, words, message):
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "empty").mkdir()
    assert message.format(tmp_path) in refusal(monitor.main, *words.format(tmp_path).split())
