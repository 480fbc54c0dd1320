"""Layers of settings, overrides and their checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.cli import UsageError
from zoo.config import load_config, load_yaml, merge, parse_override, parse_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("1E5", 1e5), ("-2.5e-1", -0.25), (".5e1", 5.0), ("1_000", 1000), ("1.0", 1.0), ("abc", "abc")],
)
def test_numbers_are_read_as_numbers(text: str, value: object) -> None:
    read = load_yaml(text, "a test")
    assert read == value
    assert type(read) is type(value)


def test_tags_that_build_objects_are_refused() -> None:
    with pytest.raises(UsageError, match="must be valid YAML"):
        load_yaml("!!python/object/apply:os.system [true]", "a test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rho=0.5", {"rho": 0.5}),
        ("rho:0.5", {"rho": 0.5}),
        ("rho: 0.5", {"rho": 0.5}),
        ("net_arch=[64, 32]", {"net_arch": [64, 32]}),
        ("policy_kwargs.n_critics=2", {"policy_kwargs": {"n_critics": 2}}),
        ("observation_scale=null", {"observation_scale": None}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_overrides_are_parsed_as_yaml(text: str, expected: dict) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["rho", "=3", "rho=", "3=4"])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expects key=value"):
        parse_override(text)


def test_later_overrides_win() -> None:
    assert parse_overrides(["a.b=1", "a.c=2", "a.b=3"], "-params") == {"a": {"b": 3, "c": 2}}


def test_merging_changes_neither_side() -> None:
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}
    assert over == {"a": {"c": 2}}


def test_each_layer_wins_over_the_one_before(tmp_path: Path) -> None:
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
        assert load_config("qam", env, "scene-play", **arguments).settings["flow_steps"] == expected


PROFILE_FILE = """
default: {rho: 0.1}
scene-play: {rho: 0.2}
profiles:
  mine:
    default: {rho: 0.3}
    scene-play: {rho: 0.4}
