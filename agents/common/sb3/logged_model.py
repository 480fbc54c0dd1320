"""What a model logs: losses and diagnostics of the last update, and how the last episodes of each replica went."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor

from agents.common.method import Info
from agents.common.replicas import PerReplica, find_divergence
from agents.common.sb3.policy import FlowPolicy
from agents.common.sb3.stored_model import StoredModel


class LoggedModel(StoredModel):
    """The part of a model that writes to SB3's logger; only here does training wait for the device."""

    policy: FlowPolicy
    _last_info: Info
    """Losses and diagnostics of the last update, each (S,), on the device."""

    def find_divergence(self) -> dict[int, str]:
        """Return the replicas whose last loss or whose parameters are NaN or infinite; waits for the device.

        :return: replica -> what is not finite, in words.
        """
        groups: dict[str, list[Tensor]] = {}
        if self._last_info:
            groups["total_loss is"] = [self._last_info["total_loss"]]
        for name, net in self.policy.nets.items():
            # an extractor of one replica has no axis S
            parameters = [p.reshape(self.policy.num_replicas, -1) for p in net.parameters()]
            groups[f"parameters of {name} are"] = parameters
        return find_divergence(groups)

    def last_values(self) -> dict[str, PerReplica]:
        """Return losses and diagnostics of the last update by name; waits for the device.

        :return: name -> one value for each replica.
        """
        if not self._last_info:
            return {}
        values = torch.stack([value.detach().float() for value in self._last_info.values()])
        rows = map(PerReplica, values.cpu().numpy())  # one copy, so one wait
        return dict(zip(self._last_info, rows, strict=True))

    def dump_logs(self) -> None:
        """Write the log of the online phase."""
        self._record_info()
        if self.policy.num_replicas > 1:
            self._record_episodes()
        super().dump_logs()

    def _record_episodes(self) -> None:
        """Record how each replica's last episodes went; a logger that knows replicas prefers it to SB3's mean."""
        if not self.ep_info_buffer:
            return
        keys = {"ep_rew_mean": "r", "ep_len_mean": "l"}
        if self._reports_success:
            keys["success_rate"] = "success"
        for name, key in keys.items():
            # NaN stays where none of the last episodes is a replica's
            means = np.full(self.policy.num_replicas, np.nan)
            replicas = np.array([episode["replica"] for episode in self.ep_info_buffer])
            # an episode that says nothing of success is none
            values = np.array([float(episode.get(key) or 0) for episode in self.ep_info_buffer])
            for replica in np.unique(replicas):
                means[replica] = values[replicas == replica].mean()
            self.logger.record(f"rollout/{name}", PerReplica(means))

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
        for name, value in self.last_values().items():
            self.logger.record(f"train/{name}", value)
        for group in self.policy.optimizer.param_groups:
            name = "train/learning_rate"
            if "network" in group:
                name += f"_{group['network']}"
            self.logger.record(name, float(group["lr"]))
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
