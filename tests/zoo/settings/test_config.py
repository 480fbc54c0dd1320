"""Layers of settings, overrides and their checks."""

import pytest
import torch

from zoo.settings.config import Benchmark, Overrides, TrialSettings, load_config
from zoo.settings.layers import load_yaml, parse_overrides
from zoo.terminal.errors import UsageError
from zoo.training.flags import make_parser, read_request
from zoo.training.plan import plan_run


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1e5", 100_000), ("1_000", 1000), ("1.0", 1.0), ("abc", "abc")],
)
def test_numbers_are_read_as_numbers(text, value):
    read = load_yaml(text, "a test")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rho=0.5", {"rho": 0.5}),
        ("rho:0.5", {"rho": 0.5}),
        ("net_arch=[64, 32]", {"net_arch": [64, 32]}),
        ("policy_kwargs.n_critics=2", {"policy_kwargs": {"n_critics": 2}}),
        ("observation_scale=range", {"observation_scale": "range"}),
    ],
)
def test_overrides_are_parsed_as_yaml(text, expected):
    assert parse_overrides([text]) == expected


def test_each_layer_wins_over_the_one_before(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("quick: {flow_steps: 7}\ndefault: {flow_steps: 6, rho: 0.1}\n")
    env = "scene-play-singletask-task1-v0"
    chain = [
        ({}, 10),
        ({"quick": True}, 5),
        ({"quick": True, "conf": path}, 7),
        ({"quick": True, "conf": path, "params": ["flow_steps=8"]}, 8),
        ({"quick": True, "conf": path, "params": ["flow_steps=8"], "flags": {"flow_steps": 9}}, 9),
    ]
    for arguments, expected in chain:
        assert (
            load_config("qam", env, Benchmark("scene-play"), Overrides(**arguments)).settings[
                "flow_steps"
            ]
            == expected
        )


def test_a_file_without_an_entry_for_the_run_is_refused(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("scene-plaiy: {rho: 0.2}\nquick: {rho: 0.1}\n")
    with pytest.raises(
        UsageError,
        match=r"an entry for this run, one of default, scene-play, x; it has scene-plaiy",
    ):
        load_config("qam", "x", Benchmark("scene-play"), Overrides(conf=path))
    assert (
        load_config("qam", "x", Benchmark("scene-play"), Overrides(conf=path, quick=True)).settings[
            "rho"
        ]
        == 0.1
    )


PROFILE_FILE = """
default: {rho: 0.1}
ocbench: {rho: 0.15}
scene-play: {rho: 0.2}
profiles:
  mine:
    default: {rho: 0.3}
    scene-play: {rho: 0.4}
"""


def test_a_profile_lies_over_default_and_domain_and_under_overrides(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE_FILE)

    def rho(domain, profile, *params):
        config = load_config(
            "qam",
            "x",
            Benchmark(domain, ["ocbench"]),
            Overrides(conf=path, profile=profile, params=params),
        )
        return float(config.settings["rho"])

    assert [rho(domain, "qam") for domain in (None, "scene-play")] == [0.15, 0.2]
    assert [rho(domain, "mine") for domain in (None, "scene-play")] == [0.3, 0.4]
    assert rho("scene-play", "mine", "rho=0.6") == 0.6


def test_a_profile_of_a_file_lies_over_the_shipped_one(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("profiles: {trqam: {default: {kl_budget: 2.0}}}\n")
    shipped = load_config("trqam", "x", Benchmark("scene-play"), Overrides(profile="trqam"))
    ours = load_config("trqam", "x", Benchmark("scene-play"), Overrides(profile="trqam", conf=path))
    assert ours.settings == {**shipped.settings, "kl_budget": 2.0}
    assert ours.run.settings() == shipped.run.settings()


def test_the_profile_and_its_sources_are_recorded():
    config = load_config("qam", "x", Benchmark("cube-double-play"), Overrides(profile="trqam"))
    assert config.profile == "trqam"
    assert config.sources[0].startswith("hyperparams/profiles/qam.yml default (")
    assert config.sources[-1].startswith("hyperparams/qam.yml profiles.trqam default (")


def test_a_profile_that_the_algorithm_does_not_have_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"`qam` has no profile `trqm`; it has: qam, .*, trqam$"):
        load_config("qam", "x", overrides=Overrides(profile="trqm"))
    assert (
        load_config("fawac", "x", overrides=Overrides(profile="trqam")).run.pretraining_steps
        == 300_000
    )  # every algorithm has the shared ones
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE_FILE)
    with pytest.raises(
        UsageError, match=r"`qam` has no profile `yours`; it has: qam, .*, trqam, mine$"
    ):
        load_config("qam", "x", overrides=Overrides(profile="yours", conf=path))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("horizon_length=0", "`horizon_length` must be an int >= 1, got 0"),
        ("rho=.nan", "`rho` must be a finite number >= 0, got nan"),
        ("action_chunking=1", "`action_chunking` must be true or false, got 1"),
        ("net_arch=wide", "`net_arch` must be a list of hidden widths"),
        ("train_freq=[0,episode]", "`train_freq` must be an int >= 1, got 0"),
        (
            "policy_kwargs=dict(a=1)",
            "`policy_kwargs` must be a mapping of names to values, got 'dict(a=1)'",
        ),
        ("offline_steps=0", "`offline_steps` and `online_steps` are both 0"),
        (
            "inverse_temprature=3",
            "unknown setting of qam `inverse_temprature`; closest: inverse_temperature",
        ),
        (
            "learning_rate=cosine_1e-3",
            "`learning_rate` must be a number > 0, or such a number after `lin_`, `cos_`",
        ),
        (
            "per_network.critic.learning_rate=cos_0",
            "`per_network.critic`: `learning_rate` must be a finite number > 0",
        ),
        ("per_network.critc.tau=1", "unknown network of QAM `critc`; closest: critic"),
    ],
)
def test_a_bad_value_is_refused_with_its_name(word, message):
    with pytest.raises(UsageError) as error:
        load_config("qam", "x", overrides=Overrides(params=[word]))
    assert message in str(error.value)


