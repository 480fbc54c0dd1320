"""What a flow policy thinks: chunks that it could play from here, how they came from noise, and what they are worth."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from agents.common.engine.precision import float32_products
from agents.common.sb3.acting import has_score
from agents.common.sb3.policy import FlowPolicy
from agents.common.watched import Visit, WatchedNetworks
from zoo.envs.make import RepeatableEnv, make_env
from zoo.envs.observations import stack
from zoo.models.agent import Agent
from zoo.watching.playing import Lane

FAN = 16
"""Chunks that are sampled, at least."""


@dataclass(frozen=True)
class Thoughts:
    """F chunks that a policy could play in a state; those from which it chooses come first.

    :param chunks: in the environment's units, (F, H, A).
    :param stages: their way from noise (first) to action (last) in [-1, 1], the first action of the chunk only, each
        (F, A); one stage where the policy has no noise that becomes an action.
    :param values: what the algorithm's critic says of them, (F,); None where there is no critic.
    :param played: which one is played.
    """

    chunks: np.ndarray
    stages: list[np.ndarray]
    values: np.ndarray | None
    played: int


class Mind:
    """Reads the thoughts of a policy along an episode.

    The chunk that is played comes from the noise of the evaluation. The others come from noise that stays the same in
    an episode, so that what changes between two pictures is the state and not the sample.

    :param policy: of one replica.
    """

    def __init__(self, policy: FlowPolicy) -> None:
        self._policy = policy
        self._method = copy.copy(policy.method)
        self._method.best_of_n = 1  # every candidate is shown, and not only the best
        self._draws = self._method.candidate_noise()

    def think(self, lane: Lane) -> Thoughts:
        """Return what the policy thinks in the state of a lane."""
        policy, noise = self._policy, self._noise(lane)
        count = len(next(iter(noise.values())))
        row = policy.layout.rows(stack(lane.env.observation_space, [lane.observation]))
        rows = torch.as_tensor(np.repeat(row, count, 0)[None], dtype=policy.layout.dtype)
        seen = policy.preprocess(rows.to(policy.device))
        placed = self._method.with_rows_in_place({name: draw[None].to(policy.device) for name, draw in noise.items()})
        watched = WatchedNetworks(policy.nets)
        with torch.no_grad(), float32_products(policy.method.precision, policy.device):
            actions = self._method.act(seen, placed, watched).clamp(-1, 1)  # type: ignore[arg-type]
            values = policy.method.score(seen, actions, policy.nets)[0] if has_score(policy) else None
        of_first = slice(policy.action_size)
        stages = [visit.x[0, :, of_first] for visit in _on_the_way(watched.visits, actions)]
        candidates = policy.method.best_of_n
        return Thoughts(
            chunks=policy.in_units(actions[0].cpu().numpy()),
            stages=[stage.cpu().numpy() for stage in [*stages, actions[0, :, of_first]]],
            values=None if values is None else values.cpu().numpy(),
            played=0 if values is None else int(values[:candidates].argmax()),
        )

    def _noise(self, lane: Lane) -> dict[str, Tensor]:
        """Return the noise of F plans: name -> (F, ...)."""
        candidates = self._policy.method.best_of_n
        generator = torch.Generator().manual_seed(lane.episode or 0)
        more = _draw(self._policy, self._draws, max(FAN - candidates, 0), generator)
        own = {name: self._candidates_first(name, draw) for name, draw in lane.noise.items()}
        return {name: torch.cat([draw, more[name]]) for name, draw in own.items()}

    def _candidates_first(self, name: str, draw: Tensor) -> Tensor:
        """Return the noise of one plan, (...), with its candidates as the rows, (N, ...)."""
        if self._policy.method.best_of_n == 1:
            return draw[None]
        axes = self._policy.method.candidate_noise()[name].axes.replace("B", "")
        return draw.movedim(axes.index("N"), 0)


def _draw(policy: FlowPolicy, draws: Mapping[str, Any], rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return noise of plans without a choice among candidates: name -> (rows, ...)."""
    sizes = policy.method.noise_sizes(1, rows, policy.chunk_size)
    return {name: draw(sizes, generator, "cpu")[0].movedim(draw.axes.index("B"), 0) for name, draw in draws.items()}


def _on_the_way(visits: list[Visit], actions: Tensor) -> Iterator[Visit]:
    """Yield the states that chunks pass, once for each time: several networks may be asked at the same state."""
    seen = set()
    for visit in visits:
        time = None if visit.t is None else float(torch.as_tensor(visit.t).flatten()[0])
        if visit.x.shape == actions.shape and time not in seen:
            seen.add(time)
            yield visit


class Imagination:
    """A copy of a maze's simulator, in which chunks are played that the agent only thinks of."""

    def __init__(self, agent: Agent) -> None:
        self._env = make_env(agent.env_id, **agent.env_kwargs)
        self._env.reset(seed=0)

    def paths(self, env: RepeatableEnv, chunks: np.ndarray) -> np.ndarray:
        """Return where chunks would lead from an environment's present state, (F, H + 1, 2); it stays as it is.

        :param chunks: in the environment's units, (F, H, A).
        """
        there, here = env.env.unwrapped, self._env.env.unwrapped
        state = np.empty(mujoco.mj_stateSize(there.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(there.model, there.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        paths = np.empty((len(chunks), chunks.shape[1] + 1, 2))
        with _global_generator_kept():  # teleports are drawn from it
            for path, chunk in zip(paths, chunks, strict=True):
                mujoco.mj_setState(here.model, here.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
                mujoco.mj_forward(here.model, here.data)
                path[0] = here.get_xy()
                for step, action in enumerate(chunk, start=1):
                    here.step(action)
                    path[step] = here.get_xy()
        return paths

    def close(self) -> None:
        """Close the copy."""
        self._env.close()


@contextlib.contextmanager
def _global_generator_kept() -> Iterator[None]:
    before = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(before)
