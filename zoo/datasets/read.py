"""Read one dataset file: verified, by OGBench's loader, checked, actions kept inside their range."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from ogbench.utils import load_dataset as read_dataset

from agents.common.bounded import require_npz
from agents.common.files import TooLarge
from zoo.datasets.check import READ_ERRORS, check_checksum, check_values, describe_damage, require_sound
from zoo.datasets.names import DatasetSpec
from zoo.errors import UsageError

_ARRAYS = ("observations", "actions", "terminals", "qpos", "qvel", "button_states")  # what OGBench's loader reads
ACTION_MARGIN = 1e-5  # actions are kept this far inside [-1, 1], so that atanh of them is finite


def verified_sha256(path: Path, spec: DatasetSpec) -> str:
    """Return the sha256 of a file, which is the one that was recorded if there is one.

    This brings the file into the page cache, from where it is read next: the disk is read once.
    """
    digest, findings = check_checksum(path)
    require_sound(findings, spec, path)
    return digest


def read_arrays(path: Path, spec: DatasetSpec) -> dict[str, np.ndarray]:
    """Return the arrays needed for training and relabelling, checked, with actions clipped.

    :return: arrays by name, in OGBench's compact layout, each of shape (rows, ...).
    """
    try:
        require_npz(path, _ARRAYS)
        kind = np.uint8 if spec.is_visual else np.float32
        arrays: dict[str, np.ndarray] = read_dataset(os.fspath(path), kind, compact_dataset=True, add_info=True)
    except TooLarge as error:
        raise UsageError(str(error)) from error
    except READ_ERRORS as error:
        require_sound([describe_damage(error)], spec, path)
        raise
    arrays.pop("qvel", None)
    checked = {key: arrays[key] for key in ("observations", "actions", "qpos")}
    require_sound(check_values(checked, 1.0 - arrays["valids"]), spec, path)
    np.clip(arrays["actions"], -1.0 + ACTION_MARGIN, 1.0 - ACTION_MARGIN, out=arrays["actions"])
    return arrays
