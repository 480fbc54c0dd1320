"""The record of a run: checked once, written as ``config.yml``, and read back as the same record."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from agents.common.common_settings import CommonSettings
from agents.common.settings import Configurable, Setting, setting
from zoo.algorithms.catalogue import algorithm_ids
from zoo.settings.layers import DEFAULT_PROFILE, flatten, load_yaml
from zoo.terminal.errors import UsageError

if TYPE_CHECKING:
    from agents.common.method import Method

_REQUIRED = ("algo", "env", "offline_steps", "seed")
_MAY_MOVE = (
    "dataset.name",
    "dataset.reference_scores",
    "pretrained_actor.path",
    "trained_agent.path",
    "behaviour.function",
)
"""No part of a run's identity: a file may move, and the fingerprint beside its path identifies it."""


Wrappers: TypeAlias = Sequence[str | Mapping[str, Mapping[str, Any]]]
"""What a run puts around its environments, as in RL Baselines3 Zoo, the innermost first.

``["gymnasium.wrappers:FlattenObservation", {"my_package:FrameSkip": {"skip": 2}}]``
"""


def checked_wrappers(name: str, value: object) -> list[str | dict[str, dict[str, Any]]] | None:
    """Return wrappers in the form that runs record: a name, or a mapping of one name to its keyword arguments.

    :param name: of the setting.
    :param value: a name or a list of these. Names are ``module:Class``, or ``module.Class`` as in RL Baselines3 Zoo.
    :raises TypeError: for anything else.
    """
    if value is None:
        return None
    items = value
    if isinstance(value, str):
        items = [value]
    if not isinstance(items, Sequence):
        raise TypeError(
            f"`{name}` must be a list of wrappers, got {value!r}; e.g. [gymnasium.wrappers:FlattenObservation]"
        )
    checked: list[str | dict[str, dict[str, Any]]] = []
    for item in items:
        path, kwargs = _path_and_kwargs(item)
        module, _, class_name = str(path).replace(":", ".").rpartition(".")
        if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping) or not module:
            raise TypeError(
                f"`{name}` must hold `module:Class` or {{module:Class: {{argument: value}}}}, got {item!r}; e.g. "
                "gymnasium.wrappers:FlattenObservation"
            )
        # one spelling, since runs with equal records are the same run
        path = f"{module}:{class_name}"
        if kwargs:
            checked.append({path: dict(kwargs)})
        else:
            checked.append(path)
    return checked or None


def _path_and_kwargs(item: Any) -> tuple[Any, Any]:
    if isinstance(item, Mapping) and len(item) == 1:
        return next(iter(item.items()))
    return item, {}


def named_wrappers(wrappers: Wrappers) -> list[tuple[str, Mapping[str, Any]]]:
    """Return ``module:Class`` and keyword arguments of each wrapper, the innermost first."""
    return [_path_and_kwargs(item) for item in checked_wrappers("env_wrapper", wrappers) or ()]


_optional: Any = partial(setting, default=None)


def refuse_conflicts(conflicts: Mapping[str, object]) -> None:
    """Raise ValueError with the first message whose conflict exists.

    :param conflicts: message -> whether settings contradict each other.
    """
    for message, exists in conflicts.items():
        if exists:
            raise ValueError(message)


