"""What a checkpoint keeps of the run folders: they can be damaged or lost, and the run still goes on from it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.engine.checkpoint import find_checkpoints, read_kept_file
from agents.common.files.bounded import read_npz
from agents.common.files.manifest import DamagedFolderError
from zoo.runs.folder import IDENTITY, RunFolder
from zoo.runs.history import EvaluationHistory
from zoo.settings import plain_yaml
from zoo.terminal.messages import log

EVALUATIONS, PROGRESS = "evaluations.npz", "progress.csv"


def kept_files(
    folders: Sequence[RunFolder], histories: Sequence[EvaluationHistory], tables: Sequence[str]
) -> dict[str, bytes]:
    """Return what a checkpoint is to keep of the run folders, by file name; those of replica k begin with ``k.``.

    :param folders: one for each replica, as are the others.
    :param histories: their evaluations.
    :param tables: their ``progress.csv``.
    """
    files: dict[str, bytes] = {}
    for replica, (folder, history, table) in enumerate(zip(folders, histories, tables, strict=True)):
        files |= {_name(replica, name): content for name, content in folder.identity.items()}
        files[_name(replica, PROGRESS)] = table.encode()
        if len(history):
            content = io.BytesIO()
            np.savez(content, allow_pickle=False, **history.arrays())
            files[_name(replica, EVALUATIONS)] = content.getvalue()
    return files


def restore_files(folders: Sequence[RunFolder], checkpoint: Path) -> tuple[list[EvaluationHistory], list[str]]:
    """Write the files of run folders again as they were at a checkpoint; say which ones were missing or damaged.

    :param folders: one for each replica.
    :return: the evaluations and the ``progress.csv`` of each.
    """
    histories, tables = [], []
    for replica, folder in enumerate(folders):
        for name in IDENTITY:
            content = read_kept_file(checkpoint, _name(replica, name))
            if content is not None and folder.restore_file(name, content):
                log.warning("%s was missing or damaged; its copy in %s took its place", folder.path / name, checkpoint)
        content = read_kept_file(checkpoint, _name(replica, EVALUATIONS))
        histories.append(EvaluationHistory(None if content is None else read_npz(io.BytesIO(content))))
        if content is not None:
            folder.write_evaluations(histories[-1].arrays())
        tables.append((read_kept_file(checkpoint, _name(replica, PROGRESS)) or b"").decode())
    return histories, tables


def find_kept_mapping(folder: RunFolder, name: str) -> Mapping[str, Any] | None:
    """Return what a YAML file holds in the newest checkpoint that has it whole, or None.

    :param folder: that of the first replica.
    :param name: of the file, e.g. ``config.yml``.
    """
    content = _find(folder, _name(0, name))
    return None if content is None else plain_yaml.read(content.decode())


def find_kept_history(first: RunFolder, replica: int) -> EvaluationHistory:
    """Return a replica's evaluations as the newest checkpoint that has them whole; none where there is no such one.

    :param first: the folder of the first replica.
    """
    content = _find(first, _name(replica, EVALUATIONS))
    return EvaluationHistory(None if content is None else read_npz(io.BytesIO(content)))


def _find(folder: RunFolder, name: str) -> bytes | None:
    for checkpoint in find_checkpoints(folder.checkpoints):
        try:
            content = read_kept_file(checkpoint, name)
        except (DamagedFolderError, OSError) as error:
            log.warning("%s", error)
            continue
        if content is not None:
            return content
    return None


def _name(replica: int, file: str) -> str:
    return f"{replica}.{file}"
