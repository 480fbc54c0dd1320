"""The image encoder compared with recorded numbers of FQL's (OGBench's) encoder, and random crops with FQL's crops."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.testing import assert_close

from agents.common.observations import CROP_PIXELS, ObservationLayout
from agents.common.sb3 import encoders
from agents.common.sb3.encoders import ImpalaEncoder
from tests.common.toys import seeded
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES

FIXTURE = read_fixture(OWN_FIXTURES / "common" / "pixels.npz")


def recorded(key):
    return torch.from_numpy(FIXTURE[key])


def image_space(channels, *sides):
    return spaces.Box(0, 255, (channels, *sides), np.uint8)


def parameters(size, kind):
    """Return the recorded parameters of a kind under our names, with kernels transposed to channels first."""

    def array(name):
        return recorded(f"{size}/{kind}/{name}")

    named = {}
    for index, (stage, layer) in enumerate(np.ndindex(3, 3)):
        name = f"stack_blocks_{stage}/Conv_{layer}"
        named[f"weights.{index}"] = array(f"{name}/kernel").permute(3, 2, 0, 1)[None]
        named[f"biases.{index}"] = array(f"{name}/bias")[None]
    kernel = array("MLP_0/Dense_0/kernel")
    # reorder rows from (height, width, channels) to channels first; after three halvings, a side has two pixels
    kernel = kernel.unflatten(0, (2, 2, -1)).permute(2, 0, 1, 3).flatten(0, 2)
    named["mlp.weights.0"] = kernel[None]
    named["mlp.biases.0"] = array("MLP_0/Dense_0/bias")[None]
    return named


@pytest.mark.parametrize("size", ["even", "odd"])  # lengths of the images' sides
def test_features_and_gradients_are_the_references(size):
    images = recorded(f"{size}/images").movedim(-1, 1)
    encoder = ImpalaEncoder(image_space(*images.shape[1:]), features_dim=16, widths=(4, 8, 8))
    encoder.load_state_dict(parameters(size, "params"))
    features = encoder(images / 255.0)
    assert_close(features, recorded(f"{size}/features"), rtol=2e-5, atol=2e-6)
    features.backward(recorded(f"{size}/cotangent"))
    expected = parameters(size, "grads")
    for name, parameter in encoder.named_parameters():
        assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_the_defaults_are_impala_small():
    shapes = FIXTURE.meta["impala_small"]
    encoder = ImpalaEncoder(image_space(9, 64, 64))
    sizes = sorted(parameter[0].numel() for parameter in encoder.parameters())
    assert sizes == sorted(map(math.prod, shapes.values()))


# networks one after the other, or as groups of one convolution
@pytest.mark.parametrize("one_by_one", [{"cpu"}, set()], ids=str)
def test_replicas_are_encoders_side_by_side(one_by_one, monkeypatch):
    monkeypatch.setattr(encoders, "ONE_BY_ONE", one_by_one)
    space, generator = image_space(3, 16, 16), seeded()
    stacked = ImpalaEncoder(space, features_dim=16, widths=(4, 8), replicas=2)
    for replica in range(2):
        stacked.initialise(replica, generator)
    images = torch.rand(2, 5, 3, 16, 16, generator=generator)
    features = stacked(images.flatten(0, 1)).unflatten(0, (2, 5))
    for replica in range(2):
        single = ImpalaEncoder(space, features_dim=16, widths=(4, 8))
        state = stacked.state_dict()
        single.load_state_dict({name: value[[replica]] for name, value in state.items()})
        assert_close(features[replica], single(images[replica]), rtol=1e-5, atol=1e-6)
        assert not torch.allclose(features[1 - replica], single(images[1 - replica]))


def test_shifted_images_are_the_references_crops():
    images, cropped = (recorded(f"crop/{name}").movedim(-1, 1) for name in ("images", "cropped"))
    shifts = (recorded("crop/from") - CROP_PIXELS).unbind(1)
    layout = ObservationLayout(image_space(*images.shape[1:]))
    assert torch.equal(layout.shifted(images.flatten(1), *shifts), cropped.flatten(1))
