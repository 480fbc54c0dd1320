"""Observations of all supported spaces as rows, and the inputs of features extractors."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3.common.preprocessing import preprocess_obs
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from agents.common.observations import ObservationLayout, centre_and_factor

IMAGE = spaces.Box(0, 255, (3, 4, 5), np.uint8)
SPACES = {
    "vector": spaces.Box(-1, 1, (4,)),
    "table": spaces.Box(-1, 1, (2, 3)),
    "image": IMAGE,
    "bytes that are no image": spaces.Box(0, 255, (4,), np.uint8),
    "choice": spaces.Discrete(3),
    "choices": spaces.MultiDiscrete([3, 4]),
    "switches": spaces.MultiBinary(3),
    "images": spaces.Dict({"left": IMAGE, "right": IMAGE}),
    "all": spaces.Dict(
        image=IMAGE,
        vector=spaces.Box(-3e38, 3e38, (2,)),
        choice=spaces.Discrete(3),
        flags=spaces.Box(0, 1, (2,), bool),
    ),
}


@pytest.mark.parametrize("normalize_images", [True, False])
@pytest.mark.parametrize("name", SPACES)
def test_extractors_get_what_sb3_gives_them(name, normalize_images):
    space = SPACES[name]
    layout = ObservationLayout(space, normalize_images)
    samples = layout.sample(6)
    torch.compiler.reset()  # the compiler gives up at eight versions of a function
    # compiled, as in the losses of long runs
    convert = torch.compile(layout.to_extractor_input, fullgraph=True, backend="aot_eager")
    inputs = convert(torch.from_numpy(layout.flatten(samples)))
    expected = preprocess_obs(tree_map(torch.from_numpy, samples), space, normalize_images)
    assert_close(inputs, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", SPACES)
def test_rows_become_the_same_observations_again(name):
    layout = ObservationLayout(SPACES[name])
    rows = layout.flatten(layout.sample(6))
    restored = layout.observations(rows.reshape(2, 3, -1))
    assert_array_equal(layout.flatten(tree_map(np.concatenate, restored)), rows)


@pytest.mark.parametrize(("name", "dtype"), [("images", np.uint8), ("all", np.float32)])
def test_only_images_alone_stay_uint8(name, dtype):
    layout = ObservationLayout(SPACES[name])
    rows = layout.flatten(layout.sample(2))
    assert rows.dtype == dtype
    assert rows.max() < 1e6  # whatever the bounds


def test_a_datasets_dicts_become_rows_with_channels_first():
    layout = ObservationLayout(SPACES["all"])
    samples = layout.sample(6)
    channels_last = {**samples, "image": np.moveaxis(samples["image"], 1, -1)}
    arrays = layout.with_rows({"observations": channels_last, "next_observations": samples})
    for rows in arrays.values():
        assert_array_equal(rows, layout.flatten(samples))


@pytest.mark.parametrize(("key", "array"), [("choice", None), ("vector", np.zeros((6, 3)))])
def test_a_part_that_is_missing_or_has_another_shape_is_named(key, array):
    layout = ObservationLayout(SPACES["all"])
    samples = layout.sample(6) | {key: array}
    with pytest.raises(ValueError, match=rf"`{key}` of shape .*got "):
        layout.with_rows({"observations": samples})


@pytest.mark.parametrize("scale", [1.0, "range"])
@pytest.mark.parametrize("size", [1e-25, 1e-8, 1.0, 1e6, 1e25])
def test_a_coordinate_is_scaled_whatever_its_size(size, scale):
    values = size * torch.tensor([[1.0], [2.0], [4.0]])
    centre, factor = centre_and_factor(values, scale)
    scaled = (values - centre) * factor
    middle, spread = scaled.mean(), scaled.std(correction=0)
    if scale == "range":
        middle, spread = (scaled.max() + scaled.min()) / 2, (scaled.max() - scaled.min()) / 2
    assert middle.item() == pytest.approx(0, abs=1e-6)
    assert spread.item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, "range"])
def test_rounding_errors_are_not_scaled_up(scale):
    value = np.float32(123.456)
    values = torch.tensor([[value, 0.0], [np.nextafter(value, 200), 0.0]])
    assert centre_and_factor(values, scale)[1].tolist() == [1, 1]
