"""Features extractors of SB3's kind in front of the networks, and SB3's names for the networks."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from stable_baselines3.common.callbacks import EvalCallback

from tests.common.toys import NormedFeatures, assert_same, parameters_of, tiny_model, toy_dataset
from tests.envs import SpacesEnv

SEEN = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)


def normed_model(id="qam", **settings):
    """Return a model whose extractors normalise batches and drop features."""
    return tiny_model(id, policy_kwargs={"features_extractor_class": NormedFeatures}, **settings)


def statistics_of(model):
    return {name: value for name, value in parameters_of(model).items() if "running" in name}


# -- training and acting ----------------------------------------------------------------------------------------------


def test_extractors_train_and_target_copies_follow():
    model = normed_model(tau=0.25)
    old_parameters = parameters_of(model)
    model.learn_offline(1, dataset=toy_dataset())
    middle = parameters_of(model)
    model.learn_offline(1)
    new_parameters = parameters_of(model)
    for part in ("layers.1.weight", "norm.bias"):
        online, target = (
            f"nets.critic.features_extractor.{part}",
            f"nets.critic_target.features_extractor.{part}",
        )
        assert not torch.equal(middle[online], old_parameters[online])
        torch.testing.assert_close(
            new_parameters[target], 0.25 * middle[online] + 0.75 * middle[target]
        )
        assert not torch.equal(new_parameters[target], middle[target])
    for part in ("running_mean", "running_var", "num_batches_tracked"):
        name = f"features_extractor.norm.{part}"
        assert torch.equal(
            new_parameters[f"nets.critic_target.{name}"], new_parameters[f"nets.critic.{name}"]
        )
        assert not torch.equal(new_parameters[f"nets.critic.{name}"], middle[f"nets.critic.{name}"])


def test_pretraining_hands_an_extractor_on_with_its_statistics():
    model = normed_model(pretraining_steps=2)
    model.learn_offline(2, dataset=toy_dataset())
    behaviour = dict(model.policy.nets["behaviour"].state_dict())
    for copy in ("behaviour_target", "fine_tuned"):
        assert_same(dict(model.policy.nets[copy].state_dict()), behaviour)


def test_a_pretrained_actor_brings_its_extractor(tmp_path):
    source, model, plain = normed_model("bc"), normed_model(seed=1), tiny_model()
    source.learn_offline(2, dataset=toy_dataset())
    source.save(tmp_path / "actor.zip")
    model.load_pretrained_actor(tmp_path / "actor.zip")
    assert_same(
        dict(model.policy.nets["fine_tuned"].state_dict()),
        dict(source.policy.nets["behaviour"].state_dict()),
    )
    with pytest.raises(ValueError, match=r"expected `features_extractor.* of shape None, got \("):
        plain.load_pretrained_actor(tmp_path / "actor.zip")


def test_acting_and_evaluating_neither_drop_features_nor_move_statistics():
    model = normed_model(env=SpacesEnv(4, 2, 5), learning_starts=4, gradient_steps=0)
    old_statistics = statistics_of(model)
    model.learn(12)
    actions = [model.predict(SEEN, deterministic=True)[0] for _ in range(4)]
    assert_array_equal(actions[1:], actions[:-1])
    noise = {
        name: draw.unsqueeze(0)
        for name, draw in model.policy.draw_action_noise(5, torch.Generator()).items()
    }
    model.policy.set_training_mode(True)
    plans = [model.policy.plan(SEEN[None], noise) for _ in range(2)]
    assert_array_equal(*plans)
    assert old_statistics
    assert_same(statistics_of(model), old_statistics)


def test_updates_normalise_batches_although_an_evaluation_came_between():
    evaluation = EvalCallback(
        SpacesEnv(4, 2, 5), eval_freq=1, n_eval_episodes=1, verbose=0, warn=False
    )
    model = normed_model()
    model.learn_offline(3, dataset=toy_dataset())
    watched = normed_model()
    watched.learn_offline(3, evaluation, dataset=toy_dataset())
    assert not watched.policy.training, "the last thing was an evaluation"
    assert_same(parameters_of(watched), parameters_of(model))


def test_targets_are_never_in_training_mode():
    policy = normed_model().policy
    for mode in (None, False, True):
        if mode is not None:
            policy.set_training_mode(mode)
        assert policy.nets.critic.features_extractor.norm.training == (mode is not False)
        assert not policy.nets.critic_target.features_extractor.norm.training


# -- seeds, saving, refusals ------------------------------------------------------------------------------------------


def test_a_policy_with_an_extractor_is_saved_whole(tmp_path):
    kwargs = {
        "features_extractor_class": NormedFeatures,
        "features_extractor_kwargs": {"dropout": 0.5},
    }
    model = tiny_model(policy_kwargs=kwargs)
    model.learn_offline(3, dataset=toy_dataset())
    model.policy.save(str(tmp_path / "policy"))
    loaded = type(model.policy).load(str(tmp_path / "policy"), device="cpu")
    assert loaded.features_extractor.layers[3].p == 0.5
    assert_same(dict(loaded.state_dict()), dict(model.policy.state_dict()))
    assert_array_equal(
        *(acting_model.predict(SEEN, deterministic=True)[0] for acting_model in (loaded, model))
    )
