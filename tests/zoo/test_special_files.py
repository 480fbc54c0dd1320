"""Unusual files and places: pipes and devices are refused at once, and what works elsewhere is told."""

import os
import shutil
import signal

import pytest

import tests.zoo.envs.namespaced  # registers the environment
from agents.common.files import digest_of, read_text, regular_file
from agents.common.files.npz import read_npz
from agents.common.model_file import read_about, read_attributes, read_model_file, read_policy
from tests.zoo.test_train_program import TINY
from zoo.compare import main as compare
from zoo.datasets.check import check_structure
from zoo.datasets.formats.read import environment_of, has_rewards, read_source
from zoo.datasets.names import DATASETS
from zoo.errors import UsageError
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs
from zoo.settings.layers import read_yaml_text
from zoo.suites.suite import read_suite
from zoo.train import main
from zoo.tuning.options import open_storage

SECONDS = 20
KINDS = {"a pipe": lambda path: os.mkfifo(path), "a link to a device": lambda path: path.symlink_to("/dev/zero")}


@pytest.fixture
def ends():
    """Fail what waits for a pipe, or reads from a device without end."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def a_dataset(path):
    assert isinstance(has_rewards(path), bool)
    environment_of(path)
    read_source(path)


READERS = {
    "a file": ("file", regular_file),
    "arrays": ("a.npz", read_npz),
    "text": ("a.txt", read_text),
    "a checksum": ("a", digest_of),
    "npz": ("a.npz", a_dataset),
    "OGBench's": ("a.npz", lambda path: _raise(check_structure(path, DATASETS["pointmaze-medium-navigate-v0"]))),
    "hdf5": ("a.hdf5", a_dataset),
    "parquet": ("a.parquet", a_dataset),
    "a folder of LeRobot": ("set/data/chunk-000/a.parquet", lambda path: a_dataset(path.parents[2])),
    "a folder of episodes": ("set/a.npz", lambda path: a_dataset(path.parent)),
    "a model": ("a.zip", read_model_file),
    "a model's attributes": ("a.zip", read_attributes),
    "a policy": ("a.safetensors", read_policy),
    "what a policy says": ("a.safetensors", read_about),
    "settings": ("a.yml", lambda path: read_yaml_text(path, "`-conf`")),
    "a suite": ("a.yml", read_suite),
    "a run": ("run/config.yml", lambda path: RunFolder(path.parent).read_config()),
    "a study": ("study.db", open_storage),
}


def _raise(findings):
    raise UsageError("; ".join(finding.message for finding in findings))


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("name", "read"), READERS.values(), ids=READERS)
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, name, read, make):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises((UsageError, ValueError), match="not a regular file"):
        read(path)


def test_a_regular_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        with regular_file(tmp_path / name).open("rb") as file:
            assert file.read() == b"12"


def words(logs, env="Toy-v0"):
    found = ["--algo", "qam", "--env", env, "-f", str(logs), "--offline-steps", "0", "--online-steps", "9"]
    found += ["--seed", "1", "--eval-episodes", "1", "--n-eval-envs", "1"]
    return [*found, "-params", *TINY, "learning_starts=3"]


@pytest.mark.usefixtures("figures_on_demand")
def test_an_id_with_a_namespace_is_trained_resumed_and_compared(tmp_path, call):
    env = tests.zoo.envs.namespaced.NAMESPACED
    assert main(words(tmp_path, env)) == 0
    folder = RunFolder(tmp_path / "qam" / "my-ns__Toy-v0_1")
    assert folder.model.is_file()
    assert call(main, *words(tmp_path, env), "--resume")[0]["already_done"]
    assert main(words(tmp_path, env)) == 0
    assert (tmp_path / "qam" / "my-ns__Toy-v0_2").is_dir()
    assert set(read_runs([tmp_path]).runs["environment"]) == {env}
    report = tmp_path / "report"
    assert compare([str(tmp_path / "qam"), "-o", str(report), "--reps", "50", "--format", "svg"]) == 0
    assert env in (report / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_is_deleted_under_a_run_is_named(tmp_path, monkeypatch, call):
    original = RunFolder.write_evaluations

    def deleting(self, *args):
        shutil.rmtree(tmp_path / "logs")
        original(self, *args)

    monkeypatch.setattr(RunFolder, "write_evaluations", deleting)
    _, errors = call(main, *words(tmp_path / "logs"), "--verbose", "0", code=1)
    assert f"its folder {tmp_path / 'logs' / 'qam' / 'Toy-v0_1'} is gone" in errors
    assert not (tmp_path / "logs").exists()
