"""The one training loop of all algorithms, offline and online, on Stable-Baselines3's off-policy base class."""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections.abc import Hashable, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, Literal, Never, Self, TypedDict

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import GymEnv as GymEnv
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule, get_device
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.common.batch import Batch
from agents.common.check import check_first_update, require_table
from agents.common.data.arrays import ArraySource
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.shards import Shards
from agents.common.data.storage import Placement
from agents.common.engine.update import Mode, Update
from agents.common.maths.critic import pick_best
from agents.common.nets.heads import CriticEnsemble
from agents.common.nets.specs import Networks, NetworkSpec
from agents.common.noise import Draw, Noise, normal
from agents.common.policy import FlowPolicy
from agents.common.pretraining import (
    CLONING_NOISE,
    cloning_losses,
    find_behaviour,
    load_behaviour,
    no_behaviour_message,
    start_from_behaviour,
)
from agents.common.replicas import Diverged, PerReplica, find_divergence, on_host
from agents.common.saved import find_model, require_algorithm
from agents.common.validation import boolean, closest_names, integer, number, one_of
from agents.registry import name_of, settings_of

UNSAVED = ("_generator", "_host_generator", "_update", "_chunk_state", "_last_info", "_told", "_checked")
Info = dict[str, Tensor]
Losses = dict[str, Tensor]
Targets = dict[str, Tensor]
DEFAULT_HORIZON, DEFAULT_ENSEMBLE = 5, 10


class UnsupportedSpaceError(NotImplementedError, AssertionError):
    """An observation or action space that flow policies are not built for; SB3 raises AssertionError there."""


class CommonSettings(TypedDict, total=False):
    """Settings that every algorithm has; documented at :class:`FlowQLearning`."""

    learning_rate: float | str | Schedule
    buffer_size: int
    learning_starts: int
    batch_size: int
    tau: float
    gamma: float
    train_freq: int | tuple[int, str]
    gradient_steps: int
    horizon_length: int
    action_chunking: bool
    ensemble_size: int
    rho: float
    flow_steps: int
    best_of_n: int
    max_grad_norm: float | None
    net_arch: list[int] | dict[str, list[int]]
    actor_layer_norm: bool
    critic_layer_norm: bool
    observation_scale: float | None
    sparse: bool
    balanced_sampling: bool
    pretraining_steps: int
    precision: Literal["fp32", "tf32", "bf16"]
    compile: Literal["auto", "on", "off"]


class CommonArguments(CommonSettings, total=False):
    """Constructor arguments that are no settings of the method: SB3's own, and where things run."""

    n_steps: int | None
    action_noise: ActionNoise | None
    replay_buffer_class: type[SequenceReplayBuffer] | None
    replay_buffer_kwargs: dict[str, Any] | None
    optimize_memory_usage: bool
    policy_kwargs: dict[str, Any] | None
    stats_window_size: int
    tensorboard_log: str | None
    verbose: int
    seed: int | None
    seeds: Sequence[int] | None
    device: torch.device | str
    _init_setup_model: bool


