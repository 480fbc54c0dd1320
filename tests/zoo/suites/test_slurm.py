"""A suite on a real Slurm, of two nodes on this machine: nodes that die, signals, and a driver that is killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zoo.suites import slurm
from tests.zoo.suites.tiny import JOBS, Project, assert_equal_runs, end, is_alive, logs_beside, wait_for

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[slurm.SlurmCluster]:
    with slurm.SlurmCluster(tmp_path / "slurm") as started:
        yield started


@pytest.mark.parametrize("old_life", ["lives on", "is suspended"])
def test_a_suite_survives_the_death_of_a_node_whose_processes_do_not_die(
    old_life: str,
    cluster: slurm.SlurmCluster,
    data: Path,
    reference: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Project(tmp_path / "project", data, seconds=0.05)
    driver = project.start("--launcher", "slurm", "--workers", "2", environment=cluster.environment)
    try:
        first = project.wait_for_training(lambda claim: cluster.holds("n1", claim["path"]))
        project.update_takes(2.0)  # so that neither life comes to the end before it is taken over
        old = cluster.kill_daemons("n1")
        assert len(old) >= 2  # worker and training process
        if old_life == "is suspended":
            for pid in old:
                os.kill(pid, signal.SIGSTOP)

        def later() -> bool:
            return any(claim["job"] == first["job"] and claim["path"] != first["path"] for claim in project.claims())

        waited = wait_for(later, 200, "for another life of the worker")
        project.update_takes(0.0)
        ended = None if old_life == "is suspended" else wait_for(lambda: not any(map(is_alive, old)), 60)
        result = project.finish(driver, 400)
        before = project.fingerprints()
        if old_life == "is suspended":
            for pid in old:
                os.kill(pid, signal.SIGCONT)
            ended = wait_for(lambda: not any(map(is_alive, old)), 60)
        print(f"\nold life {old_life}: continued after {waited:.1f} s; the old one ended {ended:.1f} s after that")
        time.sleep(3)
        assert project.fingerprints() == before
    finally:
        end(driver)
    assert result["done"] == JOBS
    (lost,) = [record for record in project.ended() if record["outcome"] == "lost"]
    assert (lost["job"], lost["reason"]) == (first["job"], "its owner was started again")
    assert_equal_runs(project, reference, monkeypatch)


def test_a_signal_leads_to_a_checkpoint_and_back_to_the_queue_and_a_killed_driver_to_nothing_twice(
    cluster: slurm.SlurmCluster, data: Path, reference: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path / "project", data, seconds=0.05)
    drivers = [project.start("--launcher", "slurm", "--workers", "2", environment=cluster.environment)]
    try:
        first = project.wait_for_training(lambda claim: cluster.holds("n1", claim["path"]))
        drivers[0].kill()
        drivers[0].wait()
        array, number = "1", first["owner"].partition("/")[2]
        begin = time.monotonic()
        cluster.run("scancel", "--signal=USR2", f"{array}_{number}")
        wait_for(lambda: any(record["job"] == first["job"] for record in project.ended()), 60, "for a checkpoint")
        stopped = time.monotonic() - begin
        drivers.append(project.start("--launcher", "slurm", "--workers", "2", environment=cluster.environment))
        result = project.finish(drivers[1], 400)
    finally:
        for driver in drivers:
            end(driver)
    assert result["done"] == JOBS
    wait_for(lambda: len(project.ended()) == JOBS + 1, 60, "for the records of workers, which may be written last")
    records = sorted((r for r in project.ended() if r["job"] == first["job"]), key=lambda record: record["begin"])
    assert [record["outcome"] for record in records] == ["interrupted", "done"]
    print(
        f"\nstopped with a checkpoint after {stopped:.1f} s; continued {records[1]['begin'] - records[0]['end']:.1f} s"
    )
    assert "resuming" in logs_beside(first)
    assert_equal_runs(project, reference, monkeypatch)
