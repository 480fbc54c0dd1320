"""The authors' agents get our settings, and are those of a known commit."""

import json

import numpy as np
import pytest

from benchmarks import originals, reference_ranks
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES
from zoo.runs.episodes import EpisodeResults
from zoo.training.plan import plan_run


@pytest.mark.parametrize("label", reference_ranks.ENTRIES)
def test_originals_get_our_settings_under_their_names(label):
    args = reference_ranks.make_parser(None).parse_args([])
    settings = plan_run(reference_ranks.requests(label, 1, args)[0]).config.settings
    algo = reference_ranks.ENTRIES[label].algo
    name, config = originals.original_settings(algo, settings)
    # the authors' settings refuse a number where they have a switch
    original = {"bc": "trqam"}.get(algo, algo)
    (path,) = OWN_FIXTURES.glob(f"*/{original}.npz")
    recorded = read_fixture(path).config
    switches = [key for key in recorded.keys() & config if isinstance(recorded[key], bool)]
    assert all(isinstance(config[key], bool) for key in switches)
    assert config["actor_hidden_dims"] == (64, 64)
    # a chunk of ten is one action to some
    steps = 10 if algo in originals.SINGLE_ACTIONS else 1
    assert config["discount"] == pytest.approx(0.995**steps)
    assert (config["horizon_length"], config["lr"], config["tau"]) == (10, 1e-3, 0.02)
    critics = 4 if label.endswith("_4_critics") or label == "rlpd" else 2
    # two is not a setting of DriftQL and IQL
    assert config.get("num_qs", config.get("ensemble_ct", 2)) == critics
    special = {
        "qam_e": ("edit_scale", 0.1),
        "dac": ("clip_sampler_before", True),
        "bc": ("bc_only", True),
        "qsm": ("clip_sampler_before", False),
        "cgql_linex": ("mode", "linex"),
        "fedit": ("edit_scale", 0.9),
        "rql": ("ema", 0.98),
        "qgf": ("critic_lr", 1e-3),
        "fan": ("z_agg", "mean"),
        "value_flows": ("actor_layer_norm", False),
        "driftql": ("drift_batch_size", 128),
        "iql": ("const_std", True),
    }
    key, value = special.get(label, ("agent_name", name))
    assert config[key] == value


def test_a_chunk_is_one_transition_for_originals_without_chunks():
    steps = np.arange(8.0)
    content = {"observations": steps[:, None], "next_observations": steps[:, None] + 0.5}
    content |= {"actions": np.stack([steps, -steps], axis=1), "rewards": steps}
    content |= {"masks": (steps != 5).astype(float), "terminals": np.isin(steps, [3, 7])}
    chunks = originals.chunk_transitions(content, 3, 0.5)
    # of two trajectories of four steps
    assert chunks["observations"][:, 0].tolist() == [0, 1, 4, 5]
    assert chunks["next_observations"][:, 0].tolist() == [2.5, 3.5, 6.5, 7.5]
    assert chunks["actions"][1].tolist() == [1, -1, 2, -2, 3, -3]
    assert chunks["rewards"].tolist() == [1, 2.75, 8, 9.75]
    assert chunks["masks"].tolist() == [1, 1, 0, 0]
    assert chunks["terminals"].tolist() == [False, True, False, True]


def test_rows_that_have_their_scores_are_not_trained_again(capsys):
    words = "--only qam rlpd --seeds 200-209 --checkout qam=/nowhere"
    assert originals.main(words.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["trained"], result["missing"]) == ([], 0)


@pytest.mark.parametrize("reached", [True, False])
def test_an_agent_that_became_nan_has_no_success_and_episodes_of_full_length(reached):
    lengths = np.array([[100, 201], [0, 0]])
    successes = np.array([[1, 1], [0, 0]])
    if not reached:  # no episode of any seed has ended
        lengths, successes = 0 * lengths, None
    results = EpisodeResults(
        successes=successes,
        returns=np.zeros((2, 2)),
        lengths=lengths,
        seeds=np.zeros(2),
        played=np.array([reached, False]),
    )
    expected = [0, 2, 1000.0, 1]
    first = [2, 2, 150.5, 0] if reached else expected
    assert originals.scores_of(results).to_numpy().tolist() == [first, expected]


def test_a_checkout_of_another_commit_is_refused_before_any_training(tmp_path, capsys):
    words = f"--only fan --seeds 900 --checkout FAN={tmp_path}"
    assert originals.main(words.split()) == 2
    assert "to be those of commit 0917d0d2" in capsys.readouterr().err
