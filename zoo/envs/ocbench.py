"""OCBench's tasks on the CPU: their names, and the package that registers them, which is optional.

Source: OCBench (Park and Levine, "Behavioral Cloning Mystery", 2026), ``ocbench/__init__.py``, version 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from zoo.packages import import_optional

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

CONTROL_STEPS, LITE_CONTROL_STEPS = "ocbench", "ocbench-lite"
"""Entries of settings files: for all tasks, and over it for the lite variants, whose steps are five times longer."""

# environment, tasks, most steps of an episode, and of one in the lite variant, which not all have
_ENVIRONMENTS = (
    ("block-single", 1, 1250, 200),
    ("block-double", 2, 2500, 400),
    ("block-triple", 2, 3750, 600),
    ("block-quadruple", 3, 5000, 800),
    ("chamber-easy", 3, 4000, 500),
    ("chamber-medium", 2, 5000, 600),
    ("chamber-hard", 2, 5500, 700),
    ("switch-3x3", 2, 1500, 300),
    ("switch-4x4", 2, 1500, 300),
    ("switch-5x5", 2, 4000, 800),
    ("hanoi-single", 2, 1000, 300),
    ("hanoi-double", 2, 3000, 900),
    ("hanoi-triple", 2, 7000, 2100),
    ("bowling", 1, 500, None),
)


@dataclass(frozen=True)
class OcbenchTask:
    """One of OCBench's tasks on the CPU.

    :param domain: environment and variant without the task, e.g. ``"block-cpu-lite-double"``.
    :param number: of the task, from 1.
    :param steps: most steps of an episode.
    :param is_lite: whether it is the variant with short episodes.
    """

    domain: str
    number: int
    steps: int
    is_lite: bool

    @property
    def name(self) -> str:
        """OCBench's name of the environment, which is its Gymnasium id too."""
        return f"{self.domain}-task{self.number}-v0"

    @property
    def family(self) -> str:
        """``"block"``, ``"chamber"``, ``"switch"``, ``"hanoi"`` or ``"bowling"``."""
        return self.domain.partition("-")[0]

    @property
    def gpu_name(self) -> str:
        """Name of the same task in OCBench's simulator for GPUs, which is that of the dataset too."""
        return self.name.replace("-cpu", "", 1)

    @property
    def entries(self) -> tuple[str, ...]:
        """The entries of settings files that hold for it besides those of its domain and name."""
        return (CONTROL_STEPS, LITE_CONTROL_STEPS) if self.is_lite else (CONTROL_STEPS,)


def _build_table() -> dict[str, OcbenchTask]:
    tasks = []
    for environment, count, steps, lite_steps in _ENVIRONMENTS:
        family, *kind = environment.split("-")
        variants = [("cpu", steps, False)] + ([] if lite_steps is None else [("cpu-lite", lite_steps, True)])
        for variant, most, is_lite in variants:
            domain = "-".join([family, variant, *kind])
            tasks += [OcbenchTask(domain, number, most, is_lite) for number in range(1, count + 1)]
    return {task.name: task for task in tasks}


TASKS = _build_table()


def tasks_of(domain: str) -> list[str]:
    """Return the names of a domain's tasks; none if OCBench has no such domain."""
    return [task.name for task in TASKS.values() if task.domain == domain]


def import_ocbench(name: str, module: str = "ocbench") -> ModuleType:
    """Return a module of OCBench, which registers its environments.

    :param name: what needs it, for the message.
    """
    return import_optional(module, "OCBench", f"`{name}`", "flow-rl-zoo[ocbench]")


def is_ocbench(spec: EnvSpec) -> bool:
    """Return whether an environment is one of OCBench's."""
    return isinstance(spec.entry_point, str) and spec.entry_point.startswith("ocbench.envs")
