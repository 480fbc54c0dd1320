import json

import pytest

from tests.zoo.runs.test_read import write_run
from zoo import monitor


def run(capsys, *words):
    """Run the program; return its exit code, its result and the words of each line that it printed."""
    code = monitor.main([str(word) for word in words])
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    result = json.loads(lines[-1]) if code == 0 else None
    return code, result, [line.split() for line in lines] if code == 0 else captured.err


def log_speed(folder, *rows):
    header = "time/total_timesteps,time/time_elapsed,time/updates_per_s,time/fps,eval/success_rate\n"
    (folder / "progress.csv").write_text(header + "".join(f"{row}\n" for row in rows))


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def no_sleep(monkeypatch):
    """Return the naps that watching takes."""
    naps = []
    monkeypatch.setattr("time.sleep", naps.append)
    return naps


def test_states_are_shown_once_without_a_flag_although_a_run_goes_on(tmp_path, capsys, no_sleep):
    write_run(tmp_path / "a", offline=(25,))
    write_run(tmp_path / "b", seed=1, offline=(25,), state="running")
    code, result, lines = run(capsys, tmp_path)
    assert code == 0
    assert result == {"runs": 2, "done": 1, "running": 1}
    assert ["method", "environment", "runs", "step", "left", "%", "at"] in lines
    assert not no_sleep


def test_a_dead_run_is_not_called_running_and_is_named(tmp_path, capsys):
    write_run(tmp_path / "a", offline=(25,), state="running")
    folder = write_run(tmp_path / "b", seed=1, offline=(25,), state="running")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"updated": "2026-11-01T00:00:00+00:00"}))
    _, result, lines = run(capsys, tmp_path)
    assert result == {"runs": 2, "running": 1, "dead": 1}
    assert "its process is gone; --resume continues it" in " ".join(word for line in lines for word in line)


def test_the_run_that_is_furthest_behind_says_the_step_and_the_slowest_the_time_left(tmp_path, capsys):
    steps = {"offline_steps": 1_000_000, "online_steps": 500_000}
    for seed, (done, speed) in enumerate([(600_000, 100), (300_000, 200)]):
        folder = write_run(tmp_path / str(seed), seed=seed, offline=(25,), state="running", **steps)
        log_speed(folder, f"{done - 100_000},1,1,,", f"{done},9,{speed},,", f"{done},,,,0.5")
    write_run(tmp_path / "done", seed=2, offline=(25,), **steps)  # is at its end, says nothing about the others
    (line,) = [line for line in run(capsys, tmp_path)[2] if "qam" in line]
    assert "300k/1.5M" in line
    assert " ".join(line[-6:-2]) == "2 h 30 min"  # 900,000 steps at 100 per second, not 1,200,000 at 200


def test_the_last_speed_of_a_long_log_counts_wherever_it_is(tmp_path, capsys):
    rows = [f"{step},{step},,,0.5" for step in range(1001, 3000)]  # more than is looked at first
    for label, log in (("early", ["1000,10,100,,", *rows]), ("late", [*rows, "3000,10,50,,"])):
        folder = write_run(tmp_path / label, label=label, state="running", offline_steps=183_000)
        log_speed(folder, *log)
    lines = {line[0]: " ".join(line) for line in run(capsys, tmp_path)[2] if line}
    assert "30 min" in lines["early"]  # 182,000 steps at 100 per second
    assert "1 h 0 min" in lines["late"]  # 180,000 steps at 50 per second


def test_success_and_returns_have_columns_of_their_own(tmp_path, capsys):
    write_run(tmp_path / "a", offline=(25,))
    write_run(tmp_path / "b", algo="sac", env="Pendulum-v1", offline=(), online=(-1500.0,), has_success=False)
    lines = run(capsys, tmp_path)[2]
    assert ["method", "environment", "runs", "step", "left", "%", "return", "at"] in lines
    assert any(words[-3:] == ["50.0", "-", "1k"] for words in lines)
    assert any(words[-3:] == ["-", "-1,500", "1k"] for words in lines)
    lines = run(capsys, tmp_path, "--reference-scores", "Pendulum-v1=-2000,-1000")[2]
    assert any(words[-3:] == ["-", "50.0", "1k"] for words in lines)


def test_runs_that_failed_or_cannot_be_read_are_named_at_most_ten(tmp_path, capsys):
    for seed in range(12):
        write_run(tmp_path / f"failed{seed}", seed=seed, state="failed")
    (write_run(tmp_path / "broken") / "config.yml").unlink()
    _, result, lines = run(capsys, tmp_path)
    assert result == {"runs": 13, "failed": 12, "unknown": 1}
    shown = [" ".join(line) for line in lines]
    assert sum(line.startswith("! /") for line in shown) == 10
    assert any("broken: config.yml is missing" in line for line in shown)
    assert "! and 3 more; `zoo compare PATH -o DIR` lists all in runs.csv" in shown


def test_curves_of_all_runs_are_shown_unfinished_ones_included(tmp_path, capsys):
    write_run(tmp_path / "a", offline=(0, 25, 50), online=(50,))
    write_run(tmp_path / "b", seed=1, offline=(0, 10), state="running")
    _, result, lines = run(capsys, tmp_path, "--curve")
    assert result == {"runs": 2, "done": 1, "running": 1}
    assert [line[-4:] for line in lines if "qam" in line] == [
        ["▁▅█|█", "4,000", "100.0", "done"],
        ["▁▂|", "2,000", "20.0", "running"],
    ]


def test_curves_of_returns_span_the_range_of_their_environment_in_a_table_of_their_own(tmp_path, capsys):
    write_run(tmp_path / "a", offline=(0, 25, 50))
    for seed, returns in enumerate([(-1500.0, -800.0), (-1000.0, -100.0)]):
        more = {"offline": (), "online": returns, "has_success": False}
        write_run(tmp_path / str(seed), algo="sac", env="Pendulum-v1", seed=seed, **more)
    assert monitor.main([str(tmp_path), "--curve"]) == 0
    success, returns = capsys.readouterr().out.split("return (bars span its range on each environment)")
    assert "▁▅█|" in success
    assert "100.0" in success
    assert "sac" not in success
    assert "|▁▅" in returns
    assert "|▃█" in returns
    assert "-800" in returns
    assert "%" not in returns


def test_watch_refreshes_from_before_the_first_run_until_the_last_is_done(tmp_path, capsys, monkeypatch):
    naps, status = [], tmp_path / "a" / "status.json"

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 1:
            write_run(status.parent, env="Pendulum-v1", has_success=False, state="running")
        else:
            status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "done"}))

    monkeypatch.setattr("time.sleep", sleep)
    _, result, lines = run(capsys, tmp_path, "--reference-scores", "Pendulum-v1=-1,0", "--watch", "3")
    assert naps == [3.0, 3.0]
    assert result == {"runs": 1, "done": 1}
    assert any("1 done" in " ".join(line) for line in lines)


def test_watch_is_ended_by_an_interrupt_without_an_error(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "a", state="running")

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    assert run(capsys, tmp_path, "--watch")[:2] == (0, {"runs": 1, "running": 1})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/nowhere"], "expected a folder of runs, got `{tmp}/nowhere`"),
        (["{tmp}/empty"], "expected run folders below {tmp}/empty, got none; --watch waits for the first one"),
        (["{tmp}/runs", "--reference-scores", "nonsense"], "must be ENV=RANDOM,EXPERT or a YAML file"),
    ],
)
def test_bad_input_is_refused_with_exit_code_2(tmp_path, capsys, words, message):
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert code == 2
    assert message.format(tmp=tmp_path) in err
