"""An algorithm's first update is checked before training, and the check leaves everything unchanged."""

import random

import numpy as np
import pytest
import torch

from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowAlgorithm
from agents.fql import FQL
from tests.common.toys import (
    SPACES,
    assert_same,
    parameters_of,
    refuses,
    tiny_model,
    toy_batch,
    toy_dataset,
)


class Summing(FQL):
    """Returns a loss over all seeds."""

    def losses(self, *inputs):
        return {"td": torch.zeros(())}


@pytest.mark.parametrize("learn", [FlowAlgorithm.learn, FlowAlgorithm.learn_offline])
def test_it_comes_before_training(learn):
    model = tiny_model(Summing)
    with refuses("loss `td`", AgentError):
        learn(model, 1)
    assert model._n_updates == model.num_timesteps == 0


def test_its_batch_has_the_shapes_of_training():
    model = tiny_model()
    model.load_dataset(toy_dataset())
    drawn, dummy = (vars(batch) for batch in (model.trainer.draw_batch(16), toy_batch(model)))
    for name, values in drawn.items():
        assert dummy[name].shape == values.shape, name


def test_it_does_not_apply_the_image_encoder_to_vectors():
    method = FQL(encoder="impala_small")
    check_first_update(method, *SPACES)
    assert method.hooks_checked


def test_it_leaves_the_model_and_all_generators_alone():
    model = tiny_model()

    def state():
        generators = model.trainer.generators().values()
        states = [torch.get_rng_state(), *(generator.get_state() for generator in generators)]
        numbers = random.getstate(), np.random.get_state()[1].tolist()
        return numbers, torch.cat(states).tolist(), parameters_of(model)

    *numbers, parameters = state()
    check_first_update(model.method, model.observation_space, model.action_space)
    *numbers_after, parameters_after = state()
    assert numbers_after == numbers
    assert_same(parameters_after, parameters)
