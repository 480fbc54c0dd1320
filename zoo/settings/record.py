"""The record of a run: checked once, written as ``config.yml``, and read back as the same record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from agents.common.common_settings import CommonSettings
from agents.common.settings import Configurable, setting
from agents.common.validation import checked_pair
from zoo.settings.layers import DEFAULT_PROFILE, flatten

if TYPE_CHECKING:
    from agents.common.method import Method

FORMAT = 1
"""Format number of ``config.yml``; it increases when this version would misread older files."""
_REQUIRED = ("algo", "env", "offline_steps", "seed")
_MAY_MOVE = (
    "dataset.name",
    "dataset.reference_scores",
    "pretrained_actor.path",
    "trained_agent.path",
    "behaviour.function",
)
"""Entries that do not identify a run: paths and names may change, and fingerprints identify the content."""


Wrappers: TypeAlias = Sequence[str | Mapping[str, Mapping[str, Any]]]
"""Wrappers of a run's environments, innermost first, as in RL Baselines3 Zoo.

``["gymnasium.wrappers:FlattenObservation", {"my_package:FrameSkip": {"skip": 2}}]``
"""


def named_wrappers(wrappers: Wrappers) -> list[tuple[str, dict[str, Any]]]:
    """Return ``module:Class`` and keyword arguments of each wrapper, innermost first.

    :raises TypeError: for an item of another form.
    """
    is_list = isinstance(wrappers, Sequence) and not isinstance(wrappers, str)
    pairs = []
    for item in wrappers if is_list else [wrappers]:
        path: Any = item
        kwargs: Any = {}
        if isinstance(item, Mapping) and len(item) == 1:
            ((path, kwargs),) = item.items()
        # RL Baselines3 Zoo writes `module.Class`; both forms are recorded as `module:Class`
        module, _, class_name = str(path).replace(":", ".").rpartition(".")
        if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping) or not module:
            raise TypeError(
                f"`env_wrapper` must contain `module:Class` or {{module:Class: {{argument: value}}}}, got {item!r}; "
                "e.g. gymnasium.wrappers:FlattenObservation"
            )
        pairs.append((f"{module}:{class_name}", dict(kwargs or {})))
    return pairs


def checked_wrappers(name: str, value: Any) -> list[str | dict[str, dict[str, Any]]] | None:
    """Return wrappers as they are recorded: each is a name, or maps one name to keyword arguments.

    :param name: name of the setting.
    :param value: a wrapper or a list of wrappers.
    :raises TypeError: for anything else.
    """
    return [{path: kwargs} if kwargs else path for path, kwargs in named_wrappers(value)] or None


_optional: Any = partial(setting, default=None)


def refuse_conflicts(conflicts: Mapping[str, object]) -> None:
    """Raise ValueError with the message of the first conflict.

    :param conflicts: message -> whether this conflict exists.
    """
    for message, exists in conflicts.items():
        if exists:
            raise ValueError(message)


class RunSettings(Configurable):
    """Settings of a run that are not the algorithm's; most of them are also flags of `zoo train`."""

    pretraining_steps: int = setting(
        default=0,
        at_least=0,
        role="protocol",
        doc="gradient steps of behaviour cloning before the offline phase",
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
        doc="evaluate before the first update too; ignored with pretraining, which ends with an evaluation",
    )
    save_freq: int = setting(
        default=50_000, at_least=1, role="note", doc="steps between checkpoints"
    )
    log_interval: int = setting(
        default=5_000, at_least=1, role="note", doc="offline steps between log entries"
    )
    dataset_size: int | None = _optional(
        at_least=1,
        role="protocol",
        doc="number of transitions to use (whole trajectories only) or to generate (default: all)",
    )
    dataset_replace_interval: int = setting(
        default=1000,
        at_least=1,
        doc="gradient steps after which training switches to the next file of a dataset in several files",
    )
    offline_data: Literal["preload", "balanced", "none"] | None = _optional(
        doc="use of the dataset online: preload it into the buffer, sample half of every batch from it (balanced), or "
        "do not use it (none)",
    )
    score: Literal["success", "return"] | None = _optional(
        doc="score of an episode (default: success if the environment ever reports it, else the return)",
    )
    success_return: float | None = _optional(
        doc="lowest return of a successful episode; overrides the environment's report of success",
    )
    success_at: Literal["any"] | None = _optional(
        role="protocol",
        doc="any: an episode is a success if any step is (default: if its last step is)",
    )
    reference_scores: tuple[float, float] | None = _optional(
        check=checked_pair,
        doc="returns of a random and an expert policy, to normalise returns in comparisons",
    )
    env_wrapper: list[Any] | None = _optional(
        check=checked_wrappers,
        doc="wrappers around the environment, module:Class or {module:Class: {argument: value}}, innermost first",
    )
    normalize: bool | dict[str, Any] = setting(
        default=False,
        doc="normalise online observations and rewards by running statistics: true, or VecNormalize's options",
    )
    noise_type: Literal["normal", "ornstein-uhlenbeck"] | None = _optional(
        doc="noise on actions executed online (default: normal, if `noise_std` is set)",
    )
    noise_std: float | None = _optional(
        at_least=0,
        doc="standard deviation of the noise on actions, relative to half the action range",
    )
    action_range: tuple[float, float] | None = _optional(
        check=checked_pair,
        doc="action bounds of your dataset, mapped to the bounds of the environment",
    )
    reward_from: Literal["success"] | None = _optional(
        doc="take rewards from your dataset's `success` flags: 0 in steps with success, -1 in others",
    )

    def check_together(self) -> None:
        """Reject phases without data, runs without steps, and conflicting scores; `reference_scores` imply returns."""
        normalises = self.reference_scores is not None
        has_no_data = self.offline_data == "none"
        # without `score`, success is the score if the environment reports it
        has_other_score = normalises or self.score not in (None, "success")
        refuse_conflicts({
            f"`offline_data` is none, but `pretraining_steps` = {self.pretraining_steps} need data; change one of them":
                has_no_data and self.pretraining_steps,
            f"`offline_data` is none, but `offline_steps` = {self.offline_steps} need data; change one of them":
                has_no_data and self.offline_steps,
            "`offline_steps` and `online_steps` are both 0; set one of them (offline steps need a `dataset`)":
                self.offline_steps + self.online_steps == 0,
            "`reference_scores` normalise returns, but `score` = success; set only one of the two":
                normalises and self.score == "success",
            "`success_return` makes success the score, but `score` or `reference_scores` is set too; omit either":
                self.success_return is not None and (normalises or self.score),
            "`success_at` applies to success reported by the environment, but another score is set; omit one of the "
            "two":
                self.success_at and (has_other_score or self.success_return is not None),
        })  # fmt: skip
        # set after the check for conflicts, which must see the user's own `score`
        if normalises and self.score is None:
            self.score = "return"


