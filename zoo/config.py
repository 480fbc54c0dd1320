"""Typed settings of a run: YAML layers, overrides, checks; the result is what the run records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from agents.common.validation import integer, one_of, unknown_name_message
from zoo.cli import UsageError

ENTRY_NOTES = ("source", "status")
STATUSES = ("published", "tuned here", "untuned")


@dataclass(frozen=True)
class RunSettings:
    """What a run does, besides the algorithm's own settings.

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
        for name in ("offline_steps", "online_steps"):
            integer(name, getattr(self, name), at_least=0)
        for name in ("eval_freq", "eval_episodes", "save_freq", "log_interval", "dataset_replace_interval"):
            integer(name, getattr(self, name), at_least=1)
        if self.dataset_size is not None:
            integer("dataset_size", self.dataset_size, at_least=1)
        if self.offline_data is not None:
            one_of("offline_data", self.offline_data, ("preload", "balanced", "none"))
        if self.offline_data == "none" and self.offline_steps:
            raise ValueError(f"`offline_data` is none, but `offline_steps` = {self.offline_steps} need data; drop one")
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
    """

    algo: str
    env: str
    run: RunSettings
    settings: dict[str, Any]
    sources: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the configuration as plain values for ``config.yml``."""
        settings = {name: _plain(value) for name, value in self.settings.items()}
        head = {"algo": self.algo, "env": self.env, **asdict(self.run), "sparse": settings.get("sparse", False)}
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


def read_hyperparameters(algo: str, path: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """Read an algorithm's YAML file.

    :param algo: algorithm id; names the file in ``hyperparams/`` when there is no path.
    :param path: another file.
    :return: entry name -> settings; empty for an algorithm that ships none.
    :raises UsageError: if the file cannot be read or is not a mapping of mappings.
    """
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
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise UsageError(f"{path or algo + '.yml'} must map entry names to settings, e.g. `default: {{gamma: 0.99}}`")
    return entries


def load_config(
    algo: str,
    env: str,
    domain: str | None = None,
    *,
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
    :param quick: whether to take the ``quick`` entry too.
    :param conf: a YAML file of the same form that overrides the shipped one.
    :param params: ``-params`` words.
    :param flags: settings from command-line flags; they override everything.
    :param device: where the run is to happen; refused here if it is not there.
    :return: the checked configuration.
    :raises UsageError: for an unknown algorithm or setting, or a value of the wrong type or range.
    """
    from zoo.baselines import find_algorithm

    try:
        entry = find_algorithm(algo)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error
    wanted = ["default", domain, env, *(["quick"] if quick else [])]
    merged: dict[str, Any] = {}
    sources: list[str] = []
    shipped = read_hyperparameters(entry.id)
    if quick and "quick" not in shipped and conf is None:
        raise UsageError(f"`{entry.id}` has no `quick` settings; leave out --quick or give them in a file with -conf")
    layers = [(shipped, f"hyperparams/{entry.id}.yml")]
    if conf is not None:
        layers.append((read_hyperparameters(entry.id, conf), str(conf)))
    for entries, origin in layers:
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
    return _checked(entry, env, merged, sources, device)


def _checked(entry: Any, env: str, values: Mapping[str, Any], sources: list[str], device: str) -> Config:
    """Return the configuration if every name, type and range is right."""
    from zoo.baselines import settings_of

    run_names = {f.name for f in fields(RunSettings)}
    known = {*run_names, *settings_of(entry.algorithm), "policy_kwargs"}
    for name in values:
        if name not in known:
            raise UsageError(unknown_name_message(f"setting of {entry.id}", name, known))
    try:
        run = RunSettings(**{k: v for k, v in values.items() if k in run_names})
        own = {k: _tuple_if_frequency(k, v) for k, v in values.items() if k not in run_names}
        if run.offline_data is not None:
            own["balanced_sampling"] = run.offline_data == "balanced"
        if run.offline_steps and not hasattr(entry.algorithm, "learn_offline"):
            raise ValueError(f"`{entry.id}` trains online only, got `offline_steps` = {run.offline_steps}; set it to 0")
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
