"""The policy: all networks of an algorithm, and actions planned in chunks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    get_actor_critic_arch,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn

from agents.common.actions import (
    Array,
    played_actions,
    scaled_actions,
    unscaled_actions,
)
from agents.common.files import raising_damaged_file
from agents.common.method import Draw, Method, Noise
from agents.common.model_file import read_policy, write_policy
from agents.common.nets.mlp import StackedMLP, matmul_precision
from agents.common.nets.networks import Networks, ObservingNetwork, ReplicatedExtractor
from agents.common.nets.pretrained import PretrainedNetwork
from agents.common.nets.specs import Sizes, parameter_groups
from agents.common.nets.views import WatchedNetworks
from agents.common.normalization import Normalization
from agents.common.observations import ObservationLayout, centre_and_factor
from agents.common.streams import Purpose, seeds_of_replicas, torch_generator, torch_seed
from agents.registry import find_named_by_file, name_of

ChunkState = tuple[Array, ...]
"""Chunks in flight, (B, H, A), and how many actions of each are used, (B,)."""


class FlowPolicy(BasePolicy):
    """Plans a chunk of H actions at once and plays it open loop.

    With H > 1 the rest of the chunk is the recurrent ``state`` of :meth:`predict`; without it, every step is planned
    again. ``deterministic=True`` plans from each draw's centre; published scores use sampled noise.

    :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary, or Dict of these.
    :param action_space: bounded Box.
    :param lr_schedule: learning rate as a function of the remaining progress.
    :param method: what the algorithm is: networks, sampler and settings. A model shares it with its policy.
    :param seeds: one seed per replica; None draws one from PyTorch's global generator.
    :param activation_fn: hidden activation of all networks, e.g. ``torch.nn.ReLU``; None: each network's own.
    :param normalize_images: whether features extractors get images in [0, 1].
    :param features_extractor_class: SB3's. Every network that sees observations has its own extractor, and a target
        network a copy; ``FlattenExtractor`` passes vectors on unchanged, and has choices one-hot.
    :param features_extractor_kwargs: its arguments besides the observation space.
    :param optimizer_class: the one optimiser over all networks.
    :param optimizer_kwargs: its arguments besides the learning rate.
    :raises ValueError: if the activation has parameters, or observations that are not vectors are to be scaled.
    :raises NotImplementedError: if several seeds at once are to have a features extractor.
    """

    action_space: spaces.Box
    optimizer: torch.optim.Optimizer
    observation_mean: Tensor
    observation_factor: Tensor
    generators: list[torch.Generator]
    """Of the noise of actions in training, one for each replica."""
    prediction_generators: list[torch.Generator]
    """Of the noise of :meth:`predict`, one for each replica."""
    own_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    """The features extractor where none is given."""
    normalization: Normalization | None = None
    """Statistics of `VecNormalize` where the policy applies them itself, because no environment does."""
    keeps_statistics = False
    """Whether its statistics came with its parameters, so that no dataset replaces them."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Box,
        lr_schedule: Schedule,
        method: Method,
        seeds: Sequence[int] | None = None,
        activation_fn: type[nn.Module] | None = None,
        normalize_images: bool = True,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if activation_fn is not None and list(activation_fn().parameters()):
            raise ValueError(
                f"`activation_fn` must have no parameters, got {activation_fn.__name__}; use e.g. torch.nn.ReLU"
            )
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class=features_extractor_class or self.own_extractor,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=True,
        )
        self.method = method
        self.layout = ObservationLayout(observation_space, normalize_images)
        if method.observation_scale is not None and not self.layout.is_plain:
            raise ValueError(
                f"`observation_scale` is for vectors of numbers, got observations in {observation_space}; give None "
                "(where a profile sets it, `-params observation_scale=null`): images are made [0, 1], and choices are "
                "one-hot"
            )
        if method.random_crop and not any(part.is_image for part in self.layout.parts):
            raise ValueError(
                f"`random_crop` is for images, got observations in {observation_space}; leave it 0"
            )
        if seeds is None:
            seeds = [int(torch.randint(2**31, ()))]
        self.seeds = list(seeds)
        self.num_replicas = len(self.seeds)
        self.activation_fn = activation_fn
        self.action_size = int(np.prod(action_space.shape))
        self.chunk_length = method.chunk_length
        """Number of actions that one plan holds: H, or 1 without action chunking."""
        self.chunk_size = self.action_size * self.chunk_length
        self.layered_networks: list[str] = []
        self.own_layers: list[str] = []
        """Those of them whose widths are their own, so that `net_arch` does not act on them."""
        size = self.layout.size
        self.register_buffer("observation_mean", torch.zeros(size, dtype=torch.float32))
        self.register_buffer("observation_factor", torch.ones(size, dtype=torch.float32))
        # extractors draw their weights from the global generator, in the default precision
        with _float32_by_default(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(torch_seed(Purpose.EXTRACTOR, self.seeds[0]))
            self.features_extractor = self.make_features_extractor()
            self.nets = self._build_networks()
        self.set_random_seed(self.seeds)
        arguments = dict(self.optimizer_kwargs)
        if optimizer_class in (torch.optim.Adam, torch.optim.AdamW):
            arguments.setdefault("fused", True)  # one pass over all parameters
        self.optimizer = optimizer_class(
            parameter_groups(self.nets, method.specs(), optimizer_class),
            lr=lr_schedule(1),
            **arguments,
        )  # type: ignore[call-arg]

    @property
    def device(self) -> torch.device:
        """Where the policy is; SB3's property walks through all modules."""
        return self.observation_mean.device

    @property
    def features_space(self) -> spaces.Box:
        """A space of what networks see: observations, or their features."""
        return spaces.Box(-1, 1, (self.features_extractor.features_dim,))

    @property
    def played_length(self) -> int:
        """Number of actions of a plan that are played before the next one."""
        return self.method.played_length

    @property
    def actor(self) -> FlowPolicy:
        """The policy itself: acting may need any of its networks."""
        return self

    @property
    def own_widths(self) -> str:
        """What a protocol says of widths besides `net_arch`: ``own`` of all, or ``own actor``; empty if nothing."""
        if not self.own_layers:
            return ""
        if self.own_layers == self.layered_networks:
            return "own"
        return f"own {', '.join(self.own_layers)}"

    def _build_networks(self) -> Networks:
        """Make all networks; replica k starts as a single run with its seed would."""
        method = self.method
        features = self.features_extractor.features_dim
        specs = method.specs()
        nets = Networks()
        of_actors, of_critics = get_actor_critic_arch(method.net_arch)  # type: ignore[arg-type]  # None has become the default
        sizes = Sizes(
            self.num_replicas, features, self.chunk_size, method.ensemble_size, method.flow_steps,
            of_actors, of_critics, method.actor_layer_norm, method.critic_layer_norm,
        )  # fmt: skip
        for name, spec in specs.items():
            nets[name] = spec.build(sizes)
            # matrices and kernels have axes besides S and the outputs; a scalar or a bias has no width
            if any(p.ndim > 2 for p in nets[name].parameters()):
                self.layered_networks.append(name)
                if not spec.follows_net_arch:
                    self.own_layers.append(name)
        self._connect_observations(nets)
        self._initialise(nets)
        # after the weights are drawn, which a target network begins with
        nets.add_targets([name for name, spec in specs.items() if spec.target])
        for name, module in nets.named_modules():
            if isinstance(module, StackedMLP):
                if method.precision == "bf16":
                    module.matmul_dtype = torch.bfloat16
                if self.activation_fn is not None and ".features_extractor." not in name:
                    module.activation = self.activation_fn()
        return nets.train()

    def _connect_observations(self, nets: Networks) -> None:
        """Give each network that sees observations what it makes of rows: an extractor of its own, where one is."""
        is_flat = self.layout.is_plain and self.features_extractor_class is FlattenExtractor
        for network in nets.values():
            if isinstance(network, PretrainedNetwork):
                network.field.read_rows = self.layout.observations
            elif isinstance(network, ObservingNetwork) and not is_flat:
                # each is made anew; SB3's attribute ends as the last one
                self.features_extractor = self.make_features_extractor()
                network.extract_with(self.features_extractor, self.layout.to_extractor_input)

    def _initialise(self, nets: Networks) -> None:
        """Draw the weights of every replica from a generator of its own."""
        for parameter in nets.parameters():
            # optimisers that walk memory, and saved moments, need one layout
            parameter.data = parameter.data.contiguous()
        for replica, seed in enumerate(self.seeds):
            generator = torch_generator(Purpose.WEIGHTS, seed)
            network: Any
            for network in nets.values():
                network.initialise(replica, generator)
                extractor = getattr(network, "features_extractor", None)
                if isinstance(extractor, ReplicatedExtractor):
                    extractor.initialise(replica, generator)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Return a new features extractor, of all replicas where it can hold several; else refuse several."""
        arguments = dict(self.features_extractor_kwargs)
        is_combined = issubclass(self.features_extractor_class, CombinedExtractor)
        if is_combined and not isinstance(self.observation_space, spaces.Dict):
            raise ValueError(
                f"`MultiInputPolicy` is for Dict observations, got {self.observation_space}; use MlpPolicy"
            )
        if issubclass(self.features_extractor_class, ReplicatedExtractor):
            arguments["replicas"] = self.num_replicas
        extractor = self.features_extractor_class(self.observation_space, **arguments)
        if self.num_replicas > 1 and extractor.state_dict() and "replicas" not in arguments:
            raise NotImplementedError(
                f"`features_extractor_class` must be FlattenExtractor or ImpalaEncoder for {self.num_replicas} seeds "
                f"at once, got {type(extractor).__name__}, whose layers hold only one replica; train each seed by "
                "itself"
            )
        return extractor

    def set_random_seed(self, seed: int | Sequence[int]) -> None:
        """Seed the noise of actions with one seed for each replica, or with one that theirs follow from."""
        if not isinstance(seed, Sequence):
            seed = seeds_of_replicas(seed, self.num_replicas)
        self.generators = []
        self.prediction_generators = []
        # drawn on the CPU whatever the device; what one replica draws does not depend on the others
        for of_replica in seed:
            self.generators.append(torch_generator(Purpose.ACTING, of_replica))
            self.prediction_generators.append(torch_generator(Purpose.PREDICTION, of_replica))

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

    def replica(self, index: int) -> FlowPolicy:
        """Return one replica, 0..S-1, as a separate policy with its parameters and optimiser state."""
        replaced = {"method": copy.copy(self.method), "seeds": [self.seeds[index]]}
        parameters = self._get_constructor_parameters() | replaced
        single = type(self)(**parameters).to(self.device)
        single.normalization = self.normalization
        is_stacked = self.num_replicas > 1  # a lone replica's extractor may have no axis S

        def of_one(value: Tensor) -> Tensor:
            if is_stacked and value.ndim:
                value = value[index : index + 1]
            return value.clone()  # an optimiser would go on with the tensors that it loads

        state = self.state_dict()
        for name, value in state.items():
            if name.startswith(("nets.", "features_extractor.")):
                state[name] = of_one(value)
        single.load_state_dict(state)
        steps = self.optimizer.state_dict()
        for key, moments in steps["state"].items():
            steps["state"][key] = {name: of_one(value) for name, value in moments.items()}
        single.optimizer.load_state_dict(steps)
        return single

    # -- acting -------------------------------------------------------------------------------------------------------

    def draw_noise(
        self,
        table: Mapping[str, Draw],
        rows: int,
        generator: torch.Generator,
        replicas: int | None = None,
    ) -> dict[str, Tensor]:
        """Draw a table for ``rows`` rows of all replicas, or of S, on the generator's device: name -> (S, ...)."""
        sizes = self.noise_sizes(replicas or self.num_replicas, rows)
        return {name: draw(sizes, generator, generator.device) for name, draw in table.items()}

    def noise_sizes(self, replicas: int, rows: int) -> dict[str, int]:
        """Return the sizes of the axes that draws have, by their letters."""
        method = self.method
        sizes = {"S": replicas, "B": rows, "N": method.best_of_n, "K": method.flow_steps}
        return {**sizes, "D": self.chunk_size, "O": self.layout.size}

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw the noise of ``rows`` plans of one replica from its CPU generator: name -> (rows, ...)."""
        table = self.method.candidate_noise()
        noise = self.draw_noise(table, rows, generator, replicas=1)
        return {name: noise[name].movedim(draw.row_axis, 1)[0] for name, draw in table.items()}

    def plan(self, observations: Array, noise: Noise) -> Array:
        """Plan one chunk for every observation.

        :param observations: raw, of every replica, as rows of :attr:`layout`, (S, B, O).
        :param noise: name -> (S, B, ...), as :meth:`draw_action_noise` gives it for one replica.
        :return: actions in the environment's units, (S, B, H, A).
        """
        return self.plan_chunks(observations, self.method.with_rows_in_place(noise))

    def plan_chunks(self, observations: Array, noise: Noise) -> Array:
        """Plan as :meth:`plan` does, with the draws of :meth:`Method.candidate_noise`."""
        if self.training:
            self.set_training_mode(False)
        return self.unscale_chunks(self.sample(observations, noise, self.nets).cpu().numpy())

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

    def unscale_chunks(self, actions: Array) -> Array:
        """Return flattened chunks (..., D) in [-1, 1] as actions in the environment's units, (..., H, A)."""
        shape = (*actions.shape[:-1], self.chunk_length, *self.action_space.shape)
        return np.asarray(
            self.unscale_action(actions.reshape(shape)), dtype=self.action_space.dtype
        )

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
        :param deterministic: whether to plan from the centre of each draw, zero where it is normal.
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
        planned, state = self.next_actions(rows, state, episode_start, generators)
        actions = played_actions(planned, self.action_space)
        if not is_batch:
            actions = actions[0]
        return actions, state

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
        :param generators: of the noise, one for each replica; None plans from the centre of each draw.
        :return: actions in the environment's units, (B, A), and the state for the next call (None where each action is
            planned anew).
        """
        if self.played_length == 1:
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
        due = used >= self.played_length
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
        grouped = rows.reshape(replicas, count, -1).copy()
        if generators is None:
            noise = self._centre_noise(count)
        elif replicas == 1:
            noise = self.draw_noise(self.method.candidate_noise(), count, generators[0])
        else:
            noise = self._draw_due_noise(count, generators, due)
        chunks = self.plan_chunks(grouped, noise).reshape(self._chunks_shape(len(rows)))
        return chunks if due is None else chunks[due]

    def _chunks_shape(self, rows: int) -> tuple[int, ...]:
        return rows, self.chunk_length, *self.action_space.shape

    def _draw_due_noise(
        self,
        rows: int,
        generators: Sequence[torch.Generator],
        due: NDArray[np.bool_] | None,
    ) -> dict[str, Tensor]:
        """Draw each replica's noise of its due rows from its own generator, (S, ...), zeros for the other rows."""
        table = self.method.candidate_noise()
        sizes = self.noise_sizes(self.num_replicas, rows)
        noise = {
            name: torch.zeros(draw.shape(sizes), dtype=torch.float32)
            for name, draw in table.items()
        }
        is_due = torch.ones(len(generators), rows, dtype=torch.bool)
        if due is not None:
            is_due = torch.from_numpy(due).view(is_due.shape)
        for replica, generator in enumerate(generators):
            draws = self.draw_action_noise(int(is_due[replica].sum()), generator)
            for name, draw in draws.items():
                by_row = noise[name].movedim(table[name].row_axis, 1)
                by_row[replica, is_due[replica]] = draw
        return noise

    def _centre_noise(self, rows: int) -> dict[str, Tensor]:
        """Return what stands for the draws of a deterministic plan: name -> (S, ...)."""
        sizes = self.noise_sizes(self.num_replicas, rows)
        noise = {}
        for name, draw in self.method.candidate_noise().items():
            noise[name] = torch.full(
                draw.shape(sizes), draw.centre(self.method.flow_steps), dtype=torch.float32
            )
        return noise

    def scale_action(self, action: Array) -> Array:
        """Return actions in the environment's units, (..., A), scaled to [-1, 1]."""
        return scaled_actions(action, self.action_space)

    def unscale_action(self, scaled_action: Array) -> Array:
        """Return actions, (..., A), in the environment's units, clipped to its box."""
        return unscaled_actions(scaled_action, self.action_space)

    # -- saving -------------------------------------------------------------------------------------------------------

    def acting_networks(self) -> set[str]:
        """Return the names of the networks that acting uses, and of those by which the algorithm rates actions."""
        self.set_training_mode(False)
        watched: Any = WatchedNetworks(self.nets)
        rows = self.layout.zeros(self.num_replicas, 1)
        actions = self.sample(rows.numpy(), self._centre_noise(1), watched)
        if self.method.rates_actions:
            with torch.no_grad():
                self.method.score(self.preprocess_raw(rows.to(self.device)), actions, watched)
        return watched.used

    def save(
        self,
        path: str | Path,
        networks: Collection[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the policy by itself, with a checksum.

        :param path: file, usually with the ending ``.safetensors``.
        :param networks: names of those to keep, e.g. :meth:`acting_networks`; None keeps all.
        :param about: what else is to be said about it, e.g. its environment and score: values that JSON takes.
        """
        if self.method.pretrained is not None:
            raise ValueError(
                "a policy's file holds networks of this library alone, got `behaviour`, a module of your own; save the "
                "model (`model.save`), or export it (`agents.export_onnx`)"
            )
        owners = {"observation_mean", "observation_factor", *(networks or self.nets)}
        tensors = {}
        for name, value in self.state_dict().items():
            if _owner_of(name) in owners:
                tensors[name] = value
        write_policy(path, self.describe(), tensors, about or {})

    def describe(self) -> dict[str, Any]:
        """Return what makes an equal policy but for its parameters; :meth:`load` makes it."""
        description = self._get_constructor_parameters()
        del description["method"], description["lr_schedule"]
        if self.normalization is not None:
            description["normalization"] = vars(self.normalization)
        return {
            "method": name_of(type(self.method)),
            "settings": self.method.settings(),
            **description,
        }

    @classmethod
    def load(
        cls, path: str | Path, device: torch.device | str = "auto", *, trust: bool = False
    ) -> Self:
        """Load a policy that acts to the last bit as the saved one; nothing in the file is run.

        :param path: what :meth:`save` wrote.
        :param device: where to; one that is not there stands for the CPU.
        :param trust: whether the file may name a module to import.
        :return: the policy, with the networks that were kept; if these are not all, it cannot be trained.
        :raises FileNotFoundError: if there is no such file.
        :raises ValueError: if it is damaged, something else, or of an algorithm that is not there or must be trusted.
        """
        description, tensors = read_policy(path)
        algorithm = description.pop("method")
        settings = description.pop("settings")
        normalization = description.pop("normalization", None)
        entry = find_named_by_file(algorithm, path, trust=trust)
        try:
            method = entry.method(**settings).lock()
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is a policy of another version of {entry.method.__name__}, whose settings this one does not "
                f"take: {error}; load it with the version that saved it"
            ) from error
        with raising_damaged_file(str(path)):
            policy = cls(lr_schedule=cls._dummy_schedule, method=method, **description)
            owners = {_owner_of(name) for name in tensors}
            saved_networks = {name: net for name, net in policy.nets.items() if name in owners}
            if len(saved_networks) < len(policy.nets):
                # its groups hold networks that are not in the file
                del policy.optimizer
                policy.nets = Networks(saved_networks)
            # SB3 expects this attribute: the policy has its last extractor twice, and a file once, in its network
            for name, value in policy.state_dict().items():
                if name.startswith("features_extractor."):
                    tensors.setdefault(name, value)
            policy.load_state_dict(tensors)
            if normalization is not None:
                policy.normalization = Normalization(**normalization)
        return policy.to(device=get_device(device))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Return what makes an equal policy."""
        names = set(inspect.signature(FlowPolicy).parameters) - {"lr_schedule"}
        parameters = {name: getattr(self, name) for name in sorted(names)}
        return {"lr_schedule": self._dummy_schedule, **parameters}


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """Make new tensors in float32 inside the block: modules of other libraries follow the process's default."""
    process_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(process_dtype)


def _map_parts(function: Callable[[Any], Any], observation: Any) -> Any:
    """Return what a function makes of an observation, or of each part of a Dict."""
    if isinstance(observation, dict):
        return {key: function(part) for key, part in observation.items()}
    return function(observation)


def _owner_of(tensor: str) -> str:
    """Return the network that a tensor of a policy belongs to, else the attribute of the policy."""
    return tensor.removeprefix("nets.").partition(".")[0]


load_policy = FlowPolicy.load
