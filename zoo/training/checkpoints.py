"""Checkpoints of a run: written between steps, and restored from the newest one that is whole."""

from pathlib import Path
from typing import Any

from agents.common.engine.checkpoint import load_checkpoint, save_checkpoint, set_aside
from agents.common.files import explaining_write_errors, is_transient
from agents.common.model_file import find_checkpoints
from agents.common.sb3.model import FlowAlgorithm
from zoo.runs.folder import describe_error
from zoo.runs.protocol import shortened
from zoo.runs.resume import differences
from zoo.settings.record import RunRecord
from zoo.terminal.errors import CannotResume, UsageError
from zoo.terminal.messages import log
from zoo.training.logs import EMPTY_LOG, ReplicaLogger, Replicas
from zoo.training.recorder import Recorder


class Checkpoints:
    """Saves and restores the state of a run; the folder of its first replica holds that of all."""

    def __init__(
        self, config: RunRecord, model: FlowAlgorithm, recorder: Recorder, replicas: Replicas
    ) -> None:
        self.config = config
        self.model = model
        self.recorder = recorder
        self.replicas = replicas
        self.folder = replicas.folders[0].checkpoints
        self._last_step = 0

    @property
    def is_due(self) -> bool:
        """Whether a checkpoint has become due since the last one."""
        interval = self.config.run.save_freq
        return self.model.num_timesteps // interval > self._last_step // interval

    def save(self, state: str) -> None:
        """Write a checkpoint and the status now.

        :param state: of the run, for its status.
        """
        model = self.model
        self.replicas.check(model)  # NaN must not replace the last sound checkpoints
        for replica in self.replicas.active:
            folder = self.replicas.folders[replica]
            # Writing the status would make a run folder again that somebody has taken away.
            with explaining_write_errors(folder.status):
                folder.path.stat()
        self._last_step = model.num_timesteps
        # Also what has files of its own, since a kill may come between two of them.
        assert isinstance(model.logger, ReplicaLogger)
        save_checkpoint(
            model,
            self.folder,
            failed=self.replicas.failed,
            recorder=self.recorder.state(),
            log=model.logger.state(model.num_timesteps),
            config=self.config.identity(),
        )
        self.replicas.write_status(model, state)

    def restore(self) -> dict[str, Any]:
        """Continue from the newest checkpoint, or from the start if the run was stopped before its first.

        :return: the state of the log, for `zoo.training.logs.ReplicaLogger`.
        :raises UsageError: if the settings of the run were changed since, or no checkpoint can be used.
        """
        damaged: dict[Path, str] = {}
        for checkpoint in find_checkpoints(self.folder):
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
                log.warning("%s cannot be used (%s)", checkpoint, damaged[checkpoint])
            else:
                for path in damaged:
                    log.warning("%s is set aside as %s", path, set_aside(path).name)
                self.replicas.write_status(self.model, "running")
                return log_state
        if damaged:
            newest, reason = next(iter(damaged.items()))
            raise CannotResume(
                f"--resume: none of the checkpoints in {self.folder} can be used, {newest.name} because of {reason}; "
                "put back a copy of one, or train again without --resume"
            )
        return EMPTY_LOG

    def _load(self, checkpoint: Path) -> dict[str, Any]:
        """Put model and recorder into the state of a checkpoint; return the state of the log then.

        :raises UsageError: if the settings of the run were changed since.
        """
        saved = load_checkpoint(self.model, checkpoint)
        self._last_step = self.model.num_timesteps
        changed = differences(saved["config"], self.config.identity())
        if changed:
            raise UsageError(
                f"{self.replicas.folders[0].config} was changed after the run began: {'; '.join(shortened(changed))} "
                "(there: in the checkpoint); put the file back, or train a new run"
            )
        self.replicas.failed = saved["failed"]
        self.recorder.restore(saved["recorder"])
        return dict(saved["log"])
