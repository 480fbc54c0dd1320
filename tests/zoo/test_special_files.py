"""A run folder that is deleted while its run trains."""

import shutil

import pytest

from tests.zoo.envs import toys  # noqa: F401  registers the environment
from tests.zoo.helpers import TINY
from zoo.runs.folder import RunFolder
from zoo.train import main
from zoo.training import loop


@pytest.mark.parametrize(
    ("owner", "name"), [(RunFolder, "write_evaluations"), (loop, "save_checkpoint")]
)
def test_a_folder_that_is_deleted_under_a_run_is_named(tmp_path, monkeypatch, call, owner, name):
    original = getattr(owner, name)

    def delete_and_write(*args, **kwargs):
        shutil.rmtree(tmp_path / "logs")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, delete_and_write)
    words = (
        f"--algo qam --env Toy-v0 --offline-steps 0 --online-steps 9 --seed 1 --eval-episodes 1 --n-eval-envs 1 "
        f"-f {tmp_path / 'logs'} --verbose 0 -params learning_starts=3"
    )
    _, errors = call(main, *words.split(), *TINY, code=1)
    assert f"its folder {tmp_path / 'logs' / 'qam' / 'Toy-v0_1'} is missing" in errors
    assert not (tmp_path / "logs").exists()
