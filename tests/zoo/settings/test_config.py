"""Layers of settings, overrides and their checks."""

import re

import pytest
import torch

import agents
from agents.fql import FQL
from tests.zoo.outcomes import refuses
from zoo.algorithms import baselines
from zoo.settings.config import Benchmark, load_config
from zoo.settings.request import TrainRequest, read_request
from zoo.train import make_parser
from zoo.training.plan import plan_run


def load(algo="qam", domain=None, groups=(), phases=None, **overrides):
    request = TrainRequest(algo=algo, env="x", device="cpu", **overrides)
    return load_config(request, Benchmark(domain, groups, f"{domain}-v0"), phases)


@pytest.fixture
def conf(tmp_path):
    """Return a function that writes a settings file of the user and returns its path."""

    def write(text):
        (tmp_path / "mine.yml").write_text(text)
        return tmp_path / "mine.yml"

    return write


def test_each_layer_wins_over_the_one_before(conf):
    path = conf("quick: {flow_steps: 7}\ndefault: {flow_steps: 6, rho: 0.1}\n")
    layers = {}
    for layer, expected in (
        ({}, 10),
        ({"quick": True}, 5),
        ({"conf_file": path}, 7),
        ({"hyperparams": ["flow_steps=8"]}, 8),
        ({"run": {"flow_steps": 9}}, 9),
    ):
        layers |= layer
        assert load("qam", "scene-play", **layers).settings["flow_steps"] == expected


def test_steps_that_are_set_anywhere_are_not_dropped_without_data():
    phases = {"offline_steps": 0}
    assert load(phases=phases, hyperparams=["online_steps=3"]).run.offline_steps == 0
    assert load(phases=phases, hyperparams=["offline_steps=7"]).run.offline_steps == 7


def test_a_flow_of_ones_own_gets_observations_as_they_are():
    assert load(quick=True).settings["observation_scale"] == 4.0
    assert load(quick=True, behaviour="a.py:flow").settings["observation_scale"] is None


def test_a_file_without_an_entry_for_the_run_is_refused(conf):
    path = conf("scene-plaiy: {rho: 0.2}\nquick: {rho: 0.1}\nvisual-quick: {rho: 0.3}\n")
    with refuses("one of default, scene-play, x; the file's entries: scene-plaiy"):
        load("qam", "scene-play", conf_file=path)
    assert load("qam", "scene-play", conf_file=path, quick=True).settings["rho"] == 0.1
    assert load(groups=["visual"], conf_file=path, quick=True).settings["rho"] == 0.3


PROFILE_FILE = """
default: {rho: 0.1}
some: {rho: 0.15}
scene-play: {rho: 0.2}
profiles:
  mine:
    default: {rho: 0.3}
    scene-play: {rho: 0.4}
"""


def test_a_profile_lies_over_domains_and_under_overrides(conf):
    path = conf(PROFILE_FILE)

    def rho(domain, profile, *params):
        config = load("qam", domain, ["some"], conf_file=path, profile=profile, hyperparams=params)
        return config.settings["rho"]

    assert [rho(domain, "qam") for domain in (None, "scene-play")] == [0.15, 0.2]
    assert [rho(domain, "mine") for domain in (None, "scene-play")] == [0.3, 0.4]
    assert rho("scene-play", "mine", "rho=0.6") == 0.6


def test_a_profile_that_the_algorithm_does_not_have_is_refused(conf):
    # every algorithm has the shared settings
    assert load("fawac", profile="trqam").run.pretraining_steps == 300_000
    with refuses(r"no profile `../profiles/trqam`, only qam, .*, trqam$"):
        load(profile="../profiles/trqam")
    with refuses(r"no profile `yours`, only qam, .*, trqam, mine$"):
        load(profile="yours", conf_file=conf(PROFILE_FILE))
    with refuses("`--quick` and `--profile trqam` exclude each other"):
        load(quick=True, profile="trqam")


@pytest.mark.parametrize(
    ("words", "message"),
    {
        "qam horizon_length=0": "`horizon_length` must be an int >= 1, got 0",
        "qam net_arch=wide": "`net_arch` must be a list of hidden layer sizes",
        "qam train_freq=[0,episode]": "`train_freq` must be an int >= 1, got 0",
        "qam reference_scores=[1,1]": "`reference_scores` must be in increasing order",
        "qam offline_steps=0": "`offline_steps` and `online_steps` are both 0",
        "qam inverse_temprature=3": "unknown setting of qam `inverse_temprature`; closest: inverse_temperature",
        "qam online_steps=9 noise_type=normal": "`noise_type` = normal needs `noise_std` > 0",
        "qam noise_type=pink": "`noise_type` must be one of normal, ornstein-uhlenbeck",
        'qam normalize={"norm_obbs":true}': "closest: norm_obs",
        "qam online_steps=9 normalize=true": "offline training takes no such steps",
        "qam noise_std=0.1": "`online_steps` is 0",
        "sac offline_steps=5": "`sac` trains online only; set `offline_steps` to 0",
        "qam offline_data=none": "but `offline_steps` = 1000000 need data",
        "qam offline_data=none pretraining_steps=3": "`pretraining_steps` = 3 need",
    }.items(),
)
def test_a_bad_value_is_refused_with_its_name(words, message):
    algo, *hyperparams = words.split()
    with refuses(re.escape(message)):
        load(algo, hyperparams=hyperparams)


