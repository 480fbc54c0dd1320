"""Evaluate a run, and write its evaluations, best models and final models to the run folders."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.engine.checkpoint import write_model
from agents.common.files import atomic_path
from agents.common.normalization import raw_observations
from zoo.evaluation.evaluator import Evaluator, HeldOutLosses
from zoo.runs.folder import OFFLINE, ONLINE, PHASES, Evaluations, summarise, with_evaluation
from zoo.runs.scores import EpisodeResults, ScoringRule, describe_evaluation, result_of
from zoo.settings.record import RunRecord
from zoo.terminal.errors import StopSignal
from zoo.terminal.messages import log
from zoo.training.logs import ReplicaLogger, Replicas

Observer = Callable[[Sequence[Evaluations]], None]


class Recorder:
    """Evaluates the model of a run, and writes scores and models to the run folders.

    A signal aborts a running evaluation; the process that resumes the run repeats the evaluation.

    :param config: record of the run.
    :param stop: the request to stop, set by a signal.
    :param observe: called after each evaluation with all replicas' evaluations so far; if it raises, the run ends.
    """

    def __init__(
        self,
        config: RunRecord,
        evaluator: Evaluator | HeldOutLosses,
        replicas: Replicas,
        stop: StopSignal,
        observe: Observer | None,
    ) -> None:
        self.config = config
        self.scoring = ScoringRule.from_run(config)
        self.model = replicas.model
        self.evaluator = evaluator
        self.replicas = replicas
        self.stop = stop
        self.observe = observe
        self.histories: list[Evaluations] = [{} for _ in replicas.folders]
        self.last_step = -1  # step of the last evaluation
        self.seconds = 0.0  # duration of all evaluations

    @property
    def step(self) -> int:
        """Step on the learning curve, counted from the end of pretraining."""
        return self.model.num_timesteps - self.config.run.pretraining_steps

    @property
    def is_due(self) -> bool:
        """Whether an evaluation has become due since the last one."""
        interval = self.config.run.eval_freq
        return self.step // interval > max(self.last_step, 0) // interval

    def evaluate(self) -> None:
        """Evaluate the model, unless it was evaluated at this step already.

        :raises Abandoned: if a signal was received.
        """
        if self.last_step == self.step:
            return
        self.replicas.check()  # the scores of a diverged replica must not be recorded
        begin = time.perf_counter()
        try:
            self.stop.check()
            # evaluation environments return observations that are not normalised
            with raw_observations(self.model) as policy:
                if isinstance(self.evaluator, HeldOutLosses):
                    self._record_losses(self.evaluator.losses(policy))
                    self.last_step = self.step
                    return
                results = self.evaluator.evaluate(policy, self.replicas.seeds, self.replicas.active)
            self.last_step = self.step
            is_reported = any("successes" in history for history in self.histories)
            self._record(self.scoring.apply(results, is_reported))
        finally:
            self.seconds += time.perf_counter() - begin

    def _record(self, results: EpisodeResults) -> None:
        """Write results and best models of all active replicas; mark the runs of diverged replicas as failed."""
        step = self.model.num_timesteps
        offline_steps = self.config.run.offline_steps
        # without offline steps, the evaluation after pretraining is the first of the online phase
        phase = OFFLINE if offline_steps and self.step <= offline_steps else ONLINE
        diverged = []
        for replica in self.replicas.active:
            if not results.played[replica]:
                diverged.append(replica)
                continue
            folder = self.replicas.folders[replica]
            history = with_evaluation(self.histories[replica], self.step, phase, results, replica)
            self.histories[replica] = history
            folder.write_evaluations(history)
            rows = summarise(history)
            # if scores are equal, a trained model counts as better than an untrained one
            is_trained = rows["step"] + self.config.run.pretraining_steps > 0
            *earlier, score = zip(rows["successes"], rows["return"], is_trained, strict=True)
            if score > max(earlier, default=()):
                self._save_model(replica, folder.best_model)
        reason = f"actions sampled in the evaluation at step {step} are not finite"
        self.replicas.fail(dict.fromkeys(diverged, reason))
        means = {
            "mean_reward": results.returns.mean(axis=1),
            "mean_ep_length": results.lengths.mean(axis=1),
        }
        if results.successes is not None:
            means["success_rate"] = results.successes.mean(axis=1)
        self._log(means)
        seeds = self.replicas.seeds
        log.info(describe_evaluation(self.step, PHASES[phase], results, seeds, self.scoring))
        if self.observe:
            self.observe(self.histories)

    def _record_losses(self, losses: dict[str, np.ndarray]) -> None:
        """Log held-out losses: name -> array (S,)."""
        self._log(losses)
        means = [
            f"{name.replace('_', ' ')} {values[self.replicas.active].mean():.4g}"
            for name, values in losses.items()
        ]
        log.info("step %d: %s", self.step, ", ".join(means))

    def _log(self, values: dict[str, np.ndarray]) -> None:
        """Write the values of an evaluation, name -> array (S,), to the log of each replica."""
        assert isinstance(self.model.logger, ReplicaLogger)
        row = {f"eval/{name}": array for name, array in values.items()}
        self.model.logger.write(row, self.model.num_timesteps)

    def finish(self) -> list[dict[str, Any]]:
        """Write final models, summaries and the status `done` for active replicas; return all replicas' results."""
        results = []
        for replica, folder in enumerate(self.replicas.folders):
            seed = self.replicas.seeds[replica]
            failure = self.replicas.failed.get(replica)
            rows = summarise(self.histories[replica])
            if failure is None:
                self._save_model(replica, folder.model)
                folder.write_summary(rows)
            results.append(result_of(folder.path, seed, self.scoring, rows, failure))
        self.replicas.write_status("done")
        return results

    def _save_model(self, replica: int, path: Path) -> None:
        """Write the model of a replica atomically."""
        model = self.model
        if len(self.replicas.folders) > 1:
            model = model.replica(replica)
        with atomic_path(path) as temporary:
            write_model(model, temporary)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"last_step": self.last_step, "histories": self.histories}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the :meth:`state` in a checkpoint."""
        self.last_step = state["last_step"]
        self.histories = state["histories"]
        for folder, history in zip(self.replicas.folders, self.histories, strict=True):
            if history:  # overwrite the file: its evaluations after the checkpoint will be repeated
                folder.write_evaluations(history)
