"""The replicas of a run: a folder and a status for each, and what happens to one that diverges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agents.common.files import WriteError
from agents.common.replicas import Diverged, PerReplica
from agents.common.sb3.model import FlowQLearning
from zoo.runs.folder import RunFolder
from zoo.terminal.messages import log


class Replicas:
    """The replicas, their run folders, and which of them have failed.

    A replica that diverges keeps its slot; its results are ignored and the others never see its values. Its run has
    ended with the state ``failed``: its evaluations stay; there are no others and no final model.

    :param folders: one run folder for each replica; the first holds the checkpoint of all.
    :param stops: whether a replica fails whose values are beyond recovery although they are finite, see
        :mod:`zoo.training.replicas`; otherwise they are reported once.
    """

    def __init__(self, folders: Sequence[RunFolder], seeds: Sequence[int], stops: bool = True) -> None:
        self.stops = stops
        self._largest_reward = 0.0
        self._told: set[tuple[int, str]] = set()  # replica and kind of what was reported
        self.folders, self.seeds = list(folders), list(seeds)
        self.failed: dict[int, dict[str, Any]] = {}  # replica -> reason and step
        self._checked: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.folders)

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of all replicas are."""
        return self.folders[0].checkpoints

    @property
    def active(self) -> list[int]:
        """Which replicas have not failed."""
        return [replica for replica in range(len(self)) if replica not in self.failed]

    def check(self, model: FlowQLearning) -> None:
        """Look for replicas that have diverged, at most once a step; waits for the device."""
        progress = model.num_timesteps, model._n_updates
        if progress != self._checked:
            self._checked = progress
            found = model.find_divergence()
            found = self._find_excess(model) | found
            self.fail(model, {replica: f"{what} at step {progress[0]}" for replica, what in found.items()})

    def _find_excess(self, model: FlowQLearning) -> dict[int, str]:
        """Return what ends replicas whose values are finite, and report what does not."""
        values = model.last_values()
        if not values or model.replay_buffer is None:
            return {}
        low, high = model.replay_buffer.rewards.aminmax()  # of rows without a transition it is 0
        self._largest_reward = max(self._largest_reward, -float(low), float(high))
        bound = bound_of_q(self._largest_reward, model.gamma)
        final: dict[int, str] = {}
        for replica, kind, text, is_final in find_excess(values, bound):
            if is_final and self.stops:
                final.setdefault(replica, text)
            elif replica in self.active and (replica, kind) not in self._told:
                self._told.add((replica, kind))
                log.warning("seed %s at step %d: %s", self.seeds[replica], model.num_timesteps, text)
        return final

    def fail(self, model: FlowQLearning, reasons: Mapping[int, str]) -> None:
        """End the runs of replicas that have not ended yet; raise Diverged if no replica is left.

        :param reasons: replica -> what was found, and at which step.
        """
        step = model.num_timesteps
        for replica in sorted(set(reasons) - set(self.failed)):
            reason = f"training diverged: {reasons[replica]}"
            self._write(replica, model, "failed", reason=reason, step=step)
            self.failed[replica] = {"reason": reason, "step": step}
            log.error("seed %s failed: %s", self.seeds[replica], reason)
        if not self.active:
            told = "; ".join(f"seed {self.seeds[k]}: {failure['reason']}" for k, failure in self.failed.items())
            raise Diverged(f"all replicas have diverged ({told}); a smaller `learning_rate` may help")

    def require_folders(self) -> None:
        """Raise WriteError if a run's folder is gone, in place of making it again without what was in it."""
        for replica in self.active:
            path = self.folders[replica].path
            if not path.is_dir():
                raise WriteError(f"the run folder {path} is gone; it was deleted or moved while the run was going on")

    def write_status(self, model: FlowQLearning, state: str) -> None:
        """Write the status of every run that has not failed."""
        for replica in self.active:
            self._write(replica, model, state)

    def _write(self, replica: int, model: FlowQLearning, state: str, **more: object) -> None:
        pretrained = min(model.offline_steps, model.pretraining_steps)
        offline, online = model.offline_steps - pretrained, model.num_timesteps - model.offline_steps
        folder, seed = self.folders[replica], self.seeds[replica]
        folder.write_status(state, seed, offline, online, pretraining_step=pretrained, **more)


def curve_step(model: FlowQLearning) -> int:
    """Return a model's position on the curve: steps since the end of pretraining, negative before it."""
    return model.num_timesteps - model.pretraining_steps


TELL, STOP = 1e2, 1e4
"""How many times the bound of Q a value must exceed to be reported, and to be beyond recovery."""
LOSS_MARGIN = 10.0
"""By which the square root of a loss may be larger than Q; losses weigh and sum several errors."""
LONGEST_HORIZON = 1e4
"""Steps that count at most, where the discount is 1 or nearly so."""


def bound_of_q(largest_reward: float, gamma: float) -> float:
    """Return what abs(Q) cannot exceed once it is learnt, plus 1 for where it begins.

    :param largest_reward: largest absolute reward of the dataset and of the environment so far.
    """
    return 1.0 + largest_reward * min(1 / max(1 - gamma, 1e-12), LONGEST_HORIZON)


def find_excess(values: Mapping[str, PerReplica], bound: float) -> Iterator[tuple[int, str, str, bool]]:
    """Yield values beyond their limits, which no healthy run has.

    :param values: losses and diagnostics of an update by name, finite or not.
    :param bound: of Q, from :func:`bound_of_q`.
    :yields: replica; ``Q``, ``loss`` or ``gradient``; value and limit in words; whether training cannot recover.
    """
    limits = {"q_max": ("Q", bound, 1), "q_min": ("Q", bound, 1)}
    limits |= {name: ("loss", (LOSS_MARGIN * bound) ** 2, 2) for name in values if name.endswith("_loss")}
    for name, (kind, unit, power) in limits.items():
        for replica, value in enumerate(values[name].values if name in values else ()):
            is_final = abs(value) > STOP**power * unit
            limit = (STOP if is_final else TELL) ** power * unit
            if abs(value) > limit:
                text = f"{name} = {value:.3g}, where rewards and discount allow far less than {limit:.3g}"
                yield replica, kind, text, is_final
    for replica, value in enumerate(values["grad_norm"].values if "grad_norm" in values else ()):
        if value == 0:
            yield replica, "gradient", "every gradient is exactly 0", False