class RunSettings(Configurable):
    """Settings of a run besides the algorithm's own; each is also a flag of the training program."""

    pretraining_steps: int = setting(
        default=0,
        at_least=0,
        role="protocol",
        doc="gradient steps before the offline phase that clone the behaviour",
    )
    offline_steps: int = setting(
        default=1_000_000,
        at_least=0,
        role="protocol",
        doc="gradient steps on the dataset, before the online phase",
    )
    online_steps: int = setting(
        default=0, at_least=0, role="protocol", doc="environment steps after the offline phase"
    )
    eval_freq: int = setting(default=50_000, at_least=1, doc="steps between evaluations")
    eval_episodes: int = setting(
        default=50, at_least=1, role="protocol", doc="episodes per evaluation"
    )
    eval_at_start: bool = setting(
        default=False,
        role="note",
        doc="evaluate before the first update too, as is always done after pretraining",
    )
    save_freq: int = setting(
        default=50_000, at_least=1, role="output", doc="steps between checkpoints"
    )
    log_interval: int = setting(
        default=5_000, at_least=1, role="output", doc="gradient steps between log entries"
    )
    dataset_size: int | None = _optional(
        at_least=1,
        role="protocol",
        doc="transitions to use, in whole trajectories, or to generate; none uses all",
    )
    dataset_replace_interval: int = setting(
        default=1000,
        at_least=1,
        doc="gradient steps until the next file of a dataset of several takes over",
    )
    offline_data: Literal["preload", "balanced", "none"] | None = _optional(
        doc="what online training does with the dataset: in front of the buffer, half of every batch, nothing",
    )
    score: Literal["success", "return", "value", "critic", "loss"] | None = _optional(
        doc="what an episode is scored by (default: success once the environment has reported any, else the return); "
        "value is for --no-env",
    )
    success_return: float | None = _optional(
        doc="the return from which an episode counts as a success, whatever the environment says",
    )
    success_at: Literal["any"] | None = _optional(
        role="protocol",
        doc="any: an episode is a success if any of its steps reports one (default: its last step)",
    )
    reference_scores: tuple[float, float] | None = _optional(
        doc="returns of a random and of an expert policy: scores are returns, which comparisons normalise by them",
    )
    env_wrapper: list[Any] | None = _optional(
        check=checked_wrappers,
        doc="wrappers around the environment, module:Class or {module:Class: {argument: value}}, the innermost first",
    )
    normalize: bool | dict[str, Any] = setting(
        default=False,
        doc="normalise online observations and rewards by running statistics; in a file also options of VecNormalize",
    )
    noise_type: Literal["normal", "ornstein-uhlenbeck"] | None = _optional(
        doc="noise on actions that are executed online (default: normal, where `noise_std` is set)",
    )
    noise_std: float | None = _optional(
        at_least=0,
        doc="standard deviation of that noise, in halves of the actions' range",
    )
    action_range: tuple[float, float] | None = _optional(
        doc="what stands for the limits of the environment's actions in a dataset of your own",
    )
    reward_from: Literal["success"] | None = _optional(
        doc="take rewards from the `success` flags of a dataset of your own: -1 a step, 0 where the task is achieved",
    )

    def check_together(self) -> None:
        """Refuse phases without data or steps, and two kinds of score; reference scores mean that of returns."""
        normalises = self.reference_scores is not None
        has_no_data = self.offline_data == "none"
        # Without `score`, success is the score where the environment knows it.
        has_other_score = normalises or self.score not in (None, "success")
        refuse_conflicts({
            f"`offline_data` is none, but `pretraining_steps` = {self.pretraining_steps} need data; drop one":
                has_no_data and self.pretraining_steps,
            f"`offline_data` is none, but `offline_steps` = {self.offline_steps} need data; drop one":
                has_no_data and self.offline_steps,
            "`offline_steps` and `online_steps` are both 0; give one of them, offline ones with a `dataset`":
                self.offline_steps + self.online_steps == 0,
            "`reference_scores` normalise returns, but `score` = success; give one of the two":
                normalises and self.score == "success",
            "`success_return` scores episodes by success, and `score` = return or `reference_scores` by their return; "
            "give one of the two":
                self.success_return is not None and (normalises or self.score),
            "`success_at` says which steps count of the success that an environment reports, but the score is another "
            "one; give one of the two":
                self.success_at and (has_other_score or self.success_return is not None),
        })  # fmt: skip
        if normalises:  # after the conflicts, where the user's own choice counts
            self.score = "return"


_NOTE = {"role": "note"}


