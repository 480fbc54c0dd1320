"""Evaluation in a child process while training continues: the same numbers as when training waits for it.

The child acts on the device that trains. On a CPU its numbers are those of an evaluation in the foreground, bit for
bit. On a GPU each plan is a short call; the CPU's cores, busy with the simulation, would take longer over all plans
than training takes to reach the next evaluation.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Collection, Sequence
from typing import Any

import torch
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.policies import BasePolicy

from agents.common.sb3.policy import FlowPolicy
from zoo.envs.make import find_spec, is_ogbench
from zoo.errors import Abandoned, EnvironmentFault, UsageError
from zoo.playing.episodes import EpisodeResults
from zoo.playing.evaluate import Evaluator
from zoo.playing.pool import Spaces
from zoo.processes.heartbeat import beat
from zoo.processes.serving import Hook, ServingProcess, WorkerError, WorkerLost, close_at_exit


class BackgroundEvaluator:
    """An :class:`zoo.playing.evaluate.Evaluator` in another process, with one evaluation at a time.

    The arguments and the errors are those of the evaluator. The process and its environments start at once, in the
    background, and end with this process. If the process dies or hangs, a new one makes the evaluation again, twice at
    most.
    """

    check_in: Hook = staticmethod(beat)
    """Called again and again while an evaluation is waited for; what it raises ends the waiting."""

    def __init__(
        self, env_id: str, *, episodes: int, n_envs: int, seed: int, env_kwargs: dict[str, Any] | None = None
    ) -> None:
        kwargs = dict(env_kwargs or {})
        spec = find_spec(env_id, **kwargs)
        build = functools.partial(_Player, spec, episodes=episodes, n_envs=n_envs, seed=seed, env_kwargs=kwargs)
        self._process: ServingProcess | None = ServingProcess(
            build, "play", what="evaluation", name=spec.id, has_children=True, is_watched=True
        )
        self._is_built = False
        self._request: tuple[Any, ...] | None = None  # of the evaluation under way
        self._outcome: EpisodeResults | None = None
        self._stay_at_exit = close_at_exit(self)
        if kwargs or not is_ogbench(spec):
            self._wait_until_built()  # the environment may yet be refused

    def __enter__(self) -> BackgroundEvaluator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def begin(self, policy: BasePolicy, replicas: Sequence[int], active: Collection[int]) -> None:
        """Send a copy of a policy and begin; training may change the policy as soon as this returns.

        :param replicas: the number that stands for each replica in its noise seeds.
        """
        assert self._request is None, "one evaluation at a time"
        content = io.BytesIO()
        what = {"to_act": True} if isinstance(policy, FlowPolicy) else {}  # not its critics
        policy.save(content, **what)  # type: ignore[arg-type]  # torch.save takes a file too
        threads = torch.get_num_threads()
        kinds = type(policy), type(getattr(policy, "method", None))  # whose modules the process then imports
        self._request = (kinds, content.getvalue(), str(policy.device), threads, list(replicas), list(active))
        self._outcome = None
        assert self._process is not None, "closed"
        self._process.losses = 0
        self._ask()

    def is_ready(self) -> bool:
        """Return whether :meth:`finish` would not wait; begin again if the process was lost."""
        assert self._process is not None, "closed"
        self._process.look()
        if self._outcome is None and self._process.has_answered():
            self._receive()
        return self._outcome is not None

    def finish(self) -> EpisodeResults:
        """Wait for the evaluation that was begun and return its results.

        :raises zoo.processes.serving.WorkerError: if it failed, with its traceback, or its process was lost too often.
        """
        assert self._request is not None, "no evaluation was begun"
        while self._outcome is None:
            self._receive()
        outcome, self._outcome, self._request = self._outcome, None, None
        return outcome

    def _receive(self) -> None:
        """Wait for the outcome of the evaluation, or begin it again where its process was lost."""
        assert self._process is not None, "closed"
        try:
            self._outcome = self._process.receive(self.check_in)
        except WorkerLost as error:
            self._ask(error)
        except (WorkerError, EnvironmentFault, UsageError):
            self.close()
            raise

    def _ask(self, error: WorkerLost | None = None) -> None:
        """Ask for the evaluation, after an error in a new process, unless there were too many of these."""
        assert self._process is not None, "closed"
        assert self._request is not None
        try:
            if error is not None:
                self._is_built = False
                self._process.replace(error, "a new one makes the evaluation again")
            self._wait_until_built()
            self._process.send(*self._request, check_in=self.check_in)
        except WorkerLost as again:
            self._ask(again)

    def close(self) -> None:
        """End the process and its environments, in the middle of an evaluation too; harmless when repeated."""
        process, self._process = self._process, None
        if process is not None:
            if self._request is not None:
                process.kill()  # its environments end with it
            process.close()
        self._stay_at_exit()

    def _wait_until_built(self) -> None:
        """Wait until the process has its environments."""
        assert self._process is not None, "closed"
        if self._is_built:
            return
        try:
            self._process.receive(self.check_in)
        except (WorkerLost, Abandoned):
            raise
        except BaseException:
            self.close()
            raise
        self._is_built = True


class _Player:
    """What the process holds: an evaluator."""

    def __init__(self, spec: EnvSpec, **how: Any) -> None:
        self._evaluator = Evaluator(spec, **how)

    @property
    def spaces(self) -> Spaces:
        """Observation and action space."""
        return self._evaluator.spaces

    def play(
        self,
        kinds: tuple[type[BasePolicy], type],
        content: bytes,
        device: str,
        threads: int,
        replicas: list[int],
        active: list[int],
    ) -> EpisodeResults:
        """Evaluate a saved policy; the last bits of matrix products depend on the number of threads."""
        torch.set_num_threads(threads)
        policy = kinds[0].load(io.BytesIO(content), device=device)  # type: ignore[arg-type]  # torch.load too
        self._evaluator.begin(policy, replicas, active)
        return self._evaluator.finish()

    def close(self) -> None:
        """End the environments."""
        self._evaluator.close()
