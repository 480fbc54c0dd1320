"""The authors' agents get our settings, and are those of a known commit."""

import pytest

from benchmarks import originals, reference_ranks
from zoo.training.plan import plan_run


@pytest.mark.parametrize("label", reference_ranks.ENTRIES)
def test_originals_get_our_settings_under_their_names(label):
    args = reference_ranks.make_parser(None).parse_args([])
    settings = plan_run(reference_ranks.requests(label, 1, args)[0]).config.settings
    name, config = originals.original_settings(reference_ranks.ENTRIES[label].algo, settings)
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
