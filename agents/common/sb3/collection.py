"""How a model acts in its training environments: chunks played to their end, replicas that have diverged kept still."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn

from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.replicas import Diverged
from agents.common.sb3.policy import FlowPolicy


class CollectingModel(OffPolicyAlgorithm):
    """The part of a model that collects transitions with SB3's loop, which knows nothing of chunks."""

    policy: FlowPolicy
    replay_buffer: SequenceReplayBuffer | None
    _chunk_state: tuple[NDArray[Any], ...] | None

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        """Prepare a phase; where it begins with a reset, the stored trajectories end and no chunk goes on."""
        if reset_num_timesteps or self._last_obs is None:
            self._chunk_state = None
            if self.replay_buffer is not None:
                self.replay_buffer.end_episodes()
            prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
            self._keep_plain_dicts()
            return prepared
        noise = copy.deepcopy(self.action_noise)
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if type(noise) is type(self.action_noise):
            self.action_noise = noise  # SB3 resets it even in the middle of an episode
        return prepared

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect with SB3's loop, and count a replica's own steps: as many updates as that may follow.

        :param args: of SB3's method.
        :param kwargs: of SB3's method.
        :return: steps of each replica, episodes of all, and whether to go on.
        """
        found = super().collect_rollouts(*args, **kwargs)
        return found._replace(episode_timesteps=found.episode_timesteps // self.policy.num_replicas)

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
        # SB3 will count a step of every environment; the steps of a replica are those in its own environments
        self.num_timesteps -= n_envs - n_envs // self.policy.num_replicas
        scaled = self.policy.scale_action(actions)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    def _without_diverged(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Keep environments of diverged replicas idle in the middle of the action space; no simulator gets a NaN."""
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
        """Store the transition, and remember which chunks end with their episode; refuse one that is not finite."""
        last = [info["terminal_observation"] for info in infos if "terminal_observation" in info]
        _refuse_bad_values({"observation": new_obs, "reward": reward, "last observation": last}, self.num_timesteps)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        self._last_episode_starts = np.array(dones, dtype=bool)
        self._keep_plain_dicts()

    def _keep_plain_dicts(self) -> None:
        """Make the newest observations dicts where SB3 has ordered ones, which saved files do not know."""
        for name in ("_last_obs", "_last_original_obs"):
            value = getattr(self, name)
            setattr(self, name, dict(value) if isinstance(value, dict) else value)


def _leaves(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield arrays by name, the parts of Dict observations one by one."""
    for name, value in values.items():
        rows = value if isinstance(value, list) else [value]
        if rows and isinstance(rows[0], dict):
            yield from ((f"{name} `{key}`", [row[key] for row in rows]) for key in rows[0])
        else:
            yield name, value


def _refuse_bad_values(values: dict[str, Any], step: int) -> None:
    """Raise where environments returned what is not finite in float32, before anything learns from it."""
    for name, value in _leaves(values):
        rows = np.asarray(value)
        if rows.dtype.kind != "f":
            continue
        with np.errstate(over="ignore"):
            is_good = np.isfinite(rows.astype(np.float32, copy=False))
        if not is_good.all():
            environment, *place = np.argwhere(~is_good)[0].tolist()
            raise ValueError(
                f"environments must return values that are finite in float32, got {name}{place or ''} = "
                f"{rows[environment, *place]} from environment {environment} at step {step}; this is a fault of the "
                "environment, not of training"
            )
