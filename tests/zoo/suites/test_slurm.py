"""A suite on a real Slurm, of two nodes on this machine: nodes that die, signals, and a driver that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zoo.suites import slurm
from tests.zoo.suites.tiny import JOBS, Project, assert_equal_runs, is_alive, logs_beside, wait_for

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


WORKERS = ("--launcher", "slurm", "--workers", "2")


@pytest.fixture
def project(data: Path, tmp_path: Path) -> Project:
    return Project(tmp_path / "project", data, seconds=0.05)


@pytest.mark.parametrize("is_suspended", [False, True], ids=["lives on", "is suspended"])
def test_a_suite_survives_the_death_of_a_node_whose_processes_do_not_die(
    is_suspended: bool, cluster: slurm.SlurmCluster, project: Project, reference: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with project.started(*WORKERS, environment=cluster.environment) as driver:
        first = project.wait_for_training(lambda claim: cluster.holds("n1", claim["path"]))
        project.update_takes(2.0)  # so that neither life comes to the end before it is taken over
        old = cluster.kill_daemons("n1")
        assert len(old) >= 2  # worker and training process
        for pid in old if is_suspended else ():
            os.kill(pid, signal.SIGSTOP)
        project.wait_for_another_life(first)
        project.update_takes(0.0)
        if not is_suspended:
            wait_for(lambda: not any(map(is_alive, old)), 60)
        result = project.finish(driver, 400)
        before = project.fingerprints()
        for pid in old if is_suspended else ():
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: not any(map(is_alive, old)), 60)
        project.assert_unchanged_since(before)
    assert result["done"] == JOBS
    (lost,) = [record for record in project.ended() if record["outcome"] == "lost"]
    assert (lost["job"], lost["reason"]) == (first["job"], "its owner was started again")
    assert_equal_runs(project, reference, monkeypatch)


def test_a_signal_leads_to_a_checkpoint_and_back_to_the_queue_and_a_killed_driver_to_nothing_twice(
    cluster: slurm.SlurmCluster, project: Project, reference: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project.started(*WORKERS, environment=cluster.environment):
        first = project.wait_for_training(lambda claim: cluster.holds("n1", claim["path"]))
    array, number = "1", first["owner"].partition("/")[2]
    cluster.run("scancel", "--signal=USR2", f"{array}_{number}")
    wait_for(lambda: any(record["job"] == first["job"] for record in project.ended()), 60, "for a checkpoint")
    with project.started(*WORKERS, environment=cluster.environment) as driver:
        assert project.finish(driver, 400)["done"] == JOBS
    wait_for(lambda: len(project.ended()) == JOBS + 1, 60, "for the records of workers, which may be written last")
    records = sorted((r for r in project.ended() if r["job"] == first["job"]), key=lambda record: record["begin"])
    assert [record["outcome"] for record in records] == ["interrupted", "done"]
    assert "resuming" in logs_beside(first)
    assert_equal_runs(project, reference, monkeypatch)
