"""Typed settings of a run: YAML layers, overrides, checks; the result is what the run records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from agents.common.validation import integer, one_of, unknown_name_message
from zoo.cli import UsageError

ENTRY_NOTES = ("source", "status")
STATUSES = ("published", "tuned here", "untuned")
DEFAULT_PROFILE = "qam"
"""The protocol that every algorithm's own entries describe: that of the QAM paper."""
PROFILES = "profiles"
"""The one name in a settings file that is no entry: below it are the entries of each other profile."""

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class RunSettings:
    """What a run does, besides the algorithm's own settings.

    :param pretrain_steps: gradient steps before them that clone the behaviour flow alone.
    :param offline_steps: gradient steps on the dataset.
    :param online_steps: environment steps after it.
    :param eval_freq: steps between evaluations.
    :param eval_episodes: episodes of each evaluation.
    :param save_freq: steps between checkpoints.
    :param log_interval: gradient steps between log entries.
    :param dataset_size: transitions to use, in whole trajectories; None uses all.
    :param dataset_replace_interval: gradient steps until the next file of a dataset of several takes over.
    :param offline_data: what online training does with the dataset: ``preload`` the buffer, ``balanced`` batches,
        ``none``; None leaves it to the algorithm's settings.
    """

    pretrain_steps: int = 0
    offline_steps: int = 1_000_000
    online_steps: int = 0
    eval_freq: int = 50_000
    eval_episodes: int = 50
    save_freq: int = 50_000
    log_interval: int = 5_000
    dataset_size: int | None = None
    dataset_replace_interval: int = 1000
    offline_data: str | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("pretrain_steps", "offline_steps", "online_steps"):
            integer(name, getattr(self, name), at_least=0)
        for name in ("eval_freq", "eval_episodes", "save_freq", "log_interval", "dataset_replace_interval"):
            integer(name, getattr(self, name), at_least=1)
        if self.dataset_size is not None:
            integer("dataset_size", self.dataset_size, at_least=1)
        if self.offline_data is not None:
            one_of("offline_data", self.offline_data, ("preload", "balanced", "none"))
        for name in ("pretrain_steps", "offline_steps"):
            if self.offline_data == "none" and getattr(self, name):
                raise ValueError(f"`offline_data` is none, but `{name}` = {getattr(self, name)} need data; drop one")
        if self.offline_steps + self.online_steps == 0:
            raise ValueError("`offline_steps` and `online_steps` are both 0; give one of them")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's outcome, besides its seed.

    :param algo: algorithm id.
    :param env: environment name as the user gives it.
    :param run: what the run does.
    :param settings: all settings of the algorithm, defaults included.
    :param sources: where the values are from: one line per layer that was used.
    :param profile: the protocol whose entries were used.
    """

    algo: str
    env: str
    run: RunSettings
    settings: dict[str, Any]
    sources: list[str] = field(default_factory=list)
    profile: str = DEFAULT_PROFILE

    def record(self) -> dict[str, Any]:
        """Return the configuration as plain values for ``config.yml``."""
        settings = {name: _plain(value) for name, value in self.settings.items()}
        head = {"algo": self.algo, "env": self.env, "profile": self.profile, **asdict(self.run)}
        head["sparse"] = settings.get("sparse", False)
        return {**head, "settings": settings, "sources": list(self.sources)}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, reading 3e-4 as the number it is."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def load_yaml(text: str, name: str) -> Any:
    """Read YAML safely.

    :param text: the document.
    :param name: what it is, for the message.
    :return: plain values.
    :raises UsageError: if it is no valid YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"{name} must be valid YAML: {error}") from error


def parse_override(text: str, flag: str = "-params") -> dict[str, Any]:
    """Read one ``-params`` word: ``key=value`` or ``key:value``, with dots for nesting.

    :param flag: the flag that it was given to, for messages.
    :param text: e.g. ``"net_arch=[128, 128]"`` or ``"policy_kwargs.n_critics=2"``.
    :return: nested mapping.
    :raises UsageError: if there is no key or no value.
    """
    match = re.fullmatch(r"\s*([A-Za-z_][\w.]*)\s*[=:](.+)", text, flags=re.DOTALL)
    if match is None:
        raise UsageError(f"`{flag}` expects key=value (or key:value), got {text!r}; e.g. {flag} learning_rate=3e-4")
    value = load_yaml(match[2].strip(), f"the value of `{match[1]}`")
    for key in reversed(match[1].split(".")):
        value = {key: value}
    return dict(value)


