"""The noise schedule compared with a recorded one; `tests/parity` tests the samplers in QSM, DAC and IDQL."""

import numpy as np
import pytest

from agents.common.maths.flow import noise_schedule
from agents.common.nets.networks import NoiseSchedule
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES


@pytest.mark.parametrize("steps", [5, 10])
def test_the_schedule_equals_the_reference(steps):
    fixture = read_fixture(OWN_FIXTURES / "common" / "diffusion_schedule.npz")
    arrays = fixture.below(f"vp_T{steps}/")
    schedule = NoiseSchedule(1, steps)
    np.testing.assert_allclose(noise_schedule(steps), arrays["beta"], atol=3e-6)
    np.testing.assert_allclose(schedule.alpha_bars, arrays["alpha_bar"], atol=3e-6)
