"""The format of recorded numbers, and reading it: one ``.npz`` file without pickled objects for each fixture.

``docs/parity.md`` lists the arrays. What is read here is complete: a fixture that lacks something is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.common.files import DamagedFile
from agents.common.files.bounded import read_npz
from agents.common.validation import number, unknown_name_message

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
    :raises ParityError: if there is no fixture in it, or a file that cannot be read.
    """
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
    path = fixture.path
    _require_meta(fixture)
    for group in ("loss/total", "sample/obs", "sample/actions", "params_before/", "batch/"):
        if not fixture.below(group):
            raise ParityError(f"{path} lacks `{group}`; record it again with `Recorder`")
    for key, array in fixture.arrays.items():
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise ParityError(f"`{key}` in {path} must hold finite numbers, got {array.dtype} {array}")
    for keys in ([key for key in fixture.arrays if key.startswith("batch/")], ["sample/obs", "sample/actions"]):
        rows = {key: fixture[key].shape[:1] for key in keys}
        if len(set(rows.values())) > 1 or () in rows.values():
            raise ParityError(f"in {path}, the first axes must be the same rows, and have lengths {rows}")
    _require_layout(fixture)


def require_tolerances(tolerances: Mapping[str, Any]) -> None:
    """Refuse tolerances of unknown names, and those that are not numbers.

    :param tolerances: name -> largest error.
    :raises ParityError: for the first one.
    """
    for name, limit in tolerances.items():
        if name not in TOLERANCES:
            raise ParityError(unknown_name_message("tolerance", name, TOLERANCES))
        _require_number(f"tolerance {name}", limit)


def _require_meta(fixture: Fixture) -> None:
    """Refuse a description whose numbers are none."""
    for name in ("sizes", "tolerances", "adam"):
        if not isinstance(fixture.meta.get(name, {}), Mapping):
            raise ParityError(f"`{name}` in `meta` of {fixture.path} must be numbers by name")
    try:
        _require_number("tau", fixture.config.get("tau", 0.0))
        _require_number("lr", fixture.meta.get("adam", {"lr": 0.0}).get("lr"))
        require_tolerances(fixture.meta.get("tolerances", {}))
    except ParityError as error:
        raise ParityError(f"`meta` in {fixture.path}: {error}") from error


def _require_number(name: str, value: object) -> None:
    try:
        number(name, value)
    except (TypeError, ValueError) as error:
        raise ParityError(str(error)) from error


def _shapes(fixture: Fixture, group: str) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in fixture.below(group).items()}


def _require_shapes(fixture: Fixture, group: str, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a group that has other arrays than it must have, or arrays of other shapes."""
    found = _shapes(fixture, group)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise ParityError(
                f"`{group}{name}` in {fixture.path} must have shape {expected.get(name)}, got {found.get(name)} (None: "
                "it is not there); record it again with `Recorder`"
            )


def _require_layout(fixture: Fixture) -> None:
    """Refuse losses, parameters, gradients and draws of other paths or shapes than they must have."""
    start = _shapes(fixture, "params_before/")
    _require_shapes(fixture, "loss/", dict.fromkeys(_shapes(fixture, "loss/"), ()))
    _require_shapes(fixture, "loss_total/", {f"step_{step}": () for step in STEPS})
    for group in ("grad/", *(f"params_after_{step}/" for step in STEPS_WITH_PARAMETERS)):
        _require_shapes(fixture, group, start)
    for step in STEPS[1:]:
        _require_shapes(fixture, f"noise/step_{step}/", _shapes(fixture, "noise/step_1/"))
    for average, shape in start.items():
        online = average.removeprefix(TARGET)
        if start.get(online) != shape:
            raise ParityError(
                f"`{average}` in {fixture.path} must be the moving average of `{online}`, and have its shape, "
                f"{start.get(online)}, got {shape}"
            )


def _read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """Return the arrays of a file, or those of some names as far as they are there."""
    try:
        return read_npz(path, names)
    except (OSError, DamagedFile) as error:
        raise ParityError(str(error)) from error


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
