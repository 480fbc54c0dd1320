"""Typed settings of a run: layers merged, checked, and compared with the benchmark's protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.common.method import Method
from agents.common.sb3.arguments import read_arguments
from agents.common.sb3.spaces import available_device
from agents.common.settings import Declared, setting
from agents.common.validation import checked_pair, integer, unknown_name_message
from agents.models import Entry
from zoo.baselines import find_algorithm, settings_of
from zoo.errors import UsageError, as_usage_error
from zoo.settings.layers import DEFAULT_PROFILE, ENTRY_NOTES, Layer, merge, nest, parse_override, read_layers

PROTOCOL_SETTINGS = (
    "sparse", "horizon_length", "gamma", "dataset_size", "pretraining_steps", "offline_steps", "online_steps",
    "eval_episodes",
)  # fmt: skip
"""What a benchmark fixes for all algorithms on a domain: rewards, horizon, discount, data, steps, episodes."""
UNRECORDED_IF_NONE = ("score", "success_return", "reference_scores", "action_range", "per_network")
"""Settings that `config.yml` has only where they are given, as in runs that are older than they are."""


MOST_EPISODES = 100_000
"""The most of an evaluation, which keeps 10 kB of noise for each and plans all of them in one batch. Of so many, a
success rate is known within 0.3 percentage points."""


def checked_episodes(name: str, value: object) -> int:
    """Return the number of an evaluation's episodes; raise TypeError or ValueError if it cannot be one.

    :param name: of the setting, for the message.
    """
    episodes = integer(name, value, at_least=1)
    if episodes > MOST_EPISODES:
        raise ValueError(f"`{name}` must be at most {MOST_EPISODES:,}, got {episodes:,}; all are in memory at once")
    return episodes


def _checked_pair(name: str, value: object) -> tuple[float, float] | None:
    """Return a pair of numbers, or None."""
    return None if value is None else checked_pair(name, value)


class RunSettings(Declared):
    """What a run does, besides the algorithm's own settings.

    :param pretraining_steps: gradient steps before the offline phase that clone the behaviour flow alone.
    :param offline_steps: gradient steps on the dataset.
    :param online_steps: environment steps after it.
    :param eval_freq: steps between evaluations.
    :param eval_at_start: also evaluate before the first update; after pretraining that is always done.
    :param save_freq: steps between checkpoints.
    :param log_interval: gradient steps between log entries.
    :param dataset_size: transitions to use, in whole trajectories; None uses all.
    :param dataset_replace_interval: gradient steps until the next file of a dataset of several takes over.
    :param offline_data: what online training does with the dataset: ``preload`` the buffer, ``balanced`` batches,
        ``none``; None leaves it to the algorithm's settings.
    :param score: what an episode is scored by: ``return``; ``value`` without an environment, which --no-env sets; None
        is success where the environment reports it.
    :param success_return: the return from which an episode counts as a success, instead of what the environment says.
    :param reference_scores: returns of a random and of an expert policy, by which a comparison normalises returns.
    :param action_range: what stands for the low and the high of the environment's actions in a dataset of one's own.
    """

    pretraining_steps: int = setting(default=0, at_least=0)
    offline_steps: int = setting(default=1_000_000, at_least=0)
    online_steps: int = setting(default=0, at_least=0)
    eval_freq: int = setting(default=50_000, at_least=1)
    eval_episodes: int = setting(default=50, check=checked_episodes)
    eval_at_start: bool = setting(default=False)
    save_freq: int = setting(default=50_000, at_least=1)
    log_interval: int = setting(default=5_000, at_least=1)
    dataset_size: int | None = setting(default=None, at_least=1)
    dataset_replace_interval: int = setting(default=1000, at_least=1)
    offline_data: Literal["preload", "balanced", "none"] | None = setting(default=None)
    score: Literal["return", "value"] | None = setting(default=None)
    success_return: float | None = setting(default=None)
    reference_scores: tuple[float, float] | None = setting(default=None, check=_checked_pair)
    action_range: tuple[float, float] | None = setting(default=None, check=_checked_pair)

    def check_together(self) -> None:
        """Refuse phases without data or without steps, and two kinds of score."""
        for name in ("pretraining_steps", "offline_steps"):
            if self.offline_data == "none" and getattr(self, name):
                raise ValueError(f"`offline_data` is none, but `{name}` = {getattr(self, name)} need data; drop one")
        if self.offline_steps + self.online_steps == 0:
            raise ValueError("`offline_steps` and `online_steps` are both 0; give one of them")
        if self.reference_scores is not None:
            self.score = "return"
        if self.success_return is not None and self.score is not None:
            raise ValueError(
                "`success_return` scores episodes by success, and `score` = return or `reference_scores` by their "
                "return; give one of the two"
            )


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's outcome, besides its seed.

    :param method: the algorithm with its settings, for the one model of the run; None for one of SB3's.
    :param settings: those of the algorithm, with their defaults, and arguments of its policy.
    :param sources: where the values are from: one line per layer that was used.
    :param departures: where the run departs from that protocol, one phrase each.
    """

    algo: str
    env: str
    run: RunSettings
    method: Method | None
    settings: dict[str, Any]
    sources: list[str] = field(default_factory=list)
    profile: str = DEFAULT_PROFILE
    departures: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the configuration as plain values for ``config.yml``."""
        settings, run = (
            {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items()
                if value is not None or name not in UNRECORDED_IF_NONE
            }
            for values in (self.settings, self.run.settings())
        )
        head = {"algo": self.algo, "env": self.env, "profile": self.profile, **run}
        head["sparse"] = settings.get("sparse", False)
        return {**head, "settings": settings, "sources": list(self.sources), "departures": list(self.departures)}


def load_config(
    algo: str,
    env: str,
    domain: str | None = None,
    *,
    groups: Sequence[str] = (),
    dataset: str | None = None,
    profile: str = DEFAULT_PROFILE,
    quick: bool = False,
    conf: str | Path | None = None,
    trial: Mapping[str, Any] | None = None,
    params: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Config:
    """Merge the layers of settings and check the result, without an environment.

    :param domain: the environment's domain, e.g. ``"cube-double-play"``; None: no benchmark knows the environment.
    :param groups: entries that hold for several domains, e.g. ``["ocbench"]``; that of the domain overrides them. With
        `quick`, ``ocbench-quick`` lies over ``quick``.
    :param conf: a YAML file of the same form that overrides the shipped one.
    :param trial: ``settings`` that a study has chosen, and their ``source``; they override the files.
    :param flags: settings from command-line flags; they override everything.
    :raises UsageError: for an unknown algorithm, profile or setting, or a value of the wrong type or range.
    """
    entry = find_entry(algo)
    if quick and profile != DEFAULT_PROFILE:
        raise UsageError(f"`--quick` has steps and nets of its own, got `--profile {profile}` with it; leave out one")
    merging = _Merging(entry.id, known_settings(entry))
    wanted = ["default", *groups, domain, env]
    shipped, given = read_layers(entry.id, profile, conf)
    merging.add(shipped, wanted)
    own = {name: found.default for name, found in settings_of(entry.algorithm).items()}
    protocol = {**own, **_run_defaults(), **merging.values}
    if quick:
        merging.add(shipped, ["quick", *(f"{group}-quick" for group in groups)])
    wanted += ["quick"] if quick else []
    for layer in given:
        merging.add([layer], wanted)
    if given and not any(name in layer.entries for layer in given for name in wanted):
        ours = ", ".join(f"`{name}`" for name in wanted if name)
        found = ", ".join(f"`{name}`" for layer in given for name in layer.entries) or "none"
        raise UsageError(f"{conf} must have an entry for this run, one of {ours}; it has {found}")
    if trial is not None:
        merging.override(nest(trial["settings"]), trial["source"])
    for text in params:
        merging.override(parse_override(text), f"-params {text}")
    merging.override(flags or {})
    run, method, settings = _check(entry, merging.values, device)
    departures = [] if domain is None else find_departures({**run.settings(), **settings}, protocol)
    if domain is not None and dataset not in (None, merging.dataset or dataset):
        departures.append(f"dataset {dataset} instead of {merging.dataset}")
    return Config(entry.id, env, run, method, settings, merging.sources, profile, departures)


def find_entry(algo: str) -> Entry:
    """Return the registry's entry of an id, an alias or ``"module:Class"``; raise UsageError if there is none."""
    try:
        return find_algorithm(algo)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error
    except Exception as error:  # whatever a module of the user's raises when it is imported
        raise UsageError(f"`{algo}` cannot be imported: {type(error).__name__}: {error}") from error


