"""Checkpoints of a training run: written whole or not at all, the last two kept."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from agents.common.base import FlowQLearning

KEPT = 2


def save_checkpoint(model: FlowQLearning, folder: Path) -> Path:
    """Write the model and all random states below a folder, named by the step.

    :param model: the model in training.
    :param folder: where the run's checkpoints are.
    :return: the new checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step_{model.num_timesteps:09d}"
    temporary = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        model.save(temporary / "model.zip")
        torch.save(random_states(model), temporary / "random.pt")
        for file in temporary.iterdir():
            sync(file)
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
        sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step_*"))[:-KEPT]:
        shutil.rmtree(old)
    return final


def random_states(model: FlowQLearning) -> dict[str, Any]:
    """Return the state of every generator that training draws from.

    :param model: gives the device and its own generators.
    :return: values that ``torch.load(..., weights_only=True)`` accepts.
    """
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if model.device.type == "cuda" else [],
        "training": model._generator.get_state(),
        "acting": model.policy.generator.get_state(),
    }


def sync(path: Path) -> None:
    """Wait until a file or folder is on disk.

    :param path: the file or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
