"""Acting: noise is drawn, chunks of actions are planned, and each is played to its end or to the next plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

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
from agents.common.observations import Array, ObservationLayout, centre_and_factor
from agents.common.streams import Purpose, torch_generator

ChunkState = tuple[Array, ...]
"""Chunks in flight, (B, H, A), and how many actions of each are used, (B,)."""


class ActingPolicy(BasePolicy):
    """The part of a policy that acts; :class:`~agents.common.sb3.policy.FlowPolicy` builds its networks."""

    method: Method
    nets: Networks
    layout: ObservationLayout
    num_replicas: int
    chunk_length: int
    """Number of actions that one plan holds: H, or 1 without action chunking."""
    chunk_size: int
    action_space: spaces.Box
    observation_mean: Tensor
    observation_factor: Tensor
    generators: list[torch.Generator]
    """Of the noise of actions in training, one for each replica."""
    prediction_generators: list[torch.Generator]
    """Of the noise of :meth:`predict`, one for each replica."""
    normalization: Normalization | None = None
    """Statistics of `VecNormalize` where the policy applies them itself, because no environment does."""

    @property
    def device(self) -> torch.device:
        """Where the policy is; SB3's property walks through all modules."""
        return self.observation_mean.device

    @property
    def executed_length(self) -> int:
        """Number of actions of a plan that are played before the next one."""
        return self.method.executed_length

    def set_observation_statistics(
        self, observations: Tensor, scale: float | Literal["range"]
    ) -> None:
        """Centre observations and scale each coordinate from now on, by the statistics of these, (B, O).

        ``scale`` is their standard deviation after scaling; with ``"range"`` they then reach from -1 to 1.
        """
        centre, factor = centre_and_factor(observations, scale)
        self.observation_mean.copy_(centre)
        self.observation_factor.copy_(factor)

    def preprocess(self, observations: Tensor) -> Tensor:
        """Return observations, (..., O), as the networks see them."""
        if self.method.observation_scale is None:
            return observations
        return (observations - self.observation_mean) * self.observation_factor

    def preprocess_raw(self, observations: Tensor) -> Tensor:
        """Return observations as :meth:`plan` gets them, (..., O), as the networks see them."""
        if self.normalization is not None:
            # in float64, as VecNormalize does it
            mean, std, clip = self.normalization.columns(self.layout).to(self.device)
            observations = ((observations - mean) / std).clamp(-clip, clip).to(self.layout.dtype)
        return self.preprocess(observations)

    def draw_noise(
        self,
        table: Mapping[str, Draw],
        rows: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Draw a table for ``rows`` rows of all replicas on the generator's device: name -> (S, ...)."""
        sizes = self.noise_sizes(self.num_replicas, rows)
        return {name: draw(sizes, generator, generator.device) for name, draw in table.items()}

    def noise_sizes(self, replicas: int, rows: int) -> dict[str, int]:
        """Return the sizes of the axes that draws have, by their letters."""
        method = self.method
        sizes = {"S": replicas, "B": rows, "N": method.best_of_n, "K": method.flow_steps}
        return {**sizes, "D": self.chunk_size, "O": self.layout.size}

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the noise of ``rows`` plans of one replica from its CPU generator: name -> (rows, ...)."""
        sizes = self.noise_sizes(1, rows)
        noise = {}
        for name, draw in self.method.candidate_noise().items():
            noise[name] = draw(sizes, generator, generator.device).movedim(draw.row_axis, 1)[0]
        return noise

    def plan(self, observations: Array, noise: Noise) -> Array:
        """Plan one chunk for every observation.

        :param observations: raw, of every replica, as rows of :attr:`layout`, (S, B, O).
        :param noise: name -> (S, B, ...), as :meth:`draw_action_noise` gives it for one replica.
        :return: actions in the environment's units, (S, B, H, A).
        """
        if self.training:
            self.set_training_mode(False)
        draws = self.method.with_rows_in_place(noise)
        scaled = self.sample(observations, draws, self.nets).cpu().numpy()
        shape = (*scaled.shape[:-1], self.chunk_length, *self.action_space.shape)
        return self.unscale_action(scaled.reshape(shape)).astype(
            self.action_space.dtype, copy=False
        )

    def sample(self, observations: Array, noise: Noise, nets: Any) -> Tensor:
        """Sample one chunk for every observation with the given networks, e.g. a view that records what they do.

        :param observations: raw, of every replica, (S, B, O).
        :param noise: the draws of :meth:`Method.candidate_noise`.
        :param nets: the policy's networks, or a view of them.
        :return: actions scaled to [-1, 1], flattened, (S, B, D).
        """
        device = self.device
        draws = {name: draw.to(device) for name, draw in noise.items()}
        rows = torch.from_numpy(observations).to(device, self.layout.dtype)
        # as in training, so that targets and played actions round alike
        with torch.no_grad(), matmul_precision(self.method.precision, device):
            return self.method.sample_actions(self.preprocess_raw(rows), draws, nets)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Return the first planned action of each observation, (B, A), scaled to [-1, 1]."""
        generators = None if deterministic else self.prediction_generators
        chunks = self._plan_rows(self.layout.flatten(observation), generators)
        scaled = self.scale_action(chunks[:, 0])
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.device)

    _predict = forward  # SB3 acts by it

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: ChunkState | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, ChunkState | None]:
        """Return the next action of each observation's chunk, planning a new chunk where there is none.

        The noise is of streams of its own, so that training is the same with and without callbacks that predict.

        :param observation: one observation, or a batch (B, O).
        :param state: what the previous call returned; None to plan again.
        :param episode_start: where an episode has just begun, (B,): the old chunk is dropped there.
        :param deterministic: whether to plan from fixed noise: zero where it is normal, or, with the best of N
            candidates, N draws that are always the same.
        :return: actions in the environment's units, and the state for the next call (None when H is 1).
        :raises ValueError: if an observation has the wrong shape or names, is not finite, or is a (observation, info)
            pair.
        """
        if isinstance(observation, tuple) and isinstance(observation[-1], dict):
            raise ValueError(
                "expected an observation, got a tuple: Gymnasium's `env.reset()` returns (observation, info); "
                "pass the first element. You are probably mixing Gym API with SB3 VecEnv API"
            )
        rows, is_batch = self.read_observations(observation)
        generators = None if deterministic else self.prediction_generators
        actions, state = self.next_actions(rows, state, episode_start, generators)
        if not is_batch:
            actions = actions[0]
        return actions, state

    def predict_value(self, observation: Array | dict[str, Array], action: Array) -> Array:
        """Return what the critics expect of actions: the mean of their values.

        :param observation: one observation, or a batch (B, ...), as :meth:`predict` takes it.
        :param action: in the environment's units, (*action shape), or a whole chunk, (H, *action shape); of a batch
            with the leading axis B.
        :return: one value, or (B,); with several replicas (S,) or (S, B).
        :raises ValueError: if the algorithm has no critic, or the shapes do not fit.
        """
        if not self.method.rates_actions:
            raise ValueError(f"{type(self.method).__name__} has no critic to ask for a value")
        rows, is_batch = self.read_observations(observation)
        actions = np.asarray(action).reshape(-1, *self.action_space.shape)
        if len(actions) != len(rows) * self.chunk_length:
            raise ValueError(
                f"expected {self.chunk_length} actions for each of {len(rows)} observations, got {len(actions)} in all"
            )
        chunks = self.scale_action(actions).reshape(len(rows), -1).astype(np.float32)
        inputs = []
        for part in (rows, chunks):
            values = torch.as_tensor(part, device=self.device)
            inputs.append(values.expand(self.num_replicas, *values.shape))
        self.set_training_mode(False)
        with torch.no_grad():
            scores = self.method.score(self.preprocess_raw(inputs[0]), inputs[1], self.nets)
        of_rows = scores if is_batch else scores[:, 0]
        return np.asarray((of_rows if self.num_replicas > 1 else of_rows[0]).cpu())

    def read_observations(self, observation: Array | dict[str, Array]) -> tuple[Array, bool]:
        """Return observations as rows (B, O), and whether they are a batch; one alone is a row.

        :param observation: one observation, or a batch (B, ...), by name in a Dict space.
        :return: rows, and whether the observation was a batch.
        :raises ValueError: if an observation has the wrong shape or names, or is not finite.
        """
        names = observation if isinstance(observation, dict) else {"": observation}
        if any(part.key not in names for part in self.layout.parts):
            raise ValueError(
                f"an observation must be of {self.observation_space}, got {', '.join(names) or 'an array'}; give what "
                "the environment returns"
            )
        arrays = _map_parts(np.asarray, observation)
        # one observation is the usual case, and needs no check by SB3, which also explains what is wrong
        is_single = np.shape(arrays) == self.observation_space.shape
        is_batch = not is_single and self.is_vectorized_observation(arrays)
        if not is_batch:
            arrays = _map_parts(lambda array: array[None], arrays)
        self.layout.refuse_unknown_values(arrays)
        rows = self.layout.flatten(arrays)
        if not np.isfinite(rows).all():
            # a policy would answer with NaN, which a robot may take for an action
            raise ValueError(
                "an observation must be finite in float32, got NaN or infinity; look at where it is from"
            )
        return rows, is_batch

    def next_actions(
        self,
        rows: Array,
        state: ChunkState | None,
        episode_start: Array | None,
        generators: Sequence[torch.Generator] | None,
    ) -> tuple[Array, ChunkState | None]:
        """Return the next planned action of each row's chunk, planning a new chunk where there is none.

        :param rows: of :attr:`layout`, (B, O), grouped by replica.
        :param state: what the previous call returned; None to plan again.
        :param episode_start: where an episode has just begun, (B,).
        :param generators: of the noise, one for each replica; None plans from fixed noise.
        :return: actions in the environment's units, (B, A), and the state for the next call (None where each action is
            planned anew).
        """
        if self.method.executed_length == 1:
            return self._plan_rows(rows, generators)[:, 0], None
        count = len(rows)
        shape = self._chunks_shape(count)
        if state is None:
            state = (
                np.zeros(shape, dtype=self.action_space.dtype),
                np.full(count, self.chunk_length),
            )
        if not isinstance(state, tuple) or [np.shape(part) for part in state] != [shape, (count,)]:
            raise ValueError(
                f"`state` must be None or what `predict` returned for the same {count} observations"
            )
        # the caller may go on with an old state, e.g. to plan from it twice
        chunks, used = map(np.copy, state)
        if episode_start is not None:
            used[np.asarray(episode_start, dtype=bool)] = self.chunk_length  # nothing is left of it
        due = used >= self.method.executed_length
        if due.any():
            chunks[due] = self._plan_rows(rows, generators, due)
            used[due] = 0
        return chunks[np.arange(count), used], (chunks, used + 1)

    def _plan_rows(
        self,
        rows: Array,
        generators: Sequence[torch.Generator] | None,
        due: NDArray[np.bool_] | None = None,
    ) -> Array:
        """Plan chunks (B, H, A) for those rows (B, O), grouped by replica, that are due; only they use up noise."""
        replicas = self.num_replicas
        if len(rows) % replicas:
            raise ValueError(
                f"{replicas} replicas expect a multiple of {replicas} observations, got {len(rows)}; use "
                "`model.replica(k)` to act with one of them"
            )
        # several are planned together, and need the same number of rows
        if replicas == 1 and due is not None:
            return self._plan_rows(rows[due], generators)
        count = len(rows) // replicas
        # a copy, since a tensor shares an array's memory, and takes neither read-only nor reversed ones
        grouped = rows.reshape(replicas, count, rows.shape[-1]).copy()
        if generators is None:
            noise = self._fixed_noise(count)
        else:
            is_due = (
                torch.ones(len(rows), dtype=torch.bool) if due is None else torch.from_numpy(due)
            )
            noise = self._draw_due_noise(is_due.view(replicas, count), generators)
        chunks = self.plan(grouped, noise).reshape(self._chunks_shape(len(rows)))
        return chunks if due is None else chunks[due]

    def _chunks_shape(self, rows: int) -> tuple[int, ...]:
        return rows, self.chunk_length, *self.action_space.shape

    def _draw_due_noise(
        self, due: Tensor, generators: Sequence[torch.Generator]
    ) -> dict[str, Tensor]:
        """Draw each replica's noise of its due rows, (S, B), from its own generator; zeros for the other rows."""
        noise: dict[str, Tensor] = {}
        for replica, generator in enumerate(generators):
            of_replica = due[replica]
            for name, draw in self.draw_action_noise(int(of_replica.sum()), generator).items():
                if name not in noise:
                    noise[name] = torch.zeros(*due.shape, *draw.shape[1:], dtype=torch.float32)
                noise[name][replica, of_replica] = draw
        return noise

    def _fixed_noise(self, rows: int) -> dict[str, Tensor]:
        """Return the noise of a deterministic plan, the same for every row and call: name -> (S, B, ...).

        It is the centre of each draw. Where the best of N candidates is played, a seed draws the candidates: equal ones
        would leave the critic no choice.
        """
        noise = self.draw_action_noise(1, torch_generator(Purpose.FIXED_CANDIDATES, 0))
        if self.method.best_of_n == 1:
            for name, draw in self.method.candidate_noise().items():
                noise[name].fill_(draw.centre(self.method.flow_steps))
        shape = self.num_replicas, rows
        return {name: draw.expand(*shape, *draw.shape[1:]) for name, draw in noise.items()}

    def unscale_action(self, scaled_action: Array) -> Array:
        """Return actions, (..., A), in the environment's units, clipped to its box."""
        low, high = self.action_space.low, self.action_space.high
        action = low + 0.5 * (scaled_action + 1.0) * (high - low)
        return action.clip(low, high)  # scaling rounds, so an end may lie outside


def _map_parts(function: Callable[[Any], Any], observation: Any) -> Any:
    """Return what a function makes of an observation, or of each part of a Dict."""
    if isinstance(observation, dict):
        return {key: function(part) for key, part in observation.items()}
    return function(observation)
