"""The training loop of a run: its phases, and evaluations, checkpoints and progress messages between steps.

A run is resumed from its newest intact checkpoint.
"""

import contextlib
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.common.engine.checkpoint import (
    OtherVersionError,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from agents.common.files import is_transient
from agents.common.model_file import find_checkpoints
from agents.common.sb3.environments import DivergedError
from agents.common.sb3.model import FlowAlgorithm
from zoo.evaluation.pool import WorkerError
from zoo.runs.folder import DIVERGED, OFFLINE, ONLINE, PHASES
from zoo.runs.scores import joint_result
from zoo.settings.record import differences
from zoo.terminal.errors import (
    Abandoned,
    CannotResume,
    Interrupted,
    UsageError,
    describe_error,
    handling_signals,
    shortened,
)
from zoo.terminal.messages import log
from zoo.training.logs import EMPTY_LOG, ReplicaLogger
from zoo.training.recorder import Recorder

LINE_SECONDS = 30.0


class Checkpoints:
    """Saves and restores the state of a run, in the folder of its first replica."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.config = recorder.config
        self.model = recorder.model
        self.replicas = recorder.replicas
        self.folder = self.replicas.folders[0].checkpoints
        self._last_step = 0

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint has become due since the last one."""
        interval = self.config.run.save_freq
        return self.model.num_timesteps // interval > self._last_step // interval

    def save(self) -> None:
        """Write a checkpoint and the status."""
        model = self.model
        self.replicas.check()  # no checkpoint may contain NaN
        self._last_step = model.num_timesteps
        # the checkpoint also contains copies of the run's other files, because a process killed between two writes may
        # leave files of different steps
        assert isinstance(model.logger, ReplicaLogger)
        save_checkpoint(
            model,
            self.folder,
            failed=self.replicas.failed,
            recorder=self.recorder.state(),
            log=model.logger.state(),
            config=self.config.identity(),
        )
        self.replicas.write_status("running")

    def restore(self) -> dict[str, Any]:
        """Continue from the newest intact checkpoint; begin the run if there is no checkpoint.

        :return: state of the logs, for `zoo.training.logs.ReplicaLogger`.
        :raises UsageError: if the settings of the run have changed, a checkpoint cannot be read right now or is from
            another version, or all checkpoints are damaged.
        """
        damaged: dict[Path, str] = {}
        for checkpoint in find_checkpoints(self.folder):
            try:
                log_state = self._load(checkpoint)
            except UsageError:  # the settings are wrong, not the checkpoint
                raise
            except OtherVersionError as error:  # the checkpoint is intact
                raise CannotResume(f"--resume: {error}") from error
            except Exception as error:  # the previous checkpoint may be intact
                if is_transient(error):
                    raise CannotResume(
                        f"--resume: {checkpoint} cannot be read right now ({describe_error(error)}) but may be intact; "
                        "repeat the command, or move the checkpoint away to resume from the one before it"
                    ) from error
                damaged[checkpoint] = describe_error(error)
                log.warning("%s is damaged (%s)", checkpoint, damaged[checkpoint])
            else:
                for path in damaged:
                    log.warning("%s was renamed to %s", path, set_aside(path).name)
                return log_state
        if damaged:
            newest, reason = next(iter(damaged.items()))
            raise CannotResume(
                f"--resume: all checkpoints in {self.folder} are damaged ({newest.name}: {reason}); restore a copy, or "
                "train again without --resume"
            )
        return EMPTY_LOG

    def _load(self, checkpoint: Path) -> dict[str, Any]:
        """Restore model and recorder from a checkpoint; return the state of the logs.

        :raises UsageError: if the settings of the run have changed.
        """
        saved = load_checkpoint(self.model, checkpoint)
        self._last_step = self.model.num_timesteps
        changed = differences(saved["config"], self.config.identity())
        if changed:
            raise UsageError(
                f"{self.replicas.folders[0].config} was changed after the start: {'; '.join(shortened(changed))}; "
                "restore the file, or train a new run"
            )
        self.replicas.failed = saved["failed"]
        self.recorder.restore(saved["recorder"])
        return dict(saved["log"])


class Loop(BaseCallback):
    """Trains a model through the phases of a run; between steps it evaluates, saves or stops if due.

    The evaluation, best model and checkpoint of a step use the weights after the step's updates: they are made after an
    update offline, and before the next rollout online. (When SB3 calls `_on_step` during a rollout, it has not yet
    stored the transition or updated the weights.) An evaluation that becomes due during a rollout of several steps is
    therefore made and recorded at the rollout's last step.
    """

    model: FlowAlgorithm

    def __init__(self, recorder: Recorder, checkpoints: Checkpoints) -> None:
        super().__init__()
        self.recorder = recorder
        self.checkpoints = checkpoints
        self.model = recorder.model
        self.config = recorder.config
        self.replicas = recorder.replicas
        self.stop = recorder.stop

    def run(self) -> dict[str, Any]:
        """Train to the end, write the final files, and return the result of all seeds, to be printed.

        The status in the run folders is brought up to date even after an error.

        :raises Interrupted: if a signal stopped the run, after writing a checkpoint unless the run is at step 0.
        """
        model = self.model
        updates_before = model._n_updates
        seconds_before = self.recorder.seconds
        begin = time.perf_counter()
        try:
            with handling_signals(self.stop.handle):
                self._learn()
                evaluated = self.recorder.seconds - seconds_before
                seconds = time.perf_counter() - begin - evaluated
                self.checkpoints.save()
            speed = (model._n_updates - updates_before) / seconds
            return joint_result(self.config, round(speed, 2), self.recorder.finish())
        except BaseException as error:
            # raised by the model if the sampled actions of all replicas are not finite
            entries: dict[str, Any] = {}
            if isinstance(error, DivergedError):
                entries["failure"] = DIVERGED
            # write the steps; `ending_recorded` then sets the final state and the reason
            # ignore a second error, because a full disk may cause both
            with contextlib.suppress(OSError):
                self.replicas.write_status("running", **entries)
            raise

    def _learn(self) -> None:
        """Run the remaining phases, each with an evaluation at its end."""
        run = self.config.run
        model = self.model
        recorder = self.recorder
        gradient_steps = run.pretraining_steps + run.offline_steps
        offline_ends = {run.pretraining_steps, gradient_steps} - {0}
        try:
            is_first = run.eval_at_start and model.num_timesteps == 0 and not run.pretraining_steps
            # an evaluation that a signal interrupted is repeated
            if is_first or recorder.is_due:
                recorder.evaluate()
            for end in sorted(offline_ends):
                if end > model.offline_steps:
                    steps = end - model.offline_steps
                    model.learn_offline(steps, self, log_interval=run.log_interval)
                if model.num_timesteps == end:  # a resumed run may be past this step
                    recorder.evaluate()
            online_steps = gradient_steps + run.online_steps - model.num_timesteps
            if online_steps > 0:  # both phases share one step count, so SB3 must not reset it to 0
                model.learn(online_steps, self, reset_num_timesteps=False)
            if run.online_steps:  # `learn` has made the updates of the last rollout
                recorder.evaluate()
        except Abandoned as error:
            # a process that resumes the run repeats an evaluation that was not completed
            if model.num_timesteps == 0:
                raise Interrupted(
                    "stopped by a signal before the first step; repeat the command"
                ) from error
            self.checkpoints.save()
            raise Interrupted(
                f"stopped by a signal; checkpoint in {self.checkpoints.folder}; continue with --resume"
            ) from error
        except (EOFError, ConnectionError) as error:  # raised by the pipes of SubprocVecEnv
            raise WorkerError(
                "the process of a training environment has ended, see the error above; --resume continues from the "
                "last checkpoint"
            ) from error

    def _on_training_start(self) -> None:
        # logged before the first update, which may take a minute
        if isinstance(self.model, FlowAlgorithm):
            log.info("updates: %s", self.model.trainer.mode)
        # another number rounds results differently
        log.info("CPU threads: %d", torch.get_num_threads())
        self._first = self._last_check = self.model.num_timesteps
        self._total = int(self.locals["total_timesteps"])
        self._begin = self._last_shown = time.perf_counter()
        self._evaluation_seconds = self.recorder.seconds

    def _on_rollout_start(self) -> None:
        self._between_steps()

    def _on_step(self) -> bool:
        previous = self._last_check
        self._last_check = self.model.num_timesteps
        interval = self.config.run.log_interval
        if self._last_check // interval > previous // interval:
            self.replicas.check()  # at log steps, because logging also waits for the device
        now = time.perf_counter()
        if now - self._last_shown >= LINE_SECONDS:
            self._last_shown = now
            log.info(self._describe(now))
        # the two counts are equal until the first environment step
        if self.model.num_timesteps == self.model.offline_steps:
            self._between_steps()
        return True

    def _on_training_end(self) -> None:
        log.info(self._describe(time.perf_counter()))

    def _describe(self, now: float) -> str:
        """Return the progress as one line; the speed excludes the time of evaluations."""
        evaluation_seconds = self.recorder.seconds - self._evaluation_seconds
        training_seconds = max(now - self._begin - evaluation_seconds, 1e-9)
        step = self.model.num_timesteps
        speed = (step - self._first) / training_seconds
        phase = PHASES[OFFLINE if step == self.model.offline_steps else ONLINE]
        start = self.config.run.pretraining_steps
        if self._total <= start:
            phase = "pretraining"
            start = 0
        text = f"{phase} {step - start}/{self._total - start}, {speed:.1f} steps/s"
        left = self._total - step
        if left > 0 and speed > 0:
            text += f", {timedelta(seconds=round(left / speed))} left"
        loss = self.model._last_info.get("total_loss")
        if loss is not None:
            text += f", loss {float(loss[self.replicas.active].mean()):.3g}"
        return text

    def _between_steps(self) -> None:
        """Evaluate and save if due; raise Abandoned after a signal."""
        if self.recorder.is_due:
            self.recorder.evaluate()
        self.stop.check()
        if self.checkpoints.is_due:
            self.checkpoints.save()
