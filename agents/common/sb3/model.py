"""Models: Stable-Baselines3's off-policy contract around one method object, which the policy shares."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv as GymEnv
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from agents.common.check import check_first_update, require_table
from agents.common.data.arrays import ArraySource
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.data.shards import Shards
from agents.common.data.storage import Placement
from agents.common.engine.fast_update import FastUpdate, Mode
from agents.common.engine.update import Learner
from agents.common.method import Info, Method, linear_start
from agents.common.nets.heads import CriticEnsemble
from agents.common.nets.specs import NetworkSpec
from agents.common.pretraining import find_behaviour, no_behaviour_message
from agents.common.saved import require_algorithm
from agents.common.sb3.acting import save_policy
from agents.common.sb3.arguments import SETTINGS_OF_POLICY, sort_arguments
from agents.common.sb3.collection import CollectingModel
from agents.common.sb3.encoders import ImpalaEncoder as ImpalaEncoder  # a saved model may name it
from agents.common.sb3.image_policies import CnnFlowPolicy, MultiInputFlowPolicy, with_encoder
from agents.common.sb3.policy import FlowPolicy
from agents.common.sb3.pretrained_actor import load_behaviour
from agents.common.sb3.reporting import ReportingModel
from agents.common.sb3.shared_settings import MethodModel
from agents.common.sb3.spaces import UnsupportedSpaceError as UnsupportedSpaceError
from agents.common.sb3.spaces import check_spaces
from agents.common.validation import integer
from agents.registry import name_of

UNSAVED = ("method", "_generator", "_host_generator", "_update", "_chunk_state", "_last_info", "_told", "is_checked")
HOOKS = ("networks", "noise", "act", "targets", "losses")


class FlowQLearning(Learner, MethodModel, CollectingModel, ReportingModel):
    """Off-policy learning of flow policies from a dataset, from an environment, or from both in turn.

    What is learnt, and how, is in ``method``; its settings are attributes of the model too. One that is changed acts
    from then on in training and acting; one that networks or buffer were built with cannot be changed.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"`` for images, ``"MultiInputPolicy"`` for Dict observations, or a
        subclass of ``FlowPolicy``.
    :param env: environment, its Gymnasium id, or None when loading. Bounded Box actions.
    :param positional: settings in SB3's order, from ``learning_rate`` on.
    :param named: settings of the method and :class:`~agents.common.sb3.arguments.Arguments`.
    :raises UnsupportedSpaceError: for Tuple and other observations, or actions that are not a bounded Box.
    :raises TypeError: for an argument that is not known; the message names the closest.
    :raises ValueError: for a setting out of range, or pretraining where the algorithm has no behaviour flow.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": FlowPolicy,
        "CnnPolicy": CnnFlowPolicy,
        "MultiInputPolicy": MultiInputFlowPolicy,
    }
    method_class: ClassVar[type[Method]]
    method: Method
    policy: FlowPolicy
    replay_buffer: SequenceReplayBuffer | None
    _update: FastUpdate

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse the hooks of a method: here nobody would call them."""
        super().__init_subclass__(**options)
        misplaced = [name for name in HOOKS if name in vars(cls)]
        if misplaced:
            raise TypeError(
                f"`{misplaced[0]}` of {cls.__name__} must be defined in a subclass of `agents.Method`, not of a model; "
                "register that one and `agents.get(id).algorithm` is its model (docs/register.md)"
            )

    def __init__(
        self, policy: str | type[FlowPolicy], env: GymEnv | str | None, *positional: Any, **named: Any
    ) -> None:
        settings, arguments = sort_arguments(self.method_class, positional, named)
        self.method = self.method_class(**settings)
        method = self.method
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=method.learning_rate,  # type: ignore[arg-type]  # words become a schedule in _setup_lr_schedule
            buffer_size=method.buffer_size,
            learning_starts=method.learning_starts,
            batch_size=method.batch_size,
            tau=method.tau,
            gamma=method.gamma,
            train_freq=method.train_freq,
            gradient_steps=method.gradient_steps,
            action_noise=arguments.action_noise,
            replay_buffer_class=arguments.replay_buffer_class,
            replay_buffer_kwargs=arguments.replay_buffer_kwargs,
            optimize_memory_usage=arguments.optimize_memory_usage,
            policy_kwargs=arguments.policy_kwargs,
            stats_window_size=arguments.stats_window_size,
            tensorboard_log=arguments.tensorboard_log,
            verbose=arguments.verbose,
            device=arguments.device,
            support_multi_env=True,
            seed=arguments.seed if arguments.seeds is None else arguments.seeds[0],
            sde_support=False,
        )
        self.seeds = None if arguments.seeds is None else list(arguments.seeds)
        self.algorithm_id = name_of(self.method_class)  # a saved model says whose it is
        self.offline_steps = 0  # gradient steps taken in learn_offline
        self.behaviour_flow = find_behaviour(require_table(method, "networks", NetworkSpec))
        if method.pretraining_steps and self.behaviour_flow is None:
            raise ValueError(no_behaviour_message(method.__class__.__name__))
        if arguments._init_setup_model:
            self._setup_model()

    def _setting_changed(self, name: str) -> None:
        """Update what was derived from a setting that has changed."""
        if name == "learning_rate" and hasattr(self, "lr_schedule"):
            self._setup_lr_schedule()
        elif name == "pretraining_steps":
            self.pretraining = self._n_updates < self.method.pretraining_steps
        elif name == "compile" and hasattr(self, "_update"):
            self._update.prepare()

    # -- set-up -------------------------------------------------------------------------------------------------------

    @classmethod
    def _wrap_env(cls, env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Refuse spaces by name before SB3 wraps the environment."""
        check_spaces(env.observation_space, env.action_space)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        """Build buffer and policy; runs without an environment too when a model is loaded."""
        self._absorb_settings()
        check_spaces(self.observation_space, self.action_space)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if self.replay_buffer is None:
            self.replay_buffer = self._make_buffer()
        seeds = self.seeds or (None if self.seed is None else [self.seed])
        given = {name: value for name, value in self.policy_kwargs.items() if name not in SETTINGS_OF_POLICY}
        arguments = with_encoder(self.method.encoder, given)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, self.method.finish(), seeds, **arguments
        )
        self.policy = self.policy.to(self.device)
        self._convert_train_freq()
        self.pretraining = self._n_updates < self.method.pretraining_steps
        self._update = FastUpdate(self)
        self._chunk_state: tuple[NDArray[Any], ...] | None = None
        self._last_info: Info = {}
        self._told: Placement | None = None
        self.is_checked = False  # whether the hooks have been tried

    def _setup_lr_schedule(self) -> None:
        """Turn the learning rate into a function of the remaining progress."""
        rate = self.method.learning_rate
        self.lr_schedule = (
            LinearSchedule(linear_start(rate), 0.0, 1.0) if isinstance(rate, str) else FloatSchedule(rate)
        )

    def _make_buffer(self) -> SequenceReplayBuffer:
        """Return the empty buffer."""
        buffer_class = self.replay_buffer_class or SequenceReplayBuffer
        if not issubclass(buffer_class, SequenceReplayBuffer):
            raise TypeError(
                f"`replay_buffer_class` must be a subclass of SequenceReplayBuffer, got {buffer_class.__name__}: "
                "chunks need sequences of transitions"
            )
        return buffer_class(
            self.method.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            horizon_length=self.method.horizon_length,
            gamma=self.method.gamma,
            action_chunking=self.method.action_chunking,
            replicas=1 if self.seeds is None else len(self.seeds),
            sparse=self.method.sparse,
            balanced=self.method.balanced_sampling,
            frame_stack=self.method.frame_stack,
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
        if "policy" in vars(self):
            self.policy.set_random_seed(own)

    @classmethod
    def _require_own(cls, file: Path | BufferedIOBase) -> None:
        if isinstance(file, Path):
            require_algorithm(file, cls.method_class)

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Load parameters and optimiser state; see Stable-Baselines3."""
        super().set_parameters(*args, **kwargs)
        self._update.prepare()  # a recorded update writes to the optimiser's old state

    def replica(self, index: int) -> Self:
        """Return one replica as an ordinary model of its own, without a replay buffer.

        :param index: which replica, 0..S-1.
        :return: a model with the replica's networks, targets and optimiser state.
        """
        single = copy.copy(self)
        single.policy = self.policy.replica(index)
        single.method = single.policy.method
        single.seeds, single.seed = list(single.policy.seeds), single.policy.seeds[0]
        single.replay_buffer = None
        single._generator = torch.Generator(single.device).manual_seed(single.seed)
        single._host_generator = torch.Generator().manual_seed(single.seed)
        single._update = FastUpdate(single)
        return single

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *UNSAVED]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []

    def save_policy(self, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Save the policy in a small file without a critic's copies, optimiser and counters: `agents.load_policy` acts.

        :param path: file, usually with the ending ``.safetensors``.
        :param about: what else is to be said about it, e.g. its environment and score: values that JSON takes.
        """
        save_policy(self.policy, path, about)

    # -- names ---------------------------------------------------------------------------------------------------------

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
        if self.method.observation_scale is not None:
            rows = self.replay_buffer.observations[: self.replay_buffer.dataset_size]
            self.policy.set_observation_statistics(rows, self.method.observation_scale)

    def _check_first_update(self) -> None:
        """Try the algorithm's hooks once, before any training: see :mod:`agents.common.check`."""
        if not self.is_checked:
            kept = {name: value for name, value in self.policy_kwargs.items() if name == "activation_fn"}
            policy_class: Any = self.policy_class
            check_first_update(self.method, self.observation_space, self.action_space, policy_class, **kept)
            self.is_checked = True

    def load_pretrained_actor(self, path: str | Path | BufferedIOBase) -> None:
        """Begin with the behaviour flow of a saved model, of this or another algorithm, in place of pretraining.

        Its online flow becomes this model's; networks that begin at the behaviour flow, and moving averages, become its
        copies. One replica of the source serves all of ours; of several, each gets its own.

        :param path: what ``save`` wrote, or the folder of a run. Load the dataset first where observations are scaled.
        :raises ValueError: if one of the two has no behaviour flow, the model is to be pretrained, or sizes, layers,
            action box, chunk or observation statistics differ; nothing is changed then.
        """
        load_behaviour(self.policy, self.behaviour_flow, path)

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
        if self._vec_normalize_env is not None and self._vec_normalize_env.training:
            raise ValueError(
                "VecNormalize takes its statistics from environment steps, and there are none in offline training; set "
                "`observation_scale`, which takes them from the dataset, or freeze known ones: `env.training = False`"
            )
        total, callback = self._setup_learn(gradient_steps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        total_timesteps = total  # SB3's progress bar reads this name from the locals
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._update_learning_rate(self.policy.optimizer)
            self._last_info = self.sample_and_update(self.method.batch_size)
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
        if online <= self.method.learning_starts or not self.replay_buffer.count_starts():
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

        :param total_timesteps: environment steps of each replica.
        :param callback: SB3 callback, list of them, or function.
        :param log_interval: episodes between log entries.
        :param tb_log_name: name of the TensorBoard run; None takes the class name.
        :param reset_num_timesteps: whether to count from zero.
        :param progress_bar: whether to show SB3's progress bar.
        :return: the model.
        :raises ValueError: if the environments cannot be shared out evenly to the replicas.
        """
        self._check_first_update()
        replicas = self.policy.num_replicas
        if self.n_envs % replicas:
            raise ValueError(
                f"{replicas} replicas need a multiple of {replicas} environments online, got {self.n_envs}; "
                f"make the model with as many, e.g. `make_vec_env(..., n_envs={replicas})`"
            )
        if reset_num_timesteps:
            self.offline_steps = 0
        self.method.before_online(self.policy.nets)
        if self.method.balanced_sampling and self.replay_buffer is not None and not self.replay_buffer.dataset_size:
            warnings.warn(
                "`balanced_sampling` has no dataset, so all batches are online; call `load_dataset`", stacklevel=2
            )
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        """Prepare a phase, and say where the data live if that has not been said."""
        self._update.prepare()
        if self.verbose >= 1 and self.replay_buffer is not None and self._told != self.replay_buffer.placement:
            self._told = self.replay_buffer.placement
            print(self._told.text)
        return super()._setup_learn(*args, **kwargs)
