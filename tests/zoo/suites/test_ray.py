"""A suite on a real Ray cluster, of three nodes on this machine: a node that dies, Ctrl-C, and wrong arguments."""

import contextlib
import importlib.util
import os
import signal
import time

import pytest

from tests.zoo.suites.tiny import JOBS, assert_equal_runs, descendants, log_of
from zoo.benchmark import main
from zoo.terminal.errors import BAD_INPUT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'flow-rl-zoo[ray]'"
    ),
]
WORKERS = ("--workers", "2", "--resources", "num_cpus=0", "resources.worker=1")


@pytest.fixture
def cluster():
    """Start a head without room for workers, and three nodes with room for one each."""
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
    """Return the node on which a process runs."""
    return next(
        node
        for node in cluster.worker_nodes
        if pid in descendants(node.all_processes["raylet"][0].process.pid)
    )


@pytest.fixture
def words(cluster):
    return ("--launcher", "ray", "--ray-address", cluster.address, *WORKERS)


def test_a_suite_survives_the_death_of_a_node(cluster, words, project, reference, monkeypatch):
    with project.started(*words) as driver:
        first = project.wait_for_training()
        project.update_takes(2.0)  # so that it is not at its end before it is killed
        cluster.remove_node(node_of(cluster, first["pid"]), allow_graceful=False)
        os.kill(first["pid"], signal.SIGKILL)  # as on a machine of its own
        project.wait_for_another_life(first)
        project.update_takes(0.0)
        result = project.finish(driver, 400)
        project.assert_files_stay()
    assert result["done"] == JOBS
    assert "resuming" in log_of(first["run"])
    assert_equal_runs(project, reference, monkeypatch)


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "--ray-address ray://127.0.0.1:1": "ray://127.0.0.1:1",
        "--ray-address nonsense": "nonsense",
        "": "Ray",
        "--resources num_gpu=1": "num_gpus",
        "--resources num_gpus=all": "num_gpus",
        "--resources resources=1": "resources",
    }.items(),
)
def test_a_wrong_address_or_resource_is_refused_within_seconds(
    tmp_path, capfd, monkeypatch, words, message
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    begin = time.monotonic()
    with contextlib.chdir(tmp_path):
        assert main(f"mini -f {tmp_path / 'logs'} --launcher ray {words}".split()) == BAD_INPUT
    assert message in capfd.readouterr().err
    assert time.monotonic() - begin < 15
    assert not (tmp_path / "logs").exists()
