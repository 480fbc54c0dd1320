"""An exported policy plans as PyTorch does, says what it is, and is refused where it cannot."""

import json
import logging
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal

import agents
from agents.common.sb3 import exporting
from agents.common.sb3.exporting import export_onnx, run_onnx
from agents.common.streams import Purpose, seed_for
from tests.common.toys import tiny_model
from tests.envs import IMAGE, MIXED, space_env_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_every_algorithm_plans_alike_for_any_number_of_observations(id, tmp_path):
    policy = tiny_model(id, observation_scale=2.0).policy
    assert export_onnx(policy, tmp_path / "policy.onnx") <= 1e-5
    for rows in (1, 7):
        generator = torch.Generator().manual_seed(5)
        observations = 3 * torch.randn(rows, 4, generator=generator).numpy()
        noise = policy.draw_action_noise(rows, generator)
        inputs = {
            "observations": observations,
            **{name: value.numpy() for name, value in noise.items()},
        }
        chunks = run_onnx(str(tmp_path / "policy.onnx"), inputs)
        expected = policy.plan(
            observations[None], {name: value[None] for name, value in noise.items()}
        )[0]
        assert_allclose(chunks, expected, atol=2e-5)


IMPALA = {
    "features_extractor_class": agents.ImpalaEncoder,
    "features_extractor_kwargs": {"widths": [4, 4]},
}
PICTURES = {
    "Dict": ("MultiInputPolicy", MIXED, {}),
    "NatureCNN": ("CnnPolicy", IMAGE, {}),
    "ImpalaEncoder": ("CnnPolicy", spaces.Box(0, 255, (9, 10, 3), np.uint8), IMPALA),
    "flattened": ("MlpPolicy", spaces.Box(0, 255, (4, 5, 3), np.uint8), {}),
    "choices": ("MlpPolicy", spaces.MultiDiscrete([3, 4]), {}),
    "choice from 5 on": ("MlpPolicy", spaces.Discrete(3, start=5), {}),
}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "id"), [*((name, "fql") for name in PICTURES), ("ImpalaEncoder", "cgql")]
)
def test_images_and_choices_are_taken_as_the_environment_gives_them(name, id, tmp_path):
    policy_name, space, kwargs = PICTURES[name]
    model = tiny_model(
        id, space_env_of(space), policy=policy_name, horizon_length=1, policy_kwargs=kwargs
    )
    assert export_onnx(model.policy, tmp_path / "policy.onnx") <= 1e-5
    space.seed(3)
    observations = [space.sample() for _ in range(5)]
    batch = {
        f"observations.{key}" if key else "observations": np.stack(
            [observation[key] if key else observation for observation in observations]
        )
        for key in (space.spaces if isinstance(space, spaces.Dict) else [""])
    }
    zeros = {
        key: np.zeros((5, *draw.shape[1:]), np.float32)
        for key, draw in model.policy.draw_action_noise(1, torch.Generator()).items()
    }
    played = run_onnx(str(tmp_path / "policy.onnx"), {**batch, **zeros})[:, 0]
    expected = [model.predict(observation, deterministic=True)[0] for observation in observations]
    assert_allclose(played, expected, atol=2e-5)
    assert np.ptp(played, 0).max() > 1e-4, "actions depend on the observation"


@pytest.mark.slow
def test_a_file_says_what_it_is_and_holds_seeded_noise(tmp_path):
    path = tmp_path / "policy.onnx"
    export_onnx(tiny_model("rebrac").policy, path, about={"env": "a maze"}, seed=3)
    file, rows = onnx.load(path), {"observations": np.zeros((4, 4), np.float32)}
    assert [entry.name for entry in file.graph.input] == ["observations"]
    assert_array_equal(run_onnx(str(path), rows), run_onnx(str(path), rows))
    assert [entry.version for entry in file.opset_import if not entry.domain] == [20]
    (seed,) = [
        entry.f for node in file.graph.node for entry in node.attribute if entry.name == "seed"
    ]
    assert seed == seed_for(Purpose.EXPORTED_NOISE, 3, 0) >> 8
    (text,) = [entry.value for entry in file.metadata_props if entry.key == "flow_rl_zoo"]
    description = json.loads(text)
    assert description["algorithm"] == "rebrac"
    assert description["about"] == {"env": "a maze"}
    assert description["observations"] == {"observations": {"dtype": "float32", "shape": [4]}}
    assert len(description["action_low"]) == len(description["action_high"]) == 2
    assert description["noise"] == {
        "smooth": {"kind": "normal", "shape": [2 * description["chunk_length"]]}
    }


@pytest.mark.slow
def test_bf16_is_exported_in_float32_and_leaves_the_policy_alone(tmp_path):
    policy = tiny_model("rebrac", precision="bf16").policy
    old_dtypes = {
        network.matmul_dtype for network in policy.modules() if hasattr(network, "matmul_dtype")
    }
    export_onnx(policy, tmp_path / "policy.onnx")
    assert old_dtypes == {torch.bfloat16}
    assert {
        network.matmul_dtype for network in policy.modules() if hasattr(network, "matmul_dtype")
    } == old_dtypes
    assert all(parameter.requires_grad for parameter in policy.nets.actor.parameters())


def test_a_file_that_plans_otherwise_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", MagicMock())  # takes seconds
    monkeypatch.setattr(exporting, "run_onnx", lambda *_: np.ones(1))
    with pytest.raises(ArithmeticError, match="within 1e-05 of PyTorch's over 1000 observations"):
        export_onnx(tiny_model("rebrac").policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


def test_a_failing_converter_leaves_logging_as_it_was(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    logging.disable(logging.DEBUG)
    try:
        with pytest.raises(RuntimeError, match="no such operator"):
            export_onnx(tiny_model().policy, "policy.onnx")
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(logging.NOTSET)
