"""The policy, which builds, copies and saves an algorithm's networks; its base class samples actions."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    get_actor_critic_arch,
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn

from agents.common.files import raising_damaged_file
from agents.common.method import Method
from agents.common.model_file import read_policy, write_policy
from agents.common.nets.mlp import StackedMLP
from agents.common.nets.networks import Networks, ObservingNetwork, Sizes
from agents.common.nets.pretrained import PretrainedNetwork
from agents.common.nets.specs import NetworkSpec, parameter_groups
from agents.common.normalization import Normalization
from agents.common.observations import ObservationLayout
from agents.common.sb3.acting import ActingPolicy
from agents.common.sb3.encoders import ImpalaEncoder
from agents.common.streams import Purpose, seeds_of_replicas, torch_generator
from agents.common.validation import integer
from agents.registry import name_of


class FlowPolicy(ActingPolicy):
    """Samples chunks of H actions, and executes them open loop.

    With H > 1 the recurrent ``state`` of :meth:`predict` contains the remaining actions of a chunk; a call without a
    state samples a new chunk. ``deterministic=True`` uses fixed noise; published scores use sampled noise.

    A subclass adds arguments of its own in `_get_constructor_parameters`, as in SB3, so that they are saved.

    >>> policy = agents.FQL("MlpPolicy", "Pendulum-v1", net_arch=[32]).policy
    >>> action, state = policy.predict(np.zeros(3, np.float32))  # the first action of a chunk of H = 5
    >>> action, state = policy.predict(np.zeros(3, np.float32), state)  # the second

    :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary, or Dict of these.
    :param action_space: bounded Box.
    :param lr_schedule: learning rate as a function of the remaining progress.
    :param method: the algorithm with its settings, shared with the model.
    :param seeds: one seed per replica; None samples one from PyTorch's global generator.
    :param activation_fn: hidden activation of all networks, e.g. ``torch.nn.ReLU``; None uses each network's default.
    :param normalize_images: whether features extractors receive images in [0, 1].
    :param features_extractor_class: SB3's features extractor; each network that receives observations has its own.
        ``FlattenExtractor`` keeps vectors unchanged, and encodes discrete values as one-hot vectors.
    :param features_extractor_kwargs: arguments of the extractor besides the observation space.
    :param optimizer_class: optimiser of all networks; None uses ``torch.optim.Adam``. With several seeds, it must treat
        the elements of a tensor separately, which Adafactor does not.
    :param optimizer_kwargs: arguments of the optimiser besides the learning rate.
    :raises ValueError: if the activation has parameters, or if a setting does not fit the observations, e.g.
        `observation_scale` with images.
    :raises NotImplementedError: if the features extractor does not support several seeds.
    """

    optimizer: torch.optim.Optimizer
    own_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    """Default features extractor."""
    keeps_statistics = False
    """Whether observation statistics were loaded with the parameters; a dataset then does not replace them."""

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
        optimizer_class: type[torch.optim.Optimizer] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if method.encoder is not None:
            if features_extractor_class not in (None, ImpalaEncoder):
                raise ValueError(
                    "got both `encoder` and `features_extractor_class`; pass one of them"
                )
            features_extractor_class = ImpalaEncoder
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class=features_extractor_class or self.own_extractor,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class or torch.optim.Adam,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=True,
        )
        self.method = method
        method.is_locked = True  # the networks are built with the method's settings
        self.layout = ObservationLayout(observation_space, normalize_images)
        if method.observation_scale is not None and not self.layout.is_plain:
            raise ValueError(
                f"`observation_scale` needs vectors of numbers, got {observation_space}; set it to None "
                "(`-params observation_scale=null`): images have their own scaling, discrete values are one-hot"
            )
        if method.random_crop and not any(part.is_image for part in self.layout.parts):
            raise ValueError(f"`random_crop` needs images, got {observation_space}; leave it 0")
        self.seeds = list(seeds or [int(torch.randint(2**31, ()))])
        self.num_replicas = len(self.seeds)
        self.activation_fn = activation_fn
        self.action_size = int(np.prod(action_space.shape))
        self.chunk_length = method.chunk_length
        self.chunk_size = self.action_size * self.chunk_length
        mean = torch.zeros(self.layout.size)
        self.register_buffer("observation_mean", mean)
        self.register_buffer("observation_factor", torch.ones_like(mean))
        # extractors sample their weights from the global generator
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(torch_generator(Purpose.EXTRACTOR, self.seeds[0]).get_state())
            self.features_extractor = self.make_features_extractor()
            specs = method.specs()
            self.nets = self._build_networks(specs)
        self.set_random_seed(self.seeds)
        arguments = dict(self.optimizer_kwargs)
        is_adam = self.optimizer_class in (torch.optim.Adam, torch.optim.AdamW)
        if is_adam and not arguments.get("foreach"):
            arguments.setdefault("fused", True)  # one pass over all parameters
        self.optimizer = self.optimizer_class(
            parameter_groups(self.nets, specs),
            lr=lr_schedule(1),
            **arguments,
        )  # type: ignore[call-arg]

    @property
    def actor(self) -> FlowPolicy:
        """The policy itself, under SB3's name; `policy.actor.save(path)` saves it."""
        return self

    @property
    def features_space(self) -> spaces.Box:
        """Space of the networks' inputs: observations or their features."""
        return spaces.Box(-1, 1, (self.features_extractor.features_dim,))

    def _build_networks(self, specs: Mapping[str, NetworkSpec]) -> Networks:
        """Build all networks; replica k is initialised like a single run with its seed."""
        if self.activation_fn is not None and list(self.activation_fn().parameters()):
            raise ValueError(
                f"`activation_fn` must have no parameters, got {self.activation_fn.__name__}; use e.g. torch.nn.ReLU"
            )
        method = self.method
        actor_sizes, critic_sizes = get_actor_critic_arch(method.net_arch)
        sizes = Sizes(
            self.num_replicas, self.features_extractor.features_dim, self.chunk_size,
            method.ensemble_size, method.flow_steps, actor_sizes, critic_sizes,
            method.actor_layer_norm, method.critic_layer_norm,
        )  # fmt: skip
        nets = Networks({name: spec.build(sizes) for name, spec in specs.items()})
        is_flat = self.layout.is_plain and self.features_extractor_class is FlattenExtractor
        for network in nets.values():
            if isinstance(network, PretrainedNetwork):
                network.field.read_rows = self.layout.observations
            elif isinstance(network, ObservingNetwork) and not is_flat:
                # each network has its own extractor; SB3's attribute `features_extractor` refers to the last one
                self.features_extractor = self.make_features_extractor()
                network.features_extractor = self.features_extractor
                network.prepare_rows = self.layout.to_extractor_input
        self._initialise(nets)
        # after initialisation, because target networks copy the weights
        nets.add_targets([name for name, spec in specs.items() if spec.target])
        for name, module in nets.named_modules():
            if isinstance(module, StackedMLP):
                if method.precision == "bf16":
                    module.matmul_dtype = torch.bfloat16
                if self.activation_fn is not None and ".features_extractor." not in name:
                    module.activation = self.activation_fn()
        return nets.train()

    def _initialise(self, nets: Networks) -> None:
        """Initialise the weights of each replica from a separate generator."""
        for parameter in nets.parameters():
            # fused optimisers and loaded moments need parameters in contiguous memory
            parameter.data = parameter.data.contiguous()
        for replica, seed in enumerate(self.seeds):
            generator = torch_generator(Purpose.WEIGHTS, seed)
            network: Any
            for network in nets.values():
                network.initialise(replica, generator)
                extractor = getattr(network, "features_extractor", None)
                if isinstance(extractor, ImpalaEncoder):
                    extractor.initialise(replica, generator)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Create a features extractor; raise if it does not fit the observations or the number of replicas."""
        arguments = dict(self.features_extractor_kwargs)
        extractor_class = self.features_extractor_class
        is_dict = self.layout.is_dict
        if issubclass(extractor_class, CombinedExtractor) and not is_dict:
            raise ValueError(
                f"`MultiInputPolicy` needs Dict observations, got {self.observation_space}; use MlpPolicy"
            )
        if extractor_class in (FlattenExtractor, NatureCNN) and is_dict:
            raise ValueError("Dict observations need `MultiInputPolicy`, or an extractor for Dict")
        if issubclass(extractor_class, ImpalaEncoder):
            arguments["replicas"] = self.num_replicas
        try:
            extractor = extractor_class(self.observation_space, **arguments)
        except RuntimeError as error:
            if extractor_class is not self.own_extractor:
                raise  # e.g. damaged weights of a custom extractor
            # PyTorch's, for an image that is smaller than a convolution's kernel
            raise ValueError(
                f"{extractor_class.__name__} does not accept {self.observation_space}: {error}; use larger images, or, "
                "outside of a Dict, `encoder=impala_small`"
            ) from error
        if self.num_replicas > 1 and extractor.state_dict() and "replicas" not in arguments:
            raise NotImplementedError(
                f"`features_extractor_class` must be FlattenExtractor or ImpalaEncoder to train {self.num_replicas} "
                f"seeds in parallel, got {type(extractor).__name__}; train each seed separately"
            )
        return extractor

    def set_random_seed(self, seed: int | Sequence[int]) -> None:
        """Seed action noise with one seed per replica, or with a single seed, from which one per replica is derived."""
        if not isinstance(seed, Sequence):
            seed = seeds_of_replicas(seed, self.num_replicas)
        self.generators = []
        self.prediction_generators = []
        # noise is sampled on the CPU and separately per replica, so neither the device nor other replicas change it
        for replica_seed in seed:
            self.generators.append(torch_generator(Purpose.ACTING, replica_seed))
            self.prediction_generators.append(torch_generator(Purpose.PREDICTION, replica_seed))

    def load_optimizer_state(self, saved: Mapping[str, Any]) -> None:
        """Load the state of an optimiser; the policy keeps its options, such as weight decay, except the learning rate.

        :param saved: state dict of an optimiser.
        :raises RuntimeError: if it is not the state dict of an optimiser.
        :raises ValueError: if the saved parameter groups differ from the policy's.
        """
        if saved.keys() != {"state", "param_groups"}:
            raise RuntimeError(
                f"an optimiser's state has the keys `state` and `param_groups`, got {[*saved]}"
            )
        groups, saved_groups = self.optimizer.param_groups, saved["param_groups"]
        networks = [group.get("network", "all others") for group in groups]
        saved_networks = [group.get("network", "all others") for group in saved_groups]
        if saved_networks != networks:
            raise ValueError(
                f"the optimiser's parameter groups are {', '.join(networks)}, but the saved ones are "
                f"{', '.join(saved_networks)}; use the same per-network options, or load the parameters alone: "
                '`set_parameters({"policy": ...}, exact_match=False)`'
            )
        merged = [
            # the learning rate continues from its saved value, which is a tensor if it was saved from a GPU
            {**group, "params": saved_group["params"], "lr": float(saved_group["lr"])}
            for group, saved_group in zip(groups, saved_groups, strict=True)
        ]
        # copied, because PyTorch would let two optimisers share their moments
        self.optimizer.load_state_dict(
            {"state": copy.deepcopy(saved["state"]), "param_groups": merged}
        )

    def replica(self, index: int) -> FlowPolicy:
        """Copy replica `index` (0..S-1), with its parameters and optimiser state, to a new policy."""
        index = integer("index", index, at_least=0, at_most=self.num_replicas - 1)
        parameters = self._get_constructor_parameters()
        parameters |= {"method": copy.copy(self.method), "seeds": [self.seeds[index]]}
        single = type(self)(**parameters).to(self.device)
        single.normalization = self.normalization
        is_stacked = self.num_replicas > 1  # a single replica's extractor may lack the axis S

        def select_replica(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value  # some optimisers count their steps in an int
            if is_stacked and value.ndim:
                value = value[index : index + 1]
            return value.clone()  # so that the new optimiser does not change this policy's tensors

        state = self.state_dict()
        for name, value in state.items():
            if name.startswith(("nets.", "features_extractor.")):
                state[name] = select_replica(value)
        single.load_state_dict(state)
        steps = self.optimizer.state_dict()
        for key, moments in steps["state"].items():
            steps["state"][key] = {name: select_replica(value) for name, value in moments.items()}
        single.optimizer.load_state_dict(steps)
        return single

    # -- saving -------------------------------------------------------------------------------------------------------

    def acting_networks(self) -> set[str]:
        """Return the names of the networks used to act and to score actions."""
        self.set_training_mode(False)
        names: set[str] = set()
        nets = self.nets.recording(names)
        size = (self.num_replicas, 1, self.layout.size)
        rows = torch.zeros(size, dtype=self.layout.dtype, device=self.device)
        noise = self.method.move_row_axes(self._fixed_noise(1))
        actions = self.sample(rows, noise, nets)
        if self.method.can_score:
            with torch.no_grad():
                self.method.score(self.preprocess_raw(rows), actions, nets)
        return names

    def save(
        self,
        path: str | Path,
        networks: Collection[str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Save the policy alone, with a checksum.

        :param path: file, usually with the suffix ``.safetensors``.
        :param networks: names of the networks to save, e.g. :meth:`acting_networks`; None saves all.
        :param about: metadata in plain JSON values, e.g. environment and score.
        """
        if self.method.pretrained is not None:
            raise ValueError(
                "a policy with a custom `behaviour` network cannot be saved alone; save the model (`model.save`), or "
                "export it (`agents.export_onnx`)"
            )
        owners = {"observation_mean", "observation_factor", *(networks or self.nets)}
        tensors = {}
        for name, value in self.state_dict().items():
            if _owner_of(name) in owners:
                tensors[name] = value
        # algorithm name, settings and constructor arguments, from which `load` builds an equal policy
        settings = self.method.settings()
        if callable(settings["learning_rate"]):
            del settings["learning_rate"]  # a file contains no code, and acting needs no rate
        description = {
            **self._get_constructor_parameters(),
            "policy_class": type(self),
            "method": name_of(type(self.method)),
            "settings": settings,
        }
        del description["lr_schedule"]
        if self.normalization is not None:
            description["normalization"] = vars(self.normalization)
        write_policy(path, description, tensors, about or {})

    @classmethod
    def load(
        cls, path: str | Path, device: torch.device | str = "auto", *, trust: bool = False
    ) -> Self:
        """Load a policy without executing code from the file; its actions are identical to the saved policy's.

        :param path: a saved policy.
        :param device: device of the policy, or the CPU if that device is not available.
        :param trust: whether to import the module named in the file.
        :return: the policy, of the saved class or of a subclass that this method is called on, with the saved networks;
            it cannot be trained unless all networks were saved.
        :raises FileNotFoundError: if the file does not exist.
        :raises ValueError: if the file is damaged or not a policy, or if its algorithm is unknown or not trusted.

        >>> agents.BC("MlpPolicy", "Pendulum-v1", net_arch=[32]).save_policy("policy.safetensors")
        >>> action, state = agents.load_policy("policy.safetensors").predict(np.zeros(3, np.float32))
        """
        entry, description, tensors = read_policy(path, trust)
        normalization = description.pop("normalization", None)
        kind = description.pop("policy_class", cls)
        if not issubclass(kind, cls):
            kind = cls
        with raising_damaged_file(str(path)):
            method = entry.method(**description.pop("settings"))
            policy = kind(lr_schedule=cls._dummy_schedule, method=method, **description)
            owners = {_owner_of(name) for name in tensors}
            saved_networks = {name: net for name, net in policy.nets.items() if name in owners}
            if len(saved_networks) < len(policy.nets):
                # the optimiser's parameter groups contain networks that are not in the file
                del policy.optimizer
                policy.nets = Networks(saved_networks)
            # SB3 needs the attribute `features_extractor`, so the state dict contains the last extractor twice; the
            # file contains it once, as part of its network
            for name, value in policy.state_dict().items():
                if name.startswith("features_extractor."):
                    tensors.setdefault(name, value)
            policy.load_state_dict(tensors)
            if normalization is not None:
                policy.normalization = Normalization(**normalization)
        return policy.to(device=get_device(device))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        """Return constructor arguments that build an equal policy."""
        names = inspect.signature(FlowPolicy).parameters
        parameters = {name: getattr(self, name) for name in names if name != "lr_schedule"}
        return {"lr_schedule": self._dummy_schedule, **parameters}


class CnnFlowPolicy(FlowPolicy):
    """Policy for images; the default features extractor is SB3's ``NatureCNN``."""

    own_extractor = NatureCNN


class MultiInputFlowPolicy(FlowPolicy):
    """Policy for Dict observations; the default features extractor is SB3's ``CombinedExtractor``."""

    own_extractor = CombinedExtractor


POLICIES: dict[str, type[BasePolicy]] = {
    "MlpPolicy": FlowPolicy,
    "CnnPolicy": CnnFlowPolicy,
    "MultiInputPolicy": MultiInputFlowPolicy,
}
"""SB3's name -> policy class."""


def _owner_of(tensor: str) -> str:
    """Return the name of the network, or else of the policy's attribute, that contains a tensor."""
    return tensor.removeprefix("nets.").partition(".")[0]


load_policy = FlowPolicy.load
