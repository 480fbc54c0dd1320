"""Observations of all supported spaces as rows, and what features extractors get of them."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3.common.preprocessing import preprocess_obs

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
    "choice from 5 on": spaces.Discrete(3, start=5),
    "choices from -2 and 1 on": spaces.MultiDiscrete([3, 4], start=[-2, 1]),
    "choice in a Dict": spaces.Dict(
        {"choice": spaces.Discrete(3, start=-7), "vector": spaces.Box(-1, 1, (2,))}
    ),
    "all": spaces.Dict(
        {"image": IMAGE, "vector": spaces.Box(-1, 1, (2,)), "choice": spaces.Discrete(3)}
    ),
}


def sampled(space, count=6):
    """Return observations of a space, (N, ...), by name in a Dict space."""
    space.seed(0)
    if isinstance(space, spaces.Dict):
        return {key: sampled(part, count) for key, part in space.spaces.items()}
    return np.stack([np.asarray(space.sample()) for _ in range(count)])


def rows_of(values_by_name):
    """Return observations of :func:`sampled` one by one."""
    if not isinstance(values_by_name, dict):
        return list(values_by_name)
    return [
        dict(zip(values_by_name, values, strict=True))
        for values in zip(*values_by_name.values(), strict=True)
    ]


def flattened(values):
    parts = values.values() if isinstance(values, dict) else [values]
    return torch.cat([part.flatten(1) for part in parts], 1)


@pytest.mark.parametrize("normalize_images", [True, False])
@pytest.mark.parametrize("name", SPACES)
def test_extractors_get_what_sb3_gives_them(name, normalize_images):
    space = SPACES[name]
    layout, samples = ObservationLayout(space, normalize_images), sampled(space)
    tensors = (
        {key: torch.from_numpy(value) for key, value in samples.items()}
        if isinstance(samples, dict)
        else None
    )
    if "choice" in name:  # SB3 knows no choices that begin at another number than 0
        expected = torch.from_numpy(
            np.stack([spaces.flatten(space, sample) for sample in rows_of(samples)])
        ).float()
    else:
        expected = preprocess_obs(tensors or torch.from_numpy(samples), space, normalize_images)
    inputs = layout.to_extractor_input(torch.from_numpy(layout.flatten(samples)))
    assert torch.equal(flattened(inputs), flattened(expected))
    if isinstance(space, spaces.Box):
        assert inputs.shape == expected.shape


@pytest.mark.parametrize("name", SPACES)
def test_rows_become_the_same_observations_again(name):
    layout, samples = ObservationLayout(SPACES[name]), sampled(SPACES[name])
    rows = layout.flatten(samples)
    assert rows.shape == (6, layout.size)
    restored = layout.observations(rows.reshape(2, 3, -1))
    for key in samples if isinstance(samples, dict) else [None]:
        part, expected = (restored, samples) if key is None else (restored[key], samples[key])
        assert_array_equal(part.reshape(6, -1), expected.reshape(6, -1))


@pytest.mark.parametrize(
    ("name", "dtype"), [("image", np.uint8), ("images", np.uint8), ("all", np.float32)]
)
def test_only_images_alone_stay_uint8(name, dtype):
    layout = ObservationLayout(SPACES[name])
    assert layout.flatten(sampled(SPACES[name])).dtype == dtype
    assert layout.dtype == torch.from_numpy(np.zeros(1, dtype)).dtype


def test_a_datasets_dicts_become_rows_with_channels_first():
    layout, samples = ObservationLayout(SPACES["all"]), sampled(SPACES["all"])
    last = {**samples, "image": np.moveaxis(samples["image"], 1, -1)}
    arrays = layout.with_rows(
        {"observations": last, "next_observations": samples, "rewards": np.zeros(6)}
    )
    assert_array_equal(arrays["observations"], layout.flatten(samples))
    assert_array_equal(arrays["next_observations"], layout.flatten(samples))


def test_a_part_that_is_missing_or_has_another_shape_is_named():
    layout, samples = ObservationLayout(SPACES["all"]), sampled(SPACES["all"])
    with pytest.raises(ValueError, match=r"must hold `vector` .* got \(\)"):
        layout.with_rows({"observations": {key: samples[key] for key in ("image", "choice")}})
    with pytest.raises(ValueError, match=r"`vector` with the shape \(n, \*\(2,\)\), got \(6, 3\)"):
        layout.with_rows({"observations": {**samples, "vector": np.zeros((6, 3))}})


@pytest.mark.parametrize("scale", [1.0, "range"])
@pytest.mark.parametrize("size", [1e-25, 1e-8, 1.0, 1e6, 1e25])
def test_a_coordinate_is_scaled_whatever_its_size(size, scale):
    values = size * torch.tensor([[1.0], [2.0], [4.0]])
    centre, factor = centre_and_factor(values, scale)
    scaled = (values - centre) * factor
    spread = (scaled.max() - scaled.min()) / 2 if scale == "range" else scaled.std(correction=0)
    assert spread.item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, "range"])
def test_rounding_errors_are_not_scaled_up(scale):
    value = np.float32(123.456)
    values = torch.tensor([[value, 0.0], [np.nextafter(value, np.float32(200)), 0.0]])
    assert centre_and_factor(values, scale)[1].tolist() == [1, 1]
