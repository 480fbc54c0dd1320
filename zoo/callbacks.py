"""What happens beside training: evaluation, checkpoints, progress, a clean stop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from agents.common.checkpoint import save_checkpoint
from zoo.evaluation.history import OFFLINE, ONLINE, EvaluationHistory
from zoo.run_folder import RunFolder, write_atomically

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning
    from zoo.evaluation.evaluate import Evaluator

SECONDS_BETWEEN_LINES = 60.0


class StopSignal:
    """Turns Ctrl-C and a polite kill into a request that training meets after its current step.

    A second signal interrupts at once. Use as a context manager around training.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        print("stopping after this step; once more stops at once", file=sys.stderr, flush=True)


class StopCallback(BaseCallback):
    """Ends training when a stop was requested.

    :param stop: the request.
    """

    def __init__(self, stop: StopSignal) -> None:
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return not self.stop.requested


class EvaluationCallback(BaseCallback):
    """Evaluates every replica, writes its ``evaluations.npz`` and keeps its best model.

    :param evaluator: plays the episodes.
    :param folders: one run folder per replica.
    :param seeds: the replicas' seeds.
    :param frequency: steps between evaluations.
    """

    def __init__(
        self, evaluator: Evaluator, folders: Sequence[RunFolder], seeds: Sequence[int], frequency: int
    ) -> None:
        super().__init__()
        self.evaluator, self.folders, self.seeds, self.frequency = evaluator, folders, seeds, frequency
        self.histories = [EvaluationHistory() for _ in folders]
        self.best = [(-1.0, -float("inf"))] * len(folders)
        self.phase = OFFLINE
        self.seconds = 0.0
        self._last_step = -1

    def _on_step(self) -> bool:
        if self.num_timesteps // self.frequency > max(self._last_step, 0) // self.frequency:
            self.evaluate()
        return True

    def finish_phase(self) -> None:
        """Evaluate where the phase has ended, unless that was just done."""
        if self._last_step != self.num_timesteps:
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate now."""
        begin = time.perf_counter()
        model: FlowQLearning = self.model  # type: ignore[assignment]
        results = self.evaluator.evaluate(model.policy, self.seeds)
        self._last_step = self.num_timesteps
        for replica, (folder, history) in enumerate(zip(self.folders, self.histories, strict=True)):
            history.append(self.num_timesteps, self.phase, results, replica)
            history.save(folder.path / "evaluations.npz")
            success = 0.0 if results.successes is None else float(results.successes[replica].mean())
            score = (success, float(results.returns[replica].mean()))
            if score > self.best[replica]:
                self.best[replica] = score
                save_model(model.replica(replica), folder.path / "best_model.zip")
        self._log(results)
        self.seconds += time.perf_counter() - begin

    def success(self) -> float | None:
        """Return the last evaluation's mean success over replicas, or None."""
        rates = [history.success_rates() for history in self.histories]
        if any(rate is None or not len(rate) for rate in rates):
            return None
        return float(sum(rate[-1] for rate in rates if rate is not None) / len(rates))

    def _log(self, results: object) -> None:
        record = self.logger.record
        if results.successes is not None:  # type: ignore[attr-defined]
            record("eval/success_rate", float(results.successes.mean()))  # type: ignore[attr-defined]
        record("eval/mean_reward", float(results.returns.mean()))  # type: ignore[attr-defined]
        record("eval/mean_ep_length", float(results.lengths.mean()))  # type: ignore[attr-defined]
        record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)


class SaveCallback(BaseCallback):
    """Writes checkpoints and the run's status.

    :param folders: one run folder per replica; the first holds the checkpoint of all.
    :param seeds: the replicas' seeds.
    :param frequency: steps between checkpoints.
    """

    def __init__(self, folders: Sequence[RunFolder], seeds: Sequence[int], frequency: int) -> None:
        super().__init__()
        self.folders, self.seeds, self.frequency = folders, seeds, frequency

    def _on_step(self) -> bool:
        if self.n_calls % self.frequency == 0:
            self.save("running")
        return True

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now.

        :param state: the run's state.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        save_checkpoint(model, self.folders[0].path / "checkpoint")
        self.write_status(state)

    def write_status(self, state: str, **more: object) -> None:
        """Write the status of every replica's run.

        :param state: the run's state.
        :param more: further entries.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        for folder, seed in zip(self.folders, self.seeds, strict=True):
            online = model.num_timesteps - model.offline_steps
            folder.write_status(state, seed, model.offline_steps, online, **more)


class ProgressCallback(BaseCallback):
    """Shows speed, loss, last success and time left: a bar in a terminal, a line a minute elsewhere.

    :param evaluation: gives the last success and the time spent on evaluation.
    :param bar: True draws the bar, False prints lines, None decides by the terminal.
    """

    def __init__(self, evaluation: EvaluationCallback, bar: bool | None = None) -> None:
        super().__init__()
        self.evaluation = evaluation
        self.bar = sys.stderr.isatty() if bar is None else bar
        self.steps_per_second = 0.0

    def _on_training_start(self) -> None:
        self._first = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._shown = time.perf_counter()
        self._evaluated = self.evaluation.seconds
        self._progress: Progress | None = None
        if self.bar:
            from rich.console import Console

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task("training", total=self._total, completed=self._first)
            self._progress.start()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if now - self._shown >= (1.0 if self._progress else SECONDS_BETWEEN_LINES):
            self._shown = now
            self._show(self._describe(now))
        return True

    def _on_training_end(self) -> None:
        text = self._describe(time.perf_counter())
        if self._progress is not None:
            self._progress.stop()
        print(text, file=sys.stderr, flush=True)

    def _describe(self, now: float) -> str:
        """Return one line about the training so far; time spent on evaluation does not count into the speed."""
        busy = max(now - self._begin - (self.evaluation.seconds - self._evaluated), 1e-9)
        self.steps_per_second = (self.num_timesteps - self._first) / busy
        success = self.evaluation.success()
        phase = "online" if self.evaluation.phase == ONLINE else "offline"
        parts = [f"{phase} {self.num_timesteps}/{self._total}", f"{self.steps_per_second:.1f} steps/s"]
        loss = self.model._last_info.get("total_loss")  # type: ignore[attr-defined]
        if loss is not None:
            parts.append(f"loss {float(loss.mean()):.3g}")
        if success is not None:
            parts.append(f"success {success:.2f}")
        return ", ".join(parts)

    def _show(self, text: str) -> None:
        if self._progress is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._progress.update(self._task, completed=self.num_timesteps, description=text)


def save_model(model: FlowQLearning, path: Path) -> None:
    """Save a model whole or not at all.

    :param model: the model.
    :param path: its ``.zip``.
    """
    write_atomically(path, model.save)
