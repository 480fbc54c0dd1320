"""Precisions that the process has set PyTorch to."""

import numpy as np
import pytest
import torch

from tests.common.toys import assert_same, parameters_of, tiny_model, toy_dataset


@pytest.fixture
def set_default_dtype():
    """Return PyTorch's setter; the default is float32 again afterwards."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("method", ["qam", "ifql", "dac", "meanflowql", "sqam"])
def test_training_and_acting_do_not_depend_on_the_default_dtype(method, set_default_dtype):
    outcomes = []
    for default in (torch.float32, torch.float64):
        set_default_dtype(default)
        model = tiny_model(method)
        model.learn_offline(2, dataset=toy_dataset())
        model.learn(14)
        action, _ = model.predict(np.zeros(4, np.float32))
        outcomes.append(parameters_of(model) | {"action": torch.from_numpy(action)})
    assert_same(*outcomes)
