"""What a model tells its logger, replica by replica."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor

from agents.common.method import Info
from agents.common.replicas import PerReplica, find_divergence, on_host
from agents.common.sb3.policy import FlowPolicy


class ReportingModel(OffPolicyAlgorithm):
    """The part of a model that logs: losses and diagnostics of the last update, and how episodes went."""

    policy: FlowPolicy
    _last_info: Info

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

    def last_values(self) -> dict[str, PerReplica]:
        """Return losses and diagnostics of the last update by name; waits for the device.

        :return: name -> one value for each replica.
        """
        return on_host(self._last_info)

    def dump_logs(self) -> None:
        """Write the log of the online phase."""
        self._record_info()
        if self.policy.num_replicas > 1:
            self._record_episodes()
        super().dump_logs()

    def _dump_offline_logs(self) -> None:
        self._record_info()
        elapsed = max((time.time_ns() - self.start_time) / 1e9, 1e-9)
        speed = (self.num_timesteps - self._num_timesteps_at_start) / elapsed
        self.logger.record("time/updates_per_s", speed)
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)

    def _record_info(self) -> None:
        """Hand the last update's losses and diagnostics to the logger; the only place that waits for the device."""
        for name, value in self.last_values().items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/learning_rate", self.policy.optimizer.param_groups[0]["lr"])
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

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
        """Remember finished episodes, and which replica they were played for."""
        for index, info in enumerate(infos):
            if "episode" in info:
                info["episode"]["replica"] = index * self.policy.num_replicas // len(infos)
                info["episode"]["success"] = info.get("is_success")
        super()._update_info_buffer(infos, dones)
