"""What a run is: one record, which is checked once, written as ``config.yml`` and read as itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Self,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)  # fmt: skip

from agents.common.common_settings import CommonSettings
from agents.common.settings import Declared, setting
from agents.common.validation import checked_pair, integer
from zoo.settings.layers import DEFAULT_PROFILE, flatten

if TYPE_CHECKING:
    from agents.common.method import Method

MOST_EPISODES = 100_000
"""The most of an evaluation, which keeps 10 kB of noise for each and plans all of them in one batch. Of so many, a
success rate is known within 0.3 percentage points."""
MOST_COUNT = 1 << 53  # which float64 still counts one by one
LONGEST_TEXT = 10_000
_REQUIRED = ("algo", "env", "offline_steps", "seed")
_MAY_MOVE = ("dataset.name", "dataset.reference_scores", "pretrained_actor.path", "trained_agent.path")
"""What says less than the fingerprint beside it: a file may have moved."""


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
    """What a run does, besides the algorithm's own settings; each is a flag of the training program too."""

    pretraining_steps: int = setting(
        default=0, at_least=0, role="protocol", doc="gradient steps before the offline phase that clone the behaviour"
    )
    offline_steps: int = setting(
        default=1_000_000, at_least=0, role="protocol", doc="gradient steps on the dataset, before the online phase"
    )
    online_steps: int = setting(default=0, at_least=0, role="protocol", doc="environment steps after the offline phase")
    eval_freq: int = setting(default=50_000, at_least=1, doc="steps between evaluations")
    eval_episodes: int = setting(default=50, check=checked_episodes, role="protocol", doc="episodes per evaluation")
    eval_at_start: bool = setting(
        default=False, role="note", doc="evaluate before the first update too, as is always done after pretraining"
    )
    save_freq: int = setting(default=50_000, at_least=1, role="output", doc="steps between checkpoints")
    log_interval: int = setting(default=5_000, at_least=1, role="output", doc="gradient steps between log entries")
    dataset_size: int | None = setting(
        default=None,
        at_least=1,
        role="protocol",
        doc="transitions to use, in whole trajectories, or to generate; none uses all",
    )
    dataset_replace_interval: int = setting(
        default=1000, at_least=1, doc="gradient steps until the next file of a dataset of several takes over"
    )
    offline_data: Literal["preload", "balanced", "none"] | None = setting(
        default=None,
        doc="what online training does with the dataset: in front of the buffer, half of every batch, nothing",
    )
    score: Literal["return", "value"] | None = setting(
        default=None,
        doc="what an episode is scored by, instead of the success that the environment reports; value is for --no-env",
    )
    success_return: float | None = setting(
        default=None, doc="the return from which an episode counts as a success, whatever the environment says"
    )
    reference_scores: tuple[float, float] | None = setting(
        default=None,
        check=_checked_pair,
        doc="returns of a random and of an expert policy: scores are returns, which comparisons normalise by them",
    )
    action_range: tuple[float, float] | None = setting(
        default=None,
        check=_checked_pair,
        doc="what stands for the limits of the environment's actions in a dataset of your own",
    )
    reward_from: Literal["success"] | None = setting(
        default=None,
        doc="take rewards from the `success` flags of a dataset of your own: -1 a step, 0 where the task is achieved",
    )

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


class ModelToStartFrom(TypedDict, total=False):
    """A saved model that a run began with."""

    path: str
    updates: int
    fingerprint: str


class Data(TypedDict, total=False):
    """What a run was trained on; returns of a random and an expert policy where the data say them."""

    name: str
    size: int
    fingerprint: str
    reference_scores: list[float]