@dataclass(frozen=True)
class RunRecord:
    """Everything that decides a run's outcome, and its seed once that is known.

    :param run: what the run does.
    :param settings: those of the algorithm, with their defaults, and arguments of its policy.
    :param method: the algorithm with its settings, for the one model of the run; None for one of SB3's, and in a record
        that was read.
    :param sources: where the values are from: one line per layer that was used.
    :param departures: where the run departs from the protocol of its profile, one phrase each.
    :param env_kwargs: words ``KEY=VALUE``, as are those of evaluation.
    :param agent: of an algorithm that is not built in: ``class``, ``package``, ``code``, a hash of its file, and
        ``layers``, the networks whose widths are their own.
    :param pretrained_actor: path, ``updates`` and ``fingerprint`` of the model whose behaviour flow it began with.
    :param trained_agent: likewise of the model that it began with.
    :param behaviour: of a flow that was trained elsewhere: the ``function`` that makes it, and a ``fingerprint`` of its
        weights and conventions.
    :param dataset: ``name``, ``size`` and ``fingerprint`` of what it was trained on; ``reference_scores``, returns of a
        random and an expert policy, where the data say them.
    :param seeds: of all replicas that are trained together, if there are several, and the names of their `folders`.
    """

    algo: str
    env: str
    profile: str = DEFAULT_PROFILE
    run: RunSettings = field(default_factory=RunSettings)
    settings: dict[str, Any] = field(default_factory=dict)
    method: Method | None = field(default=None, repr=False, compare=False)
    sources: list[str] = field(default_factory=list, metadata=_NOTE)
    departures: list[str] = field(default_factory=list, metadata=_NOTE)
    eval_seed: int = 0
    label: str | None = field(default=None, metadata={"role": "output"})
    n_envs: int | None = None
    env_kwargs: list[str] | None = None
    eval_env_kwargs: list[str] | None = None
    agent: dict[str, str] | None = field(default=None, metadata=_NOTE)
    pretrained_actor: dict[str, Any] | None = None
    trained_agent: dict[str, Any] | None = None
    behaviour: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = field(default=None, metadata={"role": "data"})
    seed: int = field(default=0, metadata=_NOTE)
    seeds: list[int] | None = field(default=None, metadata=_NOTE)
    folders: list[str] | None = field(default=None, metadata=_NOTE)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`plain` gave; entries that a file lacks have their defaults.

        :raises TypeError: if an entry has another type.
        :raises ValueError: if it lacks what every run has, or a setting is out of range.
        """
        stated = {name: value for name, value in content.items() if value is not None}
        missing = [name for name in _REQUIRED if name not in stated]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        entries = {}
        for name, annotation in _ENTRIES.items():
            value = content.get(name)
            if value is None:
                continue
            # Annotations are texts here: `list[str] | None` begins with the type of a list.
            if not annotation.startswith(type(value).__name__):
                raise TypeError(f"`{name}` must be {annotation}, got {value!r}")
            entries[name] = value
        run = {name: stated[name] for name in RunSettings.declared() if name in stated}
        return cls(run=RunSettings(**run), **entries)

    def plain(self) -> dict[str, Any]:
        """Return the record as plain values for ``config.yml``, without entries that are None."""
        # first, since readers look for them first: a key keeps the place of its first assignment
        values: dict[str, Any] = dict.fromkeys(("algo", "env", "profile"))
        values |= _without_tuples(self.run.settings())
        values["sparse"] = self.settings.get("sparse", False)
        for name in _ENTRIES:
            values[name] = getattr(self, name)
        # Over the entry above: YAML has no tuples.
        values["settings"] = _without_tuples(self.settings)
        return {name: value for name, value in values.items() if value is not None}

    def identity(self, *besides: str) -> dict[str, Any]:
        """Return the settings that two runs of equal seeds must share to be the same run, with dotted names.

        :param besides: roles of entries that are left out, as are entries that are None.
        """
        excluded_roles = {"note", *besides}  # notes do not change the numbers of a run
        roles = {entry.name: entry.metadata.get("role") for entry in fields(self)}
        for name, declared in RunSettings.declared().items():
            roles[name] = declared.role
        for name, declared in CommonSettings.declared().items():
            roles[f"settings.{name}"] = declared.role
        identity = {}
        for name, value in flatten(self.plain()):
            # a nested name, e.g. `dataset.size`, has the role of its entry
            roles_of_name = {roles.get(name), roles.get(name.split(".")[0])}
            if value is not None and name not in _MAY_MOVE and not excluded_roles & roles_of_name:
                identity[name] = value
        return identity

    @property
    def action_noise(self) -> tuple[str, float] | None:
        """Type and standard deviation of the noise on executed actions; for SB3's, the latter is their own setting."""
        std = self.settings.get("noise_std", self.run.noise_std)
        if not std:
            return None
        return self.run.noise_type or "normal", std

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of all replicas that are trained together."""
        return self.seeds or [self.seed]

    @property
    def code(self) -> str | None:
        """Hash of the file of an algorithm that is not built in."""
        return (self.agent or {}).get("code")  # no `agent`: built in, so the release identifies it


def _without_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with lists in place of tuples, which YAML does not have."""
    plain = dict(values)
    for name, value in values.items():
        if isinstance(value, tuple):
            plain[name] = list(value)
    return plain


