"""Externally trained flows and diffusions as velocity fields: conventions, scales and rejected models."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from agents.common.nets.pretrained import PretrainedField, PretrainedFlow
from tests.common.closed_forms import Gaussian
from tests.common.toys import normals, refuses

MEAN, STD = 0.3, 0.2
"""Moments of normal actions in [-1, 1], for which every velocity has a closed form."""
EXACT = Gaussian(MEAN, STD)
ALPHA_BAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def denoiser(predicts, mean=MEAN, std=STD):
    """Return a function that predicts a diffusion's noise or sample exactly, for normally distributed actions."""
    log_alpha = torch.tensor(np.log(ALPHA_BAR), dtype=torch.float32)

    def predict(module, observations, x, index):
        low = index.long().clamp(0, len(ALPHA_BAR) - 2)
        log_signal = torch.lerp(log_alpha[low], log_alpha[low + 1], index - low) / 2
        signal = log_signal.exp().unsqueeze(-1)
        noise_variance = 1 - signal**2
        variance = (signal * std) ** 2 + noise_variance
        centred = (x - signal * mean) / variance
        if predicts == "noise":
            return noise_variance.sqrt() * centred
        return mean + signal * std**2 * centred

    return predict


@pytest.fixture
def points():
    noise, actions = normals(2, 64, 6)
    t = torch.linspace(0.05, 0.95, 64).unsqueeze(1)
    return torch.zeros(64, 3), t * (MEAN + STD * actions) + (1 - t) * noise, t


def field_of(call, module=None, **conventions):
    return PretrainedField(PretrainedFlow(module or nn.Identity(), call, **conventions))


@pytest.mark.parametrize("predicts", ["noise", "sample"])
def test_a_diffusion_gives_the_velocity_of_the_straight_path(predicts, points):
    observations, x, t = points
    field = field_of(denoiser(predicts), predicts=predicts, alpha_bar=ALPHA_BAR)
    # velocities between two steps of the table are interpolated
    assert_close(field(observations, x, t), EXACT(x, t), rtol=2e-3, atol=2e-3)


def test_an_error_of_predicted_noise_is_not_blown_up():
    # LeRobot's cosine schedule ends with such a value, 2e-9
    conventions = {"predicts": "noise", "alpha_bar": [0.99, 0.5, 2e-9]}
    field = field_of(lambda m, o, x, t: 1.1 * x, **conventions)
    x = normals(64, 6)
    # the clean action is within the bounds, so the velocity from x differs from -x by at most 1
    assert (field(torch.zeros(64, 3), x, torch.zeros(64, 1)) + x).abs().max() < 1.001


@pytest.mark.parametrize(("scale", "shift"), [(2.5, 0.0), (1.0, -0.7), (0.4, 1.2)])
@pytest.mark.parametrize("predicts", ["velocity", "noise"])
def test_actions_in_units_of_the_module_are_converted(scale, shift, predicts, points):
    moments = scale * MEAN + shift, scale * STD
    units = {"action_scale": scale, "action_shift": shift}
    if predicts == "velocity":
        flow, tolerance = Gaussian(*moments), 1e-5
        field = field_of(lambda m, o, x, times: flow(x, times[:, None]), **units)
    else:
        call, tolerance = denoiser(predicts, *moments), 5e-3  # between two steps of the table
        field = field_of(call, predicts=predicts, alpha_bar=ALPHA_BAR, **units)
    assert_close(field(*points), EXACT(*points[1:]), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"module": nn.Linear},
            r"`module` must be a torch\.nn\.Module, not TorchScript.* got type and",
        ),
        ({"call": "forward"}, "`call` a function, got Linear and 'forward'"),
        ({"noise_at": 0.5}, "`noise_at` must be 0 or 1"),
        ({"predicts": "noise"}, "`alpha_bar` is needed"),
        ({"predicts": "noise", "alpha_bar": "linear"}, "`alpha_bar` must be a number or a list"),
        ({"predicts": "noise", "alpha_bar": [0.9, 0.5, 0.0]}, "leave out a last step of 0"),
        ({"predicts": "noise", "alpha_bar": [0.9, np.nan]}, "at least two numbers between 0 and 1"),
        ({"action_scale": [0.5, 1.0]}, "one positive number.*TransformAction"),
        ({"action_shape": (4, -1)}, "two positive integers"),
    ],
)
def test_conventions_that_cannot_be_are_refused(arguments, text):
    with refuses(text, (TypeError, ValueError)):
        PretrainedFlow(**{"module": nn.Linear(2, 2), **arguments})
