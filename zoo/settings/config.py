"""Typed settings of a run: layers merged, checked, and compared with the benchmark's protocol."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.common.common_settings import CommonSettings
from agents.common.method import Method
from agents.common.normalization import checked_normalize
from agents.common.sb3.constructor import SETTINGS_OF_POLICY, read_arguments, with_named_classes
from agents.common.sb3.environments import available_device
from agents.common.settings import Setting
from agents.common.validation import unknown_name_message
from agents.registry import BUILT_IN, Entry
from zoo.algorithms.baselines import find_algorithm, settings_of
from zoo.settings.layers import (
    DEFAULT_PROFILE,
    Layer,
    layers_of,
    merge,
    parse_overrides,
    read_files,
    shared_profile,
)
from zoo.settings.record import RunRecord, RunSettings, refuse_conflicts
from zoo.settings.request import TrainRequest
from zoo.terminal.errors import UsageError, as_usage_error

_SHARED_NAMES = {"pretraining_steps"}
"""What a run and some algorithms both have; of other names that both declare, the algorithm has the value."""
PROTOCOL_SETTINGS = (*CommonSettings.with_role("protocol"), *RunSettings.with_role("protocol"))
"""What a benchmark fixes for all algorithms on a domain: rewards, horizon, discount, data, steps, episodes."""


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark says of an environment.

    :param domain: the environment's domain, e.g. ``"cube-double-play"``; None: no benchmark knows the environment.
    :param groups: entries that hold for several domains, e.g. ``["visual"]``; that of the domain overrides them. For
        quick settings, ``visual-quick`` lies over ``quick``.
    :param dataset: the one that belongs to the environment's name.
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

    :param request: its device decides the default precision.
    :param phases: steps of phases that the run can only have if a flag asks for them.
    :raises UsageError: for an unknown algorithm, profile or setting, or a value of the wrong type or range.
    """
    profile = request.profile
    if request.quick and profile != DEFAULT_PROFILE:
        raise UsageError(
            f"`--quick` sets its own steps and networks, got `--profile {profile}` with it; leave out one"
        )
    entry = find_algorithm(request.algo)
    declared = known_settings(entry)
    layers, of_protocol = _layers(request, benchmark, entry, declared)
    sources = [source for _, source in layers]
    # No source of the flags: the command line that a run folder keeps has them.
    layers.append(({**(phases or {}), **request.run}, ""))
    values: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for number, (layer, _) in enumerate(layers, start=1):
        values = merge(values, layer)
        if number == of_protocol:
            expected = values
    for name in values:
        require_setting(entry.id, name, declared)
    run, method, settings = _check(entry, values, request.device)
    departures: dict[str, list[Any]] = {}
    if benchmark.domain is not None:
        # what no layer of the protocol says has its default there
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
) -> tuple[list[Layer], int]:
    """Return all layers of a run but its flags, and how many of them, the first ones, are those of the protocol.

    :raises UsageError: if the user's file has no entry for the run.
    """
    shipped, of_user = read_files(entry.id, request.profile, request.conf_file, declared)
    names = ["default", *benchmark.groups, request.env]
    if benchmark.domain is not None:
        names.insert(-1, benchmark.domain)  # what is said to the environment alone wins
    layers = layers_of(shipped, names)
    of_protocol = len(layers)
    if request.quick:
        layers += layers_of(shipped, ["quick", *(f"{group}-quick" for group in benchmark.groups)])
        names.append("quick")
    declared_values = declared_by_class(entry)
    if declared_values:
        # more specific than what a profile says to all algorithms
        layers.append((declared_values, f"declared by {entry.id}: {', '.join(declared_values)}"))
    if request.behaviour is not None and "observation_scale" in declared:
        # a flow of the user's own sees observations as the environment returns them
        layers.append(({"observation_scale": None}, "--behaviour"))
    user_layers = layers_of(of_user, names)
    if request.conf_file is not None and not user_layers:
        existing = [name for _, entries in of_user for name in entries]
        raise UsageError(
            f"{request.conf_file} must have an entry for this run, one of {', '.join(names)}; it has "
            f"{', '.join(existing) or 'none'}"
        )
    layers += user_layers
    for text in request.hyperparams:  # one layer each, so that a source names the word
        layers.append((parse_overrides([text]), f"-params {text}"))
    return layers, of_protocol


