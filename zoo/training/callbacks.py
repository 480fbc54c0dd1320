"""A run of the training program: its phases, and what happens meanwhile: evaluation, checkpoints, progress, stop."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint, set_aside, write_model
from agents.common.engine.execution import Mode
from agents.common.files import atomic_path, explaining_write_errors, is_transient
from agents.common.model_file import find_checkpoints
from agents.common.normalization import raw_observations
from agents.common.sb3.model import FlowAlgorithm
from zoo.algorithms.baselines import as_chunk_policy
from zoo.evaluation.evaluator import Evaluator
from zoo.evaluation.from_data import HeldOutEvaluator
from zoo.evaluation.score import Score
from zoo.evaluation.workers import WorkerError
from zoo.runs.episodes import REPORTED, EpisodeResults, ScoringRule
from zoo.runs.folder import (
    OFFLINE,
    ONLINE,
    PHASES,
    Evaluations,
    describe_error,
    short_name,
    with_evaluation,
)
from zoo.runs.protocol import shortened
from zoo.runs.resume import describe_evaluation, differences, joint_result, name_of_mean, result_of
from zoo.runs.scores import SCORE_KINDS
from zoo.settings.record import RunRecord
from zoo.terminal.errors import Abandoned, CannotResume, Interrupted, UsageError, handling_signals
from zoo.terminal.messages import log
from zoo.training.logs import EMPTY_LOG, ReplicaLogger, Replicas

LINE_SECONDS = 60.0
REDRAW_SECONDS = 1.0

Observer = Callable[[Sequence[Evaluations]], None]


@dataclass
class StopSignal:
    """Turns the signals of `STOP_SIGNALS` into a request to stop, which training meets after its current step.

    A second Ctrl-C interrupts at once. Other signals may come twice, from a cluster and from the parent process, so
    they do not.

    :param message: logged at the first signal.
    """

    message: str = "stopping after this step; press Ctrl-C again to stop immediately"
    requested: bool = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, in a block of :func:`zoo.terminal.errors.handling_signals`."""
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        log.info(self.message)


