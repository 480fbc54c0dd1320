"""Every shipped settings file."""

import copy
from functools import cache

import pytest

import agents
from agents.fql import FQL
from zoo.algorithms.catalogue import algorithm_ids
from zoo.datasets.names import DATASETS
from zoo.envs import tasks
from zoo.settings import layers
from zoo.settings.config import PROTOCOL_SETTINGS, Benchmark, Overrides, known_settings, load_config
from zoo.settings.layers import (
    DEFAULT_PROFILE,
    ENTRY_NOTES,
    FOLDER,
    describe_profiles,
    read_profiles,
    read_yaml,
    shared_profile,
    shared_profiles,
)

STATUSES = ("published", "tuned here", "untuned")
LARGE = {
    "cube-triple-play": 10_000_000,
    "puzzle-4x4-play": 10_000_000,
    "antmaze-giant-navigate": 10_000_000,
    "cube-quadruple-play": 100_000_000,
}


def task_names(suite):
    """Return the names of a benchmark's domains, of its tasks and of the entries that several of them share."""
    names = set()
    for task in suite.values():
        names |= {task.domain, task.name, *task.entries}
    return names


OCBENCH, ROBOMIMIC, D4RL = map(task_names, (tasks.OCBENCH, tasks.ROBOMIMIC, tasks.D4RL))
DOMAINS = {f"{spec.environment}-{spec.kind}" for spec in DATASETS.values()}
ENTRIES, PROFILES, EVERY_ENTRY = [], [], []
for _algo in agents.algorithm_ids():
    for _profile, _entries in read_profiles(_algo).items():
        EVERY_ENTRY += [(f"{_algo} {_profile}", name, entry) for name, entry in _entries.items()]
        if _profile == DEFAULT_PROFILE:
            ENTRIES += [(_algo, name) for name in _entries]
        else:
            PROFILES.append((_algo, _profile))
for _profile in shared_profiles():
    EVERY_ENTRY += [(_profile, name, entry) for name, entry in shared_profile(_profile).items()]
PAPER_DOMAINS = {
    "puzzle-3x3-play",
    "scene-play",
    "cube-double-play",
    "cube-triple-play",
    "cube-quadruple-play",
    "puzzle-4x4-play",
    "antmaze-large-navigate",
    "antmaze-giant-navigate",
    "humanoidmaze-medium-navigate",
    "humanoidmaze-large-navigate",
}


STEPS = {"offline_steps", "online_steps"}
OWN_STEPS = dict.fromkeys(("rlpd", "sac", "td3", "tqc", "crossq"), STEPS)  # these train online only


@pytest.mark.parametrize("algo", algorithm_ids())
def test_the_protocol_is_declared_once_and_not_in_the_files_of_algorithms(algo):
    for name, entry in read_profiles(algo)[DEFAULT_PROFILE].items():
        assert set(entry) & set(PROTOCOL_SETTINGS) <= OWN_STEPS.get(algo, set()), name


def effective(config):
    """Return what a run does and all settings of its algorithm."""
    return {**vars(config.run), **config.settings}


@cache
def protocol_of(algo, domain, profile=DEFAULT_PROFILE):
    config = load_config(
        algo, f"{domain}-singletask-task1-v0", Benchmark(domain), Overrides(profile=profile)
    )
    return {name: value for name, value in effective(config).items() if name in PROTOCOL_SETTINGS}


@pytest.mark.parametrize("algo", algorithm_ids())
def test_the_protocol_of_a_domain_is_that_of_qam(algo):
    free = OWN_STEPS.get(algo, set())
    for domain in sorted(PAPER_DOMAINS | {"pointmaze-medium-navigate"}):
        ours = protocol_of(algo, domain)
        expected = protocol_of("qam", domain)
        for name in ours.keys() - free:
            assert ours[name] == expected[name], name


@pytest.fixture
def own_agent(own_agents):
    @agents.register("mine", paper="", published_name="Mine")
    class CustomAgent(FQL):
        pass

    return "mine"


def test_an_agent_of_ones_own_gets_the_protocol(own_agent):
    for profile in shared_profiles():
        for domain in sorted(PAPER_DOMAINS):
            assert protocol_of(own_agent, domain, profile) == protocol_of("qam", domain, profile)
    assert protocol_of(own_agent, "scene-play")["sparse"] is True


@pytest.mark.parametrize(("algo", "name"), ENTRIES)
def test_every_entry_builds_unchanged(algo, name):
    entry = copy.deepcopy(read_profiles(algo)[DEFAULT_PROFILE][name])
    config = load_config(
        algo, name, Benchmark(name if name in DOMAINS else None), Overrides(quick=name == "quick")
    )
    assert read_profiles(algo)[DEFAULT_PROFILE][name] == entry
    for key in entry.keys() - set(ENTRY_NOTES):
        assert effective(config)[key] == entry[key], key


@pytest.mark.parametrize(
    ("profile", "suite"), [(DEFAULT_PROFILE, tasks.OCBENCH), ("d4rl", tasks.D4RL)]
)
def test_entries_of_a_task_lie_over_those_of_its_domain_its_groups_and_the_default(profile, suite):
    files = [shared_profile(DEFAULT_PROFILE), read_profiles("fql")[DEFAULT_PROFILE]]
    if profile != DEFAULT_PROFILE:
        files += [shared_profile(profile), read_profiles("fql")[profile]]
    for task in suite.values():
        expected = {}
        for name in ("default", *task.entries, task.domain, task.name):
            for file in files:
                expected |= file.get(name, {})
        config = load_config(
            "fql", task.name, Benchmark(task.domain, task.entries), Overrides(profile=profile)
        )
        values = effective(config)
        for key in (
            expected.keys() & values.keys()
        ):  # a profile also has settings of other algorithms
            assert values[key] == expected[key], (task.name, key)
        assert config.departures == []


