"""The page on flows that were trained elsewhere, and its example."""

import gymnasium
import numpy as np
import pytest

import agents
from docs.examples import fine_tune
from tests import code_blocks


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = code_blocks("docs/pretrained.md", "py")[0]
    usage = code_blocks("docs/pretrained.md", "python")[0].replace("100_000", "2")
    generator = np.random.default_rng(0)
    rows = 64
    states = generator.normal(size=(rows + 1, 3)).astype(np.float32)
    np.savez(
        "my_data.npz",
        observations=states[:-1],
        next_observations=states[1:],
        actions=(0.4 * generator.normal(size=(rows, 1))).clip(-2, 2),
        rewards=generator.normal(size=rows),
        terminals=(np.arange(rows) % 16 == 15).astype(float),
        masks=np.ones(rows),
    )
    small = "horizon_length=4, net_arch=[8], batch_size=8, buffer_size=8"
    env = gymnasium.make("Pendulum-v1")
    names = {"env": env}
    exec(definition + usage.replace("horizon_length=4", small), names)
    assert isinstance(names["model"], agents.TRQAM)


@pytest.mark.slow
def test_fine_tuning_improves_a_cloned_transformer():
    cloned, tuned = fine_tune.main()
    assert tuned > cloned + 0.3
