"""Squashed Gaussians against recorded numbers; those of `test_algorithms` are of all other networks."""

from functools import cache

import numpy as np
import pytest
import torch

from agents.common.nets.heads import Sizes, TanhGaussian, tanh_gaussian_log_prob, tanh_gaussian_sample
from tests.parity.reference import OWN_FIXTURES, find_parameter

OBSERVATIONS, ACTIONS, ENSEMBLE, HIDDEN = 6, 5, 4, [32, 32, 32]
SIZES = Sizes(1, OBSERVATIONS, ACTIONS, ENSEMBLE, 1, HIDDEN, HIDDEN, False, False)
TOLERANCE = 5e-6  # relative to the largest recorded value, or to 1
LOG_DENSITY_TOLERANCE = 1e-5  # absolute, for densities that float32 resolves that finely...
LOG_DENSITY_ROUNDING = 4e-7  # ...and relative, three units in the last place, for those in the hundreds and thousands


@cache
def recorded(file="network_forward"):
    with np.load(OWN_FIXTURES / "common" / f"{file}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files if key != "meta"}


class Entry:
    """What was recorded under one name: inputs with the seed axis, outputs, and parameters for a network."""

    def __init__(self, name):
        self.name = name

    def __getitem__(self, key):
        return recorded()[f"{self.name}/in/{key}"].unsqueeze(0)

    def outputs(self):
        below = {key.removeprefix(f"{self.name}/"): value for key, value in recorded().items() if self.has(key)}
        return {key: value for key, value in below.items() if not key.startswith(("params/", "in/", "in_batched/"))}

    def has(self, key):
        return key.startswith(f"{self.name}/")

    def fill(self, network):
        """Give the network its recorded parameters, and make sure that there are no others."""
        prefix, filled = f"{self.name}/params/", 0
        with torch.no_grad():
            for key, value in recorded().items():
                if key.startswith(prefix):
                    find_parameter(network, key.removeprefix(prefix)).copy_(value.unsqueeze(0))
                    filled += value.numel()
        assert filled == sum(p.numel() for p in network.parameters())
        return network


def tanh_normal(entry):
    mean, log_std = entry.fill(TanhGaussian(SIZES))(entry["s"])
    outputs = {"mean": mean[0], "log_std": log_std[0]}
    if "log_prob" in entry.outputs():
        sample, log_prob = tanh_gaussian_sample(mean, log_std, entry["eps"])
        outputs |= {"u": (mean + log_std.exp() * entry["eps"])[0], "y": sample[0], "log_prob": log_prob[0]}
    return outputs


def tanh_normal_density(entry):
    mean, log_std = entry["mean"], entry["log_std"]
    return {
        "log_prob": tanh_gaussian_log_prob(mean, log_std, entry["u"])[0],
        "log_prob_of_y": tanh_gaussian_log_prob(mean, log_std, entry["y"].atanh())[0],
    }


COMPUTED = {"tanh_normal": tanh_normal, "tanh_normal_lowclip": tanh_normal, "tanh_normal_density": tanh_normal_density}


@pytest.mark.parametrize("name", COMPUTED)
def test_network_outputs_equal_the_reference(name):
    entry = Entry(name)
    got, expected = COMPUTED[name](entry), entry.outputs()
    assert set(got) == set(expected)  # every recorded output is compared
    for key, recorded_value in expected.items():
        assert got[key].shape == recorded_value.shape, key
        error = (got[key].detach() - recorded_value).abs()
        if key.startswith("log_prob"):
            allowed = (LOG_DENSITY_ROUNDING * recorded_value.abs()).clamp(min=LOG_DENSITY_TOLERANCE)
            assert bool((error < allowed).all()), key
        else:
            assert float(error.max()) < TOLERANCE * max(1.0, float(recorded_value.abs().max())), key
