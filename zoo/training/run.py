"""One run: its phases, evaluations and checkpoints, and how it ended."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agents.common.engine.checkpoint import find_checkpoints, set_aside
from agents.common.files import TakenOver, atomic_path
from agents.common.replicas import Diverged
from agents.common.sb3.model import FlowQLearning
from zoo.config import Config
from zoo.errors import Abandoned, CannotResume
from zoo.messages import log
from zoo.playing.background import BackgroundEvaluator
from zoo.playing.episodes import Scoring
from zoo.playing.evaluate import Evaluator
from zoo.runs.folder import describe_error, state_after
from zoo.runs.history import OFFLINE, ONLINE, EvaluationHistory
from zoo.runs.results import joint_result, result_of, result_of_failed
from zoo.training import logs
from zoo.training.callbacks import (
    EvaluationCallback,
    Observer,
    ProgressCallback,
    SaveCallback,
    StopSignal,
    save_model,
)
from zoo.training.replicas import DivergenceCallback, Replicas


class Training:
    """The run itself: offline phase, online phase, evaluations, checkpoints, and how it ended."""

    def __init__(
        self,
        config: Config,
        model: FlowQLearning,
        evaluator: Evaluator | BackgroundEvaluator,
        replicas: Replicas,
        progress_bar: bool | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.config, self.model, self.replicas = config, model, replicas
        self.stop = StopSignal()
        scoring = Scoring(config.run.score, config.run.success_return, config.run.reference_scores)
        self.evaluation = EvaluationCallback(evaluator, replicas, config.run.eval_freq, observe, self.stop, scoring)
        self.saving = SaveCallback(replicas, config.run.save_freq, self.evaluation, self.stop)
        for callback in (self.evaluation, self.saving):
            callback.init_callback(model)  # both act outside of `learn` too
        self.progress = ProgressCallback(self.evaluation, progress_bar)
        self.updates_per_second: float | None = None

    def restore(self) -> dict[str, Any]:
        """Continue from the newest checkpoint, or from the start if the run was stopped before its first.

        :return: the position of the log, for `zoo.training.logs.ReplicaLogger`.
        """
        problems: list[tuple[Path, Exception]] = []
        for checkpoint in find_checkpoints(self.replicas.checkpoints):
            try:
                position = self.saving.restore(checkpoint)
            except TakenOver:
                raise
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
                f"--resume: none of the checkpoints in {self.replicas.checkpoints} can be used ({told}); put back a "
                "copy of one, or leave out --resume to train again from the start in a new folder"
            )
        for folder in self.replicas.folders:
            folder.read_identity()
        return logs.BEGINNING

    def run(self) -> dict[str, Any]:
        """Train to the end and return what to print; whatever happens, the run folders say how it ended.

        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with self.stop:
                self._learn()
                self.saving.save("running")
            return self._finish()
        except TakenOver:
            raise  # the runs are no longer ours to write to
        except BaseException as error:
            try:
                self.replicas.write_status(self.model, state_after(error), reason=describe_error(error))
            except OSError as another:  # often for the same reason; the first error says more
                log.warning("%s", another)
            raise
        finally:
            self.progress.close()

    def _learn(self) -> None:
        """Run what is left of the phases, each with an evaluation at its end."""
        try:
            self.evaluation.repeat_unfinished()
            self._learn_in_phases()
        except Abandoned:  # where a phase begins or ends
            self.saving.stop_run()
        except Diverged:
            with contextlib.suppress(Abandoned):
                self.evaluation.collect()  # it began when all was well
            raise

    def _learn_in_phases(self) -> None:
        run, model = self.config.run, self.model
        if run.eval_at_start and not run.pretraining_steps:
            self.evaluation.begin_phase(OFFLINE if run.offline_steps else ONLINE)
        divergence = DivergenceCallback(self.replicas, run.log_interval)
        callbacks = [divergence, self.evaluation, self.saving, self.progress]
        for steps, end in ((run.pretraining_steps, run.pretraining_steps), (run.offline_steps, self._gradient_steps)):
            if end > model.offline_steps:
                model.learn_offline(end - model.offline_steps, callbacks, log_interval=run.log_interval)
                self.updates_per_second = self.progress.steps_per_second
            if steps and model.num_timesteps == end:
                self.evaluation.finish_phase()
        left = self._gradient_steps + run.online_steps - model.num_timesteps
        self.evaluation.phase = ONLINE
        if left > 0:
            model.learn(left, callbacks, reset_num_timesteps=False)
        if run.online_steps:
            self.evaluation.finish_phase()

    @property
    def _gradient_steps(self) -> int:
        return self.config.run.pretraining_steps + self.config.run.offline_steps

    def _finish(self) -> dict[str, Any]:
        """Write the final files and return one result, or one per seed."""
        results = [self._finish_replica(replica) for replica in range(len(self.replicas))]
        self.replicas.write_status(self.model, "done")
        return joint_result(self.config.algo, self.config.env, self.updates_per_second, results)

    def _finish_replica(self, replica: int) -> dict[str, Any]:
        """Write the final model and the learning curve of a replica that has not failed; return its result."""
        folder, seed = self.replicas.folders[replica], self.replicas.seeds[replica]
        if replica in self.replicas.failed:
            return result_of_failed(folder, seed, self.replicas.failed[replica])
        history = self.evaluation.histories[replica]
        save_model(self.model.replica(replica), folder.model)
        plot_learning_curve(history, folder.learning_curve, f"{self.config.algo} on {self.config.env}")
        return result_of(folder, seed, history, self.evaluation.scoring)


def plot_learning_curve(history: EvaluationHistory, path: Path, title: str) -> None:
    """Write a PNG of success (or the return, where there is no success) against steps, the online phase shaded."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = history.success_rates()
    arrays = history.arrays()
    values = arrays["results"].mean(axis=1) if rates is None else rates
    steps = arrays["timesteps"]
    axes.plot(steps, values, marker="o", color="#0072B2", clip_on=False, zorder=3)
    if rates is not None:
        axes.set_ylim(0, 1)
    offline = arrays["phase"] == OFFLINE
    if offline.any() and not offline.all():
        begin = steps[offline][-1]
        axes.axvspan(begin, steps[-1], color="0.93", zorder=0)
        axes.text(begin, axes.get_ylim()[1], " online", va="top", color="0.4")
    units = ["gradient steps"] * bool(offline.any()) + ["environment steps"] * (not offline.all())
    axes.set(title=title, xlabel=", then ".join(units), xlim=(0, None))
    axes.set_ylabel("mean return" if rates is None else "success rate")
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