def parse_overrides(words: Sequence[str], flag: str) -> dict[str, Any]:
    """Read several ``key=value`` words into one mapping.

    :param words: the words.
    :param flag: the flag that they were given to, for messages.
    :return: nested mapping; later words win.
    :raises UsageError: if a word has no key or no value.
    """
    merged: dict[str, Any] = {}
    for word in words:
        merged = merge(merged, parse_override(word, flag))
    return merged


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two mappings deeply; neither is changed.

    :param base: lower precedence.
    :param over: higher precedence.
    :return: a new mapping.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_hyperparameters(algo: str, path: str | Path | None = None) -> Entries:
    """Read the entries of an algorithm's YAML file.

    :param algo: algorithm id; names the file in ``hyperparams/`` when there is no path.
    :param path: another file.
    :return: entry name -> settings; empty for an algorithm that ships none.
    :raises UsageError: if the file cannot be read or is not a mapping of mappings.
    """
    return {name: entry for name, entry in _read_file(algo, path).items() if name != PROFILES}


def read_profiles(algo: str, path: str | Path | None = None) -> dict[str, Entries]:
    """Read what an algorithm's YAML file says about each profile besides the default one.

    :param algo: algorithm id; names the file in ``hyperparams/`` when there is no path.
    :param path: another file.
    :return: profile -> entry name -> settings.
    :raises UsageError: if the file cannot be read, or a profile is not a mapping of mappings or has the default's name.
    """
    profiles: dict[str, Entries] = _read_file(algo, path).get(PROFILES, {})
    origin = str(path or f"hyperparams/{algo}.yml")
    for name, entries in profiles.items():
        _require_entries(entries, f"profile `{name}` in {origin}")
    if DEFAULT_PROFILE in profiles:
        raise UsageError(
            f"profile `{DEFAULT_PROFILE}` is what stands outside `{PROFILES}`, got it inside in {origin}; move it out"
        )
    return profiles


def describe_profiles(algo: str) -> dict[str, Entries]:
    """Return every profile that an algorithm ships, the default one first.

    :param algo: algorithm id.
    :return: profile -> entry name -> what lies over the algorithm's own entry of that name; in the default profile,
        those entries themselves.
    """
    own = {name: entry for name, entry in read_hyperparameters(algo).items() if name != "quick"}
    others = {name: merge(shared_profile(name), entries) for name, entries in read_profiles(algo).items()}
    return {DEFAULT_PROFILE: own, **others} if own else others


def shared_profile(name: str) -> Entries:
    """Read the part of a profile that its algorithms share.

    :param name: the profile.
    :return: entry name -> settings; empty where nothing is shared.
    """
    resource = files("hyperparams") / PROFILES / f"{name}.yml"
    return dict(load_yaml(resource.read_text(), f"{name}.yml")) if resource.is_file() else {}


def _read_file(algo: str, path: str | Path | None) -> dict[str, Any]:
    """Return a whole settings file, its ``profiles`` included."""
    if path is not None:
        try:
            text = Path(path).read_text()
        except OSError as error:
            raise UsageError(f"`-conf` must be a readable YAML file, got {path}: {error.strerror}") from error
    else:
        resource = files("hyperparams") / f"{algo}.yml"
        if not resource.is_file():
            return {}
        text = resource.read_text()
    entries = load_yaml(text, str(path or f"hyperparams/{algo}.yml"))
    return _require_entries(entries, str(path or f"{algo}.yml"))


def _require_entries(entries: Any, origin: str) -> Entries:
    """Refuse what is no mapping of mappings."""
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UsageError(f"{origin} must map entry names to settings, e.g. `default: {{gamma: 0.99}}`")
    return entries