# -- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "name", "entry"), EVERY_ENTRY, ids=[f"{o} {n}" for o, n, _ in EVERY_ENTRY]
)
def test_every_entry_is_reachable_and_names_its_source_and_status(origin, name, entry):
    assert (
        name
        in {"default", "quick", "visual", "visual-quick"} | DOMAINS | OCBENCH | ROBOMIMIC | D4RL
    ), origin
    assert entry["source"]
    assert entry["status"] in STATUSES


def test_an_entry_that_names_no_source_or_status_has_those_of_the_default_of_its_profile(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text(
        "default: {source: paper, status: published}\n"
        "quick: {status: untuned}\n"
        "profiles: {mini: {default: {source: search}, scene-play: {gamma: 0.9}}}\n"
    )
    profiles = read_profiles("fql", path)
    assert profiles[DEFAULT_PROFILE]["quick"] == {"source": "paper", "status": "untuned"}
    assert profiles["mini"]["scene-play"] == {"source": "search", "gamma": 0.9}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yml")), ids=lambda path: path.stem)
def test_no_entry_repeats_the_source_or_status_of_the_default(path):
    content = read_yaml(path, "a file")
    for section in (content, *content.pop(layers.PROFILES, {}).values()):
        default = section.get("default", {})
        for name in section.keys() - {"default"}:
            for note in ENTRY_NOTES:
                assert section[name].get(note, "inherited") != default.get(note), name


@pytest.mark.parametrize("task", tasks.ROBOMIMIC.values(), ids=tasks.ROBOMIMIC)
def test_the_tasks_of_robomimic_have_the_protocols_of_q_chunking_and_trqam(task):
    benchmark = Benchmark(task.domain, task.entries)
    ours = load_config("trqam", task.name, benchmark)
    trqam = load_config("trqam", task.name, benchmark, Overrides(profile="trqam"))
    shared = {"horizon_length": 5, "batch_size": 256, "net_arch": [512] * 4, "rho": 0.5}
    assert ours.settings.items() >= (shared | {"gamma": 0.99, "observation_scale": None}).items()
    assert (
        trqam.settings.items() >= (shared | {"gamma": 0.995, "observation_scale": "range"}).items()
    )
    assert ours.run.eval_freq == 100_000
    assert trqam.run.pretraining_steps == 300_000
    assert trqam.settings["kl_budget"] == (1.0 if task.domain == "square-mh" else 0.1)
    assert any("untuned" in source for source in ours.sources)


@pytest.mark.parametrize("algo", agents.algorithm_ids())
def test_images_have_the_protocol_of_fql(algo):
    domain = "visual-cube-single-play"
    config = load_config(algo, f"{domain}-singletask-task1-v0", Benchmark(domain, ("visual",)))
    run, settings = config.run, config.settings
    assert run.offline_steps == (0 if algo == "rlpd" else 500_000)
    assert run.eval_episodes == 50
    expected = {
        "encoder": "impala_small",
        "frame_stack": 3,
        "random_crop": 0.5,
        "horizon_length": 1,
    }
    assert settings.items() >= expected.items()
    assert any("published" in source for source in config.sources if domain in source) == (
        algo in ("fql", "ifql", "rebrac")
    )
    assert config.departures == []


@pytest.mark.parametrize(("algo", "profile"), [*PROFILES, ("qgf", DEFAULT_PROFILE)])
def test_every_entry_of_a_profile_is_in_effect(algo, profile):
    entries = describe_profiles(algo, known_settings(agents.get(algo)))[profile]
    for domain in set(entries) - {"default"}:
        config = load_config(
            algo, f"{domain}-singletask-v0", Benchmark(domain), Overrides(profile=profile)
        )
        expected = {**entries["default"], **entries[domain]}
        for key in expected.keys() - {*ENTRY_NOTES, "dataset"}:
            assert effective(config)[key] == expected[key], key
        assert config.profile == profile


@pytest.mark.parametrize("algo", [algo for algo, profile in PROFILES if profile == "trqam"])
def test_trqams_protocol_is_the_same_for_all_of_its_algorithms(algo):
    steps = {"bc": (0, 300_000)}.get(algo, (300_000, 1_000_000))
    for domain in sorted(PAPER_DOMAINS):
        config = load_config(
            algo, f"{domain}-singletask-task1-v0", Benchmark(domain), Overrides(profile="trqam")
        )
        humanoid, large = domain.startswith("humanoid"), domain in LARGE
        assert (config.run.pretraining_steps, config.run.offline_steps) == steps
        assert config.run.dataset_size == LARGE.get(domain)
        expected = {
            "gamma": 0.999 if humanoid else 0.995,
            "rho": 0.0 if humanoid else 0.5,
            "horizon_length": 1 if "maze" in domain else 5,
            "net_arch": [1024 if large else 512] * 4,
            "actor_layer_norm": large,
            "sparse": False,
        }
        for name, value in expected.items():
            assert config.settings[name] == value, (domain, name)