class FlowQLearning(OffPolicyAlgorithm):
    """Off-policy learning of flow policies from a dataset, from an environment, or from both in turn.

    A subclass names its networks and noise and writes its sampler (:meth:`act`), targets and losses; everything else is
    here. Shapes: S stacked seeds, B rows, O observation size, D flattened chunk. Defaults are those of the reference
    implementation of Q-learning with Adjoint Matching (arXiv 2601.14234).

    :param policy: ``"MlpPolicy"`` or a subclass of ``FlowPolicy``.
    :param env: environment, its Gymnasium id, or None when loading. Flat Box observations and bounded Box actions.
    :param learning_rate: Adam's step size, > 0; ``"lin_1e-3"`` falls from there to 0 over a phase; or a schedule, a
        function of the remaining progress.
    :param buffer_size: online transitions to keep, >= 1.
    :param learning_starts: online environment steps before the first online update, >= 0. Without an offline phase the
        actions before it are uniform, as in SB3; after one the policy acts from the start.
    :param batch_size: sequences per update and seed, >= 1.
    :param tau: Polyak weight of the target networks, in [0, 1]; 0: they stay as they began. Targets follow the weights
        from before the step.
    :param gamma: discount per environment step, in [0, 1].
    :param train_freq: environment steps (or ``(n, "episode")``) between rounds of updates.
    :param gradient_steps: updates per round (the update-to-data ratio); -1 for one per environment step.
    :param horizon_length: H, actions per chunk and steps of the n-step return, >= 1.
    :param action_chunking: whether the policy plans all H actions; if not, H is only the length of the return.
    :param ensemble_size: E, critics, >= 1.
    :param rho: pessimism: standard deviations over the ensemble subtracted from its mean, >= 0.
    :param flow_steps: K, Euler steps of a flow (or diffusion steps), >= 1.
    :param best_of_n: candidates per state of which the one with the highest mean Q is played, >= 1.
    :param max_grad_norm: bound on the norm of each replica's whole gradient, all networks together; None: no bound.
    :param net_arch: hidden widths of all networks, or ``{"pi": [...], "qf": [...]}``.
    :param actor_layer_norm: whether velocity fields have LayerNorm behind each hidden activation.
    :param critic_layer_norm: whether critics and values have it.
    :param observation_scale: centre observations by the dataset's mean and scale each coordinate to this standard
        deviation, > 0; None: raw observations. The statistics are stored with the model.
    :param sparse: whether online rewards become -1 where they are not zero (the dataset's are changed on loading).
    :param balanced_sampling: whether half of every batch comes from the dataset and half from online transitions, as
        long as there are both; if not, batches are uniform over all of them. Needs an even ``batch_size``.
    :param pretraining_steps: first updates, >= 0, which clone the behaviour flow and leave the rest alone, but for the
        networks that begin at it and moving averages: these are its copies meanwhile. ``pretraining`` says whether the
        coming update is one of them.
    :param precision: ``fp32``; ``tf32`` (CUDA's fast float32 products); ``bf16`` (hidden layers' products in bfloat16).
    :param compile: whether the losses are compiled and, on CUDA, whole updates recorded and replayed; ``auto`` decides
        by device and number of updates so far. What fails falls back to plain execution with a warning that says why.
    :param n_steps: SB3's name for n-step returns of single actions: the same as ``horizon_length=n_steps`` with
        ``action_chunking=False``; None leaves both as they are.
    :param action_noise: SB3's, added to the executed actions.
    :param replay_buffer_class: a subclass of ``SequenceReplayBuffer``, or None for itself.
    :param replay_buffer_kwargs: further arguments of the buffer; ``{"storage": "host"}`` keeps the data off the GPU.
    :param optimize_memory_usage: accepted for SB3; next observations are never stored twice.
    :param policy_kwargs: arguments of the policy; they override ``net_arch`` and the like. SB3's ``n_critics`` is
        ``ensemble_size``.
    :param stats_window_size: episodes over which rollout statistics are averaged.
    :param tensorboard_log: folder of TensorBoard events, or None.
    :param verbose: 0 silent, 1 info, 2 debug.
    :param seed: seed of everything random, or None.
    :param seeds: one seed per stacked replica; None trains one replica with ``seed``.
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``...
    :param _init_setup_model: whether networks and buffer are built at once; ``load`` does it later.
    :param unknown: refused; the message names the closest argument.
    :raises UnsupportedSpaceError: for image, Dict and other observations, or actions that are no bounded Box.
    :raises ValueError: for a setting out of range, or pretraining where the algorithm has no behaviour flow.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": FlowPolicy}
    pretraining: bool = False  # whether the coming update trains the behaviour flow alone
    # losses that are meant to count what `batch.valid` leaves out
    unmasked_losses: ClassVar[frozenset[str]] = frozenset()
    policy: FlowPolicy
    replay_buffer: SequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        learning_rate: float | str | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 5_000,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        *,
        horizon_length: int = DEFAULT_HORIZON,
        action_chunking: bool = True,
        ensemble_size: int = DEFAULT_ENSEMBLE,
        rho: float = 0.5,
        flow_steps: int = 10,
        best_of_n: int = 1,
        max_grad_norm: float | None = None,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        actor_layer_norm: bool = False,
        critic_layer_norm: bool = True,
        observation_scale: float | None = None,
        sparse: bool = False,
        balanced_sampling: bool = False,
        pretraining_steps: int = 0,
        precision: Literal["fp32", "tf32", "bf16"] = "fp32",
        compile: Literal["auto", "on", "off"] = "auto",
        n_steps: int | None = None,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[SequenceReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **unknown: Never,
    ) -> None:
        _learning_rate_schedule(learning_rate)  # refuses a bad value
        if seeds is not None and not len(seeds):
            raise ValueError("`seeds` must hold at least one seed, got none; use None for one run with `seed`")
        _refuse_unknown(type(self), unknown)
        learning_starts = integer("learning_starts", learning_starts, at_least=0)
        if gradient_steps != -1:
            gradient_steps = integer("gradient_steps", gradient_steps, at_least=0)
        if n_steps is not None:
            horizon_length, action_chunking = _horizon_of(n_steps, horizon_length), False
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate,  # type: ignore[arg-type]  # words are turned into schedules in _setup_lr_schedule
            buffer_size=integer("buffer_size", buffer_size, at_least=1),
            learning_starts=learning_starts,
            batch_size=integer("batch_size", batch_size, at_least=1),
            tau=number("tau", tau, at_least=0, at_most=1),
            gamma=number("gamma", gamma, at_least=0, at_most=1),
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=available_device(device),
            support_multi_env=True,
            seed=seed if seeds is None else seeds[0],
            sde_support=False,
        )
        self.seeds = None if seeds is None else [integer("seeds", value) for value in seeds]
        self.horizon_length = integer("horizon_length", horizon_length, at_least=1)
        self.action_chunking = boolean("action_chunking", action_chunking)
        self.ensemble_size = _ensemble_of(self.policy_kwargs.get("n_critics"), ensemble_size)
        self.rho = number("rho", rho, at_least=0)
        self.flow_steps = integer("flow_steps", flow_steps, at_least=1)
        self.best_of_n = integer("best_of_n", best_of_n, at_least=1)
        self.max_grad_norm = None if max_grad_norm is None else number("max_grad_norm", max_grad_norm, above=0)
        self.net_arch = _checked_net_arch(net_arch)
        self.actor_layer_norm = boolean("actor_layer_norm", actor_layer_norm)
        self.critic_layer_norm = boolean("critic_layer_norm", critic_layer_norm)
        self.observation_scale = (
            None if observation_scale is None else number("observation_scale", observation_scale, above=0)
        )
        self.sparse = boolean("sparse", sparse)
        self.balanced_sampling = boolean("balanced_sampling", balanced_sampling)
        if balanced_sampling and batch_size % 2:
            raise ValueError(
                f"`batch_size` must be even with `balanced_sampling`, got {batch_size}; use an even number"
            )
        self.precision = one_of("precision", precision, ("fp32", "tf32", "bf16"))
        self.compile = one_of("compile", compile, ("auto", "on", "off"))
        self.algorithm_id = name_of(type(self))  # a saved model says whose it is
        self.offline_steps = 0  # gradient steps taken in learn_offline
        self.behaviour_flow = find_behaviour(require_table(self, "networks", NetworkSpec))
        self.pretraining_steps = integer("pretraining_steps", pretraining_steps, at_least=0)
        if self.pretraining_steps and self.behaviour_flow is None:
            raise ValueError(no_behaviour_message(type(self).__name__))
        self.pretraining = self.pretraining_steps > 0
        if _init_setup_model:
            self._setup_model()

    # -- what an algorithm defines ------------------------------------------------------------------------------------

    def networks(self) -> dict[str, NetworkSpec]:
        """Return the algorithm's networks by name, in the order in which they are initialised."""
        raise NotImplementedError(
            'must be defined; it returns {"critic": critic(target=True), ...}, every network by name (docs/register.md)'
        )

    def noise(self) -> dict[str, Draw]:
        """Return every random draw of an update by name, besides those of the next action."""
        raise NotImplementedError(
            'must be defined; it returns {"bc_x0": normal(), ...}, every random draw by name (docs/register.md)'
        )

    def action_noise_table(self) -> dict[str, Draw]:
        """Return the random draws of one call of :meth:`act` by name."""
        return {"action": normal()}

    def act(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks: the one sampler for TD targets, collection and evaluation.

        :param observations: as the networks see them, (S, N, O).
        :param noise: the draws of :meth:`action_noise_table`.
        :param nets: the networks.
        :return: actions in [-1, 1], (S, N, D).
        """
        raise NotImplementedError(
            "must be defined; it returns actions (S, N, D) in [-1, 1] for observations (S, N, O) (docs/register.md)"
        )

    def targets(self, batch: Batch, noise: Noise, nets: Networks, info: Info) -> Targets:
        """Compute what the losses regress to; no gradient is recorded here.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: tensors by name.
        """
        raise NotImplementedError(
            "must be defined; it returns a dict of what the losses regress to (perhaps empty) (docs/register.md)"
        )

    def losses(self, batch: Batch, targets: Targets, noise: Noise, nets: Networks, info: Info) -> Losses:
        """Compute the losses, unscaled; each is a mean over everything but seeds.

        :param batch: the batch.
        :param targets: from :meth:`targets`.
        :param noise: all draws of the update.
        :param nets: the networks.
        :param info: to add diagnostics to, each (S,).
        :return: name -> (S,).
        """
        raise NotImplementedError("must be defined; it returns a dict of losses by name, each (S,) (docs/register.md)")

    def loss_weights(self) -> dict[str, float]:
        """Return the weights of the losses; those not named weigh 1."""
        return {}

    def score(self, observations: Tensor, actions: Tensor, nets: Networks) -> Tensor:
        """Rate candidate actions for best-of-n: the online critics' plain mean.

        :param observations: (S, N, O).
        :param actions: (S, N, D).
        :param nets: the networks.
        :return: (S, N).
        """
        return nets.critic(observations, actions).mean(1)

    def skipped_networks(self) -> frozenset[str]:
        """Return which networks the coming update leaves as they are; a target copy is named with ``_target``.

        The answer follows from settings and counts such as the number of updates so far, never from tensors. What is
        skipped takes no part in the gradient's norm, and its optimiser state rests. While pretraining that is all but
        the behaviour flow.
        """
        return frozenset(self.policy.nets) - {self.behaviour_flow or ""} if self.pretraining else frozenset()

    def after_update(self, info: Info) -> None:
        """Update state that is not trained by gradient, e.g. a multiplier.

        :param info: the update's losses and diagnostics.
        """

    # -- one update ---------------------------------------------------------------------------------------------------

    def candidate_noise(self) -> dict[str, Draw]:
        """Return the draws of one action choice, with an axis N when several candidates compete."""
        table = self.action_noise_table()
        return table if self.best_of_n == 1 else {name: draw.with_candidates() for name, draw in table.items()}

    def update_noise(self) -> dict[str, Draw]:
        """Return every draw of one update: the next action's, prefixed ``td_``, and the algorithm's own."""
        return {**{f"td_{name}": draw for name, draw in self.candidate_noise().items()}, **self.noise()}

    def noise_sizes(self, replicas: int, rows: int, chunk_size: int) -> dict[str, int]:
        """Return the sizes of the noise table's axes.

        :param replicas: S.
        :param rows: B.
        :param chunk_size: D.
        :return: letter -> size.
        """
        return {"S": replicas, "B": rows, "N": self.best_of_n, "K": self.flow_steps, "D": chunk_size}

    def sample_actions(self, observations: Tensor, noise: Noise, nets: Networks) -> Tensor:
        """Sample chunks, choosing the best of n candidates by :meth:`score` when ``best_of_n`` > 1.

        :param observations: (S, N, O).
        :param noise: the draws of :meth:`candidate_noise`.
        :param nets: the networks.
        :return: (S, N, D).
        """
        n = self.best_of_n
        if n == 1:
            return self.act(observations, noise, nets)
        table = self.candidate_noise()
        axes = {name: 1 + table[name].axes.index("B") for name in noise}
        merged = {name: draw.flatten(axes[name], axes[name] + 1) for name, draw in noise.items()}
        repeated = observations.repeat_interleave(n, dim=1)
        candidates = self.act(repeated, merged, nets)
        scores = self.score(repeated, candidates, nets)
        return pick_best(candidates.unflatten(1, (-1, n)), scores.unflatten(1, (-1, n)))

    def next_actions(self, batch: Batch, noise: Noise, nets: Networks) -> Tensor:
        """Sample the next state's action of the TD target.

        :param batch: the batch.
        :param noise: all draws of the update.
        :param nets: the networks.
        :return: (S, B, D).
        """
        own = {name: noise[f"td_{name}"] for name in self.action_noise_table()}
        return self.sample_actions(batch.next_observations, own, nets)

    def compute_losses(self, batch: Batch, noise: Noise) -> tuple[Tensor, Info]:
        """Evaluate targets and losses.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: the weighted total of every replica with its graph, (S,), and losses and diagnostics without.
        """
        info: Info = {}
        if self.pretraining:
            losses = cloning_losses(self.policy.nets[self.behaviour_flow or ""], batch, noise)
        else:
            with torch.no_grad():
                targets = self.targets(batch, noise, self.policy.nets, info)
            losses = self.losses(batch, targets, noise, self.policy.nets, info)
        weights = self.loss_weights()
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(0)
        info |= {f"{name}_loss": loss for name, loss in losses.items()} | {"total_loss": total}
        return total, {name: value.detach() for name, value in info.items()}

    def update(self, batch: Batch, noise: Noise) -> Info:
        """Take one gradient step on all networks, or while pretraining on the behaviour flow.

        :param batch: the batch, observations as the networks see them.
        :param noise: all draws of the update.
        :return: losses and diagnostics, each (S,), on the device.
        """
        return self._updated(self._update(batch, noise))

    def sample_and_update(self, batch_size: int) -> Info:
        """Sample a batch and the noise, and take one gradient step.

        :param batch_size: B.
        :return: losses and diagnostics, each (S,), on the device; the next update may write into the same tensors.
        """
        assert self.replay_buffer is not None
        self.replay_buffer.rotate_dataset(self._n_updates)
        return self._updated(self._update.from_buffer(batch_size))

    def _updated(self, info: Info) -> Info:
        """Finish an update: what is not trained by gradient, copies, and the count."""
        if self.pretraining:
            start_from_behaviour(self.policy.nets, self.networks())
        else:
            self.after_update(info)
        self._n_updates += 1
        self.pretraining = self._n_updates < self.pretraining_steps
        return info

    def draw_batch(self, batch_size: int) -> Batch:
        """Sample a batch.

        :param batch_size: B.
        :return: the batch, observations as the networks see them.
        """
        assert self.replay_buffer is not None
        batch = self.replay_buffer.sample(batch_size, self._vec_normalize_env, self._batch_generator)
        preprocess = self.policy.preprocess
        seen = {name: preprocess(getattr(batch, name)) for name in ("observations", "next_observations")}
        return Batch(**{**vars(batch), **seen})

    def draw_noise(self, batch_size: int) -> dict[str, Tensor]:
        """Draw the noise of one update.

        :param batch_size: B.
        :return: every draw of :meth:`update_noise` by name; while pretraining, those of cloning.
        """
        sizes = self.noise_sizes(self.policy.num_replicas, batch_size, self.policy.chunk_size)
        draws = CLONING_NOISE if self.pretraining else self.update_noise()
        return {name: draw(sizes, self._generator, self.device) for name, draw in draws.items()}

    def batch_source(self) -> Hashable:
        """Return what drawing a batch reads, where that is on the device and stays as it is between updates.

        :return: a key that changes with it, or None where the host takes part: while online transitions come in, where
            an environment's statistics normalise them, or where the buffer is in the host's memory.
        """
        buffer = self.replay_buffer
        if buffer is None or buffer.size() or not buffer.on_device or self._vec_normalize_env is not None:
            return None
        return buffer.observations.data_ptr(), buffer.dataset_size

    # -- set-up -------------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return the values of all settings, as they are recorded with a run."""
        return {name: getattr(self, name) for name in settings_of(type(self))}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return an instance that has settings and nothing else: enough for networks, noise tables and :meth:`act`.

        A policy holds one, so that a saved policy acts without its algorithm.

        :param settings: values by name.
        :return: the bare instance.
        """
        bare = cls.__new__(cls)
        bare.__dict__.update(settings)
        return bare

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        """Refuse SB3's policies for other observations by name."""
        if policy_name in ("CnnPolicy", "MultiInputPolicy"):
            raise UnsupportedSpaceError(
                f"flow policies support flat Box observations with `MlpPolicy`, got `{policy_name}`, which is for "
                "images or Dict observation spaces (and hindsight replay); use `MlpPolicy` and a state-based one"
            )
        return super()._get_policy_from_name(policy_name)

    def _setup_model(self) -> None:
        """Build buffer and policy; runs without an environment too when a model is loaded."""
        _check_spaces(self.observation_space, self.action_space)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        replicas = 1 if self.seeds is None else len(self.seeds)
        if self.replay_buffer is None:
            self.replay_buffer = self._make_buffer(replicas)
        settings = {k: v for k, v in self.settings().items() if k not in ("learning_rate", "net_arch")}
        arguments = {
            "net_arch": self.net_arch,
            "actor_layer_norm": self.actor_layer_norm,
            "critic_layer_norm": self.critic_layer_norm,
            "seeds": self.seeds or ([self.seed] if self.seed is not None else None),
            **{name: value for name, value in self.policy_kwargs.items() if name != "n_critics"},
        }
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, type(self), settings, **arguments
        )
        self.policy = self.policy.to(self.device)
        self._convert_train_freq()
        self._update = Update(self)
        self._chunk_state: tuple[NDArray[Any], ...] | None = None
        self._last_info: Info = {}
        self._told: Placement | None = None
        self._checked = False

    def _setup_lr_schedule(self) -> None:
        """Turn the learning rate into a function of the remaining progress."""
        self.lr_schedule = _learning_rate_schedule(self.learning_rate)

    def _make_buffer(self, replicas: int) -> SequenceReplayBuffer:
        """Return the empty buffer."""
        buffer_class = self.replay_buffer_class or SequenceReplayBuffer
        if not issubclass(buffer_class, SequenceReplayBuffer):
            raise TypeError(
                f"`replay_buffer_class` must be a subclass of SequenceReplayBuffer, got {buffer_class.__name__}: "
                "chunks need sequences of transitions"
            )
        return buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            horizon_length=self.horizon_length,
            gamma=self.gamma,
            action_chunking=self.action_chunking,
            replicas=replicas,
            sparse=self.sparse,
            balanced=self.balanced_sampling,
            **self.replay_buffer_kwargs,
        )

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, PyTorch, the spaces, and the generators of batches and noise.

        :param seed: any int; None draws one.
        """
        super().set_random_seed(seed)
        own = int(torch.randint(2**31, ())) if seed is None else seed
        self._generator = torch.Generator(self.device).manual_seed(own)
        self._host_generator = torch.Generator().manual_seed(own)
        if hasattr(self, "policy"):
            self.policy.set_random_seed(own)

    @property
    def _batch_generator(self) -> torch.Generator:
        """What batches are drawn from; in host memory nothing else is, so that the next one can be prepared."""
        assert self.replay_buffer is not None
        return self._generator if self.replay_buffer.on_device else self._host_generator

    @classmethod
    def load(
        cls,
        path: str | Path | BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Load a model; as in SB3, a device that is not there stands for the CPU.

        :param path: what :meth:`save` wrote, or the folder of a run.
        :param env: environment to go on with.
        :param device: where to.
        :param custom_objects: stands for saved attributes.
        :param print_system_info: whether to print versions, of then and now.
        :param force_reset: whether training begins with a reset.
        :param kwargs: further attributes to set.
        :return: the model.
        :raises FileNotFoundError: if there is no model.
        :raises ValueError: if it is the model of another algorithm.
        """
        there = get_device(device)
        if isinstance(path, str | Path):
            path = find_model(path)
            require_algorithm(path, cls)
        return super().load(path, env, there, custom_objects, print_system_info, force_reset, **kwargs)

    def load_replay_buffer(self, path: str | Path | BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer, dataset and online transitions, to the model's device.

        :param path: what :meth:`save_replay_buffer` wrote.
        :param truncate_last_traj: SB3's, for hindsight replay only.
        """
        super().load_replay_buffer(path, truncate_last_traj)
        assert self.replay_buffer is not None
        self.replay_buffer.to(self.device)
        self.replay_buffer.device = self.device  # as SB3 says it, although one that is not there stands for the CPU

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Load parameters and optimiser state; see Stable-Baselines3.

        :param args: as there.
        :param kwargs: as there.
        """
        super().set_parameters(*args, **kwargs)
        self._update.prepare()  # a recorded update writes to the optimiser's old state

    @classmethod
    def _wrap_env(cls, env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Refuse spaces by name before SB3 wraps the environment."""
        _check_spaces(env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def replica(self, index: int) -> Self:
        """Return one stacked replica as an ordinary model of its own, without a replay buffer.

        :param index: which replica, 0..S-1.
        :return: a model with the replica's networks, targets and optimiser state.
        """
        single = copy.copy(self)
        single.policy = self.policy.replica(index)
        single.seeds, single.seed = list(single.policy.seeds), single.policy.seeds[0]
        single.replay_buffer = None
        single._generator = torch.Generator(single.device).manual_seed(single.seed)
        single._host_generator = torch.Generator().manual_seed(single.seed)
        single._update = Update(single)
        return single

    # -- training -----------------------------------------------------------------------------------------------------

    def load_dataset(
        self, dataset: ArraySource | Shards, action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Put a dataset into the replay buffer, and take the observation statistics from it where they are wanted.

        :param dataset: arrays as OGBench's loader returns them, in the regular or the compact layout, or the path of an
            ``.npz`` file of such arrays (`docs/datasets.md` lists them); or shards that take turns, of which the first
            gives the statistics. Actions in the environment's units.
        :param action_range: ``(low, high)``, numbers or (A,): what stands for the environment's action box in a dataset
            whose actions are in other units.
        :raises FileNotFoundError: if there is no such file.
        :raises ValueError: if an array is missing or has the wrong shape, or holds values that cannot be trained on;
            the buffer is then as it was.
        """
        self._check_first_update()
        assert self.replay_buffer is not None
        self.replay_buffer.load_dataset(dataset, action_range)
        if self.verbose >= 1:
            print(self.replay_buffer.dataset_description)
        if self.observation_scale is not None:
            rows = self.replay_buffer.observations[: self.replay_buffer.dataset_size]
            self.policy.set_observation_statistics(rows, self.observation_scale)

    def _check_first_update(self) -> None:
        """Try the algorithm's hooks once, before any training: see :mod:`agents.common.check`."""
        if not self._checked:
            check_first_update(self, self.observation_space, self.action_space)
            self._checked = True

    def load_pretrained_actor(self, path: str | Path | BufferedIOBase) -> None:
        """Begin with the behaviour flow of a saved model, of this or another algorithm, in place of pretraining.

        Its online flow becomes this model's; networks that begin at the behaviour flow, and moving averages, become its
        copies. One seed of the source serves all stacked seeds; of several, each gets its own.

        :param path: what ``save`` wrote, or the folder of a run. Load the dataset first where observations are scaled.
        :raises ValueError: if one of the two has no behaviour flow, the model is to be pretrained, or sizes, layers,
            action box, chunk or observation statistics differ; nothing is changed then.
        """
        load_behaviour(self, path)

    def learn_offline(
        self,
        gradient_steps: int,
        callback: MaybeCallback = None,
        dataset: ArraySource | Shards | None = None,
        log_interval: int = 5_000,
        tb_log_name: str = "run",
        reset_num_timesteps: bool = False,
        progress_bar: bool = False,
    ) -> Self:
        """Train on a dataset. Callbacks see one step, and ``num_timesteps`` advances by one, per gradient step.

        :param gradient_steps: number of updates.
        :param callback: SB3 callback, list of them, or function.
        :param dataset: loaded first, see :meth:`load_dataset`; None goes on with what the buffer holds.
        :param log_interval: gradient steps between log entries.
        :param tb_log_name: name of the TensorBoard run.
        :param reset_num_timesteps: whether to count from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises ValueError: if there is nothing to train on.
        """
        gradient_steps = integer("gradient_steps", gradient_steps, at_least=0)
        self._check_first_update()
        if reset_num_timesteps:
            self.offline_steps = 0
        if dataset is not None:
            self.load_dataset(dataset)
        assert self.replay_buffer is not None
        if not self.replay_buffer.dataset_size:
            raise ValueError("offline training needs a dataset, the buffer holds none; pass `dataset=...`")
        total, callback = self._setup_learn(gradient_steps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        total_timesteps = total  # SB3's progress bar reads this name from the locals
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._update_learning_rate(self.policy.optimizer)
            self._last_info = self.sample_and_update(self.batch_size)
            self.num_timesteps += 1
            self.offline_steps += 1
            if self.num_timesteps % log_interval == 0:
                self._dump_offline_logs()
            callback.update_locals(locals())
            if not callback.on_step():
                break
        callback.on_training_end()
        return self

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Update after environment steps, once there are enough of them.

        :param gradient_steps: number of updates.
        :param batch_size: B.
        """
        assert self.replay_buffer is not None
        online = self.num_timesteps - self.offline_steps
        if online <= self.learning_starts or not self.replay_buffer.count_starts():
            return
        self._update_learning_rate(self.policy.optimizer)
        for _ in range(gradient_steps):
            self._last_info = self.sample_and_update(batch_size)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train online. After :meth:`learn_offline`, go on with ``reset_num_timesteps=False``.

        :param total_timesteps: environment steps.
        :param callback: SB3 callback, list of them, or function.
        :param log_interval: episodes between log entries.
        :param tb_log_name: name of the TensorBoard run; None takes the class name.
        :param reset_num_timesteps: whether to count from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises ValueError: if the environments cannot be shared out evenly to stacked seeds.
        """
        self._check_first_update()
        replicas = self.policy.num_replicas
        if self.n_envs % replicas:
            raise ValueError(
                f"{replicas} stacked seeds train online with a multiple of {replicas} environments, got {self.n_envs}; "
                f"make the model with as many, e.g. `make_vec_env(..., n_envs={replicas})`"
            )
        if reset_num_timesteps:
            self.offline_steps = 0
        if self.balanced_sampling and self.replay_buffer is not None and not self.replay_buffer.dataset_size:
            warnings.warn(
                "`balanced_sampling` finds no dataset: batches are all online; call `load_dataset`", stacklevel=2
            )
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """Prepare a phase; where it begins with a reset, the stored trajectories end and no chunk goes on."""
        self._update.prepare()
        if self.verbose >= 1 and self.replay_buffer is not None and self._told != self.replay_buffer.placement:
            self._told = self.replay_buffer.placement
            print(self._told.text)
        if reset_num_timesteps or self._last_obs is None:
            self._chunk_state = None
            if self.replay_buffer is not None:
                self.replay_buffer.end_episodes()
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        noise = copy.deepcopy(self.action_noise)
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if type(noise) is type(self.action_noise):
            self.action_noise = noise  # SB3 resets it even in the middle of an episode
        return prepared

    @property
    def actor(self) -> FlowPolicy:  # type: ignore[override]  # read only
        """SB3's name of what acts: the policy."""
        return self.policy

    @property
    def critic(self) -> CriticEnsemble:
        """SB3's name of the critics, of algorithms that have some: (S, N, O) and (S, N, D) to (S, E, N)."""
        return self.policy.nets.critic

    @property
    def critic_target(self) -> CriticEnsemble:
        """SB3's name of the critics' moving average."""
        return self.policy.nets.critic_target

    @property
    def update_mode(self) -> Mode:
        """How updates are run at present, and why."""
        return self._update.mode

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that training draws from, besides the global ones."""
        acting = {f"acting {replica}": generator for replica, generator in enumerate(self.policy.generators)}
        return {"training": self._generator, "batches": self._host_generator, **acting}

    def find_divergence(self) -> dict[int, str]:
        """Return the replicas whose last loss or whose parameters are NaN or infinite; waits for the device.

        :return: replica -> what is not finite, in words.
        """
        replicas = self.policy.num_replicas
        groups: dict[str, list[Tensor]] = {
            "total_loss is": [value for name, value in self._last_info.items() if name == "total_loss"],
            **{
                f"parameters of {name} are": [p.reshape(replicas, -1) for p in net.parameters()]
                for name, net in self.policy.nets.items()
            },
        }
        return find_divergence(groups)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Play each environment's chunk on, or uniform actions while a model without an offline phase warms up."""
        assert self._last_obs is not None
        if self._n_updates == 0 and self.num_timesteps < learning_starts:
            actions, self._chunk_state = np.array([self.action_space.sample() for _ in range(n_envs)]), None
        else:
            actions, self._chunk_state = self.predict(
                self._last_obs, self._chunk_state, self._last_episode_starts, deterministic=False
            )
            actions = self._without_diverged(actions)
        scaled = self.policy.scale_action(actions)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def _without_diverged(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Let environments of diverged replicas idle in the middle of the action space; no simulator gets a NaN."""
        finite = np.isfinite(actions).all(axis=tuple(range(1, actions.ndim)))
        if finite.all():
            return actions
        if not finite.any():
            raise Diverged(
                f"planned actions must be finite, got NaN or infinity in every environment at step "
                f"{self.num_timesteps}; training diverged, a smaller `learning_rate` may help"
            )
        idle = self.policy.unscale_action(np.zeros_like(actions))
        return np.where(finite.reshape(-1, *[1] * (actions.ndim - 1)), actions, idle)

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: NDArray[Any],
        new_obs: Any,
        reward: NDArray[Any],
        dones: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store the transition, and remember which chunks end with their episode."""
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = np.array(dones, dtype=bool)

    # -- logging and saving -------------------------------------------------------------------------------------------

    def _record_info(self) -> None:
        """Hand the last update's losses and diagnostics to the logger; the only place that waits for the device."""
        for name, value in on_host(self._last_info).items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.policy.optimizer.param_groups[0]["lr"])
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _dump_offline_logs(self) -> None:
        self._record_info()
        elapsed = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        speed = (self.num_timesteps - self._num_timesteps_at_start) / elapsed
        self.logger.record("time/updates_per_s", speed)
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def dump_logs(self) -> None:
        """Write the log of the online phase."""
        self._record_info()
        if self.policy.num_replicas > 1:
            self._record_episodes()
        super().dump_logs()

    def _record_episodes(self) -> None:
        """Record how each replica's last episodes went; a logger that knows replicas prefers it to SB3's mean."""
        for name, key in (("ep_rew_mean", "r"), ("ep_len_mean", "l"), ("success_rate", "success")):
            values: list[list[float]] = [[] for _ in range(self.policy.num_replicas)]
            for episode in self.ep_info_buffer or ():
                if episode.get(key) is not None:
                    values[episode["replica"]].append(float(episode[key]))
            if any(values):
                means = [float(np.mean(own)) if own else float("nan") for own in values]
                self.logger.record(f"rollout/{name}", PerReplica(means))

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[Any] | None = None) -> None:
        """Remember finished episodes, and whose they were."""
        for index, info in enumerate(infos):
            if "episode" in info:
                info["episode"]["replica"] = index * self.policy.num_replicas // len(infos)
                info["episode"]["success"] = info.get("is_success")
        super()._update_info_buffer(infos, dones)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *UNSAVED]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def available_device(device: torch.device | str) -> torch.device:
    """Return a device, refusing one that is not there.

    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    :return: the device.
    :raises ValueError: if the name is no device, or CUDA is asked for and PyTorch finds none.
    """
    chosen = get_device(device)
    wanted = torch.device(device) if device != "auto" else chosen
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"`device` is {device!r}, but PyTorch finds no CUDA device here; use `device='cpu'` or 'auto'")
    return chosen


