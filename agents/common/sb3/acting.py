"""Acting: sampling action chunks, and executing them step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from agents.common.method import Draw, Method, Noise
from agents.common.nets.mlp import matmul_precision
from agents.common.nets.networks import Networks
from agents.common.normalization import Normalization
from agents.common.observations import Array, ObservationLayout, map_parts
from agents.common.streams import Purpose, torch_generator

ChunkState = tuple[Array, ...]
"""Current chunks, (B, H, A), and the number of executed actions of each, (B,)."""


class ActingPolicy(BasePolicy):
    """The part of a policy that acts; :class:`~agents.common.sb3.policy.FlowPolicy` builds its networks."""

    method: Method
    nets: Networks
    layout: ObservationLayout
    num_replicas: int
    chunk_length: int
    """Number of actions in a chunk: H, or 1 without action chunking."""
    chunk_size: int
    action_space: spaces.Box
    observation_mean: Tensor
    observation_factor: Tensor
    generators: list[torch.Generator]
    """Generators of action noise in training, one per replica."""
    prediction_generators: list[torch.Generator]
    """Generators of action noise in :meth:`predict`, one per replica."""
    normalization: Normalization | None = None
    """Statistics of `VecNormalize` that the policy applies itself, because the environment does not; or None."""

    @property
    def device(self) -> torch.device:
        """Device of the policy; faster than SB3's property, which searches the modules for a parameter."""
        return self.observation_mean.device

    @property
    def executed_length(self) -> int:
        """Number of actions of a chunk that are executed before the next chunk is sampled."""
        return self.method.executed_length

    def preprocess(self, observations: Tensor) -> Tensor:
        """Scale observations (..., O) for the networks."""
        if self.method.observation_scale is None:
            return observations
        return (observations - self.observation_mean) * self.observation_factor

    def preprocess_raw(self, observations: Tensor) -> Tensor:
        """Normalise and scale raw observations (..., O) for the networks."""
        if self.normalization is not None:
            # in float64, like VecNormalize
            mean, std, clip = self.normalization.columns(self.layout).to(self.device)
            observations = ((observations - mean) / std).clamp(-clip, clip).to(self.layout.dtype)
        return self.preprocess(observations)

    def draw_noise(
        self,
        table: Mapping[str, Draw],
        rows: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Sample declared noise for B rows of all replicas on the generator's device: name -> (S, ...)."""
        sizes = self.noise_sizes(self.num_replicas, rows)
        return {name: draw(sizes, generator, generator.device) for name, draw in table.items()}

    def noise_sizes(self, replicas: int, rows: int) -> dict[str, int]:
        """Return the sizes of the standard axes of noise, by letter."""
        method = self.method
        return {
            "S": replicas,
            "B": rows,
            "N": method.best_of_n,
            "K": method.flow_steps,
            "D": self.chunk_size,
            "O": self.layout.size,
        }

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Sample the noise of ``rows`` chunks with one replica's CPU generator: name -> (rows, ...)."""
        sizes = self.noise_sizes(1, rows)
        noise = {}
        for name, draw in self.method.candidate_noise().items():
            noise[name] = draw(sizes, generator, generator.device).movedim(draw.row_axis, 1)[0]
        return noise

    def sample_chunks(self, observations: Array, noise: Noise) -> Array:
        """Sample one chunk per observation, in the environment's units.

        :param observations: raw observations of all replicas as rows of :attr:`layout`, (S, B, O).
        :param noise: name -> (S, B, ...), the stacked results of :meth:`draw_action_noise`.
        :return: actions in the environment's units, (S, B, H, A).
        """
        if self.training:
            self.set_training_mode(False)
        draws = self.method.move_row_axes(noise)
        scaled = self.sample(torch.from_numpy(observations), draws, self.nets).cpu().numpy()
        shape = (*scaled.shape[:-1], self.chunk_length, *self.action_space.shape)
        return self.unscale_action(scaled.reshape(shape))

    def sample(self, observations: Tensor, noise: Noise, nets: Any) -> Tensor:
        """Sample one chunk per observation with the given networks, e.g. a view that records the used networks.

        :param observations: raw observations of all replicas, (S, B, O).
        :param noise: noise declared by :meth:`Method.candidate_noise`.
        :param nets: the policy's networks, or a view of them.
        :return: actions scaled to [-1, 1], flattened, (S, B, D).
        """
        device = self.device
        draws = {name: draw.to(device) for name, draw in noise.items()}
        rows = observations.to(device, self.layout.dtype)
        # the same precision as in training, so that targets and executed actions are rounded equally
        with torch.no_grad(), matmul_precision(self.method.precision, device):
            return self.method.sample_actions(self.preprocess_raw(rows), draws, nets)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Sample a chunk per observation, and return its first action, (B, A), scaled to [-1, 1]."""
        generators = None if deterministic else self.prediction_generators
        chunks = self._sample_rows(self.layout.flatten(observation), generators)
        scaled = self.scale_action(chunks[:, 0])
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.device)

    _predict = forward  # the hook of SB3's `predict`

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: ChunkState | None = None,
        episode_start: Array | bool | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, ChunkState | None]:
        """Return the next action of each observation's chunk; sample a new chunk if the old one is finished.

        The noise has separate random streams, so calls do not change the results of training.

        :param observation: one observation, or a batch (B, ...).
        :param state: state from the previous call; None samples new chunks.
        :param episode_start: whether an episode has just started, (B,); the previous episode's chunk is then discarded.
        :param deterministic: whether to use fixed noise: zero for normal noise or, with best-of-n, N constant samples.
        :return: actions in the environment's units, and the state for the next call (None if only one action of each
            chunk is executed).
        :raises ValueError: if an observation has the wrong shape, other keys or an invalid value, or is an
            (observation, info) pair.
        """
        if isinstance(observation, tuple) and isinstance(observation[-1], dict):
            raise ValueError(
                "expected an observation, got a tuple; Gymnasium's `env.reset()` returns (observation, info): pass the "
                "first element. You are probably mixing Gym API with SB3 VecEnv API"
            )
        rows, is_batch = self.read_observations(observation)
        generators = None if deterministic else self.prediction_generators
        actions, state = self.next_actions(rows, state, episode_start, generators)
        if not is_batch:
            actions = actions[0]
        return actions, state

    def predict_value(self, observation: Array | dict[str, Array], action: Array) -> Array:
        """Return the algorithm's score of actions: the critics' mean Q, unless it defines another :meth:`Method.score`.

        :param observation: one observation, or a batch (B, ...), as in :meth:`predict`.
        :param action: action in the environment's units, (*action shape), or a chunk, (H, *action shape); actions of a
            batch have the leading axis B.
        :return: one value, or (B,); with several replicas (S,) or (S, B).
        :raises ValueError: if the algorithm has no critic, or the shapes do not match.
        """
        if not self.method.can_score:
            raise ValueError(f"{type(self.method).__name__} has no critic")
        rows, is_batch = self.read_observations(observation)
        actions = np.asarray(action).reshape(-1, *self.action_space.shape)
        if len(actions) != len(rows) * self.chunk_length:
            raise ValueError(
                f"expected a chunk of {self.chunk_length} actions for each of {len(rows)} observations, got "
                f"{len(actions)} actions in total"
            )
        chunks = self.scale_action(actions).reshape(len(rows), -1).astype(np.float32)
        inputs = [
            torch.as_tensor(part, device=self.device).expand(self.num_replicas, -1, -1)
            for part in (rows, chunks)
        ]
        self.set_training_mode(False)
        with torch.no_grad():
            scores = self.method.score(self.preprocess_raw(inputs[0]), inputs[1], self.nets)
        if not is_batch:
            scores = scores[:, 0]
        return np.asarray((scores if self.num_replicas > 1 else scores[0]).cpu())

    def read_observations(self, observation: Array | dict[str, Array]) -> tuple[Array, bool]:
        """Convert an observation or a batch to rows (B, O).

        :param observation: one observation, or a batch (B, ...); a dict for a Dict space.
        :return: rows, and whether the input was a batch.
        :raises ValueError: if an observation has the wrong shape, other keys or an invalid value.
        """
        names = observation if isinstance(observation, dict) else {"": observation}
        if names.keys() != {part.key for part in self.layout.parts}:
            raise ValueError(
                f"an observation must be in {self.observation_space}, got {', '.join(names) or 'an array'}"
            )
        arrays = map_parts(np.asarray, observation)
        # fast path for a single observation; SB3 checks other shapes, and explains errors
        is_single = np.shape(arrays) == self.observation_space.shape
        is_batch = not is_single and self.is_vectorized_observation(arrays)
        if not is_batch:
            arrays = map_parts(lambda array: array[None], arrays)
        self.layout.refuse_unknown_values(arrays)
        rows = self.layout.flatten(arrays)
        if not np.isfinite(rows).all():
            # the policy would return NaN, which a robot might execute
            raise ValueError("an observation must be finite in float32, got NaN or infinity")
        return rows, is_batch

    def next_actions(
        self,
        rows: Array,
        state: ChunkState | None,
        episode_start: Array | bool | None,
        generators: Sequence[torch.Generator] | None,
    ) -> tuple[Array, ChunkState | None]:
        """Return the next action of each row's chunk; sample a new chunk if the old one is finished.

        :param rows: rows of :attr:`layout`, (B, O), grouped by replica.
        :param state: state from the previous call; None samples new chunks.
        :param episode_start: whether an episode has just started, (B,).
        :param generators: noise generators, one per replica; None uses fixed noise.
        :return: actions in the environment's units, (B, A), and the state for the next call (None if only one action of
            each chunk is executed).
        """
        executed_length = self.method.executed_length
        if executed_length == 1:
            return self._sample_rows(rows, generators)[:, 0], None
        count = len(rows)
        shape = (count, self.chunk_length, *self.action_space.shape)
        if state is None:
            state = (
                np.zeros(shape, dtype=self.action_space.dtype),
                np.full(count, self.chunk_length),
            )
        if not isinstance(state, tuple) or [np.shape(part) for part in state] != [shape, (count,)]:
            raise ValueError(
                f"`state` must be None or a state from `predict` for {count} observations"
            )
        # copied, because the caller may reuse an old state
        chunks, used = map(np.copy, state)
        if episode_start is not None:
            used[np.asarray(episode_start, dtype=bool)] = self.chunk_length  # discards the chunk
        due = used >= executed_length
        if due.any():
            chunks[due] = self._sample_rows(rows, generators, due)
            used[due] = 0
        return chunks[np.arange(count), used], (chunks, used + 1)

    def _sample_rows(
        self,
        rows: Array,
        generators: Sequence[torch.Generator] | None,
        due: NDArray[np.bool_] | None = None,
    ) -> Array:
        """Sample chunks (n, H, A) for the n of B rows that ``due`` marks; the remaining rows consume no noise.

        Rows are grouped by replica; ``due`` None marks all of them.
        """
        replicas = self.num_replicas
        if len(rows) % replicas:
            raise ValueError(
                f"{replicas} replicas need a multiple of {replicas} observations, got {len(rows)}; use "
                "`model.replica(k)` to act with one"
            )
        if due is None:
            due = np.ones(len(rows), dtype=bool)
        # several replicas are sampled together, which needs equal numbers of rows, so no row is left out
        if replicas == 1:
            rows, due = rows[due], due[due]
        count = len(rows) // replicas
        # copied, because tensors cannot share memory with read-only or reversed arrays
        grouped = rows.reshape(replicas, count, rows.shape[-1]).copy()
        if generators is None:
            noise = self._fixed_noise(count)
        else:
            noise = self._draw_due_noise(torch.from_numpy(due).view(replicas, count), generators)
        chunks = self.sample_chunks(grouped, noise)
        return chunks.reshape(len(rows), *chunks.shape[2:])[due]

    def _draw_due_noise(
        self, due: Tensor, generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """Sample noise for the rows marked in ``due`` (S, B) with each replica's generator; other rows get zeros."""
        noise: dict[str, Tensor] = {}
        for replica, generator in enumerate(generators):
            rows = due[replica]
            for name, draw in self.draw_action_noise(int(rows.sum()), generator).items():
                if name not in noise:
                    noise[name] = torch.zeros(*due.shape, *draw.shape[1:])
                noise[name][replica, rows] = draw
        return noise

    def _fixed_noise(self, rows: int) -> dict[str, Tensor]:
        """Return the noise of deterministic mode, the same for all rows and calls: name -> (S, B, ...).

        The noise is the centre of each distribution. Best-of-n uses constant samples instead, since equal candidates
        would leave no choice.
        """
        noise = self.draw_action_noise(1, torch_generator(Purpose.FIXED_CANDIDATES, 0))
        if self.method.best_of_n == 1:
            for name, draw in self.method.candidate_noise().items():
                noise[name].fill_(draw.centre(self.method.flow_steps))
        shape = self.num_replicas, rows
        return {name: draw.expand(*shape, *draw.shape[1:]) for name, draw in noise.items()}

    def unscale_action(self, scaled_action: Array) -> Array:
        """Convert actions (..., A) in [-1, 1] to the environment's units, clipped to the action bounds."""
        low, high = self.action_space.low, self.action_space.high
        action = low + 0.5 * (scaled_action + 1.0) * (high - low)
        # rounding may exceed a bound, and NumPy computes half precision in float32
        return action.clip(low, high, dtype=low.dtype)
