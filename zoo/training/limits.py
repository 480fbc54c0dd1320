"""What the values of a healthy run stay far below: Q by what rewards and discount allow, losses by the square of that.

The margins are wide, so that no run in which learning is merely poor reaches them: entropy and KL terms, optimism at
the beginning and overestimation of unseen actions all exceed the strict bound for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agents.common.replicas import PerReplica

TELL, STOP = 1e2, 1e4
"""How many times the bound of Q a value must exceed to be reported, and to be beyond recovery."""
LOSS_MARGIN = 10.0
"""By which the square root of a loss may be larger than Q; losses weigh and sum several errors."""
LONGEST_HORIZON = 1e4
"""Steps that count at most, where the discount is 1 or nearly so."""


@dataclass(frozen=True)
class Excess:
    """A value that no healthy run has.

    :param kind: ``Q``, ``loss`` or ``gradient``.
    :param text: the value and its limit.
    :param is_final: whether training cannot recover from it.
    """

    kind: str
    text: str
    is_final: bool


def bound_of_q(largest_reward: float, gamma: float) -> float:
    """Return what abs(Q) cannot exceed once it is learnt, plus 1 for where it begins.

    :param largest_reward: largest absolute reward of the dataset and of the environment so far.
    """
    return 1.0 + largest_reward * min(1 / max(1 - gamma, 1e-12), LONGEST_HORIZON)


def find_excess(values: Mapping[str, PerReplica], bound: float) -> dict[int, list[Excess]]:
    """Return which replicas have values beyond their limits.

    :param values: losses and diagnostics of an update by name, finite or not.
    :param bound: of Q, from :func:`bound_of_q`.
    """
    found: dict[int, list[Excess]] = {}
    limits = {"q_max": ("Q", bound), "q_min": ("Q", bound)}
    limits |= {name: ("loss", (LOSS_MARGIN * bound) ** 2) for name in values if name.endswith("_loss")}
    for name, (kind, unit) in limits.items():
        power = 2 if kind == "loss" else 1
        for replica, value in enumerate(values[name].values if name in values else ()):
            limit = TELL**power * unit
            if abs(value) > limit:
                is_final = abs(value) > STOP**power * unit
                limit = STOP**power * unit if is_final else limit
                text = f"{name} = {value:.3g}, where rewards and discount allow far less than {limit:.3g}"
                found.setdefault(replica, []).append(Excess(kind, text, is_final))
    for replica, value in enumerate(values["grad_norm"].values if "grad_norm" in values else ()):
        if value == 0:
            found.setdefault(replica, []).append(Excess("gradient", "every gradient is exactly 0", is_final=False))
    return found
