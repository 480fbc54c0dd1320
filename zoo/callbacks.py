"""What happens beside training: evaluation, checkpoints, progress, a clean stop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from agents.common.checkpoint import load_checkpoint, save_checkpoint
from agents.common.files import atomic_path
from zoo.cli import Interrupted
from zoo.evaluation.history import OFFLINE, ONLINE, EvaluationHistory
from zoo.logs import log_position
from zoo.run_folder import RunFolder

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

    @property
    def step(self) -> int:
        """Position on the curve: steps since the end of pretraining, negative before it."""
        model: FlowQLearning = self.model  # type: ignore[assignment]
        return model.num_timesteps - model.pretraining_steps

    def _on_step(self) -> bool:
        if self.step // self.frequency > max(self._last_step, 0) // self.frequency:
            self.evaluate()
        return True

    def finish_phase(self) -> None:
        """Evaluate where the phase has ended, unless that was just done."""
        if self._last_step != self.step:
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate now."""
        begin = time.perf_counter()
        model: FlowQLearning = self.model  # type: ignore[assignment]
        results = self.evaluator.evaluate(model.planner, self.seeds)
        self._last_step = self.step
        for replica, (folder, history) in enumerate(zip(self.folders, self.histories, strict=True)):
            history.append(self.step, self.phase, results, replica)
            history.save(folder.path / "evaluations.npz")
            success = 0.0 if results.successes is None else float(results.successes[replica].mean())
            score = (success, float(results.returns[replica].mean()))
            if score > self.best[replica]:
                self.best[replica] = score
                save_model(model.replica(replica), folder.path / "best_model.zip")
        self._log(results)
        self.seconds += time.perf_counter() - begin

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the evaluations; their results are in the run folders."""
        return {"last_step": self._last_step, "best": list(self.best)}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint; evaluations made after it are forgotten, and made again.

        :param state: what :meth:`state` returned then; None: from the beginning.
        """
        if state is not None:
            self._last_step, self.best = state["last_step"], [tuple(score) for score in state["best"]]
        for replica, folder in enumerate(self.folders):
            path = folder.path / "evaluations.npz"
            history = EvaluationHistory.load(path) if path.exists() else EvaluationHistory()
            history.discard_after(self._last_step)
            self.histories[replica] = history

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
        record("time/total_timesteps", self.model.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.model.num_timesteps)


class SaveCallback(BaseCallback):
    """Writes checkpoints and the run's status, and ends the run when a stop was requested.

    Both happen between steps, where nothing is half done: after an offline update, and online before the environments
    are stepped (within a step, when SB3 calls the callbacks, the transition is not stored yet).

    :param folders: one run folder per replica; the first holds the checkpoint of all.
    :param seeds: the replicas' seeds.
    :param frequency: steps between checkpoints.
    :param evaluation: its state is part of a checkpoint.
    :param stop: the request to stop.
    """

    def __init__(
        self,
        folders: Sequence[RunFolder],
        seeds: Sequence[int],
        frequency: int,
        evaluation: EvaluationCallback,
        stop: StopSignal,
    ) -> None:
        super().__init__()
        self.folders, self.seeds, self.frequency = folders, seeds, frequency
        self.evaluation, self.stop = evaluation, stop
        self._last_step = 0
        self._online = False

    @property
    def checkpoints(self) -> Path:
        """Where the run's checkpoints are."""
        return self.folders[0].path / "checkpoint"

    def _on_training_start(self) -> None:
        self._online = False

    def _on_rollout_start(self) -> None:
        self._online = True
        self._between_steps()

    def _on_step(self) -> bool:
        if not self._online:
            self._between_steps()
        return True

    def _between_steps(self) -> None:
        """Save if it is time to, or if the run is to stop."""
        step = self.model.num_timesteps
        if self.stop.requested:
            self.save("interrupted")
            raise Interrupted(f"stopped by a signal; checkpoint in {self.checkpoints}; go on with --resume")
        if step // self.frequency > self._last_step // self.frequency:
            self.save("running")

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now.

        :param state: the run's state.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        self._last_step = model.num_timesteps
        kept = {"evaluation": self.evaluation.state(), "log": log_position(model.logger, model.num_timesteps)}
        save_checkpoint(model, self.checkpoints, **kept)
        self.write_status(state)

    def restore(self, checkpoint: Path) -> dict[str, Any]:
        """Put the model and the evaluations into the state of a checkpoint.

        :param checkpoint: its folder.
        :return: the position of the log then.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        kept = load_checkpoint(model, checkpoint)
        self._last_step = model.num_timesteps
        self.evaluation.restore(kept["evaluation"])
        return dict(kept["log"])

    def write_status(self, state: str, **more: object) -> None:
        """Write the status of every replica's run.

        :param state: the run's state.
        :param more: further entries.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        for folder, seed in zip(self.folders, self.seeds, strict=True):
            pretrained = min(model.offline_steps, model.pretraining_steps)
            online = model.num_timesteps - model.offline_steps
            folder.write_status(state, seed, model.offline_steps - pretrained, online, pretrain_step=pretrained, **more)


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
        self._progress: Progress | None = None

    def _on_training_start(self) -> None:
        self._first = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._shown = time.perf_counter()
        self._evaluated = self.evaluation.seconds
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
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _describe(self, now: float) -> str:
        """Return one line about the training so far; time spent on evaluation does not count into the speed."""
        busy = max(now - self._begin - (self.evaluation.seconds - self._evaluated), 1e-9)
        self.steps_per_second = (self.num_timesteps - self._first) / busy
        success = self.evaluation.success()
        phase = "online" if self.evaluation.phase == ONLINE else "offline"
        before = self.num_timesteps - self.evaluation.step
        if self._total <= before:
            phase, before = "pretraining", 0
        parts = [
            f"{phase} {self.num_timesteps - before}/{self._total - before}",
            f"{self.steps_per_second:.1f} steps/s",
        ]
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
    with atomic_path(path) as temporary:
        model.save(temporary)
