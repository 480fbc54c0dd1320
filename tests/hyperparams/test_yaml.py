"""All shipped settings files are valid."""

from functools import cache

import pytest

import agents
from agents.fql import FQL
from zoo.algorithms.catalogue import algorithm_ids, find_algorithm
from zoo.datasets.names import DATASETS
from zoo.envs import tasks
from zoo.settings.config import PROTOCOL_SETTINGS, Benchmark, known_settings, load_config
from zoo.settings.layers import (
    DEFAULT_PROFILE,
    ENTRY_NOTES,
    describe_profiles,
    read_profiles,
    shared_profile,
    shared_profiles,
)
from zoo.settings.request import TrainRequest

STATUSES = ("published", "tuned here", "untuned")
DOMAINS = {f"{spec.environment}-{spec.kind}" for spec in DATASETS.values()}
# (profile, algorithm) -> entries; without an algorithm, the entries shared by all algorithms
SECTIONS = {(profile, ""): shared_profile(profile) for profile in shared_profiles()}
for _algo in algorithm_ids():
    for _profile, _entries in read_profiles(_algo).items():
        SECTIONS[_profile, _algo] = _entries
PAPER_DOMAINS = [name for name in shared_profile("trqam") if name in DOMAINS]
STEPS = {"offline_steps", "online_steps"}
OWN_STEPS = dict.fromkeys(("rlpd", "sac", "td3", "tqc", "crossq"), STEPS)  # only online


@pytest.mark.parametrize("algo", algorithm_ids())
def test_the_protocol_is_not_in_the_files_of_algorithms(algo):
    for name, entry in read_profiles(algo)[DEFAULT_PROFILE].items():
        assert set(entry) & set(PROTOCOL_SETTINGS) <= OWN_STEPS.get(algo, set()), name


def effective(config):
    """Return the settings of a run and of its algorithm."""
    return {**vars(config.run), **config.settings}


@cache
def protocol_of(algo, domain, profile=DEFAULT_PROFILE):
    request = TrainRequest(algo=algo, env=f"{domain}-singletask-task1-v0", profile=profile)
    config = load_config(request, Benchmark(domain))
    return {name: value for name, value in effective(config).items() if name in PROTOCOL_SETTINGS}


@pytest.mark.usefixtures("own_agents")
def test_an_agent_of_ones_own_gets_the_protocol():
    agents.register("mine", paper="", published_name="Mine")(type("Mine", (FQL,), {}))
    for profile in shared_profiles():
        for domain in PAPER_DOMAINS:
            assert protocol_of("mine", domain, profile) == protocol_of("qam", domain, profile)
    assert protocol_of("mine", "scene-play")["sparse"] is True


# -- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", SECTIONS, ids=" ".join)
def test_every_entry_is_reachable_and_names_its_source(section):
    names = {"default", "quick", "visual", "visual-quick"} | DOMAINS
    for task in tasks.TASKS.values():
        names |= {task.domain, task.name, task.benchmark}
    for name, entry in SECTIONS[section].items():
        assert name in names
        assert entry["source"], name
        assert entry["status"] in STATUSES, name


@pytest.mark.parametrize(("profile", "algo"), [section for section in SECTIONS if section[1]])
def test_every_entry_of_an_algorithm_is_in_effect(profile, algo):
    settings = known_settings(find_algorithm(algo))
    entries = describe_profiles(algo, settings)[profile]
    shipped = read_profiles(algo)[profile]
    for name in {*entries, *shipped}:
        request = TrainRequest(algo=algo, env=name, profile=profile, quick=name == "quick")
        config = load_config(request, Benchmark(name if name in DOMAINS else None))
        if name == "quick":
            expected = shipped[name]
        else:
            expected = {**entries["default"], **entries[name]}
        for key in expected.keys() - {*ENTRY_NOTES, "dataset"}:
            assert effective(config)[key] == expected[key], (name, key)
        assert config.profile == ("quick" if request.quick else profile)
    assert describe_profiles(algo, settings)[profile] == entries, "reading changes nothing"


@pytest.mark.parametrize("algo", algorithm_ids())
def test_published_settings_of_images_hold_in_the_profile_of_their_paper(algo):
    for name, entry in read_profiles(algo)[DEFAULT_PROFILE].items():
        if name.startswith("visual-") and entry["status"] == "published":
            request = TrainRequest(algo=algo, env=name, profile="fql")
            settings = effective(load_config(request, Benchmark(name, ["visual"])))
            assert settings["offline_steps"] == 500_000
            assert all(settings[key] == entry[key] for key in entry.keys() - {*ENTRY_NOTES})
