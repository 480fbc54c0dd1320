"""A suite on this machine, whose program is stopped, killed and started twice at once."""

import signal

import pytest

from tests.zoo.suites.tiny import JOBS, Project, assert_equal_runs, wait_for
from zoo.processes.locks import HOST, Lock


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_run_comes_to_its_end_once_with_the_scores_of_an_undisturbed_suite(
    data, tmp_path, reference, monkeypatch
):
    project = Project(tmp_path / "project", data, seconds=0.05)
    words = ("--workers", "2")
    with project.started(*words) as driver:
        project.wait_for_training()
        driver.send_signal(signal.SIGINT)
        assert driver.wait(120) == 3
    assert "start the same command again to continue" in project.messages()
    assert {record["outcome"] for record in project.records()} >= {"interrupted"}
    with project.started(*words):
        # the program is killed then, and what it has started goes on
        wait_for(project.training, 120)
    with project.started(*words) as driver:
        lock = Lock(project.logs / "suite.lock")
        owner = f"process {driver.pid} on {HOST}, since 2"
        wait_for(lambda: lock.describe_holder().startswith(owner), 60)
        with project.started(*words) as second_driver:
            assert second_driver.wait(60) == 2
        assert f"are being trained by {owner}" in project.messages()
        project.update_takes(0.0)
        assert project.finish(driver, 400)["done"] == JOBS
    assert_equal_runs(project, reference, monkeypatch)