class TrainingRun(BaseCallback):
    """A run: its phases, and in each step what is due: evaluations, best models, checkpoints, status, and its end.

    Evaluations, best models and checkpoints of a step all have the weights after its updates. They are made between
    steps: offline after an update, online before a rollout, whose predecessor's updates follow its last step. (Within a
    rollout, when SB3 calls `_on_step`, the transition is not stored and the updates are not made yet.) So an evaluation
    that becomes due within a rollout of several steps is made, and recorded, at the rollout's last step.

    An evaluation that lasts when the run is asked to stop is abandoned. It stays pending in the checkpoint, and the
    next process makes it again.

    :param config: what the run is, as its ``config.yml`` says.
    :param bar: as for `ProgressCallback`.
    :param observe: called with the histories of all replicas after each evaluation; what it raises ends the run.
    """

    model: FlowAlgorithm

    def __init__(
        self,
        config: RunRecord,
        model: FlowAlgorithm,
        evaluator: Evaluator | HeldOutEvaluator,
        replicas: Replicas,
        bar: bool | None,
        observe: Observer | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.scoring = ScoringRule.of_run(config)
        self.evaluator = evaluator
        self.replicas = replicas
        self.observe = observe
        self.stop = StopSignal()
        self.progress = ProgressCallback(self, bar)
        self.updates_per_second: float | None = None
        evaluator.check_in = self._check_in
        self.histories: list[Evaluations] = [{} for _ in replicas.folders]
        self.best = [(-1.0, -float("inf"), False)] * len(replicas.folders)
        self.phase = OFFLINE
        self.seconds = 0.0  # of all evaluations
        self.pending: dict[str, Any] | None = None
        """Phase and active replicas of an evaluation that is due, as the checkpoint keeps them."""
        self.last_step = -1  # of the last evaluation
        self._mode: Mode | None = None  # of updates, as the log has it
        self._last_save = self._last_check = 0
        self.init_callback(model)  # SB3 does so in `learn`, and some evaluations come before that

    def restore(self) -> dict[str, Any]:
        """Continue from the newest checkpoint, or from the start if the run was stopped before its first.

        :return: the state of the log, for `zoo.training.logs.ReplicaLogger`.
        :raises UsageError: if the settings of the run were changed since, or no checkpoint can be used.
        """
        damaged: dict[Path, str] = {}
        checkpoints = self.replicas.folders[0].checkpoints
        for checkpoint in find_checkpoints(checkpoints):
            try:
                log_state = self._load(checkpoint)
            except UsageError:  # of the run's file, which says nothing against a checkpoint
                raise
            except Exception as error:  # whatever it is, the checkpoint before may still be whole
                if is_transient(error):
                    raise CannotResume(
                        f"--resume: {checkpoint} cannot be read just now ({describe_error(error)}), and may be whole; "
                        "start the same command again, or move it away to go on from the one before it"
                    ) from error
                damaged[checkpoint] = describe_error(error)
                log.warning(
                    "%s cannot be used (%s); trying the one before it",
                    checkpoint,
                    damaged[checkpoint],
                )
            else:
                for path in damaged:
                    log.warning("%s is set aside as %s", path, set_aside(path).name)
                self.replicas.write_status(self.model, "running")
                return log_state
        if damaged:
            newest, reason = next(iter(damaged.items()))
            raise CannotResume(
                f"--resume: none of the checkpoints in {checkpoints} can be used, {newest.name} because of "
                f"{reason}; put back a copy of one, or train again from the start: without --resume, or after moving "
                "away the folders "
                f"{', '.join(str(folder.path) for folder in self.replicas.folders)}"
            )
        return EMPTY_LOG

    def run(self) -> dict[str, Any]:
        """Train to the end, write the final files and return what to print: one result, or one per seed.

        Whatever happens, the run folders say how far it came.

        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with handling_signals(self.stop.handle):
                self._learn()
                self.save("running")
            results = [
                self._finish_replica(replica) for replica in range(len(self.replicas.folders))
            ]
            return joint_result(self.config, self.updates_per_second, results)
        except BaseException:
            with contextlib.suppress(OSError):  # often for the same reason
                # `ending_recorded` adds the reason
                self.replicas.write_status(self.model, "running")
            raise
        finally:
            self.progress.display.stop()

    def _learn(self) -> None:
        """Run what is left of the phases, each with an evaluation at its end."""
        run = self.config.run
        model = self.model
        gradient_steps = run.pretraining_steps + run.offline_steps
        offline_ends = {run.pretraining_steps, gradient_steps} - {0}
        callbacks = [self, self.progress]
        try:
            self.evaluate_pending()
            if not offline_ends:
                self.phase = ONLINE
            if run.eval_at_start and model.num_timesteps == 0 and not run.pretraining_steps:
                self.evaluate()
            for end in sorted(offline_ends):
                if end > model.offline_steps:
                    steps = end - model.offline_steps
                    model.learn_offline(steps, callbacks, log_interval=run.log_interval)
                    self.updates_per_second = self.progress.steps_per_second
                if model.num_timesteps == end:  # a resumed run may be beyond it
                    self.evaluate()
            self.phase = ONLINE
            online_steps = gradient_steps + run.online_steps - model.num_timesteps
            if online_steps > 0:  # both phases count on one axis, so SB3 must not begin at 0
                model.learn(online_steps, callbacks, reset_num_timesteps=False)
            if run.online_steps:  # the updates of the last rollout came after its evaluation
                self.evaluate()
        except Abandoned:  # where a phase begins or ends
            self.stop_run()
        except (EOFError, ConnectionError) as error:  # of the pipes of SB3's environments
            raise WorkerError(
                "the process of a training environment has ended, and says why above; --resume continues from the last "
                "checkpoint"
            ) from error

    def _finish_replica(self, replica: int) -> dict[str, Any]:
        """Write the final model and the learning curve of a replica that has not failed; return its result."""
        folder = self.replicas.folders[replica]
        seed = self.replicas.seeds[replica]
        history = self.histories[replica]
        failure = self.replicas.failed.get(replica)
        if failure is None:
            save_model(self.model.replica(replica), folder.model)
            title = f"{self.config.algo} in {short_name(self.config.env)}, seed {seed}"
            plot_learning_curve(history, folder.learning_curve, title, self.scoring)
        return result_of(folder, seed, history, self.scoring, failure)

    @property
    def step(self) -> int:
        """Position on the curve: steps since the end of pretraining, negative before it."""
        return self.model.num_timesteps - self.model.pretraining_steps

    def _check_in(self) -> None:
        """Raise Abandoned if the run is to stop."""
        if self.stop.requested:
            raise Abandoned

    def _on_rollout_start(self) -> None:
        self._between_steps()

    def _on_step(self) -> bool:
        previous = self._last_check
        self._last_check = self.model.num_timesteps
        interval = self.config.run.log_interval
        if self._last_check // interval > previous // interval:
            self.replicas.check(self.model)  # the log waits for the device anyway
        if isinstance(self.model, FlowAlgorithm) and self.model.trainer.mode != self._mode:
            self._mode = self.model.trainer.mode
            log.info("updates: %s", self._mode)
        if self.phase == OFFLINE:
            self._between_steps()
        return True

    def _between_steps(self) -> None:
        """Evaluate and save if it is time to; end the run if it is to stop."""
        run = self.config.run
        if self.step // run.eval_freq > max(self.last_step, 0) // run.eval_freq:
            with contextlib.suppress(Abandoned):  # now pending, as the checkpoint below records
                self.evaluate()
        if self.stop.requested:
            self.stop_run()
        if self.model.num_timesteps // run.save_freq > self._last_save // run.save_freq:
            self.save("running")

    def evaluate(self) -> None:
        """Evaluate the model as it is now, unless that was just done.

        :raises Abandoned: if the run is to stop; the evaluation is pending then.
        """
        if self.last_step != self.step:
            self.replicas.check(self.model)  # the scores of a diverged replica must not be recorded
            self.pending = {"phase": self.phase, "active": self.replicas.active}
            self.evaluate_pending()

    def evaluate_pending(self) -> None:
        """Make the pending evaluation, if there is one, and record its results.

        :raises Abandoned: if the run is to stop; the evaluation stays pending.
        """
        if self.pending is None:
            return
        phase = self.pending["phase"]
        active = self.pending["active"]
        self.last_step = self.step
        begin = time.perf_counter()
        try:
            self._check_in()
            # the environments of the evaluation are not normalised
            with raw_observations(self.model) as policy:
                results = self.evaluator.evaluate(
                    as_chunk_policy(policy), self.replicas.seeds, active
                )
            self.pending = None
            is_reported = any("successes" in history for history in self.histories)
            self._record(phase, active, self.scoring.apply(results, is_reported))
        finally:
            self.seconds += time.perf_counter() - begin

    def _record(self, phase: int, active: Sequence[int], results: EpisodeResults) -> None:
        """Write the results of each replica, and its model if that is its best; end the runs of diverged replicas."""
        step = self.model.num_timesteps
        diverged = []
        for replica in active:
            if not results.played[replica]:
                diverged.append(replica)
                continue
            folder = self.replicas.folders[replica]
            history = with_evaluation(self.histories[replica], self.step, phase, results, replica)
            self.histories[replica] = history
            folder.write_evaluations(history)
            success = 0.0
            if "successes" in history:
                success = float(history["successes"][-1].mean())
            # Where all is equal, e.g. nothing succeeds, a trained model is better than an untrained one.
            score = (success, float(history["results"][-1].mean()), step > 0)
            if score > self.best[replica]:
                self.best[replica] = score
                save_model(self.model.replica(replica), folder.best_model)
        if diverged:
            reason = f"planned actions of the evaluation at step {step} are not finite"
            self.replicas.fail(self.model, dict.fromkeys(diverged, reason))
        if results.estimates:
            means = {name_of_mean(self.scoring): results.returns.mean(axis=1), **results.estimates}
        else:
            means = {"mean_reward": results.returns.mean(axis=1)}
            means["mean_ep_length"] = results.lengths.mean(axis=1)
        if results.successes is not None:
            means["success_rate"] = results.successes.mean(axis=1)
        assert isinstance(self.logger, ReplicaLogger)
        row = {f"eval/{name}": np.asarray(values) for name, values in means.items()}
        self.logger.write(row, step)
        seeds = self.replicas.seeds
        log.info(describe_evaluation(self.step, PHASES[phase], results, seeds, self.scoring))
        if self.observe is not None:
            self.observe(self.histories)

    def stop_run(self) -> NoReturn:
        """Write a checkpoint and end the run; call it between steps or phases.

        Before the first step there is nothing to keep, and the environments have not begun: the run starts again.
        """
        if self.model.num_timesteps == 0:
            raise Interrupted(
                "stopped by a signal before the first step; start again with --resume"
            )
        self.save("interrupted")
        raise Interrupted(
            f"stopped by a signal; checkpoint in {self.replicas.folders[0].checkpoints}; continue with --resume"
        )

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now."""
        model = self.model
        self.replicas.check(model)  # NaN must not replace the last sound checkpoints
        for replica in self.replicas.active:
            folder = self.replicas.folders[replica]
            # Writing the status would make a run folder again that somebody has taken away.
            with explaining_write_errors(folder.status):
                folder.path.stat()
        self._last_save = model.num_timesteps
        # Also what has files of its own, since a kill may come between two of them.
        assert isinstance(model.logger, ReplicaLogger)
        save_checkpoint(
            model,
            self.replicas.folders[0].checkpoints,
            failed=self.replicas.failed,
            evaluation={"last_step": self.last_step, "best": self.best, "pending": self.pending},
            log=model.logger.state(model.num_timesteps),
            histories=self.histories,
            config=self.config.identity(),
        )
        self.replicas.write_status(model, state)

    def _load(self, checkpoint: Path) -> dict[str, Any]:
        """Put the model and the evaluations into the state of a checkpoint; return the state of the log then.

        :raises UsageError: if the settings of the run were changed since.
        """
        saved = load_checkpoint(self.model, checkpoint)
        self._last_save = self._last_check = self.model.num_timesteps
        changed = differences(saved["config"], self.config.identity())
        if changed:
            raise UsageError(
                f"{self.replicas.folders[0].config} was changed after the run began: {'; '.join(shortened(changed))} "
                "(there: in the checkpoint); put the file back, or train a new run"
            )
        self.replicas.failed = saved["failed"]
        self.histories = saved["histories"]
        for folder, history in zip(self.replicas.folders, self.histories, strict=True):
            if history:  # the file may have later evaluations, which are made again
                folder.write_evaluations(history)
        state = saved["evaluation"]
        self.last_step = state["last_step"]
        self.best = [tuple(score) for score in state["best"]]
        self.pending = state["pending"]
        return dict(saved["log"])


class ProgressCallback(BaseCallback):
    """Shows speed, loss and time left: a bar in a terminal, a line a minute elsewhere.

    :param bar: True draws the bar, False prints lines, None decides by the terminal.
    """

    model: FlowAlgorithm

    def __init__(self, run: TrainingRun, bar: bool | None) -> None:
        super().__init__()
        self.run = run
        if bar is None:
            bar = sys.stderr.isatty()
        self.bar = bar
        self.pause = LINE_SECONDS
        if bar:
            self.pause = REDRAW_SECONDS
        self.steps_per_second = 0.0
        self.display = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeRemainingColumn(),
            console=Console(stderr=True, force_terminal=bar),
            transient=True,
            expand=True,
            disable=not bar,
        )

    def _on_training_start(self) -> None:
        self._first = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._last_shown = time.perf_counter()
        self._evaluation_seconds = self.run.seconds
        self._task = self.display.add_task("training", total=self._total, completed=self._first)
        self.display.start()

    def _on_step(self) -> bool:
        now = time.perf_counter()
        is_over = self.num_timesteps >= self._total  # `_on_training_end` says so itself
        if now - self._last_shown >= self.pause and not is_over:
            self._last_shown = now
            text = self._describe(now)
            self.display.update(self._task, completed=self.num_timesteps, description=text)
            if not self.bar:
                log.info(text)
        return True

    def _on_training_end(self) -> None:
        self.display.stop()
        self.display.remove_task(self._task)
        log.info(self._describe(time.perf_counter()))

    def _describe(self, now: float) -> str:
        """Return one line about the training so far; the speed leaves out the time spent on evaluation."""
        evaluation_seconds = self.run.seconds - self._evaluation_seconds
        training_seconds = max(now - self._begin - evaluation_seconds, 1e-9)
        self.steps_per_second = (self.num_timesteps - self._first) / training_seconds
        phase = PHASES[self.run.phase]
        start = self.model.pretraining_steps
        if self._total <= start:
            phase = "pretraining"
            start = 0
        parts = [
            f"{phase} {self.num_timesteps - start}/{self._total - start}",
            f"{self.steps_per_second:.1f} steps/s",
        ]
        loss = self.model._last_info.get("total_loss")
        if loss is not None:
            parts.append(f"loss {float(loss[self.run.replicas.active].mean()):.3g}")
        return ", ".join(parts)


