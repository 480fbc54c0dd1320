"""Models: SB3 off-policy algorithms that train a :class:`Method`; model and policy share the method object."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv as GymEnv
from stable_baselines3.common.type_aliases import (
    MaybeCallback,
    RolloutReturn,
    TrainFreq,
    TrainFrequencyUnit,
)
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from agents.common.common_settings import LearningRateSchedule
from agents.common.data.arrays import ArraySource
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.shards import Shards
from agents.common.engine.trainer import Trainer
from agents.common.method import Method
from agents.common.model_file import Source, read_model_file
from agents.common.nets.specs import find_behaviour
from agents.common.normalization import raw_observations
from agents.common.observations import Array, centre_and_factor
from agents.common.sb3.acting import ChunkState
from agents.common.sb3.constructor import check_policy_kwargs, read_arguments
from agents.common.sb3.environments import (
    DataOnly,
    DivergedError,
    OneReplica,
    check_spaces,
    find_divergence,
    require_own_environments,
)
from agents.common.sb3.first_update import check_first_update
from agents.common.sb3.policy import POLICIES, FlowPolicy
from agents.common.sb3.stored_model import StoredModel
from agents.common.sb3.transfer import check_fit, check_outputs, check_samples, load_behaviour
from agents.common.streams import seeds_of_replicas
from agents.common.validation import integer
from agents.registry import BUILT_IN, name_of


class FlowAlgorithm(StoredModel):
    """Off-policy model of a flow policy, trained offline on a dataset, online in an environment, or both.

    ``method`` contains the algorithm and its settings. Changes, e.g. ``model.method.rho = 0.5``, take effect
    immediately; settings used to build networks or buffer are read-only. Settings shared with SB3 are also attributes
    of the model.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"`` for images, ``"MultiInputPolicy"`` for Dict observations, or a
        subclass of ``FlowPolicy``.
    :param env: environment with bounded Box actions, or its Gymnasium id; for offline training only, None together
        with `observation_space` and `action_space`.
    :param named: settings of the method, and :class:`~agents.common.sb3.constructor.Arguments`.
    :raises UnsupportedSpaceError: for unsupported observations, e.g. Tuple, or actions that are not a bounded Box.
    :raises TypeError: for an unknown argument; the message names the closest ones.
    :raises ValueError: for a setting out of range, or pretraining of an algorithm without a behaviour flow.

    >>> model = agents.FQL("MlpPolicy", "Pendulum-v1", horizon_length=1, learning_starts=10).learn(12)
    >>> action, state = model.predict(np.zeros(3, np.float32), deterministic=True)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICIES
    method_class: ClassVar[type[Method]] = Method
    unsaved = (*StoredModel.unsaved, "method", "trainer", "_chunk_state", "_last_info")
    policy: FlowPolicy
    trainer: Trainer
    """Runs the gradient steps."""
    _chunk_state: ChunkState | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Raise if a model class defines hooks or settings, which only a method may define."""
        super().__init_subclass__(**options)
        for name in vars(cls):
            is_hook = callable(getattr(Method, name, None)) and not name.startswith("_")
            if is_hook or name in cls.method_class.declared():
                raise TypeError(
                    f"`{name}` of {cls.__name__} must be defined in a registered subclass of `agents.Method`, not in a "
                    "model; its model is `agents.get(id).algorithm` (docs/register.md)"
                )

    def __init__(
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        **named: Any,
    ) -> None:
        kind = self.policy_aliases.get(policy, policy)  # type: ignore[arg-type]
        if not isinstance(kind, type) or not issubclass(kind, FlowPolicy):
            raise ValueError(
                f"`policy` must be one of {', '.join(POLICIES)}, or a subclass of FlowPolicy, got {policy!r}"
            )
        self.method, arguments = read_arguments(self.method_class, named)
        self.seeds = arguments.seeds
        # `load` sets `_init_setup_model` to False, and takes the spaces from the file
        own_spaces = arguments.observation_space, arguments.action_space
        if env is None and arguments._init_setup_model:
            env = DataOnly(*own_spaces)
        elif own_spaces != (None, None):
            raise ValueError("got both `env` and one of its spaces; pass the spaces without `env`")
        super().__init__(kind, env, **arguments.sb3_arguments(self.method))  # type: ignore[arg-type]
        self.offline_steps = 0  # gradient steps of learn_offline
        # whether the current phase is online; between phases, whether the previous one was
        self._is_online = False
        self._phase_start = 0  # `num_timesteps` at the start of this phase
        if arguments._init_setup_model:
            self._setup_model()

    def __getattr__(self, name: str) -> Any:
        """Look up missing attributes, such as settings, in the method."""
        if name.startswith("_") or "method" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.method, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign settings shared with SB3 to the method; raise for its other settings (use `model.method.NAME`)."""
        declaration = self.method_class.declared().get(name)
        if declaration is None:
            super().__setattr__(name, value)
        elif not declaration.in_sb3:
            raise AttributeError(
                f"`{name}` is a setting of {self.method_class.__name__}; assign `model.method.{name}`"
            )
        elif value != getattr(self.method, name):  # SB3's constructor assigns equal values
            setattr(self.method, name, value)

    @property
    def train_freq(self) -> Any:  # type: ignore[override]  # `__setattr__` assigns it
        """The setting `train_freq` as SB3's `TrainFreq`."""
        value = self.method.train_freq
        steps, unit = value if isinstance(value, tuple) else (value, "step")
        return TrainFreq(steps, TrainFrequencyUnit(unit))

    # -- set-up -------------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        """Build replay buffer and policy; a loaded model may have no environment."""
        spaces = self.observation_space, self.action_space
        check_spaces(*spaces)  # `load` may have replaced them
        seeds = self.seeds or ([] if self.seed is None else [self.seed])
        self._seed_everything(seeds)
        self.replay_buffer = self._make_buffer()
        method = self.method
        if method.pretrained is not None:
            check_fit(method, self._vec_normalize_env)
        rate = LearningRateSchedule(method.learning_rate)
        check_policy_kwargs(self.policy_class, self.policy_kwargs)
        policy: Any = self.policy_class(*spaces, rate, method, seeds, **self.policy_kwargs)
        self.policy = policy.to(self.device)
        if method.pretrained is not None:
            check_outputs(self.policy)
        self.n_steps = method.horizon_length if method.shorten_returns else 1
        self.trainer = Trainer(self, self.policy.seeds)
        self._last_info = {}

    def _make_buffer(self) -> SequenceReplayBuffer:
        """Return an empty replay buffer."""
        method = self.method
        buffer_class: Any = self.replay_buffer_class or SequenceReplayBuffer
        return buffer_class(
            method.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            replicas=len(self.seeds or [self.seed]),
            balanced=method.balanced_sampling,
            **method.sequence_settings(),
            **self.replay_buffer_kwargs,
        )

    def load_replay_buffer(self, path: Source, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer with dataset and online transitions; batches from it use this model's settings.

        :param path: file written by :meth:`save_replay_buffer`.
        :param truncate_last_traj: ignored; SB3 uses it for hindsight replay.
        """
        if self.replay_buffer is None:  # models from `replica` have none
            self.replay_buffer = self._make_buffer()
        super().load_replay_buffer(path, truncate_last_traj)
        self._take_statistics()

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the generators that SB3 seeds, and those of batches and noise.

        :param seed: 0 to 2^32 - 1; the seeds of several replicas are derived from it. None seeds nothing.
        """
        if seed is None:
            return
        seeds = seeds_of_replicas(seed, self.policy.num_replicas)
        self._seed_everything(seeds)
        self.trainer.seed(seeds)
        self.policy.set_random_seed(seeds)

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto"
    ) -> None:
        """Load parameters and optimiser state as SB3 does; the model keeps its optimiser options, e.g. weight decay.

        :param load_path_or_dict: state dicts by name, or a saved model, whose checksum is verified.
        :param exact_match: whether all names must be present.
        :param device: ignored; tensors are moved to the device of the model.
        :raises RuntimeError: if a state dict does not match, as in PyTorch.
        :raises ValueError: if the file is damaged, a name is missing or unknown, or the parameter groups of the
            optimiser differ.
        """
        parameters = load_path_or_dict
        if not isinstance(parameters, dict):
            parameters, _ = read_model_file(parameters).parameters()
        names = {"policy", "policy.optimizer"}
        if (exact_match and parameters.keys() != names) or parameters.keys() - names:
            raise ValueError(f"parameters must be {sorted(names)}, got {[*parameters]}")
        # loaded first, so that the parameters are unchanged if the optimiser state does not match
        if "policy.optimizer" in parameters:
            self.policy.load_optimizer_state(parameters["policy.optimizer"])
        if "policy" in parameters:
            self.policy.load_state_dict(parameters["policy"], strict=exact_match)
        self.policy.keeps_statistics = bool((self.policy.observation_factor != 1).any())
        self.trainer.is_prepared = False  # a captured update would write to the old optimiser state

    def replica(self, index: int) -> Self:
        """Return one replica as a model with one seed, without a replay buffer.

        :param index: index of the replica, 0..S-1.
        :return: model with the networks, target networks and optimiser state of the replica.
        """
        single = copy.copy(self)
        single.policy = self.policy.replica(index)
        single.method = single.policy.method
        single.seeds = list(single.policy.seeds)
        single.seed = single.seeds[0]
        single.n_envs = max(self.n_envs // self.policy.num_replicas, 1)
        single.trainer = Trainer(single, single.seeds)
        single.action_space = self.action_spaces[index]
        single.action_spaces = [single.action_space]
        # shared by all replicas, so not copied
        single.replay_buffer = None  # type: ignore[assignment]
        single._last_obs = single._chunk_state = None
        single.ep_info_buffer = single.ep_success_buffer = None
        single._last_info = {}
        return single

    def _saved_settings(self) -> dict[str, Any]:
        """Return the algorithm, its settings and a custom flow's conventions, saved with the attributes."""
        settings = self.method.settings()
        settings["algorithm_id"] = name_of(self.method_class)
        settings["behaviour_flow"] = find_behaviour(self.method.networks())
        if callable(self.learning_rate):
            schedule = LearningRateSchedule(self.learning_rate)
            default = self.method.declared()["learning_rate"].default
            # a constant rate must be above 0; with a warm-up, both ends of the phase may be 0
            rates = schedule(self._current_progress_remaining), schedule(1.0), default
            rate = next(rate for rate in rates if rate > 0)
            warnings.warn(
                f"saved models contain no code: the function `learning_rate` is replaced by its value {rate:g}",
                stacklevel=3,
            )
            settings["learning_rate"] = rate
        flow = self.method.pretrained
        settings["behaviour"] = None if flow is None else {"conventions": flow.conventions()}
        return super()._saved_settings() | settings

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def save_policy(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Save the networks that act or score actions, without the optimiser; :func:`agents.load_policy` loads them.

        The saved policy expects raw observations, even if the model's environment is wrapped in a `VecNormalize`.

        :param path: file, usually with the suffix ``.safetensors``.
        :param about: metadata in plain JSON values, e.g. environment and score.
        """
        with raw_observations(self) as policy:
            policy.save(path, policy.acting_networks(), about)

    @property
    def actor(self) -> FlowPolicy:  # type: ignore[override]  # read only
        """The policy, under SB3's name."""
        return self.policy

    @property
    def critic(self) -> nn.Module:
        """The critics, under SB3's name: scaled observations (B, O) and actions (B, D) -> Q, (E, B).

        With several replicas all tensors have the leading axis S.
        """
        return self._without_axis(self.policy.nets.critic)

    @property
    def critic_target(self) -> nn.Module:
        """The target critics, under SB3's name."""
        return self._without_axis(self.policy.nets.critic_target)

    def _without_axis(self, network: nn.Module) -> nn.Module:
        return network if self.policy.num_replicas > 1 else OneReplica(network)

    def predict_value(self, observation: Array | dict[str, Array], action: Array) -> Array:
        """Return the critics' score of actions, usually their mean Q; see :meth:`FlowPolicy.predict_value`."""
        return self.policy.predict_value(observation, action)

    # -- training -----------------------------------------------------------------------------------------------------

    def load_dataset(
        self, dataset: ArraySource | Shards, action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Load a dataset into the replay buffer, and compute observation statistics if `observation_scale` is set.

        A trained model, or one with loaded parameters, keeps its statistics, since its networks were trained with them.

        :param dataset: arrays in OGBench's regular or compact layout, an ``.npz`` file of such arrays (see
            `docs/data.md`), or shards. Actions are in the environment's units. Shards are loaded in turn;
            statistics are computed from the first shard.
        :param action_range: ``(low, high)``, numbers or (A,): action bounds of a dataset whose actions are in other
            units.
        :raises FileNotFoundError: if the file does not exist.
        :raises ValueError: if an array is missing or invalid (the buffer is then unchanged), or if samples of a frozen
            custom flow are far from the dataset's actions.

        >>> states = np.random.randn(21, 3)
        >>> data = {"observations": states[:-1], "next_observations": states[1:], "actions": np.zeros((20, 1))}
        >>> data |= {"rewards": np.ones(20), "masks": np.ones(20), "terminals": np.arange(20) == 19}
        >>> model = agents.FQL("MlpPolicy", "Pendulum-v1", net_arch=[32])
        >>> model.load_dataset(data)
        >>> model.replay_buffer.dataset_size
        20
        """
        self._check_first_update()
        self.replay_buffer.load_dataset(dataset, action_range)
        if self.verbose >= 1:
            print(f"{self.replay_buffer.dataset_description}\n{self.replay_buffer.placement}")
        self._take_statistics()
        flow = self.method.pretrained
        if flow is not None and not flow.train:
            check_samples(self.policy, self.replay_buffer)

    def _take_statistics(self) -> None:
        """Set observation statistics from the dataset, unless networks were trained with other statistics."""
        rows = self.replay_buffer.observations[: self.replay_buffer.dataset_size]
        scale = self.method.observation_scale
        keeps_statistics = self.policy.keeps_statistics or self._n_updates > 0
        if scale is not None and len(rows) and not keeps_statistics:
            centre, factor = centre_and_factor(rows, scale)
            self.policy.observation_mean.copy_(centre)
            self.policy.observation_factor.copy_(factor)

    def _check_first_update(self) -> None:
        """Check, before training, that there is a replay buffer, and that a custom flow or algorithm can be used.

        :raises ValueError: if there is no replay buffer, or if observations would be scaled twice.
        """
        if self.replay_buffer is None:
            raise ValueError(
                "a model from `replica` has no replay buffer and cannot be trained; save it, and train the loaded model"
            )
        # the environment may have changed
        is_normalised = getattr(self.normalization, "norm_obs", False)
        if is_normalised and self.method.observation_scale is not None:
            raise ValueError("`observation_scale` and `VecNormalize` both scale; use one of them")
        if self.method.pretrained is not None:
            check_fit(self.method, self._vec_normalize_env)
        if not self.method.hooks_checked and name_of(type(self.method)) not in BUILT_IN:
            check_first_update(self.method, self.policy.features_space, self.action_space)

    def load_pretrained_actor(self, path: Source) -> None:
        """Load a saved model's behaviour flow instead of pretraining one; the saved model's algorithm may differ.

        The flow is also copied into its target network and into networks that are initialised from it. A saved model
        with one replica is used for all replicas; otherwise replicas correspond one to one.

        :param path: a saved model, or the folder of a run. If observations are scaled, load the dataset first.
        :raises ValueError: if either model has no behaviour flow, `pretraining_steps` is set, or layer sizes,
            activation, action space, chunk length or observation statistics differ; the model is then unchanged.
        """
        load_behaviour(self.policy, path, self.normalization)

    def learn_offline(
        self,
        gradient_steps: int,
        callback: MaybeCallback = None,
        dataset: ArraySource | Shards | None = None,
        log_interval: int | None = 5_000,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = False,
        progress_bar: bool = False,
    ) -> Self:
        """Train on a dataset. Callbacks and ``num_timesteps`` count gradient steps.

        :param gradient_steps: number of updates.
        :param callback: SB3 callback, list of callbacks, or function.
        :param dataset: dataset to load, see :meth:`load_dataset`; None uses the dataset in the buffer.
        :param log_interval: gradient steps between log entries; None writes no entries.
        :param tb_log_name: name of the TensorBoard run; None uses the class name.
        :param reset_num_timesteps: whether `num_timesteps` restarts from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises ValueError: if there is no dataset, or if a `VecNormalize` still updates its statistics.
        """
        gradient_steps = integer("gradient_steps", gradient_steps, at_least=0)
        self._check_first_update()
        if self.env is None:  # the model was loaded without one
            spaces = self.observation_space, self.action_space
            self.set_env(DummyVecEnv([lambda: DataOnly(*spaces)] * self.n_envs))
            if self._vec_normalize_env is not None:
                self._vec_normalize_env.training = False
        if getattr(self._vec_normalize_env, "training", False):
            raise ValueError(
                "offline training cannot update the statistics of VecNormalize; set `observation_scale` to use the "
                "dataset's statistics, or freeze existing ones: `model.get_vec_normalize_env().training = False`"
            )
        if dataset is not None:
            self.load_dataset(dataset)
        if not self.replay_buffer.dataset_size:
            raise ValueError("offline training needs a dataset; pass `dataset=...`")
        self._begin_phase(reset_num_timesteps, is_online=False)
        # SB3's progress bar reads the local `total_timesteps`
        total_timesteps, callback = self._setup_learn(
            gradient_steps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        # SB3's callbacks read these local variables of an environment step
        nothing = {"dones": np.zeros(self.n_envs, dtype=bool), "infos": [{}] * self.n_envs}
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._last_info = self.trainer.update(self.method.batch_size)
            self.num_timesteps += 1
            self.offline_steps += 1
            if log_interval and self.num_timesteps % log_interval == 0:
                self._dump_offline_logs()  # the only call here that synchronises with the device
            callback.update_locals(locals() | nothing)
            if not callback.on_step():
                break
        callback.on_training_end()
        return self

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Run updates; after an offline phase, do nothing until there are more than `learning_starts` online steps.

        :param gradient_steps: number of updates.
        :param batch_size: B.
        :raises ValueError: if the replay buffer is empty.
        """
        buffer = self.replay_buffer
        if not buffer.size() and not buffer.dataset_size:
            raise ValueError("the replay buffer is empty; call `learn`, or `load_dataset` first")
        online = self.num_timesteps - self.offline_steps
        # without an offline phase, SB3's `learn` itself waits for `learning_starts`
        waits = self.offline_steps and online <= self.method.learning_starts
        if waits or not buffer.count_starts():
            return
        if self._n_updates == self.offline_steps:
            self._warn_of_short_episodes()
        for _ in range(gradient_steps):
            self._last_info = self.trainer.update(batch_size)

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train online. After :meth:`learn_offline`, use ``reset_num_timesteps=False``.

        :param total_timesteps: environment steps of each replica.
        :param callback: SB3 callback, list of callbacks, or function.
        :param log_interval: episodes between log entries.
        :param tb_log_name: name of the TensorBoard run; None uses the class name.
        :param reset_num_timesteps: whether `num_timesteps` restarts from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises TypeError: if `total_timesteps` is not an integer.
        :raises ValueError: if `total_timesteps` is negative, there is no environment, their number is not a multiple of
            the number of replicas, replicas would share statistics or action noise, `buffer_size` is less than the
            length of a sequence, or `observation_scale` is set without a dataset.
        """
        total_timesteps = integer("total_timesteps", total_timesteps, at_least=0)
        self._check_first_update()
        self.replay_buffer.require_capacity()
        require_own_environments(self.policy.num_replicas, self.get_env(), self.action_noise)
        self.require_statistics()
        steps_before = 0 if reset_num_timesteps else self.num_timesteps - self.offline_steps
        self._warn_of_no_effect(steps_before + total_timesteps)
        self._begin_phase(reset_num_timesteps, is_online=True)
        return super().learn(
            total_timesteps,
            callback,
            log_interval,
            tb_log_name,  # type: ignore[arg-type]  # `_setup_learn` replaces None
            reset_num_timesteps,
            progress_bar,
        )

    def _begin_phase(self, counts_from_zero: bool, is_online: bool) -> None:
        """Record the start of a phase, unless this call continues the previous phase, e.g. after loading a model."""
        if counts_from_zero:
            self.offline_steps = 0
        starts = counts_from_zero or is_online != self._is_online
        # after a separate call for pretraining, the learning rate decays from its initial value again
        is_pretrained = 0 < self.method.pretraining_steps == self._n_updates
        if starts or is_pretrained:
            self._phase_start = 0 if counts_from_zero else self.num_timesteps
            self._current_progress_remaining = 1.0  # for callers of `train`, e.g. after `learn(0)`
        if starts and is_online:
            self.method.before_online(self.policy.nets)
        self._is_online = is_online

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Measure progress from the start of the phase, so that the learning rate decays once per phase."""
        start = self._phase_start
        done = (num_timesteps - start) / (total_timesteps - start)
        self._current_progress_remaining = 1.0 - done

    # -- logging, the only part of offline training that synchronises with the device ---------------------------------

    def find_divergence(self) -> dict[int, str]:
        """Find replicas whose last loss or parameters are NaN or infinite; synchronises with the device.

        :return: replica -> description of the first non-finite tensor.
        """
        groups: dict[str, list[Tensor]] = {}
        if self._last_info:
            groups["total_loss is"] = [self._last_info["total_loss"]]
        for name, net in self.policy.nets.items():
            # extractors of a single replica have no axis S
            rows = [p.reshape(self.policy.num_replicas, -1) for p in net.parameters()]
            groups[f"parameters of {name} are"] = rows
        return find_divergence(groups)

    def last_values(self) -> dict[str, Array]:
        """Return losses and diagnostics of the last update; synchronises with the device.

        :return: name -> values of the replicas, (S,).
        """
        if not self._last_info:
            return {}
        values = torch.stack([value.detach().double() for value in self._last_info.values()])
        # one copy, so one synchronisation
        return dict(zip(self._last_info, values.cpu().numpy(), strict=True))

    def replica_values(self) -> dict[str, Array]:
        """Return per-replica values (S,) of logged means, by name; empty for a single replica."""
        if self.policy.num_replicas == 1:
            return {}
        train_values = {f"train/{name}": values for name, values in self.last_values().items()}
        return super().replica_values() | train_values

    def dump_logs(self) -> None:
        """Write the log of the online phase."""
        self._record_info()
        super().dump_logs()

    def _dump_offline_logs(self) -> None:
        self._record_info()
        # a coarse clock may not have advanced yet
        seconds = max(time.time_ns() - self.start_time, 1) / 1e9
        updates = self.num_timesteps - self._num_timesteps_at_start
        self.logger.record("time/updates_per_s", updates / seconds)
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def _record_info(self) -> None:
        """Pass losses and diagnostics of the last update to the logger."""
        for name, values in self.last_values().items():
            self.logger.record(f"train/{name}", float(values.mean()))
        for group in self.policy.optimizer.param_groups:
            name = "train/learning_rate"
            if "network" in group:
                name += f"_{group['network']}"
            self.logger.record(name, float(group["lr"]))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    # -- acting in training environments ------------------------------------------------------------------------------

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str | None = None,
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """Set up a phase; if environments are reset, close open trajectories and discard chunks."""
        self.trainer.planned_updates = self._n_updates + total_timesteps
        self.trainer.prepare()
        starts = reset_num_timesteps or self._last_obs is None
        if starts:
            self._chunk_state = None
            self.replay_buffer.end_episodes()
        # a new model gets a new TensorBoard folder
        resets = reset_num_timesteps or (starts and self.num_timesteps == 0)
        name = tb_log_name or type(self).__name__
        return super()._setup_learn(total_timesteps, callback, resets, name, progress_bar)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect transitions with SB3's loop; report steps per replica, which ``gradient_steps=-1`` relies on.

        :param args: arguments of SB3's method.
        :param kwargs: arguments of SB3's method.
        :return: steps per replica, episodes in total, and whether to continue.
        """
        continues = False
        try:
            rollout = super().collect_rollouts(*args, **kwargs)
            continues = rollout.continue_training
        finally:
            if not continues:
                # SB3 drops the step at which a callback stops or an error is raised, e.g. by Ctrl-C, so the next phase
                # starts with a reset
                self._last_obs = None
        steps = rollout.episode_timesteps // self.policy.num_replicas
        return rollout._replace(episode_timesteps=steps)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """Return the next actions of chunks or, if a new model has not reached `learning_starts`, uniform actions.

        Both results have shape (n_envs, A): actions in the environment's units, and actions scaled to [-1, 1].
        """
        assert self._last_obs is not None
        n_envs_of_each = n_envs // self.policy.num_replicas
        if self._n_updates == 0 and self.num_timesteps < learning_starts:
            # each replica has its own copy of the action space, and so its own random stream
            actions = np.array(
                [space.sample() for space in self.action_spaces for _ in range(n_envs_of_each)]
            )
            self._chunk_state = None
        else:
            rows, _ = self.policy.read_observations(self._last_obs)
            actions, self._chunk_state = self.policy.next_actions(
                rows, self._chunk_state, self._last_episode_starts, self.policy.generators
            )
            actions = self._without_diverged(actions)
        # SB3 counts a step for every environment; here only one replica's environments count
        self.num_timesteps -= n_envs - n_envs_of_each
        scaled = self.policy.scale_action(actions)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def _without_diverged(self, actions: Array) -> Array:
        """Replace non-finite actions by the centre of the action space, so that no simulator receives NaN."""
        finite = np.isfinite(actions).all(axis=tuple(range(1, actions.ndim)))
        if finite.all():
            return actions
        if not finite.any():
            raise DivergedError(
                f"sampled actions are NaN or infinite in every environment at step {self.num_timesteps}: training "
                "diverged; a smaller `learning_rate` may help"
            )
        actions[~finite] = self.policy.unscale_action(np.zeros_like(actions[~finite]))
        return actions

    def _store_transition(
        self,
        replay_buffer: Any,
        buffer_action: Array,
        new_obs: Any,
        reward: Array,
        dones: Array,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store a transition, and record which episodes ended; raise if the transition is not finite."""
        last = [info["terminal_observation"] for info in infos if "terminal_observation" in info]
        with np.errstate(over="ignore"):  # values beyond float32 become infinite
            rows = [self.policy.layout.flatten(value) for value in (new_obs, *last)]
            arrays = (*rows, reward.astype(np.float32))
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(
                "the environment returned an observation or reward that is not finite in float32 at step "
                f"{self.num_timesteps}; this is a fault of the environment, not of training"
            )
        # only real numbers are compared, since discrete observations are often equal without a fault
        is_real = "float" in str(self.observation_space.dtype)
        if is_real and last and np.array_equal(rows[1][0], rows[0][np.argmax(dones)]):
            warnings.warn(
                "the last observation of an episode equals the first of the next: the environment may modify a "
                "returned array; let it return copies",
                stacklevel=2,
            )
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        # SB3's off-policy loop does not set this attribute; the policy needs it to discard the rest of a chunk
        self._last_episode_starts = np.array(dones, dtype=bool)
