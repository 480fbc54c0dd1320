"""The format of recorded numbers, and reading it: one ``.npz`` file without pickled objects for each fixture.

``docs/parity.md`` lists the arrays. What is read here is complete: a fixture that lacks something is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.common.bounded import DamagedFile, read_npz
from agents.common.validation import closest_names, unknown_name_message

Array = NDArray[Any]

FORMAT = 1
STEPS = (1, 2, 3)
STEPS_WITH_PARAMETERS = (1, 3)
META = "meta"
TARGET = "target_"
"""What the name of a moving average begins with: module ``target_x`` follows module ``x``."""

TOLERANCES = {
    "loss": 2e-5,
    "total": 5e-5,
    "intermediate": 2e-5,
    "gradient": 2.5e-5,
    "gradient_norm": 3e-5,
    "action": 2e-5,
    "parameter": 2e-6,
    "parameter_share": 1e-3,
    "target_1": 5e-7,
    "target_3": 1e-6,
    "adam": 3e-5,
    "dual": 1e-6,
}
"""Float32, at least five times the error of an independent implementation; ``docs/parity.md`` says what is measured."""


class ParityError(ValueError):
    """What was given cannot be compared or recorded; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Fixture:
    """Recorded numbers of one agent.

    :param arrays: every array by its key.
    :param meta: what was recorded, see :class:`agents.parity.Recorder`.
    :param path: of the file.
    """

    arrays: Mapping[str, Array]
    meta: Mapping[str, Any]
    path: Path

    def __getitem__(self, key: str) -> Array:
        return self.arrays[key]

    def __contains__(self, key: object) -> bool:
        return key in self.arrays

    @property
    def id(self) -> str:
        """The algorithm."""
        return str(self.meta["id"])

    @property
    def config(self) -> dict[str, Any]:
        """The original's settings, under its own names."""
        return dict(self.meta["config"])

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes that the author has noted, by name."""
        return dict(self.meta.get("sizes", {}))

    @property
    def parameters(self) -> dict[str, Array]:
        """Parameters at the start, by path: ``module/...``."""
        return self.below("params_before/")

    @property
    def batch(self) -> dict[str, Array]:
        """The batch of every update, by name."""
        return self.below("batch/")

    @property
    def losses(self) -> dict[str, Array]:
        """The losses of the first update, by name; a form with ``_masked`` after its name replaces the other."""
        found = self.below("loss/")
        return {name: found.get(f"{name}_masked", loss) for name, loss in found.items() if not name.endswith("_masked")}

    @property
    def tolerances(self) -> dict[str, float]:
        """What the fixture needs in place of :data:`TOLERANCES`."""
        return dict(self.meta.get("tolerances", {}))

    @property
    def tau(self) -> float:
        """How much of a parameter its moving average takes over in an update; 0 where the settings do not say."""
        return float(self.meta["config"].get("tau", 0.0))

    def noise(self, step: int) -> dict[str, Array]:
        """Return every random draw of an update, by role.

        :param step: 1, 2 or 3.
        :return: role -> draw.
        """
        return self.below(f"noise/step_{step}/")

    def total(self, step: int) -> float:
        """Return the total loss at the start of an update.

        :param step: 1, 2 or 3.
        :return: the total, in the masked form if there is one.
        """
        unmasked = float(self["loss/total"]) - float(self.losses["total"])
        return float(self[f"loss_total/step_{step}"]) - unmasked

    def below(self, prefix: str) -> dict[str, Array]:
        """Return copies of the arrays whose key begins with a prefix, by the rest of the key.

        :param prefix: e.g. ``"grad/"``.
        :return: rest of the key -> array.
        """
        return {key.removeprefix(prefix): array.copy() for key, array in self.arrays.items() if key.startswith(prefix)}


def read_fixture(path: Path) -> Fixture:
    """Read a fixture, and make sure that it is complete.

    :param path: of the file.
    :return: the fixture.
    :raises ParityError: if the file is not one, or lacks something.
    """
    arrays = _read_arrays(path)
    meta = _parse_meta(arrays.pop(META, None), path)
    if meta is None:
        raise ParityError(f"{path} is not a fixture: its `meta` names no `id`; write fixtures with `Recorder`")
    fixture = Fixture(arrays, meta, path)
    require_complete(fixture)
    return fixture


def find_fixtures(folder: Path) -> list[Path]:
    """Return the files of all fixtures in a folder and the folders in it; other ``.npz`` files may lie beside them.

    :param folder: the folder.
    :return: sorted paths.
    :raises ParityError: if there is no such folder, no fixture in it, or a file that cannot be read.
    """
    if not folder.is_dir():
        raise ParityError(f"there is no folder {folder}; give the folder that holds the fixtures")
    files = sorted(folder.rglob("*.npz"))
    found = [path for path in files if _parse_meta(_read_arrays(path, [META]).get(META), path) is not None]
    if not found:
        raise ParityError(f"there is no fixture in {folder}; a fixture is an .npz file whose `meta` names an `id`")
    return found


def require_complete(fixture: Fixture) -> None:
    """Refuse a fixture that lacks something, or whose arrays do not belong together.

    :param fixture: the fixture.
    :raises ParityError: for the first thing that is wrong.
    """
    _require_sound_meta(fixture)
    for key in ("loss/total", "sample/obs", "sample/actions", *(f"loss_total/step_{step}" for step in STEPS)):
        if key not in fixture:
            raise ParityError(f"{fixture.path} lacks `{key}`; record it again with `Recorder`")
    for group in ("params_before/", "batch/"):
        if not fixture.below(group):
            raise ParityError(f"{fixture.path} has nothing below `{group}`; record it again with `Recorder`")
    for key, array in fixture.arrays.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise ParityError(f"`{key}` in {fixture.path} must hold finite numbers, got {_describe_values(array)}")
        if key.startswith(("loss/", "loss_total/")) and array.shape != ():
            raise ParityError(f"`{key}` in {fixture.path} must be a single number, got shape {array.shape}")
    _require_same_rows(fixture, "the batch", {f"batch/{name}": array for name, array in fixture.batch.items()})
    _require_same_rows(fixture, "action sampling", {key: fixture[key] for key in ("sample/obs", "sample/actions")})
    _require_parameters(fixture)
    _require_same_draws(fixture)


def _require_sound_meta(fixture: Fixture) -> None:
    """Refuse a description whose numbers are none."""
    for name in ("sizes", "tolerances"):
        if not isinstance(fixture.meta.get(name, {}), Mapping):
            raise ParityError(f"`{name}` in `meta` of {fixture.path} must be numbers by name")
    if not _is_number(fixture.meta["config"].get("tau", 0.0)) or not _is_number(_rate_of(fixture)):
        raise ParityError(f"`meta` in {fixture.path} must have numbers as `tau` in `config` and `lr` in `adam`")
    require_tolerances(fixture.tolerances, f"`meta` in {fixture.path}: ")


def _require_parameters(fixture: Fixture) -> None:
    """Refuse parameters and gradients of other paths or shapes than those at the start."""
    start = fixture.parameters
    for group in ("grad", *(f"params_after_{step}" for step in STEPS_WITH_PARAMETERS)):
        found = fixture.below(f"{group}/")
        if found.keys() != start.keys():
            path = min(found.keys() ^ start.keys())
            raise ParityError(
                f"`{path}` in {fixture.path} is in only one of `params_before/` and `{group}/`; record both of the "
                "same parameters"
            )
        for path, array in found.items():
            if array.shape != start[path].shape:
                raise ParityError(
                    f"`{group}/{path}` in {fixture.path} must have the shape of `params_before/{path}`, "
                    f"{start[path].shape}, got {array.shape}"
                )
    for path in start:
        online = path.removeprefix(TARGET)
        if online not in start or start[online].shape != start[path].shape:
            raise ParityError(
                f"`{path}` in {fixture.path} must be the moving average of `{online}`, which is not there with shape "
                f"{start[path].shape}; closest: {', '.join(closest_names(online, start))}"
            )


def _require_same_draws(fixture: Fixture) -> None:
    """Refuse updates that draw something else than the first."""
    first = {role: draw.shape for role, draw in fixture.noise(1).items()}
    for step in STEPS[1:]:
        found = {role: draw.shape for role, draw in fixture.noise(step).items()}
        if found != first:
            raise ParityError(f"update {step} in {fixture.path} must draw what update 1 draws, {first}, got {found}")


def require_tolerances(tolerances: Mapping[str, Any], where: str = "") -> None:
    """Refuse tolerances of unknown names, and those that are not numbers.

    :param tolerances: name -> largest error.
    :param where: what the message begins with.
    :raises ParityError: for the first one.
    """
    for name, limit in tolerances.items():
        if name not in TOLERANCES:
            raise ParityError(f"{where}{unknown_name_message('tolerance', name, TOLERANCES)}")
        if not _is_number(limit):
            raise ParityError(f"{where}tolerance `{name}` must be a number, got {limit!r}")


def _require_same_rows(fixture: Fixture, what: str, arrays: Mapping[str, Array]) -> None:
    """Refuse arrays whose first axes have different lengths."""
    rows = {key: array.shape[:1] for key, array in arrays.items()}
    if len(set(rows.values())) > 1 or () in rows.values():
        raise ParityError(
            f"the arrays of {what} in {fixture.path} must have the same number of rows, got "
            + ", ".join(f"{key} {arrays[key].shape}" for key in rows)
        )


def _read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Return the arrays of a file, or those of some names as far as they are there."""
    try:
        return read_npz(path, names)
    except FileNotFoundError as error:
        raise ParityError(f"there is no file {path}; give the path of a fixture") from error
    except DamagedFile as error:
        raise ParityError(f"{path} cannot be read: {error.problem}; write it again with `Recorder`") from error
    except OSError as error:
        raise ParityError(f"{path} cannot be read: {error.strerror}") from error


def _parse_meta(text: Array | None, path: Path) -> dict[str, Any] | None:
    """Return the description in a fixture; None if the file is something else."""
    try:
        meta = None if text is None else json.loads(str(text))
    except json.JSONDecodeError as error:
        raise ParityError(f"`meta` in {path} must be JSON ({error}); write the file with `Recorder`") from error
    if not isinstance(meta, dict) or "id" not in meta:
        return None
    if not isinstance(meta.get("config"), dict):
        raise ParityError(f"`meta` in {path} must have `config`, the original's settings by name")
    if meta.get("format", 1) != FORMAT:
        raise ParityError(f"{path} has format {meta['format']}, and this version reads {FORMAT}; update flow-rl-zoo")
    return meta


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rate_of(fixture: Fixture) -> object:
    """Return Adam's learning rate; 0 of a fixture without Adam."""
    adam = fixture.meta.get("adam", {"lr": 0.0})
    return adam.get("lr") if isinstance(adam, Mapping) else None


def _describe_values(array: Array) -> str:
    return f"dtype {array.dtype}" if array.dtype.kind not in "fiub" else f"{array[~np.isfinite(array)][0]}"
