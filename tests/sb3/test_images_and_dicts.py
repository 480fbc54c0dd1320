"""Images, Dicts and choices as observations: stored, trained on and acted on as vectors are."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import agents
from tests.common.toys import assert_same, parameters_of, tiny_model, toy_dataset
from tests.envs import IMAGE, MIXED

SPACES = {
    "image": ("CnnPolicy", IMAGE),
    "flat image": ("MlpPolicy", spaces.Box(0, 255, (4, 4, 3), np.uint8)),
    "mixed": ("MultiInputPolicy", MIXED),
    "choices": ("MlpPolicy", spaces.MultiDiscrete([3, 4])),
    "choices from other numbers on": ("MlpPolicy", spaces.MultiDiscrete([3, 4], start=[2, -5])),
}


class SampledEnv(gymnasium.Env[Any, NDArray[Any]]):
    """Episodes of six random observations of a space."""

    def __init__(self, space):
        self.observation_space, self.action_space, self.steps = (
            space,
            spaces.Box(-1, 1, (2,), np.float32),
            0,
        )
        space.seed(0)

    def reset(self, **arguments):
        super().reset(**arguments)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), -1.0, False, self.steps == 6, {}


def model_of(name, **settings):
    policy, space = SPACES[name]
    return tiny_model(env=SampledEnv(space), policy=policy, **settings)


def dataset_of(space, rows=24):
    """Return random trajectories of six transitions, with observations as an environment of the space gives them."""
    dataset = {**toy_dataset(rows, length=6)}
    space.seed(1)
    samples = [[space.sample() for _ in range(7)] for _ in range(rows // 6)]
    for name, part in (("observations", slice(0, 6)), ("next_observations", slice(1, 7))):
        values = [value for trajectory in samples for value in trajectory[part]]
        if isinstance(space, spaces.Dict):
            dataset[name] = {
                key: np.stack([value[key] for value in values]) for key in space.spaces
            }
        else:
            dataset[name] = np.stack(values)
    return dataset


@pytest.mark.parametrize("value", [1, 5, 2.5])
@pytest.mark.parametrize("name", ["observations", "next_observations"])
def test_choices_that_the_space_has_not_are_refused(name, value):
    space = spaces.MultiDiscrete([3, 4], start=[2, -5])
    dataset = dataset_of(space)
    dataset[name] = dataset[name].astype(np.float32)
    dataset[name][-1, 0] = value
    with pytest.raises(
        ValueError, match=f"must hold choices of MultiDiscrete.*, got {value:g} in row"
    ):
        model_of("choices from other numbers on").load_dataset(dataset)


@pytest.mark.parametrize(
    ("name", "horizon_length"), [*((name, 3) for name in SPACES), ("mixed", 1)]
)
def test_both_phases_train_act_and_are_saved(name, horizon_length, tmp_path):
    model = model_of(name, horizon_length=horizon_length)
    old_parameters = parameters_of(model)
    model.learn_offline(2, dataset=dataset_of(SPACES[name][1]))
    model.learn(14, reset_num_timesteps=False)
    changed = [
        key
        for key, value in parameters_of(model).items()
        if not torch.equal(value, old_parameters[key])
    ]
    if SPACES[name][0] != "MlpPolicy":
        assert any("features_extractor" in key for key in changed)
    model.save(tmp_path / "model.zip")
    model.policy.save(str(tmp_path / "policy"))
    model.save_policy(tmp_path / "to_act")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = agents.load(tmp_path / "model.zip")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert torch.equal(loaded.replay_buffer.observations, model.replay_buffer.observations)
    observation = SPACES[name][1].sample()
    expected, _ = model.predict(observation, deterministic=True)
    assert expected.shape == (2,)
    for restored in (
        loaded,
        type(model.policy).load(str(tmp_path / "policy")),
        agents.load_policy(tmp_path / "to_act"),
    ):
        assert_array_equal(restored.predict(observation, deterministic=True)[0], expected)


def test_what_is_collected_is_what_was_seen():
    model = model_of("mixed", learning_starts=100)
    model.learn(9)
    rows = model.replay_buffer.observations[:9]
    MIXED.seed(0)
    env = SampledEnv(MIXED)
    expected = [env.reset()[0], *(env.step(np.zeros(2))[0] for _ in range(5))]
    images = np.stack([np.moveaxis(observation["image"], -1, 0) for observation in expected])
    stored = model.replay_buffer.layout.observations(rows[:6].numpy())
    assert_array_equal(stored["image"], images)
    assert_array_equal(
        stored["choice"].ravel(), [observation["choice"] for observation in expected]
    )


def test_dict_observations_are_normalised_part_by_part():
    space = spaces.Dict({"first": spaces.Box(-1, 1, (2,)), "second": spaces.Box(-1, 1, (3,))})
    env = VecNormalize(DummyVecEnv([lambda: SampledEnv(space)]))
    model = tiny_model(env=env, policy="MultiInputPolicy", horizon_length=1)
    model.learn(20)
    rows = torch.arange(5).view(1, 5, 1)
    normalised = model.replay_buffer.batch_of(rows, env).observations[0]
    raw = model.replay_buffer.layout.observations(model.replay_buffer.observations[:5].numpy())
    expected = env.normalize_obs(raw)
    assert_allclose(normalised[:, :2], expected["first"], rtol=1e-6)
    assert_allclose(normalised[:, 2:], expected["second"], rtol=1e-6)


def test_a_dataset_of_images_in_other_units_is_refused():
    dataset = dataset_of(IMAGE)
    for name in ("observations", "next_observations"):
        dataset[name] = dataset[name] / np.float32(255)
    with pytest.raises(ValueError, match="as uint8 from 0 to 255, got float32"):
        model_of("image").load_dataset(dataset)


class Broken(SampledEnv):
    """Observes a wrong number."""

    wrong = np.nan

    def step(self, action):
        observation, *rest_of_step = super().step(action)
        (observation["vector"] if isinstance(observation, dict) else observation)[1] = self.wrong
        return observation, *rest_of_step


@pytest.mark.parametrize(
    ("space", "wrong", "named"),
    [
        (MIXED, np.nan, "nan"),
        (spaces.Box(-1, 1, (4,)), np.nan, r"nan at step \d+; this is a fault of"),
        (spaces.Box(-1, 1, (4,), np.float64), 1e300, "inf"),
    ],
)
def test_an_environments_wrong_number_is_named_and_not_blamed_on_training(space, wrong, named):
    env = Broken(space)
    env.wrong = wrong
    model = tiny_model(
        env=env, policy="MultiInputPolicy" if space is MIXED else "MlpPolicy", learning_starts=0
    )
    with pytest.raises(ValueError, match=f"got observation = {named}"):
        model.learn(9)


# -- random crops -----------------------------------------------------------------------------------------------------


CROPPED = spaces.Box(0, 255, (8, 8, 3), np.uint8)
ENCODED = {
    "features_extractor_class": agents.ImpalaEncoder,
    "features_extractor_kwargs": {"features_dim": 8, "widths": [4, 4]},
}
CHANCES = torch.tensor([0.49, 0.51])  # of two replicas, below and above one half
PLACES = torch.tensor([[0.0, 0.5, 0.99]] * 2)  # the lowest, the middle and the highest of seven


def cropping_model(**settings):
    return tiny_model(env=SampledEnv(CROPPED), policy_kwargs=ENCODED, random_crop=0.5, **settings)


def test_images_are_shifted_with_the_probability_and_both_observations_alike():
    model = cropping_model(seeds=[1, 2])
    model.load_dataset(dataset_of(CROPPED))
    model.replay_buffer.with_steps = True
    batch = model.replay_buffer.sample(3)
    cropped = model.trainer.crop_images(
        batch, {"crop": CHANCES, "crop_y": PLACES, "crop_x": PLACES}
    )
    for name in ("observations", "next_observations"):
        old_images, new_images = (
            getattr(images_of, name).unflatten(-1, (3, 8, 8)) for images_of in (batch, cropped)
        )
        assert new_images.dtype == torch.uint8
        assert torch.equal(new_images[1], old_images[1]), "not done for the second replica"
        assert torch.equal(new_images[0, 1], old_images[0, 1]), "the middle is no shift"
        assert torch.equal(new_images[0, 0, :, 3:, 3:], old_images[0, 0, :, :5, :5])
        assert torch.equal(new_images[0, 0, :, 0, 0], old_images[0, 0, :, 0, 0]), (
            "edges are repeated"
        )
        assert torch.equal(new_images[0, 2, :, :5, :5], old_images[0, 2, :, 3:, 3:])
    assert torch.equal(cropped.step_observations[:, :, 0], cropped.observations)
    assert torch.equal(cropped.step_next_observations[:, :, -1], cropped.next_observations)


@pytest.mark.parametrize("pretraining_steps", [0, 2])
def test_crops_change_training_and_follow_from_the_seed(pretraining_steps):
    updates = []
    for chance in (0.5, 0.5, 1.0, 1e-9):
        model = cropping_model(pretraining_steps=pretraining_steps)
        model.random_crop = chance
        model.learn_offline(2, dataset=dataset_of(CROPPED))
        updates.append(parameters_of(model))
    first, repeated, always, never = updates
    assert_same(first, repeated)
    assert not torch.equal(
        always["nets.behaviour.mlp.weights.0"], never["nets.behaviour.mlp.weights.0"]
    )


@pytest.mark.few
@pytest.mark.parametrize("id", agents.algorithm_ids())
def test_every_algorithm_takes_images_and_crops_them(id):
    model = cropping_model(id=id)
    model.learn_offline(1, dataset=dataset_of(CROPPED))
    assert model.predict(CROPPED.sample())[0].shape == (2,)
