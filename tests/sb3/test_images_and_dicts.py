"""Images, Dicts and discrete choices as observations: storage, training and acting, as with vectors."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal

import agents
from agents.common.observations import crop_images
from tests.common.toys import (
    IMPALA,
    act,
    assert_same,
    every_algorithm,
    parameters_of,
    refuses,
    reloaded,
    tiny_model,
    toy_dataset,
)
from tests.envs import IMAGE, MIXED, space_env_of
from zoo.envs.checks import stack

SPACES = {
    "image": ("CnnPolicy", IMAGE),
    "flat image": ("MlpPolicy", spaces.Box(0, 255, (4, 4, 3), np.uint8)),
    "mixed": (
        "MultiInputPolicy",
        spaces.Dict({**MIXED, "scalar": spaces.Box(-1, 1, ()), "switch": spaces.MultiBinary(2)}),
    ),
    "choices": ("MlpPolicy", spaces.MultiDiscrete([3, 4])),
}


def model_of(name, **settings):
    policy, space = SPACES[name]
    return tiny_model(env=space_env_of(space, episode_length=6), policy=policy, **settings)


def dataset_of(space):
    """Return random trajectories of six transitions, with observations as environments with the space return them."""
    dataset = toy_dataset(24, length=6)
    space.seed(1)
    observations, next_observations = [], []
    for _ in range(4):
        trajectory = [space.sample() for _ in range(7)]
        observations += trajectory[:-1]
        next_observations += trajectory[1:]
    dataset["observations"] = stack(space, observations)
    dataset["next_observations"] = stack(space, next_observations)
    return dataset


@pytest.mark.parametrize("value", [-1, 3, 2.5])
@pytest.mark.parametrize("name", ["observations", "next_observations"])
def test_choices_that_the_space_has_not_are_refused(name, value):
    dataset = dataset_of(SPACES["choices"][1])
    dataset[name] = dataset[name].astype(np.float32)
    dataset[name][-1, 0] = value
    with refuses(f"must be in MultiDiscrete.*, got {value:g} in row"):
        model_of("choices").load_dataset(dataset)


@pytest.mark.parametrize("name", ["image", "mixed", "choices"])
@pytest.mark.parametrize("value", [0.5, 300.0])
def test_observations_that_a_cast_would_change_are_refused(name, value):
    space = SPACES[name][1]
    parts = space.sample()
    for key, part in parts.items() if name == "mixed" else [("", parts)]:
        changed = np.full(np.shape(part), value)
        if not np.issubdtype(np.asarray(part).dtype, np.floating):
            observation = {**parts, key: changed} if name == "mixed" else changed
            with refuses(f"an observation must be in .*, got {value:g}"):
                model_of(name).predict(observation)


def test_a_critic_takes_choices_as_stable_baselines3_has_them():
    model = tiny_model(env=space_env_of(spaces.Discrete(3)), horizon_length=1)
    observations = torch.tensor([0, 2])
    values = model.critic(observations, model.actor(observations))
    assert values.shape == (model.ensemble_size, 2)


@pytest.mark.parametrize(
    ("name", "horizon_length"), [*((name, 3) for name in SPACES), ("mixed", 1)]
)
def test_both_phases_train_act_and_are_saved(name, horizon_length, tmp_path):
    policy, space = SPACES[name]
    kwargs = {"normalize_images": name != "image"}
    model = model_of(name, horizon_length=horizon_length, policy_kwargs=kwargs)
    old_parameters = parameters_of(model)
    model.learn_offline(2, dataset=dataset_of(space))
    model.learn(14, reset_num_timesteps=False)
    extractor = [key for key in old_parameters if "critic.features_extractor" in key]
    assert bool(extractor) == (policy != "MlpPolicy")
    new_parameters = parameters_of(model)
    for key in extractor:
        assert not torch.equal(new_parameters[key], old_parameters[key])
    loaded = reloaded(model, tmp_path)
    model.policy.save(tmp_path / "policy")
    model.save_policy(tmp_path / "to_act")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert torch.equal(loaded.replay_buffer.observations, model.replay_buffer.observations)
    policies = [agents.load_policy(tmp_path / file) for file in ("policy", "to_act")]
    observation = space.sample()
    expected = act(model, observation)
    assert expected.shape == (2,)
    for restored in (loaded, *policies):
        assert_array_equal(act(restored, observation), expected)


def test_a_dataset_of_images_in_other_units_is_refused():
    dataset = dataset_of(IMAGE)
    dataset |= {name: dataset[name] / np.float32(255) for name in dataset if "obs" in name}
    with refuses("as uint8 from 0 to 255, got float32"):
        model_of("image").load_dataset(dataset)
    dataset = dataset_of(MIXED)
    dataset["observations"]["image"] = dataset["observations"]["image"] / 255
    with refuses("`image` of shape .* uint8 for images, got float64"):
        model_of("mixed").load_dataset(dataset)


@pytest.mark.parametrize(("dtype", "number"), [(np.float32, np.nan), (np.float64, 1e300)])
def test_an_environments_wrong_number_is_not_blamed_on_training(dtype, number):
    env = space_env_of(spaces.Box(-1, 1, (4,), dtype))
    observation = env.observation_space.sample()
    observation[1] = number
    env._observe = lambda: observation
    model = tiny_model(env=env, learning_starts=100)
    with refuses(r"at step \d+; this is a fault of the environment"):
        model.learn(9)


# -- random crops -----------------------------------------------------------------------------------------------------


CROPPED = spaces.Box(0, 255, (8, 8, 3), np.uint8)
CHANCES = torch.tensor([0.49, 0.51])  # probabilities for two replicas, below and above one half
PLACES = torch.tensor([[0.0, 0.5, 0.99]] * 2)  # lowest, middle and highest of seven


def cropping_model(**settings):
    return tiny_model(env=space_env_of(CROPPED), policy_kwargs=IMPALA, random_crop=0.5, **settings)


def test_images_of_both_observations_are_shifted_alike():
    model = cropping_model(seeds=[1, 2])
    encoder = model.critic.features_extractor
    assert all(weight.any() for weight in (*encoder.weights, *encoder.mlp.weights))
    model.load_dataset(dataset_of(CROPPED))
    batch = model.replay_buffer.sample(3)
    noise = {"crop": CHANCES, "crop_y": PLACES, "crop_x": PLACES}
    cropped = crop_images(batch, noise, model.method.random_crop, model.policy.layout)
    shifts, layout = torch.tensor([-3, 0, 3]), model.replay_buffer.layout
    for name in ("observations", "next_observations"):
        old, new = getattr(batch, name), getattr(cropped, name)
        assert new.dtype == torch.uint8
        # like FQL's crops, with which `tests/parity/test_pixels.py` compares shifts
        assert torch.equal(new[0], layout.shifted(old[0], shifts, shifts))
        assert torch.equal(new[1], old[1]), "not done for the second replica"


@pytest.mark.parametrize("pretraining_steps", [0, 2])
def test_crops_change_training_and_follow_from_the_seed(pretraining_steps):
    updates = []
    for chance in (0.5, 0.5, 1.0, 1e-9):
        model = cropping_model(pretraining_steps=pretraining_steps)
        model.method.random_crop = chance
        model.learn_offline(2, dataset=dataset_of(CROPPED))
        updates.append(parameters_of(model))
    first, repeated, always, never = updates
    assert_same(first, repeated)
    name = "nets.behaviour.mlp.weights.0"
    assert not torch.equal(always[name], never[name])


@pytest.mark.few
@every_algorithm
def test_every_algorithm_takes_images_and_crops_them(id):
    model = cropping_model(id=id)
    model.learn_offline(1, dataset=dataset_of(CROPPED))
    assert model.predict(CROPPED.sample())[0].shape == (2,)
