"""A suite on a real Ray cluster of three nodes on this machine: a node that dies, SIGTERM, and wrong arguments."""

import contextlib
import importlib.util
import os
import signal

import pytest

from tests.zoo.suites.tiny import JOBS, assert_equal_runs, descendants, log_of
from zoo.benchmark import main
from zoo.terminal.errors import INTERRUPTED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'flow-rl-zoo[ray]'"
    ),
]
WORDS = ("--launcher", "ray", "--workers", "2", "--resources", "num_cpus=0", "resources.worker=1")


@pytest.fixture
def cluster():
    """Start a head without capacity for workers, and three nodes with capacity for one worker each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        for _ in range(3):
            cluster.add_node(num_cpus=1, resources={"worker": 1})
        yield cluster
    finally:
        cluster.shutdown()


def node_of(cluster, pid):
    """Return the node on which a process runs, and its processes, parents before their children."""
    for node in cluster.worker_nodes:
        processes = descendants(node.all_processes["raylet"][0].process.pid)
        if pid in processes:
            return node, processes
    raise AssertionError(f"process {pid} is on no node")


def test_a_suite_survives_the_death_of_a_node(cluster, project, reference, monkeypatch):
    with project.started(*WORDS, environment={"RAY_ADDRESS": cluster.address}) as driver:
        first = project.wait_for_training()
        project.update_takes(2.0)  # slow, so that the job is not finished before it is killed
        node, processes = node_of(cluster, first["pid"])
        cluster.remove_node(node, allow_graceful=False)
        # kill the whole node, as on a separate machine; Ray's worker first, which would report the death of its child
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        project.wait_for_another_life(first)
        project.update_takes(0.0)
        result = project.finish(driver)
        project.assert_files_stay()
    assert result["done"] == JOBS
    assert "resuming" in log_of(first["run"])
    assert_equal_runs(project, reference, monkeypatch)


def test_sigterm_lets_runs_write_checkpoints(cluster, project):
    with project.started(*WORDS, environment={"RAY_ADDRESS": cluster.address}) as driver:
        project.wait_for_training()
        driver.terminate()
        assert driver.wait(200) == INTERRUPTED
    assert set(project.states()) == {"interrupted"}


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        ("num_cpus=1", "no connection to a Ray cluster"),
        ("num_gpu=1", "num_gpus"),
    ],
)
def test_a_wrong_address_or_resource_is_refused(tmp_path, refusal, monkeypatch, resource, message):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    words = f"mini --algos fql -f {tmp_path / 'logs'} --launcher ray --resources {resource}"
    assert message in refusal(main, *words.split())
    assert not (tmp_path / "logs").exists()
