"""Models: Stable-Baselines3's off-policy contract around one method object, which the policy shares."""

from __future__ import annotations

import copy
import time
import warnings
from abc import ABCMeta
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
from agents.common.method import Info, Method
from agents.common.model_file import Source, read_model_file
from agents.common.nets.mlp import undisturbed
from agents.common.nets.specs import find_behaviour
from agents.common.normalization import raw_observations
from agents.common.observations import Array
from agents.common.sb3.acting import ChunkState
from agents.common.sb3.constructor import read_arguments
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

SETTINGS_OF_BUFFER = (
    "horizon_length", "gamma", "action_chunking", "shorten_returns", "sparse", "frame_stack",
)  # fmt: skip


class ModelType(ABCMeta):
    """The type of the classes of models, which `agents.models` makes of methods and pickles by them."""

    method_class: type[Method]


class FlowAlgorithm(StoredModel, metaclass=ModelType):
    """Off-policy model of a flow policy, trained offline on a dataset, online in an environment, or both.

    The algorithm and its settings are in ``method``. A change of a setting, e.g. ``model.method.rho = 0.5``, acts
    immediately in training and acting; settings that built networks or buffer are read-only. Settings that SB3 has too
    are also attributes of the model, under SB3's names.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"`` for images, ``"MultiInputPolicy"`` for Dict observations, or a
        subclass of ``FlowPolicy``.
    :param env: environment with bounded Box actions, or its Gymnasium id; or None with `observation_space` and
        `action_space`, to train on data alone.
    :param positional: settings in SB3's order, from ``learning_rate`` on.
    :param named: settings of the method and :class:`~agents.common.sb3.constructor.Arguments`.
    :raises UnsupportedSpaceError: for Tuple and other observations, or actions that are not a bounded Box.
    :raises TypeError: for an argument that is not known; the message names the closest.
    :raises ValueError: for a setting out of range, or pretraining of an algorithm without a behaviour flow.

    >>> model = agents.FQL("MlpPolicy", "Pendulum-v1", horizon_length=1, learning_starts=10).learn(12)
    >>> action, state = model.predict(np.zeros(3, np.float32), deterministic=True)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICIES
    method_class: ClassVar[type[Method]] = Method
    unsaved = (*StoredModel.unsaved, "method", "trainer", "_chunk_state", "_last_info")
    policy: FlowPolicy
    trainer: Trainer
    """Takes the gradient steps."""
    _chunk_state: ChunkState | None
    _last_info: Info
    """Losses and diagnostics of the last update, each (S,), on the device."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse hooks and settings of a method: a model does not read its own."""
        super().__init_subclass__(**options)
        for name in vars(cls):
            is_hook = callable(getattr(Method, name, None)) and not name.startswith("_")
            if is_hook or name in cls.method_class.declared():
                raise TypeError(
                    f"`{name}` of {cls.__name__} must be defined in a subclass of `agents.Method`, not of a model; "
                    "register that one and `agents.get(id).algorithm` is its model (docs/register.md)"
                )

    def __init__(
        self,
        policy: str | type[FlowPolicy],
        env: GymEnv | str | None,
        *positional: Any,
        **named: Any,
    ) -> None:
        kind = self.policy_aliases.get(policy, policy)  # type: ignore[arg-type]
        if not isinstance(kind, type) or not issubclass(kind, FlowPolicy):
            raise ValueError(
                f"`policy` must be one of {', '.join(POLICIES)}, or a subclass of FlowPolicy, got {policy!r}"
            )
        self.method, arguments = read_arguments(self.method_class, positional, named)
        self.seeds = arguments.seeds
        # without an environment, `load` takes the spaces from the file
        if env is None and arguments._init_setup_model:
            env = DataOnly(arguments.observation_space, arguments.action_space)
        super().__init__(kind, env, **arguments.of_sb3(self.method))  # type: ignore[arg-type]
        self.offline_steps = 0  # gradient steps taken in learn_offline
        self._is_online = False  # whether the last phase was, or is, an online one
        self._phase_start = 0  # the step at which it began
        self.behaviour = arguments.behaviour
        if arguments._init_setup_model:
            self._setup_model()

    def __getattr__(self, name: str) -> Any:
        """Read from the method what the model lacks, such as its settings."""
        if name.startswith("_") or "method" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.method, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign to the method a setting that SB3 has too; refuse an attribute that would hide another setting."""
        declaration = self.method_class.declared().get(name)
        if declaration is None:
            super().__setattr__(name, value)
        elif declaration.kw_only:
            raise AttributeError(
                f"`{name}` is a setting of {self.method_class.__name__}; assign `model.method.{name}`"
            )
        else:  # SB3's constructor assigns its arguments, and its users change them later
            setattr(self.method, name, value)

    @property
    def train_freq(self) -> Any:  # type: ignore[override]  # `__setattr__` assigns it
        """How often updates follow, as SB3's `TrainFreq`."""
        value = self.method.train_freq
        steps, unit = value if isinstance(value, tuple) else (value, "step")
        return TrainFreq(steps, TrainFrequencyUnit(unit))

    # -- set-up -------------------------------------------------------------------------------------------------------

    @undisturbed()
    def _setup_model(self) -> None:
        """Build buffer and policy; runs without an environment too when a model is loaded."""
        spaces = self.observation_space, self.action_space
        check_spaces(*spaces)
        seeds = self.seeds or ([] if self.seed is None else [self.seed])
        if seeds:
            self._seed_everything(seeds)
        if self.replay_buffer is None:
            self.replay_buffer = self._make_buffer()
        if self.behaviour is not None:
            normalizes = getattr(self._vec_normalize_env, "norm_obs", False)
            check_fit(self.behaviour, self.method, normalizes)
            self.method.pretrained = self.behaviour
        method = self.method
        rate = LearningRateSchedule(method.learning_rate)
        policy: Any = self.policy_class(*spaces, rate, method, seeds, **self.policy_kwargs)
        self.policy = policy.to(self.device)
        if self.behaviour is not None:
            check_outputs(self.policy)
        self.n_steps = method.horizon_length if method.shorten_returns else 1
        self.trainer = Trainer(self, self.policy.seeds)
        self._chunk_state = None
        self._last_info = {}

    def _make_buffer(self) -> SequenceReplayBuffer:
        """Return an empty replay buffer."""
        method = self.method
        buffer_class: Any = self.replay_buffer_class or SequenceReplayBuffer
        buffer: SequenceReplayBuffer = buffer_class(
            method.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            replicas=len(self.seeds or [self.seed]),
            balanced=method.balanced_sampling,
            **{name: getattr(method, name) for name in SETTINGS_OF_BUFFER},
            **self.replay_buffer_kwargs,
        )
        buffer.with_steps = method.step_observations
        return buffer

    def load_replay_buffer(self, path: Source, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer, dataset and online transitions; its batches follow this model's settings.

        :param path: what :meth:`save_replay_buffer` wrote.
        :param truncate_last_traj: of hindsight replay, which there is none of here.
        """
        if self.replay_buffer is None:  # a replica that was taken out of its model has none
            self.replay_buffer = self._make_buffer()
        super().load_replay_buffer(path, truncate_last_traj)
        self._take_statistics()

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed what SB3 seeds, and the generators of batches and noise.

        :param seed: any from 0 to 2^32 - 1, from which those of several replicas follow; None draws one for batches and
            noise, and leaves the rest as it is.
        """
        first_seed = int(torch.randint(2**31, ())) if seed is None else seed
        seeds = seeds_of_replicas(first_seed, self.policy.num_replicas)
        if seed is not None:
            self._seed_everything(seeds)
        self.trainer.seed(seeds)
        self.policy.set_random_seed(seeds)

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto"
    ) -> None:
        """Load parameters and optimiser state; see Stable-Baselines3. Weight decays and the like stay this model's.

        :param load_path_or_dict: a saved model, which is checked before anything changes, or state dicts by name.
        :param exact_match: whether nothing may be missing.
        :param device: of SB3's method; tensors go to where the model is.
        :raises RuntimeError: if the policy's state dict does not fit, as in PyTorch.
        :raises ValueError: if the file is damaged, a name is missing or unknown, or other networks have options of
            their own in an optimiser's state.
        """
        parameters = load_path_or_dict
        if not isinstance(parameters, dict):
            parameters, _ = read_model_file(parameters).parameters()
        names = {"policy", "policy.optimizer"}
        if (exact_match and parameters.keys() != names) or parameters.keys() - names:
            raise ValueError(f"parameters must be those of {names}, got {[*parameters]}")
        # first what may refuse, so that then nothing has changed
        if "policy.optimizer" in parameters:
            self.policy.load_optimizer_state(parameters["policy.optimizer"])
        if "policy" in parameters:
            self.policy.load_state_dict(parameters["policy"], strict=exact_match)
        self.policy.keeps_statistics = bool((self.policy.observation_factor != 1).any())
        self.trainer.is_prepared = False  # a recorded update writes to the optimiser's old state

    def replica(self, index: int) -> Self:
        """Return one replica as a model with one seed, without a replay buffer.

        :param index: which replica, 0..S-1.
        :return: a model with the replica's networks, targets and optimiser state.
        """
        single = copy.copy(self)
        single.policy = self.policy.replica(index)
        single.method = single.policy.method
        single.seeds = list(single.policy.seeds)
        single.seed = single.seeds[0]
        single.trainer = Trainer(single, single.seeds)
        single.action_space = self.action_spaces[index]
        single._other_action_spaces = ()
        # the rest is of all replicas, and cannot be taken apart
        single.replay_buffer = None  # type: ignore[assignment]
        single._last_obs = single._chunk_state = None
        single.ep_info_buffer = single.ep_success_buffer = None
        single._last_info = {}
        return single

    def _saved_settings(self) -> dict[str, Any]:
        """Return what a file holds besides the attributes, or in place of them: algorithm, settings, what a flow is."""
        settings = self.method.settings()
        settings["algorithm_id"] = name_of(self.method_class)
        settings["behaviour_flow"] = find_behaviour(self.method.networks())
        if callable(self.learning_rate):
            rate = LearningRateSchedule(self.learning_rate)(self._current_progress_remaining)
            warnings.warn(
                f"a saved model holds no code: its `learning_rate` is {rate:g}, the present value of the function",
                stacklevel=3,
            )
            settings["learning_rate"] = rate
        if self.behaviour is not None:
            settings["behaviour"] = {"conventions": self.behaviour.conventions()}
        return super()._saved_settings() | settings

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def save_policy(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Save the policy in a small file without a critic's copies, optimiser and counters: `agents.load_policy` acts.

        It takes raw observations, also where the model's environment is in a `VecNormalize`.

        :param path: file, usually with the ending ``.safetensors``.
        :param about: what else is to be said about it, e.g. its environment and score: values that JSON takes.
        """
        with raw_observations(self) as policy:
            policy.save(path, policy.acting_networks(), about)

    @property
    def actor(self) -> FlowPolicy:  # type: ignore[override]  # read only
        """SB3's name of what acts: the policy."""
        return self.policy

    @property
    def critic(self) -> nn.Module:
        """SB3's name of the critics, of algorithms that have some: (B, O) and (B, D), scaled, to (E, B).

        With several replicas all have the leading axis S.
        """
        return self._without_axis(self.policy.nets["critic"])

    @property
    def critic_target(self) -> nn.Module:
        """SB3's name of the critics' moving average."""
        return self._without_axis(self.policy.nets["critic_target"])

    def _without_axis(self, network: nn.Module) -> nn.Module:
        return network if self.policy.num_replicas > 1 else OneReplica(network)

    def predict_value(self, observation: Array | dict[str, Array], action: Array) -> Array:
        """Return what the critics expect of actions, see :meth:`FlowPolicy.predict_value`."""
        return self.policy.predict_value(observation, action)

    # -- training -----------------------------------------------------------------------------------------------------

    @undisturbed()
    def load_dataset(
        self, dataset: ArraySource | Shards, action_range: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Put a dataset into the replay buffer, and take the observation statistics from it where they are wanted.

        A model that was trained, or given parameters, keeps their statistics: its networks know observations by them.

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
        self.replay_buffer.load_dataset(dataset, action_range)
        if self.verbose >= 1:
            print(f"{self.replay_buffer.dataset_description}\n{self.replay_buffer.placement.text}")
        self._take_statistics()
        if self.behaviour is not None and not self.behaviour.train:
            check_samples(self.policy, self.replay_buffer)

    def _take_statistics(self) -> None:
        """Scale observations by the statistics of the dataset from now on, unless networks know them by others."""
        rows = self.replay_buffer.observations[: self.replay_buffer.dataset_size]
        scale = self.method.observation_scale
        keeps_statistics = self.policy.keeps_statistics or self._n_updates > 0
        if scale is not None and len(rows) and not keeps_statistics:
            self.policy.set_observation_statistics(rows, scale)

    def _check_first_update(self) -> None:
        """Try the shapes of the hooks once, before any training; tests have tried those of built-in algorithms.

        :raises ValueError: if there is no replay buffer.
        """
        if self.replay_buffer is None:
            raise ValueError(
                "training needs a replay buffer, got a replica that was taken out of its model without one; save the "
                "replica, and train what `load` returns"
            )
        if self.behaviour is not None:  # another environment may have been set
            check_fit(
                self.behaviour, self.method, getattr(self._vec_normalize_env, "norm_obs", False)
            )
        if not self.method.hooks_checked and name_of(type(self.method)) not in BUILT_IN:
            check_first_update(self.method, self.policy.features_space, self.action_space)

    def load_pretrained_actor(self, path: Source) -> None:
        """Begin with the behaviour flow of a saved model, of this or another algorithm, in place of pretraining.

        Its online flow becomes this model's; networks that begin at the behaviour flow, and moving averages, become its
        copies. One replica of the source serves all of ours; of several, each gets its own.

        :param path: what ``save`` wrote, or the folder of a run. Load the dataset first where observations are scaled.
        :raises ValueError: if one of the two has no behaviour flow, the model is to be pretrained, or sizes, layers,
            action box, chunk or observation statistics differ; nothing is changed then.
        """
        load_behaviour(self.policy, path)

    @undisturbed()
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
        """Train on a dataset. Callbacks see one step, and ``num_timesteps`` advances by one, per gradient step.

        :param gradient_steps: number of updates.
        :param callback: SB3 callback, list of them, or function.
        :param dataset: loaded first, see :meth:`load_dataset`; None goes on with what the buffer holds.
        :param log_interval: gradient steps between log entries; None for none.
        :param tb_log_name: name of the TensorBoard run; None takes the class name.
        :param reset_num_timesteps: whether to count from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises ValueError: if there is nothing to train on.
        """
        gradient_steps = integer("gradient_steps", gradient_steps, at_least=0)
        self._check_first_update()
        if self.env is None:  # of a model that was loaded without one
            spaces = self.observation_space, self.action_space
            self.set_env(DummyVecEnv([lambda: DataOnly(*spaces)] * self.n_envs))
        if dataset is not None:
            self.load_dataset(dataset)
        if not self.replay_buffer.dataset_size:
            raise ValueError(
                "offline training needs a dataset, the buffer holds none; pass `dataset=...`"
            )
        if self._vec_normalize_env is not None and self._vec_normalize_env.training:
            raise ValueError(
                "VecNormalize takes its statistics from environment steps, and there are none in offline training; set "
                "`observation_scale`, which takes them from the dataset, or freeze known ones: `env.training = False`"
            )
        self._begin_phase(reset_num_timesteps, is_online=False)
        # SB3's progress bar reads the name of `total_timesteps`
        total_timesteps, callback = self._setup_learn(
            gradient_steps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        # what callbacks of SB3 read of a step of the environments
        nothing = {"dones": np.zeros(self.n_envs, dtype=bool), "infos": [{}] * self.n_envs}
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._last_info = self.trainer.update(self.method.batch_size)
            self.num_timesteps += 1
            self.offline_steps += 1
            if log_interval and self.num_timesteps % log_interval == 0:
                self._dump_offline_logs()  # waits for the device, as nothing else here does
            callback.update_locals(locals() | nothing)
            if not callback.on_step():
                break
        callback.on_training_end()
        return self

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """Update after environment steps, once there are enough of them.

        :param gradient_steps: number of updates.
        :param batch_size: B.
        """
        online = self.num_timesteps - self.offline_steps
        if online <= self.method.learning_starts or not self.replay_buffer.count_starts():
            return
        lengths = [episode["l"] for episode in self.ep_info_buffer or ()]
        min_length = self.replay_buffer.min_length
        # one short episode of several environments says nothing of the others
        if self._n_updates == 0 and len(lengths) > self.n_envs and max(lengths) < min_length:
            warnings.warn(
                f"all episodes so far are shorter than a chunk of `horizon_length` = {min_length} transitions, the "
                f"longest has {max(lengths)}: nothing is learnt from them; use a smaller one",
                stacklevel=2,
            )
        for _ in range(gradient_steps):
            self._last_info = self.trainer.update(batch_size)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    @undisturbed()
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

        :param total_timesteps: environment steps of each replica.
        :param callback: SB3 callback, list of them, or function.
        :param log_interval: episodes between log entries.
        :param tb_log_name: name of the TensorBoard run; None takes the class name.
        :param reset_num_timesteps: whether to count from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises TypeError: if `total_timesteps` is no whole number.
        :raises ValueError: if it is below 0, the environments cannot be shared out evenly to the replicas, replicas
            would share statistics or action noise, `buffer_size` holds no sequence, or `observation_scale` has no
            dataset.
        """
        total_timesteps = integer("total_timesteps", total_timesteps, at_least=0)
        self._check_first_update()
        buffer = self.replay_buffer
        buffer.require_room()
        require_own_environments(self.policy.num_replicas, self.get_env(), self.action_noise)
        self.require_statistics()
        if self.method.balanced_sampling and not buffer.dataset_size:
            warnings.warn(
                "`balanced_sampling` has no dataset, so all batches are online; call `load_dataset`",
                stacklevel=2,
            )
        self._begin_phase(reset_num_timesteps, is_online=True)
        return super().learn(
            total_timesteps,
            callback,
            log_interval,
            tb_log_name,  # type: ignore[arg-type]  # `_setup_learn` names it
            reset_num_timesteps,
            progress_bar,
        )

    def _begin_phase(self, counts_from_zero: bool, is_online: bool) -> None:
        """Note where a phase begins; one of the same kind as the last goes on, e.g. of a model that was saved."""
        if counts_from_zero:
            self.offline_steps = 0
        begins = counts_from_zero or is_online != self._is_online
        # pretraining that is called by itself has a learning rate that falls by itself
        is_pretrained = 0 < self.method.pretraining_steps == self._n_updates
        if begins or is_pretrained:
            self._phase_start = 0 if counts_from_zero else self.num_timesteps
        if begins and is_online:
            self.method.before_online(self.policy.nets)
        self._is_online = is_online

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Count from the beginning of the phase, so that a learning rate falls once in each."""
        begin = self._phase_start
        super()._update_current_progress_remaining(num_timesteps - begin, total_timesteps - begin)

    def require_statistics(self) -> None:
        """Refuse `observation_scale` where there is no dataset to take statistics from.

        :raises ValueError: if there is none.
        """
        has_data = self._n_updates > 0 or self.replay_buffer.dataset_size > 0
        is_scaled = (self.policy.observation_factor != 1).any()  # e.g. by `set_parameters`
        if self.method.observation_scale is not None and not (has_data or is_scaled):
            raise ValueError(
                "`observation_scale` needs the statistics of a dataset, got none; load a dataset, or set it to None "
                "(-params observation_scale=null)"
            )

    # -- logging, where alone training waits for the device -----------------------------------------------------------

    def find_divergence(self) -> dict[int, str]:
        """Return the replicas whose last loss or whose parameters are NaN or infinite; waits for the device.

        :return: replica -> what is not finite, in words.
        """
        groups: dict[str, list[Tensor]] = {}
        if self._last_info:
            groups["total_loss is"] = [self._last_info["total_loss"]]
        for name, net in self.policy.nets.items():
            # an extractor of one replica has no axis S
            rows = [p.reshape(self.policy.num_replicas, -1) for p in net.parameters()]
            groups[f"parameters of {name} are"] = rows
        return find_divergence(groups)

    def last_values(self) -> dict[str, Array]:
        """Return losses and diagnostics of the last update by name; waits for the device.

        :return: name -> one value for each replica, (S,).
        """
        if not self._last_info:
            return {}
        values = torch.stack([value.detach().double() for value in self._last_info.values()])
        # one copy, so one wait
        return dict(zip(self._last_info, values.cpu().numpy(), strict=True))

    def replica_values(self) -> dict[str, Array]:
        """Return what a log has the mean of for each replica, (S,), by its name; nothing of one alone."""
        if self.policy.num_replicas == 1:
            return {}
        of_training = {f"train/{name}": values for name, values in self.last_values().items()}
        return super().replica_values() | of_training

    def dump_logs(self) -> None:
        """Write the log of the online phase."""
        self._record_info()
        super().dump_logs()

    def _dump_offline_logs(self) -> None:
        self._record_info()
        # a coarse clock may not have moved yet
        seconds = max(time.time_ns() - self.start_time, 1) / 1e9
        updates = self.num_timesteps - self._num_timesteps_at_start
        self.logger.record("time/updates_per_s", updates / seconds)
        self.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def _record_info(self) -> None:
        """Hand the last update's losses and diagnostics to the logger; the only place that waits for the device."""
        for name, values in self.last_values().items():
            self.logger.record(f"train/{name}", float(values.mean()))
        for group in self.policy.optimizer.param_groups:
            name = "train/learning_rate"
            if "network" in group:
                name += f"_{group['network']}"
            self.logger.record(name, float(group["lr"]))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    # -- acting in training environments -----------------------------------------------------------------------------

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str | None = None,
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """Prepare a phase; where it begins with a reset, the stored trajectories end and no chunk goes on."""
        self.trainer.planned_updates = self._n_updates + total_timesteps
        self.trainer.prepare()
        begins = reset_num_timesteps or self._last_obs is None
        if begins:
            self._chunk_state = None
            self.replay_buffer.end_episodes()
        # a new model has a folder of events of its own
        resets = reset_num_timesteps or (begins and self.num_timesteps == 0)
        name = tb_log_name or type(self).__name__
        return super()._setup_learn(total_timesteps, callback, resets, name, progress_bar)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect with SB3's loop, and count a replica's own steps: as many updates as that may follow.

        :param args: of SB3's method.
        :param kwargs: of SB3's method.
        :return: steps of each replica, episodes of all, and whether to go on.
        """
        rollout = super().collect_rollouts(*args, **kwargs)
        if not rollout.continue_training:
            self._last_obs = None  # SB3 stores no step at which a callback stops: the next phase begins with a reset
        steps = rollout.episode_timesteps // self.policy.num_replicas
        return rollout._replace(episode_timesteps=steps)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """Continue each environment's chunk; draw uniform actions while a model without an offline phase warms up."""
        assert self._last_obs is not None
        if self._n_updates == 0 and self.num_timesteps < learning_starts:
            # each replica's actions come from its own space
            n_envs_of_each = n_envs // self.policy.num_replicas
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
        # SB3 will count a step of every environment; the steps of a replica are those in its own environments
        self.num_timesteps -= n_envs - n_envs // self.policy.num_replicas
        scaled = self.policy.scale_action(actions)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def _without_diverged(self, actions: Array) -> Array:
        """Replace actions that are not finite by the middle of the action space: no simulator gets a NaN."""
        finite = np.isfinite(actions).all(axis=tuple(range(1, actions.ndim)))
        if finite.all():
            return actions
        if not finite.any():
            raise DivergedError(
                f"planned actions must be finite, got NaN or infinity in every environment at step "
                f"{self.num_timesteps}; training diverged, a smaller `learning_rate` may help"
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
        """Store the transition, and remember which chunks end with their episode; refuse one that is not finite."""
        last = [info["terminal_observation"] for info in infos if "terminal_observation" in info]
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite
            rows = [self.policy.layout.flatten(observations) for observations in (new_obs, *last)]
            arrays = (*rows, reward.astype(np.float32))
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(
                "environments must return observations and rewards that are finite in float32, got others at step "
                f"{self.num_timesteps}; this is a fault of the environment, not of training"
            )
        is_plain = self.policy.layout.is_plain  # choices are often equal
        if is_plain and last and np.array_equal(rows[1][0], rows[0][np.argmax(dones)]):
            warnings.warn(
                "the last observation of an episode is the first one of the next: does the environment write into the "
                "array that it has returned? Let it return copies",
                stacklevel=2,
            )
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        # SB3's off-policy loop does not keep it; a chunk is dropped where its episode has ended
        self._last_episode_starts = np.array(dones, dtype=bool)
