"""Where a model's logs go and by which clock it is timed."""

from __future__ import annotations

import time

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import configure_logger, get_latest_run_id


class LoggedModel(OffPolicyAlgorithm):
    """The part of a model that times its phases, and keeps them together in TensorBoard."""

    _phase_began = 0
    """Nanoseconds of the monotonic clock, which nobody sets."""

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str | None = None,
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """Prepare a phase; see Stable-Baselines3. Its name in TensorBoard is that of the class unless one is given."""
        has_logger, name = self._custom_logger, tb_log_name or type(self).__name__
        if not has_logger and self.tensorboard_log is not None:
            self._open_events(self.tensorboard_log, name, reset_num_timesteps or not self.num_timesteps)
            self._custom_logger = True  # else SB3 opens another one
        try:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, name, progress_bar)
        finally:
            self._custom_logger = has_logger
            self._phase_began = time.monotonic_ns()

    def _open_events(self, folder: str, name: str, begins: bool) -> None:
        """Log into a new folder where training begins, and else into this model's own.

        SB3 goes on in the newest folder of the name, which may be another model's.
        """
        folders = vars(self).setdefault("_event_folders", {})
        if not begins and name in folders:
            self._logger = configure(folders[name], ["tensorboard", *["stdout"] * (self.verbose >= 1)])
        else:
            begins = begins or not get_latest_run_id(folder, name)
            self._logger = configure_logger(self.verbose, folder, name, begins)
            folders[name] = self._logger.dir

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_event_folders", "_phase_began"]

    def phase_seconds(self) -> float:
        """Return how long the current phase has taken, > 0."""
        return max(time.monotonic_ns() - self._phase_began, 1) / 1e9

    def dump_logs(self) -> None:
        """Write the log of the online phase; see Stable-Baselines3, which asks the wall clock."""
        self.start_time = time.time_ns() - (time.monotonic_ns() - self._phase_began)
        super().dump_logs()
