"""Helpers for tests of resuming: a checkpoint between steps, environments, and other random numbers."""

import random

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from agents.common.engine.checkpoint import save_checkpoint
from tests.zoo.envs.toys import ToyEnv


class SaveAt(BaseCallback):
    """Writes one checkpoint between steps."""

    def __init__(self, step, folder):
        super().__init__()
        self.step, self.folder = step, folder

    def _on_rollout_start(self):
        if self.model.num_timesteps == self.step:
            save_checkpoint(self.model, self.folder, note="kept")

    def _on_step(self):
        return True


def environments(count=1, **arguments):
    """Return copies of the chaotic environment."""
    return make_vec_env(ToyEnv, n_envs=count, seed=0, **arguments)


def disturb_global_generators():
    """Put the global generators into another state, as in a new process."""
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
