"""The program that exports a policy, and the example that runs the exported file without PyTorch."""

import json
import runpy
import sys

import pytest

from tests import ROOT
from zoo.models.agent import POLICY, agent_of_file, find_trained
from zoo.terminal.cli import main

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"
TRAINED = f"export --algo sqam --env {MAZE} --trained".split()
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_a_trained_agent_of_the_hub_plays_without_pytorch(hub, tmp_path, call, monkeypatch, capsys):
    file, trained = tmp_path / "policy.onnx", find_trained("sqam", MAZE)
    stated = agent_of_file(trained, None, "cpu").stated
    commit = hub.put("me/sqam", {POLICY: trained.read_bytes()})
    result, errors = call(main, *["export", "--from-hub", "me/sqam", "-o"], file)
    assert f"commit {commit}" in errors
    assert (result["algo"], result["env"]) == ("sqam", MAZE)
    assert result["largest_error"] <= 1e-5
    assert result["bytes"] == file.stat().st_size
    example = ROOT / "docs" / "examples" / "play_onnx.py"
    monkeypatch.setattr(sys, "argv", ["", str(file), "pointmaze-medium-singletask-task1-v0"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # the example changes the path
    monkeypatch.setitem(sys.modules, "torch", None)
    runpy.run_path(str(example), run_name="__main__")
    output = capsys.readouterr().out
    assert output.startswith("sqam: mean success ")
    assert float(output.split()[3]) >= 0.8  # the policy's score is above 90%
    metadata = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    about = json.loads(metadata["flow_rl_zoo"])["about"]
    assert about["env"] == MAZE
    assert about["score"] == stated.text


def test_missing_packages_are_refused_before_loading(tmp_path, monkeypatch, caplog, refusal):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for folder, message in (
        ("missing", "a file in a folder that exists"),
        ("", "pip install onnx onnxscript onnxruntime"),
    ):
        assert (
            message
            in refusal(main, *TRAINED, "-o", tmp_path / folder / "policy.onnx") + caplog.text
        )
    assert not list(tmp_path.iterdir())
