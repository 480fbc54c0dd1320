"""n-step returns in a model (`n_steps`); `tests/fuzz/test_sampling.py` compares their values with the definition."""

import agents
from tests.common.data.helpers import all_sequences
from tests.common.toys import TINY, reloaded, toy_dataset
from tests.envs import SpacesEnv


def test_a_model_made_with_n_steps_stays_so_when_saved(tmp_path):
    settings = {name: value for name, value in TINY.items() if name != "horizon_length"}
    model = agents.QAM("MlpPolicy", SpacesEnv(), n_steps=3, **settings | {"buffer_size": 1})
    for restored in (model, reloaded(model, tmp_path, SpacesEnv())):
        assert restored.n_steps == restored.horizon_length == 3
        assert restored.action_chunking is False
        assert restored.policy.chunk_length == 1
        assert restored.replay_buffer.shorten_returns
        assert restored.replay_buffer.horizon_length == 3
        restored.load_dataset(toy_dataset())
        # the last rows start sequences too, although fewer rows follow
        assert all_sequences(restored.replay_buffer).valid.all()