@pytest.mark.parametrize("name", baselines.CHECKS)
def test_settings_that_sb3_does_not_check_are_refused(name):
    with refuses(f"`{name}`"):
        load("sac", hyperparams=[f"{name}=-2"])


@pytest.mark.parametrize(
    ("text", "problem"),
    {
        "rho: 0.5": "0.5 in `rho`",
        "": "nothing in the file",
        "profiles: 3": "3 in `profiles`",
    }.items(),
)
def test_a_file_that_is_no_mapping_of_entries_is_refused(conf, text, problem):
    with refuses(f"must map entry names to settings.*, got {problem}$"):
        load(conf_file=conf(text))


@pytest.mark.usefixtures("own_agents")
def test_what_an_own_class_declares_wins_over_a_profile():
    declared = {
        "rho": agents.setting(default=0.0, doc="Weight."),
        "__annotations__": {"rho": float},
    }
    own_method = type("Mine", (FQL,), declared)
    agents.register("mine", paper="", published_name="Mine")(own_method)
    config = load("mine", "scene-play")
    assert config.settings["rho"] == 0.0
    assert config.sources[-1] == "declared by mine: rho"
    assert load("fql", "scene-play").settings["rho"] == 0.5
    assert load("mine", "scene-play", hyperparams=["rho=0.3"]).settings["rho"] == 0.3


# -- the benchmark's protocol -----------------------------------------------------------------------------------------


def departures(algo="qam", **overrides):
    return load(algo, "scene-play", **overrides).departures


def test_a_run_of_the_protocol_departs_from_nothing():
    for algo in ("qam", "rlpd", "bc", "sac"):
        assert departures(algo) == {}
    for algo in ("trqam", "bc"):
        assert departures(algo, profile="trqam") == {}


def test_what_departs_from_the_protocol_is_said():
    params = ["gamma=0.9", "sparse=false", "rho=0.1", "offline_steps=10"]
    assert departures(hyperparams=params, run={"dataset_size": 1000}) == {
        "gamma": [0.9, 0.99],
        "sparse": [False, True],
        "offline_steps": [10, 1000000],
        "dataset_size": [1000, None],
    }
    assert load("fql", "puzzle-4x4-play").departures.keys() == {"dataset"}
    assert load("fql", "puzzle-4x4-play", profile="fql").departures == {}


def test_an_own_online_phase_is_no_departure():
    added = {"online_steps": 1000, "pretraining_steps": 5}
    assert departures(run=added) == {"pretraining_steps": [5, 0]}
    assert departures("rlpd", run={"online_steps": 1000}) == {"online_steps": [1000, 500000]}


@pytest.mark.parametrize(("words", "expected"), [("", "tf32"), ("-params precision=bf16", "bf16")])
def test_a_gpu_takes_tf32_where_no_precision_is_given(words, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = f"--algo fql --env scene-play-singletask-task1-v0 {words}".split()
    plan = plan_run(read_request(make_parser().parse_args(words)))
    assert plan.config.settings["precision"] == expected


@pytest.mark.parametrize(
    ("domain", "profile", "expected"),
    [
        ("antmaze-large-stitch", "qam", 10.0),
        ("antmaze-large-stitch", "trqam", 0.3),
        ("antmaze-large-explore", "qam", 0.3),
        ("scene-noisy", "qam", 1.0),
    ],
)
def test_noisy_and_stitched_data_take_the_settings_of_the_usual_data(domain, profile, expected):
    env = f"{domain}-singletask-task1-v0"
    plan = plan_run(TrainRequest(algo="qam", env=env, device="cpu", profile=profile))
    assert plan.config.settings["inverse_temperature"] == expected


def test_an_algorithm_that_balances_its_batches_takes_the_data_online():
    plan = plan_run(TrainRequest(algo="rlpd", env="scene-play-singletask-task1-v0", device="cpu"))
    assert plan.config.run.offline_steps == 0
    assert plan.data_kind == "ogbench"
