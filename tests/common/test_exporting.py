"""An exported policy samples the same actions as PyTorch; policies that cannot be exported are rejected."""

from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import agents
from agents.common.sb3 import exporting
from agents.common.sb3.exporting import export_onnx, run_onnx
from tests.common.toys import IMPALA, act, every_algorithm, refuses, tiny_model
from tests.envs import IMAGE, MIXED, SpacesEnv, space_env_of
from zoo.envs.checks import stack

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
@every_algorithm
def test_plans_are_alike_for_any_number_of_observations(id, tmp_path, monkeypatch):
    policy = tiny_model(id, observation_scale=2.0).policy
    assert export_onnx(policy, tmp_path / "policy.onnx") <= 1e-5
    monkeypatch.setattr(exporting, "CHECKED_ROWS", 1)
    assert exporting._largest_error(onnx.load(tmp_path / "policy.onnx"), policy) <= 1e-5


PICTURES = {
    "Dict": ("MultiInputPolicy", MIXED, {}),
    "NatureCNN": ("CnnPolicy", IMAGE, {}),
    "ImpalaEncoder": ("CnnPolicy", spaces.Box(0, 255, (9, 10, 3), np.uint8), IMPALA),
    "choices": ("MlpPolicy", spaces.MultiDiscrete([3, 4]), {}),
}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("name", "id"), [*((name, "fql") for name in PICTURES), ("ImpalaEncoder", "cgql")]
)
def test_images_and_choices_are_taken_as_environment_gives_them(name, id, tmp_path):
    policy, space, kwargs = PICTURES[name]
    env = space_env_of(space)
    model = tiny_model(id, env, policy=policy, horizon_length=1, policy_kwargs=kwargs)
    assert export_onnx(model.policy, tmp_path / "policy.onnx") <= 1e-5
    space.seed(3)
    observations = stack(space, [space.sample() for _ in range(5)])
    inputs = {"observations": observations}
    if isinstance(space, spaces.Dict):
        inputs = {f"observations.{key}": part for key, part in observations.items()}
    for key, draw in model.policy.draw_action_noise(5, torch.Generator()).items():
        inputs[key] = np.zeros_like(draw)
    played = run_onnx(str(tmp_path / "policy.onnx"), inputs)[:, 0]
    assert_allclose(played, act(model, observations), atol=2e-5)
    assert np.ptp(played, 0).max() > 1e-4, "actions depend on the observation"


def test_a_model_in_a_normalised_environment_takes_raw_observations(tmp_path):
    env = VecNormalize(DummyVecEnv([SpacesEnv]))
    model = tiny_model("rebrac", env, horizon_length=1, learning_starts=5).learn(10)
    export_onnx(model, tmp_path / "policy.onnx")
    observation = np.ones((1, 4), np.float32)
    inputs = {"observations": observation, "smooth": np.zeros((1, 2), np.float32)}
    played = run_onnx(str(tmp_path / "policy.onnx"), inputs)[:, 0]
    expected = act(model, model.normalization.observations(observation))
    assert_allclose(played, expected, atol=1e-5)


@pytest.mark.slow
def test_bf16_is_exported_in_float32_and_leaves_the_policy_alone(tmp_path):
    policy = tiny_model("rebrac", precision="bf16").policy
    export_onnx(policy, tmp_path / "policy.onnx")
    assert policy.nets.actor.trunk.matmul_dtype == torch.bfloat16
    assert all(parameter.requires_grad for parameter in policy.nets.actor.parameters())


def test_a_file_that_plans_otherwise_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", MagicMock())  # takes seconds
    monkeypatch.setattr(exporting, "run_onnx", lambda *_: np.ones(1))
    with refuses("within 0.0001 of PyTorch's over 100 observations", ArithmeticError):
        export_onnx(tiny_model("rebrac").policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())


class NoiseModule(torch.nn.Module):
    """A custom diffusion that takes whole steps of its schedule."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4 + 6 + 1, 6)

    def forward(self, observations, x, times):
        return self.layer(torch.cat([observations, x, times.round()[:, None]], -1))


def on_own_flow(call):
    schedule = {"predicts": "noise", "alpha_bar": np.geomspace(0.999, 1e-4, 50)}
    flow = agents.PretrainedFlow(NoiseModule(), call, **schedule)
    return tiny_model(behaviour=flow, best_of_n=2).policy


def test_a_fine_tuned_diffusion_of_ones_own_is_exported(tmp_path):
    policy = on_own_flow(lambda module, *inputs: module(*inputs))
    assert export_onnx(policy, tmp_path / "policy.onnx") <= 1e-5


def test_what_onnx_cannot_express_is_refused_with_its_reason(tmp_path):
    policy = on_own_flow(lambda module, *inputs: module(*inputs) * (1 if inputs[1].any() else 2))
    with refuses(r"got behaviour, fine_tuned.* with GuardOnData.*no NumPy, `.item\(\)` or `if`"):
        export_onnx(policy, tmp_path / "policy.onnx")
    assert not list(tmp_path.iterdir())
