"""A folder of an unusual name, and one that goes."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import ROOT
from tests.zoo.envs import toys  # noqa: F401  registers the environment
from tests.zoo.helpers import TINY
from zoo.runs.folder import RunFolder
from zoo.runs.read import read_runs
from zoo.train import main
from zoo.training import loop


def words(logs):
    line = "--algo qam --env Toy-v0 --offline-steps 0 --online-steps 9 --seed 1 --eval-episodes 1 --n-eval-envs 1"
    return [*line.split(), "-f", str(logs), "-params", *TINY, "learning_starts=3"]


@pytest.mark.slow
def test_a_unicode_folder_works_in_locale_that_does_not_know_it(tmp_path):
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = [sys.executable, "-m", "zoo.train", "--gym-packages", "tests.zoo.envs.toys"]
    program += words(tmp_path / "läufe-日本")
    for flags in ([], ["--resume"]):
        subprocess.run([*program, *flags], cwd=ROOT, env=environment, check=True)
    (state,) = read_runs([tmp_path]).runs["state"]
    assert state == "done"


@pytest.mark.parametrize(
    ("owner", "name"), [(RunFolder, "write_evaluations"), (loop, "save_checkpoint")]
)
def test_a_folder_that_is_deleted_under_a_run_is_named(tmp_path, monkeypatch, call, owner, name):
    original = getattr(owner, name)

    def delete_and_write(*args, **kwargs):
        shutil.rmtree(tmp_path / "logs")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, delete_and_write)
    _, errors = call(main, *words(tmp_path / "logs"), "--verbose", "0", code=1)
    assert f"its folder {tmp_path / 'logs' / 'qam' / 'Toy-v0_1'} was deleted or moved" in errors
    assert not (tmp_path / "logs").exists()
