"""How the networks of an algorithm are trained: what each may have of its own, and step sizes that change."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal

from agents.common.search import log_range
from agents.common.settings import Declared, setting
from agents.common.validation import number

DECAYS: dict[str, Callable[[float, float], float]] = {
    "": lambda start, done: start,
    "lin_": lambda start, done: start + done * (0.0 - start),
    "cos_": lambda start, done: start * (1 + math.cos(math.pi * done)) / 2,
}
"""Beginning of a learning rate's text -> rate, by where it starts and the part of training that is done."""
OPTIMIZERS: dict[str | None, dict[str, Any]] = {
    None: {},
    "adam": {"decoupled_weight_decay": False, "weight_decay": 0.0},
    "adamw": {"decoupled_weight_decay": True, "weight_decay": 0.01},
}
"""Name -> what `torch.optim.Adam` is told to be it, with the weight decay that PyTorch gives it."""


class Rate:
    """A step size as a pure function of how far training is, so that it is resumed without a state of its own.

    :param value: a number > 0; ``"lin_1e-3"`` or ``"cos_1e-3"``, which fall to 0 along a line or half a cosine;
        ``"warmup_1000_3e-4"`` or ``"warmup_1000_cos_1e-3"``, which first rise over so many updates; or a function of
        the remaining progress.
    :raises TypeError: for another type.
    :raises ValueError: for another text, or a number out of range.
    """

    def __init__(self, value: float | str | Callable[[float], float]) -> None:
        self.warmup, self.decay, start = 0, "", value
        if isinstance(value, str):
            read = re.fullmatch(r"(?:warmup_(\d+)_)?(lin_|cos_|)(\d.*|\..*)", value)
            try:
                self.warmup, self.decay, start = int(read[1] or 0), read[2], float(read[3])  # type: ignore[index]
            except (TypeError, ValueError):
                raise ValueError(
                    "`learning_rate` must be a number > 0, or such a number after `lin_`, `cos_`, `warmup_1000_` or "
                    f"`warmup_1000_cos_`, e.g. cos_1e-3; got {value!r}"
                ) from None
        self.start = start if callable(start) else number("learning_rate", start, above=0)

    def __call__(self, remaining: float, updates: int = 0) -> float:
        """Return the step size of the coming update.

        :param remaining: the part of training that is left, from 1 to 0.
        :param updates: number of updates so far.
        :return: the step size.
        """
        if callable(self.start):
            return float(self.start(remaining))
        rate = DECAYS[self.decay](self.start, 1 - max(remaining, 0.0))
        return rate * min(1.0, (updates + 1) / self.warmup) if self.warmup else rate


def checked_rate(name: str, value: Any) -> Any:
    """Check a learning rate; return it as it was given, so that a run's settings read as they were written.

    :param name: of the setting.
    :param value: see :class:`Rate`.
    :return: the same.
    """
    Rate(value)
    return value


class Training(Declared):
    """What a network may have of its own in training; None is what all networks have."""

    learning_rate: float | str | Callable[[float], float] | None = setting(
        default=None,
        check=lambda name, value: value if value is None else checked_rate(name, value),
        search=log_range(3e-5, 3e-3),
        doc="Its step size, as in the setting of that name.",
    )
    optimizer: Literal["adam", "adamw"] | None = setting(default=None, doc="`adam` or `adamw`, as in PyTorch.")
    weight_decay: float | None = setting(
        default=None, at_least=0, search=log_range(1e-5, 0.1), doc="Its weight decay, in the optimiser's sense."
    )
    max_grad_norm: float | None = setting(
        default=None,
        above=0,
        doc="Bound on the norm of its gradient, which then does not count for that of the others.",
    )
    train_every: int = setting(default=1, at_least=1, doc="N: it is trained at every N-th update.")
    tau: float | None = setting(default=None, at_least=0, at_most=1, doc="Weight of its target; 1 copies.")
    target_every: int = setting(default=1, at_least=1, doc="N: its target moves at every N-th update.")

    def options(self) -> dict[str, Any]:
        """Return what its group of parameters in the optimiser has of its own; empty where it is in that of all."""
        options = dict(OPTIMIZERS[self.optimizer])
        if self.weight_decay is not None:
            options["weight_decay"] = self.weight_decay
        return options if self.learning_rate is None else {**options, "lr": Rate(self.learning_rate)(1.0)}
