"""A run of the training program: its phases, and what happens meanwhile: evaluation, checkpoints, progress, stop."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from agents.common.engine.checkpoint import (
    copy_model,
    load_checkpoint,
    load_pending,
    save_checkpoint,
    set_aside,
    write_model,
)
from agents.common.files import WriteError, atomic_path
from agents.common.model_file import find_checkpoints
from agents.common.replicas import PerReplica
from agents.common.sb3.model import FlowQLearning
from zoo.baselines import find_algorithm, planner_of
from zoo.errors import Abandoned, CannotResume, Interrupted, UsageError, wanted_signals
from zoo.playing.episodes import REPORTED, EpisodeResults, Scoring, interval_of_mean, interval_of_successes
from zoo.playing.evaluate import Evaluator
from zoo.playing.held_out import HeldOutEvaluator
from zoo.processes.serving import WorkerError
from zoo.report.figures.styles import algorithm_styles, spare_styles
from zoo.runs.folder import OFFLINE, ONLINE, PHASES, Evaluations, describe_error, short_name, with_evaluation
from zoo.runs.protocol import shortened
from zoo.runs.resume import describe_evaluation, differences, joint_result, result_of, result_of_failed
from zoo.settings.record import RunRecord
from zoo.terminal.messages import log
from zoo.training.logs import BEGINNING, STEP, ReplicaLogger, Replicas

SECONDS_BETWEEN_LINES = 60.0
SECONDS_BETWEEN_REDRAWS = 1.0

Observer = Callable[[Sequence[Evaluations]], None]


@dataclass
class StopSignal:
    """Turns the signals of `STOP_SIGNALS` into a request to stop, which training meets after its current step.

    Ctrl-C after that interrupts at once. The others do not: a cluster sends it to every process of a job, and who has
    started this one sends it too. Use as a context manager around training.

    :param told: what is said then.
    """

    told: str = "stopping after this step; press Ctrl-C again to stop immediately"
    requested: bool = False
    _previous: dict[int, Any] = field(default_factory=dict)

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
    """An evaluation that is due, with the model as it was then."""

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
        self.histories: list[Evaluations] = [{} for _ in replicas.folders]
        self.best = [(-1.0, -float("inf"), False)] * len(replicas.folders)
        self.phase = OFFLINE
        self.seconds = 0.0
        self.pending: PendingEvaluation | None = None
        self.last_score: str | None = None  # in words, the mean over the replicas that have not failed
        self.last_step = -1

    @property
    def step(self) -> int:
        """Position on the curve: steps since the end of pretraining, negative before it."""
        return self.model.num_timesteps - self.model.pretraining_steps  # type: ignore[attr-defined]

    def _check_in(self) -> None:
        """Raise Abandoned if the run is to stop and its checkpoint can be written without the evaluation's results."""
        if self._may_abandon and self.stop is not None and self.stop.requested:
            raise Abandoned

    def _on_rollout_start(self) -> None:
        """Let no evaluation be abandoned in a rollout in which two may be due: a checkpoint has room for one."""
        frequency, unit = self.model.train_freq  # type: ignore[attr-defined]
        self._may_abandon = unit == TrainFrequencyUnit.STEP and frequency * self.model.n_envs <= self.frequency

    def _on_step(self) -> bool:
        if self.step // self.frequency > max(self.last_step, 0) // self.frequency:
            with contextlib.suppress(Abandoned):  # `SaveCallback` ends the run as soon as a checkpoint is possible
                self.evaluate()
        return True

    def finish_phase(self) -> None:
        """Evaluate where the phase has ended, unless that was just done.

        :raises Abandoned: if the run is to stop first.
        """
        self._may_abandon = True
        if self.last_step != self.step:
            self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the model as it is now.

        :raises Abandoned: if the run is to stop; the evaluation is pending then.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        self.replicas.check(model)
        self.last_step = self.step
        self.pending = PendingEvaluation(model, self.phase, self.replicas.active)
        self.evaluate_pending()

    def evaluate_pending(self) -> None:
        """Make the pending evaluation, if there is one, and record its results.

        :raises Abandoned: if the run is to stop; the evaluation stays pending, with a copy of its model.
        """
        if (due := self.pending) is None:
            return
        begin = time.perf_counter()
        try:
            self._check_in()
            results = self.evaluator.evaluate(planner_of(due.model.policy), self.replicas.seeds, due.active)
            self.pending = None
            self._record(due, self.scoring.apply(results))
        except Abandoned:
            self.pending = replace(due, model=copy_model(due.model))
            raise
        finally:
            self.seconds += time.perf_counter() - begin

    def _record(self, due: PendingEvaluation, results: EpisodeResults) -> None:
        """Write the results of each replica, and its model if that is its best; end the runs of diverged replicas."""
        model, steps, successes, lost = due.model, due.model.num_timesteps, results.successes, []
        curve_step = steps - model.pretraining_steps
        for replica in due.active:
            if not results.played[replica]:
                lost.append(replica)
                continue
            folder, history = self.replicas.folders[replica], self.histories[replica]
            self.histories[replica] = with_evaluation(history, curve_step, due.phase, results, replica)
            folder.write_evaluations(self.histories[replica])
            success = 0.0 if successes is None else float(successes[replica].mean())
            # Where all is equal, e.g. nothing succeeds, a trained model is better than an untrained one.
            score = (success, float(results.returns[replica].mean()), steps > 0)
            if score > self.best[replica]:
                self.best[replica] = score
                save_model(model.replica(replica), folder.best_model)
        if lost:
            reason = f"planned actions of the evaluation at step {steps} are not finite"
            self.replicas.fail(self.model, dict.fromkeys(lost, reason))  # type: ignore[arg-type]
        values = {} if successes is None else {"success_rate": successes.mean(axis=1)}
        if results.estimates:
            values |= {"value_estimate": results.returns.mean(axis=1), **results.estimates}
        else:
            values |= {"mean_reward": results.returns.mean(axis=1), "mean_ep_length": results.lengths.mean(axis=1)}
        row: dict[str, Any] = {STEP: steps, **{f"eval/{name}": PerReplica(value) for name, value in values.items()}}
        assert isinstance(self.logger, ReplicaLogger)
        self.logger.write(row, steps, {STEP: ("tensorboard",)})
        text = describe_evaluation(curve_step, PHASES[due.phase], results, self.replicas.seeds, self.scoring)
        log.info("%s", text)
        unit = "value estimate" if results.estimates else "return"
        self.last_score = f"{unit} {results.returns[results.played].mean():.2f}"
        if successes is not None:
            self.last_score = f"success {successes[results.played].mean():.1%}"
        if self.observe is not None:
            self.observe(self.histories)


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

    def _on_rollout_start(self) -> None:
        self._between_steps()

    def _on_step(self) -> bool:
        before, self._last_look = self._last_look, self.model.num_timesteps
        if self._last_look // self.log_interval > before // self.log_interval:  # the log waits for the device anyway
            self.replicas.check(self.model)  # type: ignore[arg-type]
        if self.evaluation.phase == OFFLINE:
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
        raise Interrupted(
            f"stopped by a signal; checkpoint in {self.replicas.folders[0].checkpoints}; continue with --resume"
        )

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now."""
        model: FlowQLearning = self.model  # type: ignore[assignment]
        self.replicas.check(model)
        folders, evaluation, pending = self.replicas.folders, self.evaluation, self.evaluation.pending
        for path in (folders[replica].path for replica in self.replicas.active):
            if not path.is_dir():  # which would be made again, without what was in it
                raise WriteError(f"the run folder {path} is gone; it was deleted or moved while the run was going on")
        self._last_step = model.num_timesteps
        assert isinstance(model.logger, ReplicaLogger)
        save_checkpoint(
            model,
            folders[0].checkpoints,
            None if pending is None else pending.model,
            failed=dict(self.replicas.failed),
            evaluation={
                "last_step": evaluation.last_step,
                "best": list(evaluation.best),
                "pending": None if pending is None else {"phase": pending.phase, "active": pending.active},
            },
            log=model.logger.position(model.num_timesteps),
            histories=list(evaluation.histories),
            config=self.identity,
        )
        self.replicas.write_status(model, state)

    def restore(self, checkpoint: Path) -> dict[str, Any]:
        """Put the model and the evaluations into the state of a checkpoint; return the position of the log then.

        :raises UsageError: if the settings of the run were changed since.
        """
        model: FlowQLearning = self.model  # type: ignore[assignment]
        kept = load_checkpoint(model, checkpoint)
        self._last_step = self._last_look = model.num_timesteps
        folders, evaluation, state = self.replicas.folders, self.evaluation, kept["evaluation"]
        if changed := differences(kept["config"], self.identity):
            raise UsageError(
                f"{folders[0].config} was changed after the run began: {'; '.join(shortened(changed))} (there: in the "
                "checkpoint); put the file back, or train a new run"
            )
        self.replicas.failed = dict(kept["failed"])
        evaluation.histories = list(kept["histories"])
        for folder, history in zip(folders, evaluation.histories, strict=True):
            if history:
                folder.write_evaluations(history)
        evaluation.last_step, evaluation.best = state["last_step"], [tuple(score) for score in state["best"]]
        if state["pending"] is not None:
            evaluation.pending = PendingEvaluation(load_pending(model, checkpoint), **state["pending"])
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
        before = self.model.pretraining_steps  # type: ignore[attr-defined]
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


class TrainingRun:
    """The run itself: offline phase, online phase, evaluations, checkpoints, and how it ended."""

    def __init__(
        self,
        config: RunRecord,
        model: FlowQLearning,
        evaluator: Evaluator | HeldOutEvaluator,
        replicas: Replicas,
        scoring: Scoring,
        progress_bar: bool | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.config, self.model, self.replicas = config, model, replicas
        self.stop = StopSignal()
        self.evaluation = EvaluationCallback(evaluator, replicas, config.run.eval_freq, observe, self.stop, scoring)
        self.saving = SaveCallback(replicas, config, self.evaluation, self.stop)
        for callback in (self.evaluation, self.saving):
            callback.init_callback(model)  # both act outside of `learn` too
        self.progress = ProgressCallback(self.evaluation, progress_bar)
        self.updates_per_second: float | None = None

    def restore(self) -> dict[str, Any]:
        """Continue from the newest checkpoint, or from the start if the run was stopped before its first.

        :return: the position of the log, for `zoo.training.logs.ReplicaLogger`.
        """
        problems: list[tuple[Path, Exception]] = []
        checkpoints = self.replicas.folders[0].checkpoints
        for checkpoint in find_checkpoints(checkpoints):
            try:
                position = self.saving.restore(checkpoint)
            except Exception as error:  # whatever it is, the checkpoint before may still be whole
                log.warning("%s cannot be used (%s); trying the one before it", checkpoint, describe_error(error))
                problems.append((checkpoint, error))
            else:
                for damaged, _ in problems:
                    log.warning("%s is set aside as %s", damaged, set_aside(damaged).name)
                self.replicas.write_status(self.model, "running")
                return position
        if problems:
            told = "; ".join(f"{checkpoint.name}: {describe_error(error)}" for checkpoint, error in problems)
            raise CannotResume(
                f"--resume: none of the checkpoints in {checkpoints} can be used ({told}); put back a "
                "copy of one, or train again from the start: without --resume, or after moving away the folders "
                f"{', '.join(str(folder.path) for folder in self.replicas.folders)}"
            )
        return BEGINNING

    def run(self) -> dict[str, Any]:
        """Train to the end, write the final files and return what to print: one result, or one per seed.

        Whatever happens, the run folders say how far it came.

        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with self.stop:
                self._learn()
                self.saving.save("running")
            results = [self._finish_replica(replica) for replica in range(len(self.replicas.folders))]
            return joint_result(self.config.algo, self.config.env, self.updates_per_second, results)
        except BaseException:
            with contextlib.suppress(OSError):  # often for the same reason
                self.replicas.write_status(self.model, "running")  # `ending_recorded` says how it ended
            raise
        finally:
            self.progress.close()

    def _learn(self) -> None:
        """Run what is left of the phases, each with an evaluation at its end."""
        run, model, evaluation = self.config.run, self.model, self.evaluation
        gradient_steps = run.pretraining_steps + run.offline_steps
        callbacks = [evaluation, self.saving, self.progress]
        try:
            evaluation.evaluate_pending()
            if (
                run.eval_at_start
                and not run.pretraining_steps
                and model.num_timesteps == 0
                and evaluation.last_step < 0
            ):
                evaluation.phase = OFFLINE if run.offline_steps else ONLINE
                evaluation.evaluate()
            for steps, end in ((run.pretraining_steps, run.pretraining_steps), (run.offline_steps, gradient_steps)):
                if end > model.offline_steps:
                    model.learn_offline(end - model.offline_steps, callbacks, log_interval=run.log_interval)
                    self.updates_per_second = self.progress.steps_per_second
                if steps and model.num_timesteps == end:
                    evaluation.finish_phase()
            left = gradient_steps + run.online_steps - model.num_timesteps
            evaluation.phase = ONLINE
            if left > 0:
                model.learn(left, callbacks, reset_num_timesteps=False)
            if run.online_steps:
                evaluation.finish_phase()
        except Abandoned:  # where a phase begins or ends
            self.saving.stop_run()
        except (EOFError, ConnectionError) as error:  # of the pipes of SB3's environments
            raise WorkerError(
                "the process of a training environment has ended, and says why above; --resume continues from the last "
                "checkpoint"
            ) from error

    def _finish_replica(self, replica: int) -> dict[str, Any]:
        """Write the final model and the learning curve of a replica that has not failed; return its result."""
        folder, seed = self.replicas.folders[replica], self.replicas.seeds[replica]
        if replica in self.replicas.failed:
            return result_of_failed(folder, seed, self.replicas.failed[replica])
        history = self.evaluation.histories[replica]
        save_model(self.model.replica(replica), folder.model)
        method, task = find_algorithm(self.config.algo).published_name, short_name(self.config.env)
        plot_learning_curve(history, folder.learning_curve, method, f"{method} in {task}, seed {seed}")
        return result_of(folder, seed, history, self.evaluation.scoring)


