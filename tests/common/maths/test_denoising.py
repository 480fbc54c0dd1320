"""Noise schedules compared with recorded ones; `tests/parity` tests the samplers in QSM, DAC and IDQL."""

import numpy as np
import pytest

from agents.common.maths.flow import noise_schedule
from agents.common.nets.networks import NoiseSchedule
from tests.parity.reference import OWN_FIXTURES


@pytest.mark.parametrize("kind", ["vp", "cosine", "linear"])
@pytest.mark.parametrize("steps", [5, 10])
def test_schedules_equal_the_reference(kind, steps):
    with np.load(OWN_FIXTURES / "common" / "diffusion_schedule.npz") as recorded:
        arrays = {name: recorded[f"{kind}_T{steps}/{name}"] for name in ("beta", "alpha_bar")}
    schedule = NoiseSchedule(1, steps, kind)
    np.testing.assert_allclose(noise_schedule(kind, steps), arrays["beta"], atol=3e-6)
    np.testing.assert_allclose(schedule.alpha_bars, arrays["alpha_bar"], atol=3e-6)
