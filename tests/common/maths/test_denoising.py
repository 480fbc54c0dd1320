import numpy as np
import pytest
import torch

from agents.common.maths.denoising import NoiseSchedule, denoise, noise_schedule
from tests.agents.oracles import Behaviour
from tests.parity.reference import OWN_FIXTURES

ROWS = 60_000


def chain_end(behaviour, sampler, clip_states, size=1):
    """Return samples of the exact noise prediction's reverse chain of 10 steps, (ROWS, size)."""
    schedule = NoiseSchedule(1, 10, "vp")
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, ROWS, size, generator=generator)
    steps = torch.randn(1, 10, ROWS, size, generator=generator)

    def predict(x, t):
        return behaviour.noise_prediction(x, schedule.alpha_bars[int(t)])

    return denoise(predict, start, steps, schedule, sampler, clip_states)[0]


@pytest.mark.parametrize("kind", ["vp", "cosine", "linear"])
@pytest.mark.parametrize("steps", [5, 10])
def test_schedules_equal_the_reference(kind, steps):
    with np.load(OWN_FIXTURES / "common" / "diffusion_schedule.npz") as recorded:
        betas, alpha_bars = recorded[f"{kind}_T{steps}/beta"], recorded[f"{kind}_T{steps}/alpha_bar"]
    np.testing.assert_allclose(noise_schedule(kind, steps), betas, atol=3e-6)
    np.testing.assert_allclose(NoiseSchedule(1, steps, kind).alpha_bars, alpha_bars, atol=3e-6)


def test_table_on_the_device_agrees_with_the_numbers_of_the_chain():
    schedule = NoiseSchedule(2, 5, "vp")
    looked_up = schedule.alpha_bar(torch.tensor([[0.0, 5.0], [3.0, 1.0]]))[..., 0].tolist()
    numbers = schedule.alpha_bars
    assert looked_up == [[numbers[0], numbers[5]], [numbers[3], numbers[1]]]


@pytest.mark.parametrize(
    ("std", "sampler", "clip_states", "expected"),
    [(0.5, "ddpm_clipped", False, 0.4862), (0.2, "jump", True, 0.1571), (0.5, "ddpm", True, 0.4286)],
)
def test_samplers_give_a_gaussian_the_known_spread(std, sampler, clip_states, expected):
    end = chain_end(Behaviour(std, [[0.0]]), sampler, clip_states)
    assert float(end.mean()) == pytest.approx(0, abs=0.006)
    assert float(end.std()) == pytest.approx(expected, abs=0.004)


def test_last_step_adds_no_noise():
    schedule, x = NoiseSchedule(1, 2, "vp"), torch.zeros(1, 4, 1)
    noise = torch.zeros(1, 2, 4, 1)
    noise[:, 1] = 5.0
    assert torch.equal(denoise(lambda x, t: torch.zeros_like(x), x, noise, schedule, "ddpm", False), x)
