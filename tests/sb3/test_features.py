"""SB3's features extractors in front of the networks, and SB3's names for the networks."""

import numpy as np
import torch

from tests.common.toys import (
    NormedFeatures,
    assert_same,
    parameters_of,
    refuses,
    tiny_model,
    toy_dataset,
)

OBSERVATIONS = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)


def normed_model(id="qam", **settings):
    """Return a model whose features extractors use batch normalisation and dropout."""
    return tiny_model(id, policy_kwargs={"features_extractor_class": NormedFeatures}, **settings)


def test_networks_have_the_names_of_stable_baselines3():
    model = normed_model()
    assert model.actor is model.policy.actor is model.policy
    nets = model.policy.nets
    assert model.critic.features_extractor is nets.critic.features_extractor
    assert model.critic_target.features_extractor is nets.critic_target.features_extractor
    assert tiny_model().critic.features_extractor is None
    assert not hasattr(tiny_model("bc"), "critic")


# -- training and acting ----------------------------------------------------------------------------------------------


def test_extractors_train_and_target_copies_follow():
    model = normed_model(tau=0.25)
    old_parameters = parameters_of(model)
    model.learn_offline(1, dataset=toy_dataset())
    middle = parameters_of(model)
    assert not model.policy.nets.critic_target.training
    model.learn_offline(1)
    new_parameters = parameters_of(model)
    online, target = "nets.critic.features_extractor.", "nets.critic_target.features_extractor."
    for part in ("layers.1.weight", "norm.bias"):
        assert not torch.equal(middle[online + part], old_parameters[online + part])
        expected = 0.25 * middle[online + part] + 0.75 * middle[target + part]
        torch.testing.assert_close(new_parameters[target + part], expected)
        assert not torch.equal(expected, middle[target + part])
    for part in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
        assert torch.equal(new_parameters[target + part], new_parameters[online + part])
        assert not torch.equal(new_parameters[online + part], middle[online + part])


def test_a_pretrained_actor_brings_its_extractor(tmp_path):
    source, model = normed_model("bc"), normed_model(seed=1)
    source.learn_offline(2, dataset=toy_dataset())
    source.save(tmp_path / "actor.zip")
    model.load_pretrained_actor(tmp_path / "actor.zip")
    expected = source.policy.nets.behaviour.state_dict()
    for name in ("behaviour", "behaviour_target", "fine_tuned"):
        assert_same(model.policy.nets[name].state_dict(), expected)
    with refuses(r"expected `features_extractor.* of shape None, got \("):
        tiny_model().load_pretrained_actor(tmp_path / "actor.zip")