_ENTRIES = {
    entry.name: str(entry.type)
    for entry in fields(RunRecord)
    if entry.name not in ("run", "method")
}
"""Entries of ``config.yml`` that are not settings of a run -> their annotations."""


# -- settings that the file of a run does not name --------------------------------------------------------------------


def defaults_of(settings: Mapping[str, Setting | None]) -> dict[str, Any]:
    """Return the default of each declared setting."""
    return {name: setting.default for name, setting in settings.items() if setting}


def default_settings(algo: str) -> dict[str, Any]:
    """Return an algorithm's settings where none is given; nothing for a class that a file alone may not import."""
    if algo not in algorithm_ids():
        return {}
    baselines = importlib.import_module("zoo.algorithms.baselines")
    try:
        return defaults_of(baselines.settings_of(baselines.find_algorithm(algo).algorithm))
    except UsageError:  # an installed package whose import fails; its runs can be read all the same
        return {}


def with_defaults(record: RunRecord) -> RunRecord:
    """Return a run with the settings that its file does not name, since they came with a later release.

    The run had their defaults, since nothing else was there; so a run of any release is equal to the same run of today.
    """
    return replace(record, settings=default_settings(record.algo) | record.settings)


def lasting_identity(
    record: RunRecord, *besides: str, stored: Collection[str] = ()
) -> dict[str, Any]:
    """Return :meth:`RunRecord.identity` as an earlier release would have: without later settings at their defaults.

    Such an identity can be hashed, or compared with a stored one.

    :param besides: roles of entries that are left out too.
    :param stored: names of a stored identity, which remain too; those of release 1.0 always remain.
    """
    default = RunRecord(record.algo, record.env, settings=default_settings(record.algo))
    default_identity = default.identity(*besides)
    shared = f"{_SHARED_BY_1_0} {_OF_ALGORITHM_IN_1_0.get(record.algo, '')}"
    settings = _OF_SB3_IN_1_0.get(record.algo, shared).split()
    old_names = {*_ENTRIES_OF_1_0.split(), *(f"settings.{name}" for name in settings)}
    lasting = {}
    for name, value in record.identity(*besides).items():
        # What is nested in a setting or an entry came with it: settings.per_network.critic.tau, dataset.size.
        (entry,) = re.findall(r"^(?:settings\.)?\w+", name)
        if entry in old_names or name in stored or value != default_identity.get(name):
            lasting[name] = value
    return lasting


