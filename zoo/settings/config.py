"""Merge the layers of a run's settings, check the result, and compare it with the benchmark's protocol."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.common.common_settings import CommonSettings
from agents.common.method import Method
from agents.common.normalization import checked_normalize
from agents.common.sb3.constructor import read_arguments, with_named_classes
from agents.common.sb3.environments import available_device
from agents.common.settings import Setting
from agents.common.validation import unknown_name_message
from agents.registry import Entry
from zoo.algorithms.catalogue import find_algorithm, settings_of
from zoo.settings.layers import (
    DEFAULT_PROFILE,
    Layer,
    layers_of,
    merge,
    nested,
    parse_overrides,
    read_files,
    shared_profile,
)
from zoo.settings.record import RunRecord, RunSettings, refuse_conflicts
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError, as_usage_error

_SHARED_NAMES = {"pretraining_steps"}
"""Settings that runs share with some algorithms. Any other name that both declare belongs to the algorithm only."""
PROTOCOL_SETTINGS = (*CommonSettings.with_role("protocol"), *RunSettings.with_role("protocol"))
"""Settings that a benchmark fixes for all algorithms on a domain: rewards, horizon, discount, data, steps, episodes."""


@dataclass(frozen=True)
class Benchmark:
    """Names under which settings files store a benchmark's defaults for an environment.

    :param domain: the environment's domain, e.g. ``"cube-double-play"``; None if the environment has no benchmark.
    :param groups: names of entries that apply to several domains, e.g. ``["visual"]``, or ``["scene-play"]`` for
        scene-noisy; the domain's own entry overrides these entries. In quick settings, ``visual-quick`` overrides
        ``quick``.
    :param dataset: name of the dataset, which is part of the environment's name.
    """

    domain: str | None = None
    groups: Sequence[str] = ()
    dataset: str | None = None


NO_BENCHMARK = Benchmark()


def load_config(
    request: TrainRequest,
    benchmark: Benchmark = NO_BENCHMARK,
    phases: Mapping[str, int] | None = None,
) -> RunRecord:
    """Merge the layers of settings and check the result, without an environment.

    :param request: the request; its device determines the default precision.
    :param phases: ``{name: 0}`` for phases that run only if the user sets their steps, e.g. without data.
    :raises UsageError: for an unknown algorithm, profile or setting, an invalid value, or settings in conflict.
    """
    profile = request.profile
    if request.quick and profile != DEFAULT_PROFILE:
        raise UsageError(f"`--quick` and `--profile {profile}` exclude each other; omit one")
    entry = find_algorithm(request.algo)
    declared = known_settings(entry)
    layers, num_protocol = _layers(request, benchmark, entry, declared, phases)
    sources = [source for _, source in layers]
    # `-params` are among the sources; the other flags are not, because command.txt contains them.
    layers.append((request.run, ""))
    values: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for number, (layer, _) in enumerate(layers, start=1):
        values = merge(values, nested(layer))
        if number == num_protocol:
            expected = values
    for name in values:
        require_setting(entry, name, declared)
    run, method, settings = _check(entry, values, request)
    departures: dict[str, list[Any]] = {}
    if benchmark.domain is not None:
        # if a protocol does not set a value, the setting's default applies
        defaults = {name: setting.default for name, setting in declared.items() if setting}
        departures = find_departures({**run.settings(), **settings}, defaults | expected)
        shared = merge(shared_profile(DEFAULT_PROFILE), shared_profile(profile))
        dataset = shared.get(benchmark.domain, {}).get("dataset", benchmark.dataset)
        if benchmark.dataset not in (None, dataset):
            departures["dataset"] = [benchmark.dataset, dataset]
    return RunRecord(
        entry.id,
        request.env,
        "quick" if request.quick else profile,
        run,
        settings,
        method,
        sources,
        departures,
        eval_seed=request.eval_seed,
        label=request.label,
        n_envs=request.n_envs,
        env_kwargs=list(request.env_kwargs) or None,
        eval_env_kwargs=list(request.eval_env_kwargs) or None,
    )


def _layers(
    request: TrainRequest,
    benchmark: Benchmark,
    entry: Entry,
    declared: Mapping[str, Setting | None],
    phases: Mapping[str, int] | None,
) -> tuple[list[Layer], int]:
    """Return a run's layers up to `-params`, and the number of leading layers that state the protocol.

    :raises UsageError: if the user's file has no entry for the run.
    """
    shipped, user_files = read_files(entry.id, request.profile, request.conf_file, declared)
    names = ["default", *benchmark.groups, request.env]
    if benchmark.domain is not None:
        names.insert(-1, benchmark.domain)  # the environment's entry overrides its domain's
    layers = layers_of(shipped, names)
    num_protocol = len(layers)
    if request.quick:
        quick_names = ["quick", *(f"{group}-quick" for group in benchmark.groups)]
        layers += layers_of(shipped, quick_names)
        names += quick_names
    declared_values = declared_by_class(entry)
    if declared_values:
        # values declared by a class are more specific than a profile's values for all algorithms
        layers.append((declared_values, f"declared by {entry.id}: {', '.join(declared_values)}"))
    if request.behaviour is not None and "observation_scale" in declared:
        # a custom flow expects observations as the environment returns them
        layers.append(({"observation_scale": None}, "--behaviour"))
    if phases:
        layers.append((phases, "without data or without an environment"))
    user_layers = layers_of(user_files, names)
    if request.conf_file is not None and not user_layers:
        existing = [name for _, entries in user_files for name in entries]
        raise UsageError(
            f"{request.conf_file} has no entry for this run; add one of {', '.join(names)}; the file's entries: "
            f"{', '.join(map(str, existing)) or 'none'}"
        )
    layers += user_layers
    # one layer per word of `-params`, so that each word is recorded as a source
    for text in request.hyperparams:
        layers.append((parse_overrides([text]), f"-params {text}"))
    return layers, num_protocol


def known_settings(entry: Entry) -> dict[str, Setting | None]:
    """Return the settings that settings files and ``-params`` may contain: those of the algorithm and of its run."""
    # `policy_kwargs` is added, because algorithms do not declare the arguments of their policies
    return {**settings_of(entry), **RunSettings.declared(), "policy_kwargs": None}


def declared_by_class(entry: Entry) -> dict[str, Any]:
    """Return the defaults that the class of a custom algorithm declares for inherited settings."""
    if entry.method is None:
        return {}
    # a built-in class itself, or the nearest base class of this project; classes of other packages are custom too
    base: Any = next(kind for kind in entry.method.__mro__ if kind.__module__.startswith("agents."))
    inherited = base.declared()
    return {
        name: setting.default
        for name, setting in entry.method.declared().items()
        if inherited.get(name, setting) is not setting
    }


def find_departures(values: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return setting -> [its value, the protocol's value] if these differ, e.g. ``{"gamma": [0.995, 0.99]}``.

    If a protocol has no online steps, online steps are an additional phase, not a departure.
    """
    departures = {}
    for name in PROTOCOL_SETTINGS:
        if name not in values or values[name] == protocol[name]:
            continue
        if name == "online_steps" and protocol[name] == 0:
            continue  # online fine-tuning afterwards does not change the offline scores
        departures[name] = [values[name], protocol[name]]
    return departures


