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


def log_speed(folder, *rows):
    header = "time/total_timesteps,time/total_seconds,time/updates_per_s,time/fps,eval/success_rate"
    (folder / "progress.csv").write_text("\n".join([header, *rows, ""]))


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
    result, lines = run(tmp_path)
    assert result == {"runs": 5, "done": 1, "running": 1, "dead": 1, "diverged": 2}
    assert " ".join(lines).count("diverged: at offline step 1,000 of 1,000") == 2
    assert "method environment runs step left score at" in lines
    assert "its process is gone; --resume continues it" in " ".join(lines)


def test_the_run_that_is_furthest_behind_says_the_step(tmp_path, run):
    steps = {"offline_steps": 1_000_000, "online_steps": 500_000}
    for seed, (done, speed) in enumerate([(600_000, 100), (300_000, 200)]):
        folder = write_run(tmp_path / str(seed), seed=seed, offline=(25,), state="running", **steps)
        log_speed(folder, f"{done - 100_000},1,1,,", f"{done},9,{speed},,", f"{done},,,,0.5")
    # a finished run contributes nothing to the remaining time
    write_run(tmp_path / "done", seed=2, offline=(25,), **steps)
    (line,) = [line for line in run(tmp_path)[1] if line.startswith("qam")]
    assert "300k/1.5M" in line
    assert "2:30:00" in line  # 900,000 steps at 100 per second, not 1,200,000 at 200


def test_a_run_that_cannot_be_read_is_shown(tmp_path, run):
    (write_run(tmp_path / "a") / "config.yml").write_text("{")
    result, _ = run(tmp_path)
    assert result == {"runs": 1, "unknown": 1}


def test_a_dead_run_is_as_far_as_its_last_checkpoint(tmp_path, run):
    folder = write_run(tmp_path / "a", offline=(25,), state="running")
    change_status(folder, updated="2026-11-01T00:00:00+00:00", offline_step=0)
    (line,) = [line for line in run(tmp_path)[1] if line.startswith("qam")]
    assert "1 dead 0/1k" in line
    assert " 50.0% 1k" in line


def test_watch_refreshes_until_the_last_run_is_done(tmp_path, run, monkeypatch):
    naps, folder = [], write_run(tmp_path / "a", state="running", **RETURNS | {"offline": (-1.0,)})

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            change_status(folder, state="done")
            write_run(tmp_path / "b", **RETURNS | {"env": "Other-v0", "offline": (-1500.0,)})

    monkeypatch.setattr("time.sleep", sleep)
    result, lines = run(tmp_path, "--watch", "3")
    assert naps == [3.0, 3.0]
    assert result == {"runs": 2, "done": 2}
    assert "sac Other 1 done 1k/1k - -1,500 1k" in lines


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
