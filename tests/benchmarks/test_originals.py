"""The authors' agents get our settings, and are those of a known commit."""

import json

import pytest

from benchmarks import originals, reference_ranks
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES
from zoo.training.plan import plan_run


@pytest.mark.parametrize("label", reference_ranks.ENTRIES)
def test_originals_get_our_settings_under_their_names(label):
    args = reference_ranks.make_parser(None).parse_args([])
    settings = plan_run(reference_ranks.requests(label, 1, args)[0]).config.settings
    algo = reference_ranks.ENTRIES[label].algo
    name, config = originals.original_settings(algo, settings)
    # the authors' settings refuse a number where they have a switch
    original = {"bc": "trqam"}.get(algo, algo)
    recorded = read_fixture(OWN_FIXTURES / "open" / f"{original}.npz").config
    switches = [key for key in recorded.keys() & config if isinstance(recorded[key], bool)]
    assert all(isinstance(config[key], bool) for key in switches)
    assert config["actor_hidden_dims"] == (64, 64)
    assert config["discount"] == 0.995
    assert config["horizon_length"] == 10
    assert config["lr"] == 1e-3
    assert config["tau"] == 0.02
    assert config["num_qs"] == (4 if label.endswith("_4_critics") or label == "rlpd" else 2)
    special = {
        "qam_e": ("edit_scale", 0.1),
        "dac": ("clip_sampler_before", True),
        "bc": ("bc_only", True),
    }
    special |= {
        "qsm": ("clip_sampler_before", False),
        "cgql_linex": ("mode", "linex"),
        "fedit": ("edit_scale", 0.9),
    }
    key, value = special.get(label, ("agent_name", name))
    assert config[key] == value


def test_rows_that_have_their_scores_are_not_trained_again(capsys):
    words = "--only qam rlpd --seeds 200-209 --checkout qam=/nowhere"
    assert originals.main(words.split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["trained"], result["missing"]) == ([], 0)
