"""A suite on a real Slurm cluster of two nodes on this machine: nodes that die, signals, and a killed launcher."""

import os
import signal

import pytest

from tests.zoo.suites import slurm
from tests.zoo.suites.tiny import JOBS, assert_equal_runs, log_of, wait_for

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]


@pytest.fixture
def cluster(tmp_path):
    with slurm.SlurmCluster(tmp_path / "slurm") as started:
        yield started


WORKERS = ("--launcher", "slurm", "--workers", "2")


@pytest.mark.parametrize("is_suspended", [False, True], ids=["lives on", "is suspended"])
def test_suite_survives_death_of_node_whose_processes_do_not_die(
    is_suspended, cluster, project, reference,
    monkeypatch,
):  # fmt: skip
    # all jobs run at the same time, so that the dead node's job need not wait for another
    with project.started(
        "--launcher", "slurm", "--workers", str(JOBS), environment=cluster.environment
    ) as driver:
        first = project.wait_for_training(lambda holder: cluster.trains("n1", holder["run"]))
        # slow, so that the job is not finished before Slurm restarts it
        project.update_takes(2.0)
        old = cluster.kill_daemons("n1")
        assert len(old) >= 2  # the task's and the training process
        for pid in old if is_suspended else ():
            os.kill(pid, signal.SIGSTOP)
        logs = project.logs / ".jobs" / "slurm"
        wait_for(
            lambda: any(
                "is being trained by process" in log.read_text() for log in logs.glob("*.err")
            ),
            300,
        )
        for pid in old if is_suspended else ():
            os.kill(pid, signal.SIGCONT)
        project.update_takes(0.0)
        result = project.finish(driver)
        project.assert_files_stay()
    assert result["done"] == JOBS
    assert "resuming" not in log_of(first["run"])
    assert_equal_runs(project, reference, monkeypatch)


def test_a_signal_leads_to_a_checkpoint_and_back_to_the_queue(
    cluster, project, reference, monkeypatch
):
    with project.started(*WORKERS, environment=cluster.environment):
        first = project.wait_for_training()
    cluster.run("scancel", "--signal=USR2", "1")
    wait_for(
        lambda: "interrupted" in project.states(),
        60,
        "for a checkpoint",
    )
    with project.started(*WORKERS, environment=cluster.environment) as driver:
        assert project.finish(driver)["done"] == JOBS
    assert "submitted Slurm job 2" not in project.messages()
    assert "resuming" in log_of(first["run"])
    assert_equal_runs(project, reference, monkeypatch)