def _learning_rate_schedule(value: float | str | Schedule) -> Schedule:
    """Return a learning rate as a function of the remaining progress."""
    if callable(value):
        return FloatSchedule(value)
    if isinstance(value, str) and value.startswith("lin_"):
        try:
            start = float(value.removeprefix("lin_"))
        except ValueError:
            start = float("nan")
        return LinearSchedule(number("learning_rate", start, above=0), 0.0, 1.0)
    return FloatSchedule(number("learning_rate", value, above=0))


def _horizon_of(n_steps: int, horizon_length: int) -> int:
    """Return the horizon that SB3's ``n_steps`` means, unless another one is asked for too."""
    n_steps = integer("n_steps", n_steps, at_least=1)
    if horizon_length not in (n_steps, DEFAULT_HORIZON):
        raise ValueError(
            f"`n_steps` and `horizon_length` both set the length of the return, got {n_steps} and {horizon_length}; "
            "give one of them"
        )
    return n_steps


def _ensemble_of(n_critics: object, ensemble_size: object) -> int:
    """Return the number of critics, which SB3 calls ``n_critics`` and puts into ``policy_kwargs``."""
    if n_critics is None:
        return integer("ensemble_size", ensemble_size, at_least=1)
    wanted = integer("n_critics", n_critics, at_least=1)
    if ensemble_size not in (wanted, DEFAULT_ENSEMBLE):
        raise ValueError(
            f"`ensemble_size` and `n_critics` in `policy_kwargs` are the same setting, got {ensemble_size} and "
            f"{wanted}; give one of them"
        )
    return wanted


