"""Saved models: where to find one, and which algorithm it belongs to."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from agents.common.engine.checkpoint import find_checkpoints
from agents.common.files import DamagedFile, damage_named, regular_file
from agents.common.model_file import ATTRIBUTES, parse_attributes
from agents.registry import BUILT_IN, name_of


def find_model(path: str | Path) -> Path:
    """Return the file of a saved model, given with or without ``.zip``, or as the folder of a run.

    A folder gives its final model, else that of the newest checkpoint, else the best so far.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return regular_file(path)
    final = path / f"{path.name.rpartition('_')[0]}.zip"
    checkpoints = [checkpoint / "model.zip" for checkpoint in find_checkpoints(path / "checkpoint")]
    for candidate in (path.with_name(f"{path.name}.zip"), final, *checkpoints, path / "best_model.zip"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"expected a saved model (.zip) or the folder of a run that has saved one, got {path}")


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the attributes in a saved model's JSON without building anything; objects are described by strings."""
    try:
        with damage_named(str(path)), zipfile.ZipFile(regular_file(path)) as archive:
            text = archive.read(ATTRIBUTES)
    except (OSError, DamagedFile) as error:
        problem = error.problem if isinstance(error, DamagedFile) else error
        raise ValueError(
            f"expected a saved model (.zip), got {path}, which cannot be read as one: {problem}"
        ) from error
    return parse_attributes(text, str(path))


def algorithm_of(path: Path) -> str | None:
    """Return the algorithm of a saved model as :func:`agents.get` takes it; None for a file that does not say."""
    found = read_attributes(path).get("algorithm_id")
    return found if isinstance(found, str) else None


def require_algorithm(path: Path, algorithm: type[Any]) -> None:
    """Refuse a model of another algorithm; a file that does not name its algorithm passes.

    ``algorithm`` is the method or the class of its models, and may be a subclass of the one that saved the file.
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