def plot_learning_curve(history: Evaluations, path: Path, method: str, title: str) -> None:
    """Write a PNG of success (or the return, where there is no success) against steps, the online phase shaded.

    :param method: whose colour the curve has in reports.
    """
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_axes((0.14, 0.13, 0.82, 0.78))  # finding a layout would draw it twice
    steps, results, wins = history["timesteps"], history["results"], history.get("successes")
    values, what, of = results.mean(axis=1), "mean return", f"{results.shape[1]} episodes"
    if "behaviour" in history:
        band = np.stack([history["low"], history["high"]], axis=1)
        what, of = "value estimate (fitted Q evaluation)", f"{results.shape[1]} held-out trajectories"
        axes.plot(steps, history["behaviour"], color="0.4", linestyle="--", label="behaviour of the data")
        axes.legend()
    elif wins is None:
        band = np.array([interval_of_mean(row) for row in results])
    else:
        values, what = 100 * wins.mean(axis=1), "success (%)"
        band = 100 * np.array([interval_of_successes(int(row.sum()), row.size) for row in wins])
        axes.set_ylim(0, 100)
    (colour, _), _ = algorithm_styles().get(method, spare_styles()[0])
    axes.plot(steps, values, marker="o", color=colour, clip_on=False, zorder=3)
    axes.fill_between(steps, *np.where(np.isfinite(band), band, np.nan).T, color=colour, alpha=0.2, linewidth=0)
    offline = history["phase"] == OFFLINE
    if offline.any() and not offline.all():
        begin = steps[offline][-1]
        axes.axvspan(begin, steps[-1], color="0.93", zorder=0)
        axes.text(begin, axes.get_ylim()[1], " online", va="top", color="0.4")
    units = ["gradient steps"] * bool(offline.any()) + ["environment steps"] * (not offline.all())
    axes.set(title=title, xlabel=", then ".join(units), xlim=(0, None))
    axes.set_ylabel(f"{what}, 95% interval of {of}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