_NOTE = {"role": "note"}


@dataclass(frozen=True)
class RunRecord:
    """Everything that determines a run's outcome, including its seed.

    :param run: settings of the run.
    :param settings: settings of the algorithm, including defaults, and arguments of the policy.
    :param method: the algorithm with its settings; None for an SB3 algorithm, and in a record read from a file.
    :param sources: sources of the values, one line per layer.
    :param departures: setting -> [its value, the protocol's value], for values that differ from the protocol.
    :param no_env: whether the run has no environment; `env` is then derived from the dataset's name.
    :param env_kwargs: words ``KEY=VALUE``; `eval_env_kwargs` has the same form.
    :param agent: for an algorithm that is not built in: ``class``, ``package``, and ``code`` (a hash of the class's
        source file).
    :param pretrained_actor: path, ``updates`` and ``fingerprint`` of the model whose behaviour flow the run starts
        from.
    :param trained_agent: path, ``updates`` and ``fingerprint`` of the model that the run starts from.
    :param behaviour: for a custom flow: the ``function`` that returns the flow, and a ``fingerprint`` of the flow's
        weights and conventions.
    :param dataset: ``name``, ``size`` and ``fingerprint`` of the dataset, and, if it contains them,
        ``reference_scores``, returns of a random and an expert policy.
    :param seeds: seeds of all replicas that are trained together, if there are several.
    :param folders: names of these replicas' run folders.
    """

    algo: str
    env: str
    profile: str = DEFAULT_PROFILE
    run: RunSettings = field(default_factory=RunSettings)
    settings: dict[str, Any] = field(default_factory=dict)
    method: Method | None = None
    sources: list[str] = field(default_factory=list, metadata=_NOTE)
    departures: dict[str, list[Any]] = field(default_factory=dict, metadata=_NOTE)
    eval_seed: int = 0
    label: str | None = None
    no_env: bool | None = None
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
        """Return the record from a mapping that :meth:`plain` returned; missing optional entries get their defaults.

        :raises TypeError: if an entry has a wrong type.
        :raises ValueError: if the format number differs, a required entry is missing, or a setting is out of range.
        """
        if content.get("format") != FORMAT:
            raise ValueError(
                f"its format is {content.get('format')}, and this version reads format {FORMAT}; train the run again"
            )
        stated = {name: value for name, value in content.items() if value is not None}
        missing = [name for name in _REQUIRED if name not in stated]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        entries = {}
        for name, kind in _ENTRIES.items():
            value = content.get(name)
            if value is None:
                continue
            if type(value) is not kind:  # `isinstance` would accept True as an int
                raise TypeError(f"`{name}` must be of type {kind.__name__}, got {value!r}")
            entries[name] = value
        run = {name: stated[name] for name in RunSettings.declared() if name in stated}
        return cls(run=RunSettings(**run), **entries)

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON-serialisable values for ``config.yml``, without entries that are None."""
        # these keys come first for readers; a key keeps the position of its first assignment
        values: dict[str, Any] = {"format": FORMAT, **dict.fromkeys(("algo", "env", "profile"))}
        values |= _without_tuples(self.run.settings())
        values["sparse"] = self.settings.get("sparse", False)
        for name in _ENTRIES:
            values[name] = getattr(self, name)
        # YAML has no tuples
        values["settings"] = _without_tuples(self.settings)
        return {name: value for name, value in values.items() if value is not None}

    def identity(self, *besides: str) -> dict[str, Any]:
        """Return the settings, with dotted names, that distinguish runs with the same seed.

        :param besides: roles of entries to omit; entries that are None, notes or in `_MAY_MOVE` are always omitted.
        """
        excluded_roles = {"note", *besides}  # notes do not distinguish runs with the same seed
        roles = {entry.name: entry.metadata.get("role") for entry in fields(self)}
        for name, declared in RunSettings.declared().items():
            roles[name] = declared.role
        for name, declared in CommonSettings.declared().items():
            roles[f"settings.{name}"] = declared.role
        identity = {}
        for name, value in flatten(self.plain()).items():
            # a nested name, e.g. `dataset.size`, has the role of its entry
            name_roles = {roles.get(name), roles.get(name.split(".")[0])}
            if value is not None and name not in _MAY_MOVE and not excluded_roles & name_roles:
                identity[name] = value
        return identity

    @property
    def evaluation_env_kwargs(self) -> list[str]:
        """Arguments of evaluation environments, by default those of training environments."""
        return self.eval_env_kwargs or self.env_kwargs or []

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of all replicas that are trained together."""
        return self.seeds or [self.seed]

    @property
    def code(self) -> str | None:
        """Hash of the source file of an algorithm that is not built in; None for built-in algorithms."""
        # a built-in algorithm has no `agent`, because the release identifies the algorithm's code
        return (self.agent or {}).get("code")


def differences(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the differences between two sets of settings, one phrase for each dotted name."""
    phrases = []
    for name in dict.fromkeys([*stored, *current]):
        old = stored.get(name, "not set")
        new = current.get(name, "not set")
        if old != new:
            phrases.append(f"{name.removeprefix('settings.')}: {old} (stored), {new} (now)")
    return list(dict.fromkeys(phrases))  # `sparse` and `pretraining_steps` are also in `settings`


def _without_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with lists instead of tuples, which YAML does not have."""
    plain = dict(values)
    for name, value in values.items():
        if isinstance(value, tuple):
            plain[name] = list(value)
    return plain


def _kind_of(hint: Any) -> type[Any]:
    """Return the class of an entry's values, e.g. list for ``list[str] | None``."""
    if get_origin(hint) in (Union, UnionType):
        hint = get_args(hint)[0]
    kind: type[Any] = get_origin(hint) or hint
    return kind


_ENTRIES = {
    name: _kind_of(hint)
    for name, hint in get_type_hints(RunRecord, localns={"Method": Any}).items()
    if name not in ("run", "method")
}
"""Entries of ``config.yml`` that are not settings of the run -> classes of their values."""
