"""The page about custom networks as the behaviour flow, and its example."""

import gymnasium
import numpy as np
import pytest

from docs.examples import fine_tune
from tests import code_blocks
from tests.common.toys import toy_dataset

SMALL = "horizon_length=4, net_arch=[8], batch_size=8, buffer_size=8, learning_starts=2"
STEPS = {"100_000": "2", "150_000": "4", "50_000": "2", "10_000": "6"}


@pytest.mark.parametrize(
    ("definition", "usages"),
    [(0, [0, 1]), (1, [2]), (0, [3, 0])],
    ids=["flows", "diffusion", "box"],
)
def test_the_page_runs_as_it_stands(definition, usages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("my_data.npz", **toy_dataset(60, 3, 1))
    names = {"env": gymnasium.make("Pendulum-v1"), "gymnasium": gymnasium, "np": np}
    code = code_blocks("docs/pretrained.md", "py")[definition]
    # with `train=True`, because a finished flow with such large outputs is rejected, and its weights are random
    exec(code.replace("action_shape=(4, 1)", "action_shape=(4, 1), train=True"), names)
    for usage in usages:
        code = code_blocks("docs/pretrained.md", "python")[usage]
        for old, new in {**STEPS, "horizon_length=4": SMALL}.items():
            code = code.replace(old, new)
        exec(code, names)
    assert not names["model"].find_divergence()
    # an action within the bounds is executed unchanged
    names["env"].reset(seed=0)
    names["env"].step(np.float32([1.25]))
    assert names["env"].unwrapped.last_u == 1.25


@pytest.mark.slow
def test_fine_tuning_improves_a_cloned_transformer():
    cloned, tuned = fine_tune.main()
    assert tuned > cloned + 0.3