def save_model(model: FlowAlgorithm, path: Path) -> None:
    """Save a model whole or not at all."""
    with atomic_path(path) as temporary:
        write_model(model, temporary)


def plot_learning_curve(
    history: Evaluations, path: Path, title: str, scoring: ScoringRule = REPORTED
) -> None:
    """Write a PNG of the score of each evaluation and its interval against steps, the online phase shaded."""
    successes = history.get("successes", [None] * len(history["results"]))
    scores = list(map(partial(Score.of, scoring=scoring), history["results"], successes))
    kind = SCORE_KINDS[scores[0].kind]
    ends = np.array([(score.mean, score.low, score.high) for score in scores])
    mean, low, high = kind.scale * ends.T
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_axes((0.14, 0.13, 0.82, 0.78))  # finding a layout would draw it twice
    steps = history["timesteps"]
    axes.plot(steps, mean, marker="o", clip_on=False, zorder=3)
    axes.fill_between(steps, low, high, alpha=0.2, linewidth=0)  # none where it is infinite
    if kind.is_comparable:
        axes.set_ylim(0, 100)
    offline = history["phase"] == OFFLINE
    if offline.any() and not offline.all():
        axes.axvspan(steps[offline][-1], steps[-1], color="0.93", zorder=0)
    axes.set(title=title, xlabel="gradient steps offline, then environment steps", xlim=(0, None))
    axes.set_ylabel(f"{kind.unit}, 95% interval")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
