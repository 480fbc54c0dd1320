"""What a format is: it recognises a dataset and returns its transitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agents.common.data.arrays import Transitions
from agents.common.validation import unknown_name_message
from zoo.errors import UsageError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation.state", "observations", "observation", "state"),
    "actions": ("action", "actions"),
    "rewards": ("next.reward", "reward", "rewards"),
    "terminated": ("next.terminated", "terminated", "terminations"),
    "success": ("next.success", "success"),
    "done": ("next.done", "done", "dones"),
    "episode": ("episode_index", "episode"),
    "frame": ("frame_index", "frame"),
}
"""What is read of rows -> the names of its column, the first that is there."""


@dataclass(frozen=True)
class Reading:
    """What a format leaves open.

    :param columns: what is read -> its name in the files, see `COLUMNS`.
    :param step_reward: the reward of every step of a set that has none.
    :param done: what ends the episodes of a set that does not say: ``terminated`` or ``truncated``.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    step_reward: float | None = None
    done: str | None = None

    def __post_init__(self) -> None:
        for name in self.columns:
            if name not in COLUMNS:
                raise UsageError(unknown_name_message("name in `--columns`", name, COLUMNS))


class Format:
    """A way in which datasets are stored; `zoo.datasets.formats.read.FORMATS` lists one object of each."""

    leaves_open = False
    """Whether a `Reading` says something that its files do not."""

    def matches(self, path: Path) -> bool:
        """Return whether a file or folder looks like one of this format; nothing of its content is trusted."""
        raise NotImplementedError

    def read(self, path: Path, reading: Reading) -> Transitions:
        """Return the transitions; raise UsageError if they cannot be read or trained on, with what to do."""
        raise NotImplementedError

    def environment(self, path: Path) -> str | None:
        """Return the id of the environment that a set was recorded in, where it says so."""
        return None

    def references(self, path: Path) -> tuple[float, float] | None:
        """Return the returns of a random and of an expert policy, where a set says them."""
        return None


def refuse_reading(path: Path, reading: Reading) -> None:
    """Refuse options for what a format does not leave open."""
    if reading != Reading():
        raise UsageError(
            f"{path} is in a format whose arrays have fixed names and meanings; leave out `--columns`, "
            "`--step-reward` and `--done`"
        )
