"""Saved models: where one is, and whose it is."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from agents.common.engine.checkpoint import find_checkpoints
from agents.registry import BUILT_IN, name_of


def find_model(path: str | Path) -> Path:
    """Return a saved model: the file itself, or the one that a run folder offers.

    Of a folder that is the final model; before there is one, that of the newest checkpoint, else the best so far.

    :param path: a ``.zip``, with or without its ending, or a run folder.
    :return: the file.
    :raises FileNotFoundError: if there is none.
    """
    path = Path(path)
    final = path / f"{path.name.rpartition('_')[0]}.zip"
    checkpoints = [checkpoint / "model.zip" for checkpoint in find_checkpoints(path / "checkpoint")]
    for candidate in (path, path.with_name(f"{path.name}.zip"), final, *checkpoints, path / "best_model.zip"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"expected a saved model (.zip) or the folder of a run that has saved one, got {path}")


def read_attributes(path: Path) -> dict[str, Any]:
    """Return what a saved model's JSON says, without building anything that it holds.

    :param path: its ``.zip``.
    :return: attribute -> value; objects are described by strings.
    :raises ValueError: if it is not a saved model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"expected a saved model (.zip), got {path}, which cannot be read as one: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected a saved model (.zip), got {path}, whose `data` is not a mapping")
    return found


def algorithm_of(path: Path) -> str | None:
    """Return whose model a file is.

    :param path: its ``.zip``.
    :return: an id or ``"module:Class"``, as :func:`agents.get` takes it; None for a file that does not say.
    :raises ValueError: if it is not a saved model.
    """
    found = read_attributes(path).get("algorithm_id")
    return found if isinstance(found, str) else None


def require_algorithm(path: Path, algorithm: type[Any]) -> None:
    """Refuse a model of another algorithm; a file that does not say whose it is passes.

    :param path: its ``.zip``.
    :param algorithm: the method, or the class of its models; it may be a subclass of the one that saved it.
    :raises ValueError: if it is another's.
    """
    saved = algorithm_of(path)
    if saved is None:
        return
    algorithm = getattr(algorithm, "method_class", algorithm)
    known = {name_of(cls) for cls in algorithm.__mro__} | {cls.__qualname__ for cls in algorithm.__mro__}
    if saved not in known and saved.rpartition(":")[2] not in known:
        raise ValueError(
            f"{path} is a model of {BUILT_IN.get(saved, saved)}, expected one of {algorithm.__name__}; "
            "`agents.load(path)` loads any"
        )