Agent = TypedDict("Agent", {"class": str, "code": str, "package": str}, total=False)
"""An algorithm that is not built in, and a hash of its file."""


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
    agent: Agent | None = field(default=None, metadata=_NOTE)
    pretrained_actor: ModelToStartFrom | None = None
    trained_agent: ModelToStartFrom | None = None
    dataset: Data | None = field(default=None, metadata={"role": "data"})
    seed: int = field(default=0, metadata=_NOTE)
    seeds: list[int] | None = field(default=None, metadata=_NOTE)
    folders: list[str] | None = field(default=None, metadata=_NOTE)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Return the record that :meth:`plain` gave; entries that a file lacks have their defaults.

        :raises TypeError: if it holds what no run has.
        :raises ValueError: likewise, or if it lacks what every run has.
        """
        if missing := [name for name in _REQUIRED if content.get(name) is None]:
            raise ValueError(f"lacks {', '.join(missing)}")
        given = {name: value for name, value in content.items() if value is not None}
        own = {name: given[name] for name in _ENTRIES if name in given}
        run = {name: given[name] for name in RunSettings.declared() if name in given}
        require_types(own, _ENTRIES)
        for name, value in run.items():
            if isinstance(value, int) and abs(value) > MOST_COUNT:
                raise ValueError(f"has `{name}` = {shown(value)}, expected a number of at most {MOST_COUNT:,}")
        settings, folders = own.get("settings", {}), own.get("folders", [])
        require_types(
            {"settings.net_arch": settings.get("net_arch") or []},
            {"settings.net_arch": list[int] | dict[str, list[int]]},
        )
        names = [name for name, _ in flatten(settings)]
        if wrong := [name for name in names if not _fits(name, str) or "_." in f"{name}."]:
            raise ValueError(f"has {shown(wrong[0])} among its `settings`, expected names")
        if any(name != Path(name).name or name == ".." for name in folders):
            raise ValueError(f"has `folders` = {shown(folders)}, expected names")
        _checked_pair("dataset.reference_scores", own.get("dataset", {}).get("reference_scores"))
        return cls(run=RunSettings(**run), **own)

    def plain(self) -> dict[str, Any]:
        """Return the record as plain values for ``config.yml``, without entries that are None."""
        own = {name: getattr(self, name) for name in _ENTRIES}
        head = {name: own.pop(name) for name in ("algo", "env", "profile")}
        own["settings"], run = (
            {name: list(value) if isinstance(value, tuple) else value for name, value in part.items()}
            for part in (self.settings, self.run.settings())
        )  # as YAML has them
        values = {**head, **run, "sparse": self.settings.get("sparse", False), **own}
        return {name: value for name, value in values.items() if value is not None}

    def identity(self, *besides: str) -> dict[str, Any]:
        """Return what makes two runs of equal seeds the same, with dotted names; what is None is left out.

        :param besides: roles of entries that are left out too.
        """
        left_out = {"note", *besides}
        entries = {each.name: each.metadata.get("role") for each in fields(self)}
        roles = entries | {name: found.role for name, found in RunSettings.declared().items()}
        roles |= {f"settings.{name}": found.role for name, found in CommonSettings.declared().items()}
        return {
            name: value
            for name, value in flatten(self.plain())
            if value is not None
            and name not in _MAY_MOVE
            and not left_out & {roles.get(name), roles.get(name.split(".")[0])}
        }

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of all replicas that are trained together."""
        return self.seeds or [self.seed]

    @property
    def code(self) -> str | None:
        """Hash of the file of an algorithm that is not built in."""
        return (self.agent or {}).get("code")


_ENTRIES = {
    name: kind
    for name, kind in get_type_hints(RunRecord, localns={"Method": Any}).items()
    if name not in ("run", "method")
}
"""The types of the entries of ``config.yml`` that are not settings of a run, by their names."""


def require_types(values: Mapping[str, Any], kinds: Mapping[str, Any], within: str = "") -> None:
    """Refuse plain values that are not of their types; a value may be missing or None."""
    for name, kind in kinds.items():
        value = values.get(name)
        parts = get_args(kind) if isinstance(kind, UnionType) else (kind,)
        if is_typeddict(parts[0]) and isinstance(value, dict):
            require_types(value, get_type_hints(parts[0]), f"{name}.")
        elif value is not None and not any(_fits(value, part) for part in parts):
            expected = "a whole number >= 0" if kind is int else kind
            raise ValueError(f"has `{within}{name}` = {shown(value)}, expected {expected}")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a plain value is of a type: texts are lines, and whole numbers counts."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is list:
        return isinstance(value, list) and all(_fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(each, arguments[1]) for each in value.values())
    if kind is str:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
    if kind in (int, float):  # a count is one that a float64 holds exactly
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
        return is_number and (kind is float or (0 <= value <= MOST_COUNT and int(value) == value))
    return kind is Any


def shown(value: Any) -> str:
    """Return a value as a short text without control bytes."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
