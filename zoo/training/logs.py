"""Status, logs and failures of a run's replicas.

``progress.csv`` and TensorBoard events are always written; after an interruption, they continue without repeated rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard.writer import SummaryWriter

from agents.common.files import explaining_write_errors
from agents.common.sb3.environments import DivergedError
from agents.common.sb3.model import FlowAlgorithm
from zoo.runs.folder import DIVERGED, RunFolder
from zoo.terminal.messages import log

STEP = "time/total_timesteps"
TOTAL_SECONDS = "time/total_seconds"
"""Seconds since the start of the run, summed over all phases and processes."""
ELAPSED = "time/time_elapsed"
"""SB3's elapsed seconds, which restart in each phase and process."""


@dataclass
class Replicas:
    """The replicas of a run, their folders and their failures.

    A replica that diverges keeps its index; its later results are ignored, and do not affect other replicas. Its run
    ends in state ``failed``, keeps its evaluations, and has no final model.

    :param folders: one run folder for each replica; the first one contains the checkpoints of all replicas.
    """

    model: FlowAlgorithm
    folders: Sequence[RunFolder]
    seeds: Sequence[int]
    failed: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Replica -> ``reason`` and ``step``."""

    @property
    def active(self) -> list[int]:
        """Indices of the replicas that have not failed."""
        return [replica for replica in range(len(self.folders)) if replica not in self.failed]

    def check(self) -> None:
        """Mark as failed the runs of replicas that contain NaN or infinity; waits for the device."""
        step = self.model.num_timesteps
        reasons = self.model.find_divergence()
        self.fail({k: f"{reasons[k]} at step {step}" for k in self.active if k in reasons})

    def fail(self, reasons: Mapping[int, str]) -> None:
        """Mark the runs of some active replicas as failed; raises DivergedError if no active replica remains.

        :param reasons: replica -> text that names the NaN or infinite value and the step.
        """
        step = self.model.num_timesteps
        for replica, reason in sorted(reasons.items()):
            failure = {"reason": reason, "step": step}
            self.write_status("failed", [replica], failure=DIVERGED, **failure)
            self.failed[replica] = failure
            log.error("seed %s diverged: %s", self.seeds[replica], reason)
        if not self.active:
            causes = [f"seed {self.seeds[k]}: {self.failed[k]['reason']}" for k in self.failed]
            raise DivergedError(
                f"all replicas have diverged ({'; '.join(causes)}); a smaller `learning_rate` may help"
            )

    def write_status(
        self,
        state: str,
        replicas: Sequence[int] | None = None,
        **entries: Any,
    ) -> None:
        """Write the status of runs, by default of all runs that have not failed.

        :param entries: other entries of the status.
        """
        model = self.model
        pretrained = min(model.offline_steps, model.pretraining_steps)
        steps = {
            "offline_step": model.offline_steps - pretrained,
            "online_step": model.num_timesteps - model.offline_steps,
            "pretraining_step": pretrained,
        }
        if replicas is None:
            replicas = self.active
        for replica in replicas:
            self.folders[replica].write_status(state, **steps, **entries)


class ProgressTable(CSVOutputFormat):
    """SB3's CSV writer, with the step as the first column.

    :param text: the file's content at the checkpoint; rows written after the checkpoint are dropped.
    """

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(str(path))  # truncates the file
        text = text or f"{STEP}\n"
        self.file.write(text)
        self.file.flush()
        self.keys = text.partition("\n")[0].split(self.separator)


class Events(TensorBoardOutputFormat):
    """SB3's TensorBoard writer, which can continue after a checkpoint.

    :param step: step of the checkpoint; TensorBoard drops later events that an earlier process wrote.
    """

    def __init__(self, folder: Path, step: int) -> None:
        # SB3's constructor is not called, because it cannot set `purge_step`
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self._is_closed = False


class ReplicaLogger(Logger):
    """Writes each active replica's own values to its ``progress.csv`` and TensorBoard events.

    :param log_state: the :meth:`state` from a checkpoint; `EMPTY_LOG` for a new run.
    """

    def __init__(self, replicas: Replicas, log_state: Mapping[str, Any]) -> None:
        self._replicas = replicas
        texts = log_state["tables"] or [""] * len(replicas.folders)
        paths = [folder.progress for folder in replicas.folders]
        self._tables = list(map(ProgressTable, paths, texts))
        self._events = [Events(folder.path, log_state["step"]) for folder in replicas.folders]
        self._begin = time.monotonic() - log_state["seconds"]
        super().__init__(str(replicas.folders[0].path), [*self._tables, *self._events])

    def dump(self, step: int = 0) -> None:
        """Write the recorded values; each replica's own values replace their means."""
        values = self.name_to_value | self._replicas.model.replica_values()
        self.write(values, step, self.name_to_excluded)
        self.name_to_value.clear()
        self.name_to_count.clear()
        self.name_to_excluded.clear()

    def write(
        self,
        values: Mapping[str, Any],
        step: int,
        excluded: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Write the given values, not the recorded values, as one row; ``progress.csv`` also contains the step.

        :param excluded: name -> formats that omit the value.
        """
        values = {**values, STEP: step}
        if ELAPSED in values:  # SB3's clock restarts in each phase and process
            values[TOTAL_SECONDS] = round(time.monotonic() - self._begin, 1)
        excluded = {STEP: ("tensorboard",), **(excluded or {})}
        formats = {name: excluded.get(name, ("",)) for name in values}
        for replica in self._replicas.active:
            row = dict(values)
            for name, value in values.items():
                if isinstance(value, np.ndarray):
                    row[name] = float(value[replica])
            with explaining_write_errors(self._replicas.folders[replica].path):
                self._tables[replica].write(row, formats, step)
                self._events[replica].write(row, formats, step)

    def close(self) -> None:
        """Close all files."""
        with explaining_write_errors(self._replicas.folders[0].path):
            super().close()

    def state(self) -> dict[str, Any]:
        """Return the state of the logs: the step, the text of each ``progress.csv``, and the elapsed seconds."""
        for table in self._tables:
            table.file.seek(0)  # `read` moves the position to the end again
        return {
            "step": self._replicas.model.num_timesteps,
            "tables": [table.file.read() for table in self._tables],
            "seconds": time.monotonic() - self._begin,
        }


EMPTY_LOG: dict[str, Any] = {"step": -1, "tables": None, "seconds": 0.0}
