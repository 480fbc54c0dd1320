"""The page on flows that were trained elsewhere, and its example."""

import gymnasium
import numpy as np
import pytest

import agents
from docs.examples import fine_tune
from tests import code_blocks
from tests.common.toys import toy_dataset


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = code_blocks("docs/pretrained.md", "py")[0]
    usage = code_blocks("docs/pretrained.md", "python")[0].replace("100_000", "2")
    np.savez("my_data.npz", **toy_dataset(60, 3, 1))
    small = "horizon_length=4, net_arch=[8], batch_size=8, buffer_size=8"
    env = gymnasium.make("Pendulum-v1")
    names = {"env": env}
    exec(definition + usage.replace("horizon_length=4", small), names)
    assert isinstance(names["model"], agents.TRQAM)


@pytest.mark.slow
def test_fine_tuning_improves_a_cloned_transformer():
    cloned, tuned = fine_tune.main()
    assert tuned > cloned + 0.3
