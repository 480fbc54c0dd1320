"""What models share with SB3's own algorithms in training: environments, seeds, and statistics of episodes."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.method import Method
from agents.common.normalization import Normalization, normalized_as_saved
from agents.common.sb3.environments import CopiedObservations, check_spaces, require_env
from agents.common.streams import Purpose, seed_for


class TrainedModel(OffPolicyAlgorithm):
    """The part of a model that plays in training environments, with seeds and statistics of its replicas."""

    method: Method
    """What is learnt and how; baselines have none."""
    replay_buffer: SequenceReplayBuffer  # type: ignore[assignment]  # SB3's stores transitions alone
    """None in a replica that was taken out of a model, which has nothing to train on."""
    offline_steps: int
    """Gradient steps offline; the other steps were made in environments."""
    _last_info: dict[str, torch.Tensor]
    """Losses and diagnostics of the last update."""
    _saved_normalization: dict[str, Any] | None = None
    """Fields of the :class:`Normalization` that a file or a checkpoint holds."""
    _other_action_spaces: Sequence[spaces.Space[Any]] = ()
    _reports_success = False
    """Whether an episode's end has said so far whether it was a success."""

    @property
    def action_spaces(self) -> list[spaces.Space[Any]]:
        """The action space of each replica, from which its uniform actions are drawn; the first is the model's."""
        return [self.action_space, *self._other_action_spaces]

    @property
    def normalization(self) -> Normalization | None:
        """Statistics of the model's `VecNormalize`, else those that it was saved with; None without any.

        ``model.predict`` takes what the model's environment returns. Where there is none,
        ``model.predict(model.normalization.observations(observation))`` acts as in training.
        """
        if self._vec_normalize_env is not None:
            return Normalization.of(self._vec_normalize_env)
        if self._saved_normalization is None:
            return None
        return Normalization(**self._saved_normalization)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Wrap an environment as SB3 does; a single one returns copies of its observations.

        :param env: a Gymnasium or vectorised environment.
        :param verbose: whether SB3 says what it wraps.
        :param monitor_wrapper: whether a single environment is put into a `Monitor`.
        :raises UnsupportedSpaceError: for spaces that are not supported, which SB3 would refuse by an assertion.
        :return: a vectorised environment.
        """
        require_env(env)
        check_spaces(env.observation_space, env.action_space)
        if isinstance(env, gymnasium.Env) and not env.has_wrapper_attr("copies_observations"):
            env = CopiedObservations(env)
        return OffPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Go on with an environment; one that is not normalised is, if the model has statistics of a `VecNormalize`.

        :param env: with as many environments as the model has.
        :param force_reset: whether training begins with a reset.
        """
        if self.normalization is not None:
            env = normalized_as_saved(self._wrap_env(env), vars(self.normalization))
        super().set_env(env, force_reset)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed Python, NumPy, PyTorch, the action space and the environments' next reset.

        :param seed: any from 0 to 2^32 - 1; None leaves all of them as they are.
        """
        if seed is not None:
            self._seed_everything([seed])

    def _seed_everything(self, seeds: Sequence[int]) -> None:
        """Seed what SB3 seeds; how an environment starts depends on the seed of its own replica alone."""
        set_random_seed(seed_for(Purpose.GLOBALS, seeds), using_cuda=self.device.type == "cuda")
        self._other_action_spaces = [copy.deepcopy(self.action_space) for _ in seeds[1:]]
        for space, seed in zip(self.action_spaces, seeds, strict=True):
            space.seed(seed_for(Purpose.WARM_UP, seed))
        if self.env is not None:
            n_envs = self.env.num_envs
            counts: Counter[int] = Counter()  # environments of each replica so far
            starts: list[int | None] = []
            for index in range(n_envs):
                owner = index * len(seeds) // n_envs
                starts.append(seed_for(Purpose.TRAINING_START, seeds[owner], counts[owner]))
                counts[owner] += 1
            self.env.seed(starts[0])  # for vector environments with a method of their own
            # SB3 gives neighbours consecutive seeds, which other runs have too
            self.env.unwrapped._seeds = starts

    def _update_info_buffer(
        self, infos: list[dict[str, Any]], dones: NDArray[Any] | None = None
    ) -> None:
        """Remember finished episodes; one that says nothing of success is none where another one says it."""
        finished = [index for index, info in enumerate(infos) if "episode" in info]
        for index in finished:
            info = infos[index]
            info["episode"]["success"] = info.get("is_success")
            # environments are grouped by the replica that they are played for
            info["episode"]["replica"] = index * len(self.action_spaces) // len(infos)
            self._reports_success |= "is_success" in info
        super()._update_info_buffer(infos, dones)
        if finished and self._reports_success:
            # many environments report success only when it is true, and SB3 counts only what is reported
            self.ep_success_buffer = deque(maxlen=self._stats_window_size)
            for episode in self.ep_info_buffer or ():
                self.ep_success_buffer.append(bool(episode.get("success")))

    def replica_values(self) -> dict[str, NDArray[Any]]:
        """Return the values of each replica, (S,), in place of their mean in a log, by its name; none of one alone."""
        count = len(self.action_spaces)
        episodes = self.ep_info_buffer or ()
        if count == 1 or not episodes:
            return {}
        replicas = np.array([episode["replica"] for episode in episodes])
        keys = {"ep_rew_mean": "r", "ep_len_mean": "l"}
        if self._reports_success:
            keys["success_rate"] = "success"
        values = {}
        for name, key in keys.items():
            # NaN stays where none of the last episodes is a replica's
            means = np.full(count, np.nan)
            # an episode that says nothing of success is none
            of_episodes = np.array([float(episode.get(key) or 0) for episode in episodes])
            for replica in np.unique(replicas):
                means[replica] = of_episodes[replicas == replica].mean()
            values[f"rollout/{name}"] = means
        return values