def test_what_one_network_has_of_its_own_is_merged_and_recorded_where_it_is_given(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(
        "default: {per_network: {critic: {learning_rate: 3e-4, tau: 0.1}, behaviour: {train_every: 2}}}"
    )
    params = ["learning_rate=cos_1e-3", "per_network.critic.learning_rate=lin_1e-3"]
    record = load_config("qam", "x", overrides=Overrides(conf=path, params=params)).plain()[
        "settings"
    ]
    assert record["learning_rate"] == "cos_1e-3"
    assert record["per_network"] == {
        "critic": {"learning_rate": "lin_1e-3", "tau": 0.1},
        "behaviour": {"train_every": 2},
    }
    trial = TrialSettings({"per_network.critic.tau": 0.3}, "trial 1")
    assert (
        load_config("qam", "x", overrides=Overrides(conf=path, trial=trial)).settings[
            "per_network"
        ]["critic"]["tau"]
        == 0.3
    )


@pytest.mark.parametrize("name", ["alpha", "fql_alpha"])
def test_a_name_of_the_paper_is_answered_with_the_setting_that_it_stands_for(name):
    algo, setting = ("fql", "distill_weight") if name == "alpha" else ("qam_f", "distill_weight")
    with pytest.raises(
        UsageError, match=f"unknown setting of {algo} `{name}`; closest: {setting}$"
    ):
        load_config(algo, "x", overrides=Overrides(params=[f"{name}=10"]))


def test_a_file_that_is_no_mapping_of_entries_is_refused(tmp_path):
    path = tmp_path / "flat.yml"
    path.write_text("rho: 0.5\n")
    with pytest.raises(UsageError, match="must map entry names to settings"):
        load_config("qam", "x", overrides=Overrides(conf=path))


# -- the benchmark's protocol -----------------------------------------------------------------------------------------


def departures(algo="qam", domain="scene-play", **given):
    return load_config(algo, "x", Benchmark(domain), Overrides(**given)).departures


def test_a_run_of_the_protocol_departs_from_nothing():
    for algo in ("qam", "rlpd", "bc", "sac"):
        assert departures(algo) == []
    for algo in ("trqam", "bc"):
        assert departures(algo, profile="trqam") == []


def test_what_departs_from_the_protocol_is_said():
    found = departures(
        params=["gamma=0.9", "sparse=false", "rho=0.1", "offline_steps=10"],
        flags={"dataset_size": 1000},
    )
    assert found == [
        "gamma 0.9 instead of 0.99",
        "sparse False instead of True",
        "offline_steps 10 instead of 1000000",
        "dataset_size 1000 instead of None",
    ]


def test_an_online_phase_of_ones_own_is_no_departure_and_another_length_is():
    assert departures(flags={"online_steps": 1000}) == []
    assert departures("rlpd", flags={"online_steps": 1000}) == [
        "online_steps 1000 instead of 500000"
    ]


@pytest.mark.parametrize(("words", "expected"), [("", "tf32"), ("-params precision=bf16", "bf16")])
def test_a_gpu_takes_tf32_where_no_precision_is_given(words, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    args = make_parser().parse_args(
        f"--algo fql --env scene-play-singletask-task1-v0 {words}".split()
    )
    assert plan_run(read_request(args)).config.settings["precision"] == expected