def load_config(
    algo: str,
    env: str,
    domain: str | None = None,
    *,
    profile: str = DEFAULT_PROFILE,
    quick: bool = False,
    conf: str | Path | None = None,
    params: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Config:
    """Merge the layers of settings and check the result, without an environment.

    :param algo: algorithm id or alias.
    :param env: environment name.
    :param domain: the environment's domain, e.g. ``"cube-double-play"``.
    :param profile: the protocol whose entries lie over the algorithm's own; the default one adds nothing.
    :param quick: whether to take the ``quick`` entry too.
    :param conf: a YAML file of the same form that overrides the shipped one.
    :param params: ``-params`` words.
    :param flags: settings from command-line flags; they override everything.
    :param device: where the run is to happen; refused here if it is not there.
    :return: the checked configuration.
    :raises UsageError: for an unknown algorithm, profile or setting, or a value of the wrong type or range.
    """
    from zoo.baselines import find_algorithm

    try:
        entry = find_algorithm(algo)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error
    wanted = ["default", domain, env, *(["quick"] if quick else [])]
    merged: dict[str, Any] = {}
    sources: list[str] = []
    if quick and profile != DEFAULT_PROFILE:
        raise UsageError(f"`--quick` has steps and nets of its own, got `--profile {profile}` with it; leave out one")
    if quick and conf is None and "quick" not in read_hyperparameters(entry.id):
        raise UsageError(f"`{entry.id}` has no `quick` settings; leave out --quick or give them in a file with -conf")
    for entries, origin in _layers(entry.id, profile, conf):
        for name in wanted:
            if name in entries:
                values = dict(entries[name])
                notes = "; ".join(str(values.pop(note)) for note in ENTRY_NOTES if note in values)
                merged = merge(merged, values)
                sources.append(f"{origin} {name}" + (f" ({notes})" if notes else ""))
    for text in params:
        merged = merge(merged, parse_override(text))
        sources.append(f"-params {text}")
    merged = merge(merged, flags or {})
    return replace(_checked(entry, env, merged, sources, device), profile=profile)


def _layers(algo: str, profile: str, conf: str | Path | None) -> list[tuple[Entries, str]]:
    """Return the entries to merge and where they are from, lowest precedence first."""
    layers: list[tuple[Entries, str]] = []
    found, names = profile == DEFAULT_PROFILE, [DEFAULT_PROFILE]
    for path, origin in [(None, f"hyperparams/{algo}.yml"), *([(conf, str(conf))] if conf is not None else [])]:
        layers.append((read_hyperparameters(algo, path), origin))
        profiles = read_profiles(algo, path)
        names += [name for name in profiles if name not in names]
        if profile in profiles:
            shared = [] if found else [(shared_profile(profile), f"hyperparams/{PROFILES}/{profile}.yml")]
            layers += [*shared, (profiles[profile], f"{origin} {PROFILES}.{profile}")]
            found = True
    if not found:
        raise UsageError(f"`{algo}` has no profile `{profile}`; it has: {', '.join(names)}")
    return layers


def _checked(entry: Any, env: str, values: Mapping[str, Any], sources: list[str], device: str) -> Config:
    """Return the configuration if every name, type and range is right."""
    from zoo.baselines import settings_of

    run_names = {f.name for f in fields(RunSettings)}
    known = {*run_names, *settings_of(entry.algorithm), "policy_kwargs"} - {"pretraining_steps"}
    for name in values:
        if name not in known:
            raise UsageError(unknown_name_message(f"setting of {entry.id}", name, known))
    try:
        run = RunSettings(**{k: v for k, v in values.items() if k in run_names})
        own = {k: _tuple_if_frequency(k, v) for k, v in values.items() if k not in run_names}
        if run.offline_data is not None:
            own["balanced_sampling"] = run.offline_data == "balanced"
        for name in ("pretrain_steps", "offline_steps"):
            if getattr(run, name) and not hasattr(entry.algorithm, "learn_offline"):
                raise ValueError(f"`{entry.id}` trains online only, got `{name}` = {getattr(run, name)}; set it to 0")
        if run.pretrain_steps:
            own["pretraining_steps"] = run.pretrain_steps
        bare = entry.algorithm("MlpPolicy", None, **own, device=device, _init_setup_model=False)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from error
    extra = {"policy_kwargs": own["policy_kwargs"]} if "policy_kwargs" in own else {}
    return Config(entry.id, env, run, {**bare.settings(), **extra}, sources)


def _tuple_if_frequency(name: str, value: Any) -> Any:
    """Return YAML's list for ``train_freq`` as the tuple that SB3 asks for."""
    return tuple(value) if name == "train_freq" and isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Return a value as YAML's plain types."""
    return list(value) if isinstance(value, tuple) else value
