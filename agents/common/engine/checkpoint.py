"""Checkpoints of a training run, written atomically; the last two are kept.

A checkpoint contains a saved model and what the model's file omits: the online part of the replay buffer, all random
states, and the losses of the last update. Offline training therefore continues bit for bit. Environments are not saved:
online training keeps every transition, counter and statistic, but starts new episodes. Reading a checkpoint executes no
code from it. A manifest contains the checksum of every file, so damage is found before anything is restored.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.utils import check_for_correct_spaces

from agents.common.files import (
    atomic_folder,
    explaining_write_errors,
    raising_damaged_file,
    read_manifest,
    remove_folder,
    safe,
    write_manifest,
)
from agents.common.model_file import MODEL, find_checkpoints, read_model_file
from agents.common.normalization import Normalization
from agents.common.sb3.stored_model import StoredModel
from agents.common.settings import Configurable

FORMAT = 15
"""Format number; it increases when a version stores state differently, or would continue a run differently."""
MAX_CHECKPOINTS = 2
STATE = "state.pt"
# attributes that the resuming process determines, not the file
PROCESS_ATTRIBUTES = {
    "observation_space", "action_space", "verbose", "tensorboard_log", "n_envs", "train_freq",
}  # fmt: skip


class OtherVersionError(ValueError):
    """Another version wrote the checkpoint, so this version cannot continue the run bit for bit."""


def save_checkpoint(model: StoredModel, folder: Path, **values: Any) -> Path:
    """Write the state of a training run to a new subfolder, named after the step.

    Call it between steps: after an offline update, or at the start of a rollout.

    :param model: the model in training.
    :param folder: folder of the run's checkpoints.
    :param values: plain values to save with the checkpoint.
    :return: the new checkpoint's folder.

    >>> model = agents.QAM("MlpPolicy", "Pendulum-v1", horizon_length=1, net_arch=[32])
    >>> checkpoint = save_checkpoint(model, Path("checkpoints"), best_score=3.5)
    >>> load_checkpoint(model, checkpoint)
    {'best_score': 3.5}
    """
    with explaining_write_errors(folder):  # a deleted run folder is not created again
        folder.mkdir(exist_ok=True)
    for stale in folder.glob(".step_*"):  # left by a process that was killed while writing
        shutil.rmtree(stale)
    name = f"step_{model.num_timesteps:09d}"
    # A run that is stopped repeatedly before its next step writes several checkpoints at the same step.
    # Only the newest checkpoints remain, and damaged ones keep their numbers, so counting the
    # files could give a number that is already used.
    suffixes = [path.suffix[1:] for path in folder.glob(f"*{name}.*")]
    numbers = [int(suffix) for suffix in suffixes if suffix.isdecimal()]
    final = folder / f"{name}.{max(numbers, default=-1) + 1}"
    with atomic_folder(final) as temporary:
        write_model(model, temporary / MODEL)
        cuda_states = []
        if model.device.type == "cuda":
            cuda_states = torch.cuda.get_rng_state_all()
        # all random generators used in training, except those of environments
        random_states = {
            "python": safe.to_json(random.getstate()),
            "numpy": safe.to_json(np.random.get_state(legacy=False)),
            "torch": torch.get_rng_state(),
            "cuda": cuda_states,
            "actions": [space.np_random.bit_generator.state for space in model.action_spaces],
            "own": {name: generator.get_state() for name, generator in _generators(model).items()},
        }
        state = {
            "last_info": model._last_info,
            "random": random_states,
            "buffer": model.replay_buffer.online_state(),
            "more": safe.to_json(values),
        }
        # an open file, because PyTorch does not report a full disk if it is given a path
        with (temporary / STATE).open("wb") as file:
            torch.save(state, file)
        write_manifest(temporary, format=FORMAT)
    checkpoints = find_checkpoints(folder)
    # the first may be of later steps, if `num_timesteps` has restarted from zero
    for old in checkpoints[checkpoints.index(final) + MAX_CHECKPOINTS :]:
        remove_folder(old)
    return final


def set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither found nor counted among the newest.

    :param checkpoint: folder of the checkpoint.
    :return: its new path.
    """
    return checkpoint.rename(checkpoint.with_name(f"damaged_{checkpoint.name}"))


