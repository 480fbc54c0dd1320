"""The loop of a run: its phases, and between their steps evaluations, checkpoints, progress and the end."""

import contextlib
import sys
import time
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from stable_baselines3.common.callbacks import BaseCallback

from agents.common.engine.execution import Mode
from agents.common.sb3.model import FlowAlgorithm
from zoo.evaluation.pool import WorkerError
from zoo.runs.folder import OFFLINE, ONLINE, PHASES
from zoo.runs.resume import joint_result
from zoo.settings.record import RunRecord
from zoo.terminal.errors import Abandoned, Interrupted, StopSignal, handling_signals
from zoo.terminal.messages import log
from zoo.training.checkpoints import Checkpoints
from zoo.training.logs import Replicas
from zoo.training.recorder import Recorder

LINE_SECONDS = 60.0
REDRAW_SECONDS = 1.0


class Loop(BaseCallback):
    """Trains a model through the phases of a run, and makes between steps what is due.

    Evaluations, best models and checkpoints of a step all have the weights after its updates: offline they are made
    after an update, online before a rollout, whose predecessor's updates follow its last step. (Within a rollout, when
    SB3 calls `_on_step`, the transition is not stored and the updates are not made yet.) So an evaluation that becomes
    due within a rollout of several steps is made, and recorded, at the rollout's last step.

    :param config: what the run is, as its ``config.yml`` says.
    :param bar: whether to draw a bar where there is a terminal.
    """

    model: FlowAlgorithm

    def __init__(
        self,
        config: RunRecord,
        recorder: Recorder,
        checkpoints: Checkpoints,
        replicas: Replicas,
        stop: StopSignal,
        bar: bool,
    ) -> None:
        super().__init__()
        self.config = config
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.replicas = replicas
        self.stop = stop
        self.progress = ProgressCallback(recorder, bar and sys.stderr.isatty())
        self._mode: Mode | None = None  # of updates, as the log has it
        self._last_check = 0

    def run(self) -> dict[str, Any]:
        """Train to the end, write the final files and return what to print: one result, or one per seed.

        Whatever happens, the run folders say how far it came.

        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with handling_signals(self.stop.handle):
                updates_per_second = self._learn()
                self.checkpoints.save("running")
            return joint_result(self.config, updates_per_second, self.recorder.finish())
        except BaseException:
            with contextlib.suppress(OSError):  # often for the same reason
                # `ending_recorded` adds the reason
                self.replicas.write_status(self.recorder.model, "running")
            raise
        finally:
            self.progress.display.stop()

    def _learn(self) -> float | None:
        """Run what is left of the phases, each with an evaluation at its end; return the speed of the offline phase."""
        run = self.config.run
        model = self.recorder.model
        recorder = self.recorder
        gradient_steps = run.pretraining_steps + run.offline_steps
        offline_ends = {run.pretraining_steps, gradient_steps} - {0}
        callbacks = [self, self.progress]
        updates_per_second = None
        self._last_check = model.num_timesteps
        try:
            begins = run.eval_at_start and model.num_timesteps == 0 and not run.pretraining_steps
            # an evaluation that a signal ended is made again
            if begins or recorder.is_due:
                recorder.evaluate(
                    ONLINE if model.num_timesteps > gradient_steps or not offline_ends else OFFLINE
                )
            for end in sorted(offline_ends):
                if end > model.offline_steps:
                    steps = end - model.offline_steps
                    model.learn_offline(steps, callbacks, log_interval=run.log_interval)
                    updates_per_second = self.progress.steps_per_second
                if model.num_timesteps == end:  # a resumed run may be beyond it
                    recorder.evaluate(OFFLINE)
            online_steps = gradient_steps + run.online_steps - model.num_timesteps
            if online_steps > 0:  # both phases count on one axis, so SB3 must not begin at 0
                model.learn(online_steps, callbacks, reset_num_timesteps=False)
            if run.online_steps:  # the updates of the last rollout came after its evaluation
                recorder.evaluate(ONLINE)
        except Abandoned:  # where a phase begins or ends
            self._stop_run()
        except (EOFError, ConnectionError) as error:  # of the pipes of SB3's environments
            raise WorkerError(
                "the process of a training environment has ended, and says why above; --resume continues from the last "
                "checkpoint"
            ) from error
        return updates_per_second

    def _on_rollout_start(self) -> None:
        self._between_steps(ONLINE)

    def _on_step(self) -> bool:
        previous = self._last_check
        self._last_check = self.model.num_timesteps
        interval = self.config.run.log_interval
        if self._last_check // interval > previous // interval:
            self.replicas.check(self.model)  # the log waits for the device anyway
        if isinstance(self.model, FlowAlgorithm) and self.model.trainer.mode != self._mode:
            self._mode = self.model.trainer.mode
            log.info("updates: %s", self._mode)
        if self.model.num_timesteps == self.model.offline_steps:  # all steps so far were updates
            self._between_steps(OFFLINE)
        return True

    def _between_steps(self, phase: int) -> None:
        """Evaluate and save if it is time to; end the run if it is to stop."""
        if self.recorder.is_due:
            with contextlib.suppress(Abandoned):  # the next process makes it again
                self.recorder.evaluate(phase)
        if self.stop.requested:
            self._stop_run()
        if self.checkpoints.is_due:
            self.checkpoints.save("running")

    def _stop_run(self) -> NoReturn:
        """Write a checkpoint and end the run; before the first step there is nothing to keep."""
        if self.recorder.model.num_timesteps == 0:
            raise Interrupted(
                "stopped by a signal before the first step; start again with --resume"
            )
        self.checkpoints.save("interrupted")
        raise Interrupted(
            f"stopped by a signal; checkpoint in {self.checkpoints.folder}; continue with --resume"
        )


class _Bar(Progress):
    """A bar whose terminal may go away while training goes on."""

    def start(self) -> None:
        with contextlib.suppress(OSError):
            super().start()

    def refresh(self) -> None:
        with contextlib.suppress(OSError):
            super().refresh()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            super().stop()


class ProgressCallback(BaseCallback):
    """Shows speed, loss and time left: a bar in a terminal, a line a minute elsewhere."""

    model: FlowAlgorithm

    def __init__(self, recorder: Recorder, bar: bool) -> None:
        super().__init__()
        self.recorder = recorder
        self.bar = bar
        self.pause = REDRAW_SECONDS if bar else LINE_SECONDS
        self.steps_per_second = 0.0
        self.display = _Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
            disable=not bar,
        )

    def _on_training_start(self) -> None:
        self._first = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._last_shown = time.perf_counter()
        self._evaluation_seconds = self.recorder.seconds
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
        evaluation_seconds = self.recorder.seconds - self._evaluation_seconds
        training_seconds = max(now - self._begin - evaluation_seconds, 1e-9)
        self.steps_per_second = (self.num_timesteps - self._first) / training_seconds
        phase = PHASES[OFFLINE if self.model.num_timesteps == self.model.offline_steps else ONLINE]
        start = self.model.pretraining_steps
        if self._total <= start:
            phase = "pretraining"
            start = 0
        text = f"{phase} {self.num_timesteps - start}/{self._total - start}, {self.steps_per_second:.1f} steps/s"
        loss = self.model._last_info.get("total_loss")
        if loss is not None:
            text += f", loss {float(loss[self.recorder.replicas.active].mean()):.3g}"
        return text
