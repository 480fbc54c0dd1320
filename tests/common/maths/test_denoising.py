"""Noise schedules against recorded ones, and samplers against the spread that a Gaussian has in closed form."""

import numpy as np
import pytest

from agents.common.maths.denoising import NoiseSchedule, denoise, noise_schedule
from tests.common.toys import normals
from tests.parity.reference import OWN_FIXTURES

ROWS = 60_000


@pytest.mark.parametrize("kind", ["vp", "cosine", "linear"])
@pytest.mark.parametrize("steps", [5, 10])
def test_schedules_equal_the_reference(kind, steps):
    with np.load(OWN_FIXTURES / "common" / "diffusion_schedule.npz") as recorded:
        arrays = {name: recorded[f"{kind}_T{steps}/{name}"] for name in ("beta", "alpha_bar")}
    schedule = NoiseSchedule(1, steps, kind)
    np.testing.assert_allclose(noise_schedule(kind, steps), arrays["beta"], atol=3e-6)
    np.testing.assert_allclose(schedule.alpha_bars, arrays["alpha_bar"], atol=3e-6)


@pytest.mark.parametrize(
    ("std", "sampler", "clip_states", "expected"),
    [
        (0.5, "ddpm_clipped", False, 0.4862),
        (0.2, "jump", True, 0.1571),
        (0.5, "ddpm", True, 0.4286),
    ],
)
def test_samplers_give_a_gaussian_the_known_spread(std, sampler, clip_states, expected):
    schedule = NoiseSchedule(1, 10, "vp")
    start, steps = normals(1, ROWS, 1), normals(1, 10, ROWS, 1, seed=1)

    def predict(x, t):
        signal = schedule.alpha_bars[int(t)]
        noise = 1 - signal
        return noise**0.5 * x / (signal * std**2 + noise)

    end = denoise(predict, start, steps, schedule, sampler, clip_states)
    assert float(end.mean()) == pytest.approx(0, abs=0.006)
    assert float(end.std()) == pytest.approx(expected, abs=0.004)
