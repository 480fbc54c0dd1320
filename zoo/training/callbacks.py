"""What happens during training: evaluation, checkpoints, progress, a clean stop."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from agents.common.engine.checkpoint import copy_model, load_checkpoint, load_pending, save_checkpoint, write_model
from agents.common.files import atomic_path
from agents.common.replicas import PerReplica
from agents.common.sb3.model import FlowQLearning
from zoo.baselines import planner_of
from zoo.errors import Abandoned, Interrupted, UsageError, wanted_signals
from zoo.playing.episodes import REPORTED, EpisodeResults, Scoring
from zoo.playing.evaluate import Evaluator
from zoo.playing.held_out import HeldOutEvaluator
from zoo.runs.history import OFFLINE, PHASES, EvaluationHistory
from zoo.runs.protocol import shortened
from zoo.runs.resume import describe_evaluation, differences
from zoo.settings.record import RunRecord
from zoo.terminal.messages import log
from zoo.training.logs import STEP, ReplicaLogger
from zoo.training.replicas import Replicas, curve_step

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_REDRAWS = 1.0

Observer = Callable[[Sequence[EvaluationHistory]], None]


class StopSignal:
    """Turns the signals of `STOP_SIGNALS` into a request to stop, which training meets after its current step.

    Ctrl-C after that interrupts at once. The others do not: a cluster sends it to every process of a job, and who has
    started this one sends it too. Use as a context manager around training.

    :param told: what is said then.
    """

    def __init__(self, told: str = "stopping after this step; press Ctrl-C again to stop immediately") -> None:
        self.told, self.requested = told, False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in wanted_signals():
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        log.info("%s", self.told)


@dataclass(frozen=True)
class PendingEvaluation:
    """An evaluation that is to be made, with the model as it was when that was due."""

    model: FlowQLearning
    phase: int
    active: list[int]


class EvaluationCallback(BaseCallback):
    """Evaluates every replica, writes its ``evaluations.npz`` and keeps its best model.

    An evaluation that lasts when the run is asked to stop is abandoned: it stays pending, and the next process makes it
    again with the model as it was, which may have finished its step until the checkpoint.

    :param observe: called with the histories of all replicas after each evaluation; what it raises ends the run.
    :param stop: tells whether the run is to stop; None: it is not.
    :param scoring: what the episodes are scored by.
    """

    def __init__(
        self,
        evaluator: Evaluator | HeldOutEvaluator,
        replicas: Replicas,
        frequency: int,
        observe: Observer | None = None,
        stop: StopSignal | None = None,
        scoring: Scoring = REPORTED,
    ) -> None:
        super().__init__()
        self.scoring = scoring
        self.stop, self._may_abandon = stop, True
        evaluator.check_in = self._check_in
        self.evaluator, self.replicas, self.frequency, self.observe = evaluator, replicas, frequency, observe
        self.histories = [EvaluationHistory() for _ in replicas.folders]
        self.best = [(-1.0, -float("inf"), False)] * len(replicas)
        self.phase = OFFLINE
        self.seconds = 0.0
        self.pending: PendingEvaluation | None = None
        self.last_score: str | None = None  # in words, the mean over the replicas that have not failed
        self._last_step = -1

    @property
    def step(self) -> int:
        """Position on the curve: steps since the end of pretraining, negative before it."""
        return curve_step(self.model)  # type: ignore[arg-type]

    def _check_in(self) -> None:
        """Raise Abandoned if the run is to stop and its checkpoint can be written without the evaluation's results."""
        if self._may_abandon and self.stop is not None and self.stop.requested:
            raise Abandoned

    def _is_due(self, step: int) -> bool:
        return step // self.frequency > max(self._last_step, 0) // self.frequency

    def _on_rollout_start(self) -> None:
        """Let no evaluation be abandoned in a rollout in which two may be due: a checkpoint has room for one."""
        frequency, unit = self.model.train_freq  # type: ignore[attr-defined]
        self._may_abandon = unit == TrainFrequencyUnit.STEP and frequency * self.model.n_envs <= self.frequency

    def _on_step(self) -> bool:
        if self._is_due(self.step):
            with contextlib.suppress(Abandoned):  # `SaveCallback` ends the run as soon as a checkpoint is possible
                self.evaluate()
        return True

    def begin_phase(self, phase: int) -> None:
        """Evaluate the model before its first update, unless that was done, or it is too late for it.

        :raises Abandoned: if the run is to stop first.
        """
        if self.step == 0 and self._last_step < 0:
            self.phase = phase
            self.evaluate()

    def finish_phase(self) -> None:
        """Evaluate where the phase has ended, unless that was just done.

        :raises Abandoned: if the run is to stop first.
        """
        self._may_abandon = True
        if self._last_step != self.step:
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the model as it is now.

        :raises Abandoned: if the run is to stop; the evaluation is pending then.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        self.replicas.check(model)
        self._last_step = self.step
        try:
            self._make(PendingEvaluation(model, self.phase, self.replicas.active))
        except Abandoned:
            self.pending = PendingEvaluation(copy_model(model), self.phase, self.replicas.active)
            raise

    def _make(self, evaluation: PendingEvaluation) -> None:
        """Make an evaluation, and record its results."""
        begin = time.perf_counter()
        try:
            self._check_in()
            policy = planner_of(evaluation.model.policy)
            results = self.evaluator.evaluate(policy, self.replicas.seeds, evaluation.active)
            self.pending = None
            self._write(evaluation, self.scoring.apply(results))
        finally:
            self.seconds += time.perf_counter() - begin

    def _write(self, evaluation: PendingEvaluation, results: EpisodeResults) -> None:
        """Write the results of each replica, and its model if that is its best; end the runs of diverged replicas."""
        model, step = evaluation.model, curve_step(evaluation.model)
        for replica in evaluation.active:
            if not results.played[replica]:
                continue
            folder, history = self.replicas.folders[replica], self.histories[replica]
            history.append(step, evaluation.phase, results, replica)
            folder.write_evaluations(history.arrays())
            success = 0.0 if results.successes is None else float(results.successes[replica].mean())
            # Where all is equal, e.g. nothing succeeds, a trained model is better than an untrained one.
            score = (success, float(results.returns[replica].mean()), model.num_timesteps > 0)
            if score > self.best[replica]:
                self.best[replica] = score
                save_model(model.replica(replica), folder.best_model)
        lost = [replica for replica in evaluation.active if not results.played[replica]]
        reason = f"planned actions of the evaluation at step {model.num_timesteps} are not finite"
        self.replicas.fail(self.model, dict.fromkeys(lost, reason))  # type: ignore[arg-type]
        self._log(model.num_timesteps, results)
        text = describe_evaluation(step, PHASES[evaluation.phase], results, self.replicas.seeds, self.scoring)
        log.info("%s", text)
        successes, returns = results.successes, results.returns[results.played]
        reached = None if successes is None else successes[results.played].mean()
        unit = "value estimate" if results.estimates else "return"
        self.last_score = f"{unit} {returns.mean():.2f}" if reached is None else f"success {reached:.1%}"
        if self.observe is not None:
            self.observe(self.histories)

    def _log(self, step: int, results: EpisodeResults) -> None:
        row: dict[str, Any] = {STEP: step}
        if results.successes is not None:
            row["eval/success_rate"] = PerReplica(results.successes.mean(axis=1))
        if results.estimates:
            values = {"value_estimate": results.returns.mean(axis=1), **results.estimates}
        else:
            values = {"mean_reward": results.returns.mean(axis=1), "mean_ep_length": results.lengths.mean(axis=1)}
        row |= {f"eval/{name}": PerReplica(value) for name, value in values.items()}
        assert isinstance(self.logger, ReplicaLogger)
        self.logger.write(row, step, {STEP: ("tensorboard",)})

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the evaluations; their results are in the run folders."""
        pending = None if self.pending is None else {"phase": self.pending.phase, "active": self.pending.active}
        return {"last_step": self._last_step, "best": list(self.best), "pending": pending}

    def restore(
        self,
        state: Mapping[str, Any],
        histories: Sequence[EvaluationHistory],
        load_pending: Callable[[], FlowQLearning],
    ) -> None:
        """Continue from a checkpoint; an evaluation that was not finished then is made again.

        :param state: what :meth:`state` returned then.
        :param histories: the evaluations then, one for each replica.
        """
        self._last_step = state["last_step"]
        self.best = [tuple(score) for score in state["best"]]
        self.histories = list(histories)
        if state["pending"] is not None:
            self.pending = PendingEvaluation(load_pending(), **state["pending"])

    def repeat_unfinished(self) -> None:
        """Make the evaluation that was pending at the checkpoint, and the one that was due at its step."""
        if self.pending is not None:
            self._make(self.pending)
        if self._is_due(self.step):
            self.evaluate()


class SaveCallback(BaseCallback):
    """Writes checkpoints and the run's status, and ends the run when a stop was requested or all replicas diverge.

    The first two happen between steps, where nothing is half done: after an offline update, and online before the
    environments are stepped (within a step, when SB3 calls the callbacks, the transition is not stored yet).

    :param record: what the run is, as its ``config.yml`` says.
    """

    def __init__(self, replicas: Replicas, record: RunRecord, evaluation: EvaluationCallback, stop: StopSignal) -> None:
        super().__init__()
        self.replicas, self.identity = replicas, record.identity()
        self.frequency, self.log_interval = record.run.save_freq, record.run.log_interval
        self.evaluation, self.stop = evaluation, stop
        self._last_step = self._last_look = 0
        self._online = False

    def _on_training_start(self) -> None:
        self._online, self._last_look = False, self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        self._online = True
        self._between_steps()

    def _on_step(self) -> bool:
        before, self._last_look = self._last_look, self.model.num_timesteps
        if self._last_look // self.log_interval > before // self.log_interval:  # the log waits for the device anyway
            self.replicas.check(self.model)  # type: ignore[arg-type]
        if not self._online:
            self._between_steps()
        return True

    def _between_steps(self) -> None:
        """Save if it is time to, or if the run is to stop."""
        step = self.model.num_timesteps
        if self.stop.requested:
            self.stop_run()
        if step // self.frequency > self._last_step // self.frequency:
            self.save("running")

    def stop_run(self) -> NoReturn:
        """Write a checkpoint and end the run; call it between steps or phases.

        Before the first step there is nothing to keep, and the environments have not begun: the run starts again.
        """
        if self.model.num_timesteps == 0:
            raise Interrupted("stopped by a signal before the first step; start again with --resume")
        self.save("interrupted")
        raise Interrupted(f"stopped by a signal; checkpoint in {self.replicas.checkpoints}; continue with --resume")

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now."""
        model: FlowQLearning = self.model  # type: ignore[assignment]
        self.replicas.check(model)
        self.replicas.require_folders()
        self._last_step = model.num_timesteps
        assert isinstance(model.logger, ReplicaLogger)
        kept = {
            "evaluation": self.evaluation.state(),
            "log": {**model.logger.position(model.num_timesteps), "tables": model.logger.tables()},
            "histories": [history.arrays() for history in self.evaluation.histories],
            "config": self.identity,
        }
        pending = self.evaluation.pending
        failed = dict(self.replicas.failed)
        earlier = None if pending is None else pending.model
        save_checkpoint(model, self.replicas.checkpoints, earlier, failed=failed, **kept)
        self.replicas.write_status(model, state)

    def restore(self, checkpoint: Path) -> dict[str, Any]:
        """Put the model and the evaluations into the state of a checkpoint; return the position of the log then.

        :raises UsageError: if the settings of the run were changed since.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        kept = load_checkpoint(model, checkpoint)
        self._last_step = model.num_timesteps
        folders = self.replicas.folders
        if changed := differences(kept["config"], self.identity):
            raise UsageError(
                f"{folders[0].config} was changed after the run began: {'; '.join(shortened(changed))} (there: in the "
                "checkpoint); put the file back, or train a new run"
            )
        self.replicas.failed = dict(kept["failed"])
        histories = [EvaluationHistory(arrays) for arrays in kept["histories"]]
        for folder, history in zip(folders, histories, strict=True):
            if len(history):
                folder.write_evaluations(history.arrays())
        self.evaluation.restore(kept["evaluation"], histories, lambda: load_pending(model, checkpoint))
        return dict(kept["log"])


class ProgressCallback(BaseCallback):
    """Shows speed, loss, last score and time left: a bar in a terminal, a line a minute elsewhere.

    :param bar: True draws the bar, False prints lines, None decides by the terminal.
    """

    def __init__(self, evaluation: EvaluationCallback, bar: bool | None = None) -> None:
        super().__init__()
        self.evaluation = evaluation
        self._console = Console(stderr=True, force_terminal=sys.stderr.isatty() if bar is None else bar)
        self.bar = self._console.is_terminal and not self._console.is_dumb_terminal
        self.steps_per_second = 0.0
        self._progress = Progress(disable=True)

    def _on_training_start(self) -> None:
        self._first = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._told = time.perf_counter()
        self._evaluated = self.evaluation.seconds
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn())
        looks: dict[str, Any] = {"console": self._console, "transient": True, "expand": True}
        self._progress = Progress(*columns, **looks, disable=not self.bar)
        self._task = self._progress.add_task("training", total=self._total, completed=self._first)
        self._progress.start()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        pause = SECONDS_BETWEEN_REDRAWS if self.bar else SECONDS_BETWEEN_LINES
        if now - self._told >= pause and self.num_timesteps < self._total:  # the end has its own line
            self._told, text = now, self._describe(now)
            self._progress.update(self._task, completed=self.num_timesteps, description=text)
            if not self.bar:
                log.info("%s", text)
        return True

    def _on_training_end(self) -> None:
        text = self._describe(time.perf_counter())
        self.close()
        log.info("%s", text)

    def close(self) -> None:
        """Remove the bar, if there is one."""
        with contextlib.suppress(OSError):  # the terminal may be closed
            self._progress.stop()

    def _describe(self, now: float) -> str:
        """Return one line about the training so far; the speed leaves out the time spent on evaluation.

        At the end of a phase there is no score: the evaluation there says its own.
        """
        busy = max(now - self._begin - (self.evaluation.seconds - self._evaluated), 1e-9)
        self.steps_per_second = (self.num_timesteps - self._first) / busy
        phase = PHASES[self.evaluation.phase]
        before = self.num_timesteps - self.evaluation.step
        if self._total <= before:
            phase, before = "pretraining", 0
        parts = [
            f"{phase} {self.num_timesteps - before}/{self._total - before}",
            f"{self.steps_per_second:.1f} steps/s",
        ]
        loss = self.model._last_info.get("total_loss")  # type: ignore[attr-defined]
        if loss is not None:
            parts.append(f"loss {float(loss[self.evaluation.replicas.active].mean()):.3g}")
        if self.evaluation.last_score is not None and self.num_timesteps < self._total:
            parts.append(self.evaluation.last_score)
        return ", ".join(parts)


def save_model(model: FlowQLearning, path: Path) -> None:
    """Save a model whole or not at all."""
    with atomic_path(path) as temporary:
        write_model(model, temporary)