def load_checkpoint(model: StoredModel, checkpoint: Path) -> dict[str, Any]:
    """Restore a run's state in a model with the same settings, environments and dataset.

    :param model: the model; its dataset is loaded already.
    :param checkpoint: a folder that :func:`save_checkpoint` returned.
    :return: the values that were saved with the checkpoint.
    :raises OtherVersionError: if another version wrote the checkpoint.
    :raises DamagedFileError: if a file is missing or damaged; the model is then unchanged.
    """
    written_format = read_manifest(checkpoint).get("format")
    if written_format != FORMAT:
        raise OtherVersionError(
            f"{checkpoint} was written by another version of this library (checkpoint format {written_format}, "
            f"expected {FORMAT}), so this version cannot continue it bit for bit; finish the run with that version, or "
            "train again"
        )
    with raising_damaged_file(str(checkpoint / STATE)):
        state = safe.load(checkpoint / STATE)
    _restore_model(model, checkpoint / MODEL)
    model.replay_buffer.restore_online_state(state["buffer"])
    model._last_info = {name: value.to(model.device) for name, value in state["last_info"].items()}
    states = state["random"]
    random.setstate(safe.from_json(states["python"]))
    np.random.set_state(safe.from_json(states["numpy"]))
    torch.set_rng_state(states["torch"])
    # of all GPUs of the machine that wrote the checkpoint, which may have had more; empty for a run on a CPU
    torch.cuda.set_rng_state_all(states["cuda"][: torch.cuda.device_count()])
    for space, action_state in zip(model.action_spaces, states["actions"], strict=True):
        space.np_random.bit_generator.state = action_state
    for name, generator in _generators(model).items():
        generator.set_state(states["own"][name])
    _begin_episodes(model)
    return dict(safe.from_json(state["more"]))


def _begin_episodes(model: StoredModel) -> None:
    """Let a model start new episodes; a model without online steps starts as in a new run."""
    env = model.get_env()
    if env is None:
        return
    normalize = model.get_vec_normalize_env()
    if normalize is not None and model._saved_normalization is not None:
        Normalization(**model._saved_normalization).copy_to(normalize)
    model._last_obs = None  # the next phase starts with a reset
    if model.num_timesteps > model.offline_steps:
        # with a new seed, so that the run's first episode is not repeated
        env.seed(int(np.random.randint(2**31)))
        model.replay_buffer.end_episodes()


def _restore_model(model: StoredModel, path: Path) -> None:
    """Restore parameters, optimisers and counters of a saved model; raise an error if the models' spaces differ."""
    saved = read_model_file(path)
    # `behaviour` contains code, which the model already has
    attributes = saved.attributes({"behaviour"})
    check_for_correct_spaces(
        model,  # type: ignore[arg-type]  # a model has spaces, like an environment
        attributes["observation_space"],
        attributes["action_space"],
    )
    model.read_parameters(saved)
    settings = getattr(model, "method_class", Configurable).declared()
    # for a schedule, the file contains the rate at the time of saving, not the function
    if callable(model.learning_rate):
        attributes.pop("learning_rate", None)
    for name, value in attributes.items():
        if name in settings:
            setattr(model.method, name, value)
        elif name not in PROCESS_ATTRIBUTES:
            setattr(model, name, value)


def write_model(model: StoredModel, path: Path) -> None:
    """Save a model to a path in an existing folder; SB3 would create the folder again if it had been deleted.

    :param model: model of this library or of SB3.
    :param path: the file.
    """
    with path.open("wb") as file:
        model.save(file)


def _generators(model: StoredModel) -> dict[str, torch.Generator]:
    """Return the generators of a model; SB3's algorithms have none."""
    return model.trainer.generators() if hasattr(model, "trainer") else {}