# -- what a run of release 1.0 names in its ``config.yml``: frozen, later releases add nothing here --------------------

_ENTRIES_OF_1_0 = """
    action_range dataset_replace_interval dataset_size eval_at_start eval_episodes eval_freq log_interval
    offline_data offline_steps online_steps pretraining_steps reference_scores reward_from save_freq score
    success_return sparse agent algo dataset departures env env_kwargs eval_env_kwargs eval_seed folders label
    n_envs pretrained_actor profile seed seeds settings sources trained_agent
"""
"""Entries of the file, settings of the run among them."""

_SHARED_BY_1_0 = """
    action_chunking actor_layer_norm balanced_sampling batch_size best_of_n buffer_size compile
    critic_layer_norm encoder ensemble_size flow_steps frame_stack gamma gradient_steps horizon_length
    learning_rate learning_starts max_grad_norm net_arch observation_scale per_network precision
    pretraining_steps random_crop rho shorten_returns sparse tau train_freq
"""
"""Settings of all algorithms but those of Stable-Baselines3."""

_OF_ALGORITHM_IN_1_0: dict[str, str] = load_yaml(
    """
bam: inverse_temperature kl_scale residual target_behaviour
bc: ""
cgql: guidance_weight inverse_temperature target_behaviour x_term
cgql_linex:
  guidance_weight inverse_temperature linear_continuation linex_clip noisy_weight target_behaviour
  x_term
cgql_mse: guidance_weight inverse_temperature noisy_weight target_behaviour x_term
dac: bc_weight beta_schedule clip_states sampler target_gradient time_features
dsrl: noise_scale target_behaviour target_entropy
fan: anchor_weight critic_anchor_weight expectile
fawac: inverse_temperature max_weight
fbrac: bc_weight
fedit: edit_scale target_entropy
fql: distill_weight
gfp: distill_weight guidance_temperature rival target
ifql: expectile mask_value
meanflowql: adaptive_power bound_weight flow_weight time_steps
qam: clip_adjoint inverse_temperature residual target_behaviour target_gradient
qam_e:
  clip_adjoint edit_scale inverse_temperature residual target_behaviour target_entropy
  target_gradient
qam_f: clip_adjoint distill_weight inverse_temperature residual target_behaviour target_gradient
qgf: expectile gradient guidance_weight mask_cloning
qsm: bc_weight beta_schedule clip_states inverse_temperature sampler target_gradient time_features
rebrac: actor_noise actor_noise_clip bc_weight head_scale policy_delay true_delay
rlpd: bc_weight initial_temperature target_entropy
rql: bc_weight expectile policy_tau
sqam:
  bridge_states freeze_base gap_penalty kl_average_rate kl_budget kl_budget_online kl_clip
  multiplier_learning_rate multiplier_max multiplier_min multiplier_scale target_behaviour
trqam:
  clip_adjoint freeze_base kl_average_rate kl_budget kl_budget_online kl_clip
  multiplier_learning_rate multiplier_max multiplier_min multiplier_scale target_behaviour
  target_gradient
value_flows: bootstrap_weight confidence_temperature consistency_weight reward_max reward_min
""",
    "release 1.0",
)
"""Further settings of each algorithm."""

_OF_SB3_IN_1_0: dict[str, str] = load_yaml(
    """
sac:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std sparse target_entropy target_update_interval tau train_freq
td3:
  balanced_sampling batch_size buffer_size gamma gradient_steps learning_rate learning_starts
  net_arch noise_std policy_delay sparse target_noise_clip target_policy_noise tau train_freq
tqc:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std sparse target_entropy target_update_interval tau
  top_quantiles_to_drop_per_net train_freq
crossq:
  balanced_sampling batch_size buffer_size ent_coef gamma gradient_steps learning_rate
  learning_starts net_arch noise_std policy_delay sparse target_entropy train_freq
""",
    "release 1.0",
)
"""All settings of an algorithm of Stable-Baselines3."""