def require_setting(entry: Entry, name: str, settings: Collection[str]) -> None:
    """Raise UsageError for a name that is not a setting of the algorithm."""
    if name not in settings:
        command = f"zoo agents show {entry.id}"
        raise UsageError(unknown_name_message(f"setting of {entry.id}", name, settings, command))


def _check(
    entry: Entry, values: Mapping[str, Any], request: TrainRequest
) -> tuple[RunSettings, Method | None, dict[str, Any]]:
    """Check every type and range; return the run's settings, the algorithm, and all settings of the algorithm."""
    # the run's settings are removed below, so that the algorithm's settings remain
    remaining = dict(values)
    with as_usage_error(TypeError, ValueError, RuntimeError):
        declared = settings_of(entry)
        names = RunSettings.declared().keys() - (declared.keys() - _SHARED_NAMES)
        run_names = [name for name in remaining if name in names]
        run = RunSettings(**{name: remaining.pop(name) for name in run_names})
        if run.offline_data is not None:
            remaining["balanced_sampling"] = run.offline_data == "balanced"
        for name in ("pretraining_steps", "offline_steps"):
            if getattr(run, name) and not hasattr(entry.algorithm, "learn_offline"):
                raise ValueError(f"`{entry.id}` trains online only; set `{name}` to 0")
        if run.pretraining_steps:  # removed above, but some algorithms need it too
            remaining["pretraining_steps"] = run.pretraining_steps
        checked_normalize(run.normalize)
        refuse_conflicts({
            f"`{entry.id}` trains one seed at a time, got seeds {request.seeds}; pass one with --seed":
                entry.method is None and len(request.seeds or ()) > 1,
            f"`noise_type` = {run.noise_type} needs `noise_std` > 0, got {run.noise_std}; set both or neither":
                run.noise_type and not run.noise_std,
            "`noise_std` acts on actions that are executed online, but `online_steps` is 0; omit `noise_std`":
                run.noise_std and not run.online_steps,
            "`normalize` takes its statistics from environment steps, but offline training takes no such steps; set "
            "`observation_scale`, which uses the dataset's statistics, or train online only":
                run.normalize and run.pretraining_steps + run.offline_steps,
        })  # fmt: skip
        if available_device(request.device).type == "cuda" and "precision" in declared:
            # TF32 is several times as fast as float32, with the same scores; SB3's algorithms have no `precision`
            remaining.setdefault("precision", "tf32")
        if entry.method is None:
            # reject invalid values here, before the model is built
            with_named_classes("policy_kwargs", remaining.get("policy_kwargs"))
            return run, None, entry.algorithm.checked(remaining)
        method, _ = read_arguments(entry.method, remaining)
    # record defaults too, because a later release may change them
    settings = method.settings()
    if remaining.get("policy_kwargs"):
        settings["policy_kwargs"] = remaining["policy_kwargs"]
    return run, method, settings