"""


def test_a_profile_lies_over_default_and_domain_and_under_overrides(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE_FILE)

    def rho(domain: str | None, profile: str, *params: str) -> float:
        config = load_config("qam", "x", domain, conf=path, profile=profile, params=params)
        return float(config.settings["rho"])

    assert [rho(domain, "qam") for domain in (None, "scene-play")] == [0.1, 0.2]
    assert [rho(domain, "mine") for domain in (None, "scene-play")] == [0.3, 0.4]
    assert rho("scene-play", "mine", "rho=0.6") == 0.6


def test_a_profile_of_a_file_lies_over_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("profiles: {trqam: {default: {kl_budget: 2.0}}}\n")
    shipped = load_config("trqam", "x", "scene-play", profile="trqam")
    ours = load_config("trqam", "x", "scene-play", profile="trqam", conf=path)
    assert ours.settings == {**shipped.settings, "kl_budget": 2.0}
    assert ours.run == shipped.run


def test_the_profile_and_its_sources_are_recorded() -> None:
    config = load_config("qam", "x", "cube-double-play", profile="trqam")
    assert config.record()["profile"] == "trqam"
    assert [source.partition(" (")[0] for source in config.sources] == [
        "hyperparams/qam.yml default",
        "hyperparams/qam.yml cube-double-play",
        "hyperparams/profiles/trqam.yml default",
        "hyperparams/profiles/trqam.yml cube-double-play",
        "hyperparams/qam.yml profiles.trqam default",
    ]
    assert load_config("qam", "x").record()["profile"] == "qam"


def test_a_profile_that_the_algorithm_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`qam` has no profile `trqm`; it has: qam, trqam$"):
        load_config("qam", "x", profile="trqm")
    with pytest.raises(UsageError, match=r"`fawac` has no profile `trqam`; it has: qam$"):
        load_config("fawac", "x", profile="trqam")
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE_FILE)
    with pytest.raises(UsageError, match=r"`qam` has no profile `yours`; it has: qam, trqam, mine$"):
        load_config("qam", "x", profile="yours", conf=path)


def test_quick_settings_belong_to_no_profile() -> None:
    with pytest.raises(UsageError, match="`--quick` has steps and nets of its own, got `--profile trqam` with it"):
        load_config("trqam", "x", profile="trqam", quick=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profiles: {mine: 3}", "profile `mine` in .*mine.yml must map entry names to settings"),
        ("profiles: {mine: {default: 3}}", "profile `mine` in .*mine.yml must map entry names to settings"),
        ("profiles: {}\nscene-play: 3", "mine.yml must map entry names to settings"),
        ("profiles: {qam: {default: {}}}", "profile `qam` is what stands outside `profiles`, got it inside in .*mine"),
    ],
)
def test_a_profile_that_is_no_mapping_of_entries_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text + "\n")
    with pytest.raises(UsageError, match=message):
        load_config("qam", "x", conf=path, profile="mine")


def test_pretraining_steps_reach_the_algorithm() -> None:
    config = load_config("fql", "x", params=["pretrain_steps=7"])
    assert (config.run.pretrain_steps, config.settings["pretraining_steps"]) == (7, 7)


def test_an_exact_name_wins_over_its_domain(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("scene-play-singletask-task1-v0: {rho: 0.1}\nscene-play: {rho: 0.2}\n")
    assert load_config("qam", "scene-play-singletask-task1-v0", "scene-play", conf=path).settings["rho"] == 0.1


def test_the_sources_of_every_layer_are_recorded() -> None:
    sources = load_config("qam", "x", "scene-play", params=["rho=0.1"]).sources
    assert [source.partition(" (")[0] for source in sources] == [
        "hyperparams/qam.yml default",
        "hyperparams/qam.yml scene-play",
        "-params rho=0.1",
    ]


def test_an_unknown_algorithm_names_the_closest() -> None:
    with pytest.raises(UsageError, match="unknown algorithm `qamm`; closest: qam"):
        load_config("qamm", "x")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("horizon_length=0", "`horizon_length` must be an int >= 1, got 0"),
        ("horizon_length=2.5", "`horizon_length` must be an int >= 1, got 2.5"),
        ("rho=-1", "`rho` must be a finite number >= 0, got -1"),
        ("rho=.nan", "`rho` must be a finite number >= 0, got nan"),
        ("rho=high", "`rho` must be a number >= 0, got 'high'"),
        ("gamma=1.5", "`gamma` must be a finite number >= 0 and <= 1"),
        ("tau=-0.1", "`tau` must be a finite number >= 0 and <= 1"),
        ("flow_steps=true", "`flow_steps` must be an int >= 1, got True"),
        ("inverse_temperature=-1", "`inverse_temperature` must be a finite number >= 0"),
        ("ensemble_size=0", "`ensemble_size` must be an int >= 1"),
        ("action_chunking=1", "`action_chunking` must be true or false, got 1"),
        ("net_arch=[0]", "`net_arch` must be an int >= 1, got 0"),
        ("net_arch=wide", "`net_arch` must be a list of hidden widths"),
        ("observation_scale=0", "`observation_scale` must be a finite number > 0"),
        ("learning_rate=0", "`learning_rate` must be a finite number > 0"),
        ("eval_episodes=0", "`eval_episodes` must be an int >= 1"),
        ("offline_steps=0", "`offline_steps` and `online_steps` are both 0"),
        ("precision=fp8", "`precision` must be one of fp32, tf32, bf16"),
        ("inverse_temprature=3", "unknown setting of qam `inverse_temprature`; closest: inverse_temperature"),
    ],
)
def test_a_bad_value_is_refused_with_its_name(word: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        load_config("qam", "x", params=[word])
    assert message in str(error.value)


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="PyTorch finds no CUDA device"):
        load_config("qam", "x", device="cuda")


def test_an_unreadable_file_is_refused() -> None:
    with pytest.raises(UsageError, match="must be a readable YAML file"):
        load_config("qam", "x", conf="/no/such/file.yml")


def test_a_file_that_is_no_mapping_of_entries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.yml"
    path.write_text("rho: 0.5\n")
    with pytest.raises(UsageError, match="must map entry names to settings"):
        load_config("qam", "x", conf=path)