def known_settings(entry: Entry) -> dict[str, Any]:
    """Return what settings files and ``-params`` may give an algorithm: its own declarations, and the run's."""
    return {**_run_defaults(), **settings_of(entry.algorithm), "policy_kwargs": None}


def find_departures(values: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """Return where settings depart from a benchmark's protocol, e.g. ``["gamma 0.995 instead of 0.99"]``.

    Online steps after a protocol that has none are a further phase, and not a departure.
    """
    return [
        f"{name} {_in_words(values[name])} instead of {_in_words(protocol[name])}"
        for name in PROTOCOL_SETTINGS
        if name in values and values[name] != protocol[name] and not (name == "online_steps" and protocol[name] == 0)
    ]


class _Merging:
    """Settings of an algorithm while they are merged, layer by layer."""

    def __init__(self, algo: str, known: Mapping[str, Any]) -> None:
        self.algo, self.known = algo, known
        self.values: dict[str, Any] = {}
        self.sources: list[str] = []
        self.dataset: str | None = None  # of the published scores, where that is not the one in the environment's name

    def add(self, layers: Sequence[Layer], names: Sequence[str | None]) -> None:
        """Merge the entries of some names over the values so far, layer by layer."""
        for layer in layers:
            for name in names:
                if name in layer.entries:
                    values = dict(layer.entries[name])
                    notes = "; ".join(str(values.pop(note)) for note in ENTRY_NOTES if note in values)
                    if layer.shared:
                        self.dataset = values.pop("dataset", self.dataset)
                        values = {key: value for key, value in values.items() if key in self.known}
                    self.override(values, f"{layer.origin} {name}" + (f" ({notes})" if notes else ""))

    def override(self, values: Mapping[str, Any], source: str | None = None) -> None:
        """Merge values over those so far."""
        for name in values:
            if name not in self.known:
                raise UsageError(unknown_name_message(f"setting of {self.algo}", name, self.known))
        self.values = merge(self.values, values)
        if source is not None:
            self.sources.append(source)


def _run_defaults() -> dict[str, Any]:
    return {name: found.default for name, found in RunSettings.declared().items()}


def _check(entry: Entry, values: Mapping[str, Any], device: str) -> tuple[RunSettings, Method | None, dict[str, Any]]:
    """Return what the run does, the algorithm and all its settings, if every type and range is right."""
    names = _run_defaults()
    with as_usage_error(TypeError, ValueError, RuntimeError):
        run = RunSettings(**{k: v for k, v in values.items() if k in names})
        own = {k: v for k, v in values.items() if k not in names}
        if not isinstance(own.get("policy_kwargs") or {}, Mapping):
            raise TypeError(f"`policy_kwargs` must be a mapping of names to values, got {own['policy_kwargs']!r}")
        if run.offline_data is not None:
            own["balanced_sampling"] = run.offline_data == "balanced"
        for name in ("pretraining_steps", "offline_steps"):
            if getattr(run, name) and not hasattr(entry.algorithm, "learn_offline"):
                raise ValueError(f"`{entry.id}` trains online only, got `{name}` = {getattr(run, name)}; set it to 0")
        if run.pretraining_steps:  # of the run, and a setting of the algorithms that can be pretrained
            own["pretraining_steps"] = run.pretraining_steps
        if available_device(device).type == "cuda" and "precision" in settings_of(entry.algorithm):
            own.setdefault("precision", "tf32")
        if entry.method is None:
            return run, None, entry.algorithm.checked(own)
        method, _ = read_arguments(entry.method, (), own)
    extra = {"policy_kwargs": own["policy_kwargs"]} if "policy_kwargs" in own else {}
    return run, method, {**method.settings(), **extra}


def _in_words(value: Any) -> str:
    """Return a protocol's value as text."""
    if value is None:
        return "all"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else str(value)