def _refuse_unknown(algorithm: type[FlowQLearning], unknown: Mapping[str, object]) -> None:
    """Refuse keyword arguments that neither the algorithm nor this class has."""
    if unknown:
        known = {*settings_of(algorithm), *inspect.signature(FlowQLearning.__init__).parameters} - {"self", "unknown"}
        name = next(iter(unknown))
        closest = ", ".join(closest_names(name, known))
        raise TypeError(f"{algorithm.__name__}() got an unexpected keyword argument '{name}'; closest: {closest}")


def _checked_net_arch(net_arch: list[int] | dict[str, list[int]] | None) -> list[int] | dict[str, list[int]]:
    """Return hidden widths, the default where there are none."""
    if net_arch is None:
        return [512] * 4
    parts = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "qf": net_arch}
    if set(parts) != {"pi", "qf"} or not all(isinstance(widths, list) and widths for widths in parts.values()):
        raise ValueError(
            f"`net_arch` must be a list of hidden widths or {{'pi': [...], 'qf': [...]}}, got {net_arch!r}"
        )
    checked = {name: [integer("net_arch", width, at_least=1) for width in widths] for name, widths in parts.items()}
    return checked if isinstance(net_arch, dict) else checked["pi"]


def _check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    """Refuse spaces that flow policies are not built for, by name."""
    if not isinstance(observations, spaces.Box) or is_image_space(observations):
        kind = "an image" if isinstance(observations, spaces.Box) else f"a {type(observations).__name__}"
        raise UnsupportedSpaceError(
            f"flow policies support flat Box observations, got {kind} space {observations}; "
            "flatten it with gymnasium.wrappers.FlattenObservation or use a state-based version of the environment"
        )
    if not isinstance(actions, spaces.Box) or not actions.is_bounded():
        kind = "an unbounded" if isinstance(actions, spaces.Box) else f"a {type(actions).__name__}"
        raise UnsupportedSpaceError(
            f"flow policies support bounded Box actions, got {kind} space {actions}; "
            "use an environment with continuous actions between finite bounds"
        )
