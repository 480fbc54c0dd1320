"""How far a suite is, and what is left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.suites.jobs import Job, Machine, State
from zoo.suites.overview import Look, Trial, describe, forecast, summary
from zoo.suites.suite import Run


def look(
    algo: str, env: str, state: State, seconds: float | None = None, size: int = 0, seeds: int = 2, reason: str = ""
) -> Look:
    run = Run(algo, f"{env}-singletask-task1-v0", tuple(range(seeds)))
    return Look(Job(run, Machine(Path("logs")), (), algo, {}, 1_000), state, seconds, size, reason)


def test_what_is_left_takes_as_long_as_finished_jobs_of_its_algorithm_and_domain() -> None:
    looks = [
        look("fql", "scene-play", State.DIVERGED, seconds=1.0),  # before its last step
        look("fql", "scene-play", State.DONE, seconds=20.0, size=400),
        look("fql", "cube-single-play", State.DONE, seconds=99.0, size=600),
        look("fql", "scene-play", State.WAITING, seeds=4),
    ]
    found = forecast(looks)
    assert (found.seconds, found.measured, found.left) == (pytest.approx(40.0), 1, 1)
    assert found.disk_bytes == 4 * 250


def test_without_such_a_job_a_trial_tells_the_time_then_the_same_algorithm_then_all() -> None:
    done = look("fql", "scene-play", State.DONE, seconds=20.0)
    left = look("qam", "scene-play", State.WAITING)
    trial = Trial(seconds_per_step=0.5, folder_bytes=7.0)
    assert forecast([done, left], trials={"qam": trial}).seconds == pytest.approx(0.5 * 2_000)
    assert forecast([done, left]).seconds == pytest.approx(20.0)
    elsewhere = look("qam", "cube-single-play", State.DONE, seconds=60.0)
    assert forecast([done, elsewhere, left]).seconds == pytest.approx(60.0)


def test_what_was_never_tried_has_no_estimate_and_what_is_done_costs_nothing() -> None:
    left, done = look("qam", "scene-play", State.WAITING), look("qam", "scene-play", State.DIVERGED)
    assert summary([left], forecast([left]))["hours_left"] is None
    assert "nothing is known of their time" in describe([left], None, forecast([left]))
    found = summary([done], forecast([done]))
    assert (found["hours_left"], found["gigabytes_left"]) == (0.0, 0.0)


def test_failures_are_named_with_their_reason_and_counted() -> None:
    looks = [
        look("qam", "scene-play", State.FAILED, reason="no luck"),
        look("fql", "scene-play", State.DIVERGED, reason="training diverged: NaN"),
        look("bc", "scene-play", State.DONE, seconds=3_600.0, size=10**9),
    ]
    found = summary(looks, forecast(looks))
    assert (found["failed"], found["diverged"], found["done"], found["runs"]) == (1, 1, 1, 6)
    assert [problem["reason"] for problem in found["problems"]] == ["no luck", "training diverged: NaN"]
    text = describe(looks, 4, forecast(looks))
    assert "failed: qam on scene-play-singletask-task1-v0, seeds 0, 1: no luck" in text
    assert "1.0 h of one worker, 0.2 h with 4 workers, and 1.0 GB; 0 of 1 by finished jobs" in text
