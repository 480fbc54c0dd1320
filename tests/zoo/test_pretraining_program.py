"""Pretraining and pretrained flows through the training program, on a small generated maze dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import agents
from agents.common.files.manifest import digest_of
from tests.zoo.test_train_program import ENV, arguments
from zoo.train import main

pytestmark = pytest.mark.filterwarnings("ignore:no state in:UserWarning")  # two episodes need not reach the goal


@pytest.fixture(scope="module")
def clone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of behaviour cloning."""
    logs = tmp_path_factory.mktemp("clone")
    assert main(arguments(data, logs, "--algo", "bc")) == 0
    return logs / "bc" / f"{ENV}_1"


def load(path: Path) -> Any:
    return agents.QAM.load(path, device="cpu")


def config_of(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "config.yml").read_text()))


def flow_of(path: Path, name: str = "behaviour") -> list[torch.Tensor]:
    algorithm = agents.BC if path.parts[-3] == "bc" else agents.QAM
    return list(algorithm.load(path, device="cpu").policy.nets[name].parameters())


# -- --pretraining-steps ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("pretrained")
    assert main([*arguments(data, logs), "--pretraining-steps", "7", "--online-steps", "10"]) == 0
    return logs / "qam" / f"{ENV}_1"


def test_the_curve_begins_where_pretraining_ends(pretrained: Path) -> None:
    with np.load(pretrained / "evaluations.npz") as found:
        assert found["timesteps"].tolist() == [0, 10, 20, 30]
        assert found["phase"].tolist() == [0, 0, 0, 1]


# -- --pretrained-actor -----------------------------------------------------------------------------------------------


def test_a_run_can_begin_with_the_clone_of_another(data: Path, tmp_path: Path, clone: Path) -> None:
    words = arguments(data, tmp_path, steps=1, seeds=("--seeds", "4", "5"))
    assert main([*words, "--pretrained-actor", str(clone)]) == 0
    final = clone / f"{ENV}.zip"
    recorded = {"path": str(final), "updates": 20, "fingerprint": digest_of(final)}
    for number in (1, 2):
        folder = tmp_path / "qam" / f"{ENV}_{number}"
        assert config_of(folder)["pretrained_actor"] == recorded
        # the moving average follows the weights from before the step, which are the clone's
        for got, expected in zip(
            flow_of(folder / f"{ENV}.zip", "behaviour_target"), flow_of(final, "behaviour"), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_a_run_resumes_with_the_same_flow_only(
    data: Path, tmp_path: Path, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments(data, tmp_path, steps=10, verbose=1), "--resume", "--pretrained-actor"]
    assert main([*words, str(clone / f"{ENV}.zip")]) == 0
    assert main([*words, str(clone)]) == 0  # the same file
    assert "has already finished with these settings" in capsys.readouterr().err
    assert main([*words, str(clone / "best_model.zip")]) == 0
    assert "has already finished with these settings" not in capsys.readouterr().err


REFUSED: list[tuple[list[str], str]] = [
    (
        ["--pretrained-actor", "CLONE", "--pretraining-steps", "3"],
        "got 3 steps of it too; set --pretraining-",
    ),
    (["--pretrained-actor", "CLONE", "-i", "x.zip"], "`--pretrained-actor` and `--trained-agent` both say"),
    (["--pretrained-actor", "CLONE/config.yml"], "which cannot be read as one: File is not a zip file"),
    (["--pretrained-actor", "CLONE", "-params", "net_arch=[16,8]"], "expected layer widths [7, 16, 8, 4], got [7, 16"),
    (["--pretrained-actor", "CLONE", "--algo", "rebrac"], "ReBRAC has no behaviour flow to pretrain"),
    (["--pretrained-actor", "CLONE", "--algo", "sac", "--offline-steps", "0"], "`sac` has no behaviour flow to start"),
    (
        ["--env", "Pendulum-v1", "--offline-steps", "0", "--online-steps", "5", "--pretraining-steps", "3"],
        "no dataset to",
    ),
    (
        ["--pretraining-steps", "3", "--offline-steps", "0", "--online-steps", "5", "--offline-data", "none"],
        "`offline_data` is none, but `pretraining_steps` = 3 need data",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_does_not_go_together_is_refused_before_any_work(
    data: Path, tmp_path: Path, clone: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    base = arguments(data, tmp_path)
    if "sac" in words:
        base = base[: base.index("-params")]
    assert main([*base, *(word.replace("CLONE", str(clone)) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.rglob("config.yml"))