def known_settings(entry: Entry) -> dict[str, Setting | None]:
    """Return what settings files and ``-params`` may give an algorithm: its own declarations, and the run's."""
    # Arguments of the policy are no setting that an algorithm declares.
    return {**settings_of(entry.algorithm), **RunSettings.declared(), "policy_kwargs": None}


def declared_by_class(entry: Entry) -> dict[str, Any]:
    """Return the defaults of settings that the class of an algorithm of one's own declares itself."""
    if entry.method is None or entry.id in BUILT_IN:
        return {}
    # the nearest base of this project; settings of others are as much one's own
    base: Any = next(kind for kind in entry.method.__mro__ if kind.__module__.startswith("agents."))
    inherited = base.declared()
    return {
        name: setting.default
        for name, setting in entry.method.declared().items()
        if name in inherited and setting is not inherited[name]
    }


def find_departures(values: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return where settings depart from a benchmark's protocol, e.g. ``{"gamma": [0.995, 0.99]}``.

    Online steps after a protocol that has none are a further phase, and not a departure.
    """
    departures = {}
    for name in PROTOCOL_SETTINGS:
        if name not in values or values[name] == protocol[name]:
            continue
        if name == "online_steps" and protocol[name] == 0:
            continue  # fine-tuning after it does not touch the offline scores
        departures[name] = [values[name], protocol[name]]
    return departures


def require_setting(algo: str, name: str, settings: Collection[str]) -> None:
    """Refuse a name that is not among an algorithm's settings."""
    if name not in settings:
        command = f"zoo agents show {algo}"
        raise UsageError(unknown_name_message(f"setting of {algo}", name, settings, command))


def _check(
    entry: Entry, values: Mapping[str, Any], device: str
) -> tuple[RunSettings, Method | None, dict[str, Any]]:
    """Return what the run does, the algorithm and all its settings, if every type and range is right."""
    remaining = dict(values)  # what the run takes out of it is not the algorithm's
    with as_usage_error(TypeError, ValueError, RuntimeError):
        declared = settings_of(entry.algorithm)
        names = RunSettings.declared().keys() - (declared.keys() - _SHARED_NAMES)
        of_run = [name for name in remaining if name in names]
        run = RunSettings(**{name: remaining.pop(name) for name in of_run})
        if run.offline_data is not None:
            remaining["balanced_sampling"] = run.offline_data == "balanced"
        for name in ("pretraining_steps", "offline_steps"):
            if getattr(run, name) and not hasattr(entry.algorithm, "learn_offline"):
                raise ValueError(
                    f"`{entry.id}` trains online only, got `{name}` = {getattr(run, name)}; set it to 0"
                )
        if run.pretraining_steps:  # also a setting of the algorithms that can be pretrained
            remaining["pretraining_steps"] = run.pretraining_steps
        checked_normalize(run.normalize)
        refuse_conflicts({
            f"`noise_type` = {run.noise_type} needs `noise_std` > 0, got {run.noise_std}; give both or none":
                run.noise_type and not run.noise_std,
            "`noise_std` acts on actions that are executed online, and `online_steps` is 0; leave it out":
                run.noise_std and not run.online_steps,
            "`normalize` takes its statistics from environment steps, and there are none in offline training; set "
            "`observation_scale`, which takes them from the dataset, or `offline_steps` and `pretraining_steps` to 0":
                run.normalize and run.pretraining_steps + run.offline_steps,
        })  # fmt: skip
        if available_device(device).type == "cuda" and "precision" in declared:
            # Tensor cores multiply several times as fast, and scores stay the same; SB3's have no such setting.
            remaining.setdefault("precision", "tf32")
        if entry.method is None:
            # refused here, and not when the model is built
            with_named_classes("policy_kwargs", remaining.get("policy_kwargs"))
            return run, None, entry.algorithm.checked(remaining)
        method, _ = read_arguments(entry.method, (), remaining)
        policy_kwargs = remaining.get("policy_kwargs") or {}
    # With their defaults, so that a run keeps its settings when a later release has other ones.
    settings = method.settings()
    # what of them is a setting of the method has its value above
    policy_kwargs = {
        name: value for name, value in policy_kwargs.items() if name not in SETTINGS_OF_POLICY
    }
    if policy_kwargs:
        settings["policy_kwargs"] = policy_kwargs
    return run, method, settings
