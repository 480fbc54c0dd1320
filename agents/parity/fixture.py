"""Recorded numbers of an original implementation: one ``.npz`` file without pickled objects for each fixture.

``docs/parity.md`` lists the arrays. What is read or written here is complete: what lacks something is refused.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.common.files import DamagedFile, atomic_path
from agents.common.files.bounded import read_npz
from agents.common.validation import number, unknown_name_message

Array = NDArray[Any]
Tree = Mapping[str, Any]
"""Arrays by name, or mappings of them, as Flax nests parameters."""

FORMAT = 1
STEPS = (1, 2, 3)
STEPS_WITH_PARAMETERS = (1, 3)
META = "meta"
TARGET = "target_"
"""What the name of a moving average begins with: module ``target_x`` follows module ``x``."""
DEPENDENT = ("grad/", "params_after_", "loss_total/", "noise/step_2/", "noise/step_3/")
"""What keys begin with whose shapes follow from those of others."""

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
    expected, found = _expected_shapes(fixture), {key: array.shape for key, array in fixture.arrays.items()}
    for key in sorted(expected.keys() | {key for key in found if key.startswith(DEPENDENT)}):
        if found.get(key) != expected.get(key):
            raise ParityError(
                f"`{key}` in {path} must have shape {expected.get(key)}, got {found.get(key)} (None: it is not there); "
                "record it again with `Recorder`"
            )


def _expected_shapes(fixture: Fixture) -> dict[str, tuple[int, ...]]:
    """Return the shapes that follow from those of the starting parameters and of the first update's draws."""
    start = {path: array.shape for path, array in fixture.parameters.items()}
    expected: dict[str, tuple[int, ...]] = {key: () for key in fixture.arrays if key.startswith("loss/")}
    expected |= {f"loss_total/step_{step}": () for step in STEPS}
    expected |= {f"params_before/{path.removeprefix(TARGET)}": shape for path, shape in start.items()}  # of averages
    for group in ("grad", *(f"params_after_{step}" for step in STEPS_WITH_PARAMETERS)):
        expected |= {f"{group}/{path}": shape for path, shape in start.items()}
    for step in STEPS[1:]:
        expected |= {f"noise/step_{step}/{role}": array.shape for role, array in fixture.noise(1).items()}
    return expected


def require_tolerances(tolerances: Mapping[str, Any]) -> None:
    """Refuse tolerances of unknown names, and those that are not numbers.

    :param tolerances: name -> largest error.
    :raises ParityError: for the first one.
    """
    for name, limit in tolerances.items():
        if name not in TOLERANCES:
            raise ParityError(unknown_name_message("tolerance", name, TOLERANCES))
        try:
            number(f"tolerance {name}", limit)
        except (TypeError, ValueError) as error:
            raise ParityError(str(error)) from error


def _require_meta(fixture: Fixture) -> None:
    """Refuse a description whose numbers are none."""
    try:
        number("tau", fixture.config.get("tau", 0.0))
        number("lr", fixture.meta.get("adam", {"lr": 0.0}).get("lr"))
        require_tolerances(fixture.meta.get("tolerances", {}))
    except (TypeError, ValueError, AttributeError) as error:
        raise ParityError(
            f"`meta` in {fixture.path} must have a number as `tau`, and numbers by name in `adam`, with `lr`, and in "
            f"`tolerances`: {error}"
        ) from error


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


class Recorder:
    """Gathers the numbers of one agent and writes them as a fixture.

    Its functions are those of an adapter, and take what the original returned: numbers, arrays, tensors, or nested
    mappings of them, whose names are joined by ``/``.

    :param id: the algorithm.
    :param reference: whose numbers these are: repository, file, commit, licence, and what was changed.
    :param config: the original's settings under its own names, all of them; ``tau`` is the weight of moving averages.
    :param adam: Adam's settings, ``lr`` among them; without it, every single parameter must be equal after an update.
    :param tolerances: where an agent needs others than :data:`agents.parity.TOLERANCES`.
    :param notes: anything else that a reader should know, e.g. ``sizes``, ``total_loss``, ``noise``.
    """

    def __init__(
        self,
        id: str,
        *,
        reference: str,
        config: Mapping[str, Any],
        adam: Mapping[str, float] | None = None,
        tolerances: Mapping[str, float] | None = None,
        **notes: Any,
    ) -> None:
        given = {"adam": adam, "tolerances": tolerances}
        self.meta = {"format": FORMAT, "id": id, "reference_agent": reference, "config": dict(config), **notes}
        self.meta |= {name: dict(value) for name, value in given.items() if value is not None}
        self.arrays: dict[str, Array] = {}
        self.updates = 0

    def start(self, parameters: Tree, batch: Tree, dual: Tree | None = None) -> None:
        """Record the starting parameters and the batch of all updates.

        :param parameters: all of them; moving averages as modules named ``target_...``. Perturb them first
            (:func:`perturb`): biases that begin at 0, or averages that begin equal, hide mistakes.
        :param batch: name -> rows.
        :param dual: multipliers, by name.
        :raises ParityError: if a moving average begins equal to what it follows.
        """
        self._record("params_before", parameters)
        start = self._below("params_before/")
        for path in start:
            if path.startswith(TARGET) and np.array_equal(start[path], start.get(path.removeprefix(TARGET), [])):
                raise ParityError(
                    f"`{path}` begins equal to `{path.removeprefix(TARGET)}`, so that a mistake in it would not be "
                    "seen; begin with `perturb(parameters, seed)`"
                )
        self._record("batch", batch)
        self._record("dual_before", dual or {})

    def losses(self, losses: Tree, intermediates: Tree | None = None) -> None:
        """Record the losses of the first update.

        :param losses: name -> unweighted loss, and the ``total`` that the gradient is taken of.
        :param intermediates: what they are made of, e.g. ``td_target``: tells an author where a loss goes wrong.
        """
        self._record("loss", losses)
        self._record("out", intermediates or {})

    def gradients(self, gradients: Tree) -> None:
        """Record the gradient of the first update's total, before any clipping.

        :param gradients: path -> gradient; what is left out has none.
        """
        found = _flatten(gradients)
        for path, start in self._below("params_before/").items():
            found.setdefault(path, np.zeros_like(start))
        self._record("grad", found)
        self._record("out", {"grad_global_norm": norm(found)})

    def update(self, noise: Tree, total: Any, parameters: Tree, state: Tree | None = None) -> None:
        """Record one update: the next of three.

        :param noise: role -> draw, every one of the update.
        :param total: the total loss at its start.
        :param parameters: all of them after it.
        :param state: further numbers after it: ``adam/m_norm/MODULE``, ``adam/v_norm/MODULE``, ``dual/NAME``.
        """
        self.updates += 1
        self._record(f"noise/step_{self.updates}", noise)
        self._record("loss_total", {f"step_{self.updates}": total})
        if self.updates in STEPS_WITH_PARAMETERS:
            self._record(f"params_after_{self.updates}", parameters)
        for name, value in _flatten(state or {}).items():
            kind, _, rest = name.partition("/")
            self._record(f"{kind}_after_{self.updates}", {rest: value})

    def sample(self, observations: Any, noise: Tree, actions: Any) -> None:
        """Record actions that the starting parameters sample.

        :param observations: one row each.
        :param noise: role -> draw.
        :param actions: one row each.
        """
        self._record("sample", {"obs": observations, "noise": noise, "actions": actions})

    def save(self, path: Path | str) -> None:
        """Write the fixture, if nothing is missing.

        :param path: of the file, ending in ``.npz``.
        :raises ParityError: for the first thing that is missing or does not fit.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ParityError(f"`path` must end in .npz, got {path}")
        if self.updates != len(STEPS):
            raise ParityError(f"a fixture holds {len(STEPS)} updates, got {self.updates}; call `update` after each")
        try:
            meta = json.dumps({"algo": path.stem, **self.meta})
        except TypeError as error:
            raise ParityError(f"settings and notes must be plain numbers, texts, lists and dicts: {error}") from error
        require_complete(Fixture(self.arrays, self.meta, path))
        first, total = float(self.arrays["loss_total/step_1"]), float(self.arrays["loss/total"])
        if not np.isclose(first, total, rtol=1e-4, atol=1e-6):
            raise ParityError(
                f"the first update begins with total {first:.6g}, and `losses` was given {total:.6g}; both must be of "
                "the same batch, parameters and draws"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **{META: np.array(meta)}, **self.arrays)  # type: ignore[arg-type]

    def _record(self, group: str, tree: Tree) -> None:
        """Record arrays in float32 below a group."""
        self.arrays |= {f"{group}/{path}": array.astype(np.float32) for path, array in _flatten(tree).items()}

    def _below(self, prefix: str) -> dict[str, Array]:
        return Fixture(self.arrays, self.meta, Path()).below(prefix)


@contextlib.contextmanager
def note_draws(owner: Any, *names: str) -> Iterator[list[tuple[str, Array]]]:
    """Note what random functions return while the original runs, e.g. ``note_draws(jax.random, "normal", "uniform")``.

    The original must find them by ``owner``'s name when it draws, and must not be compiled (``jax.disable_jit()``).

    :param owner: the module, or object, whose functions they are.
    :param names: of the functions.
    :yields: (name, draw) for each call, in their order; clear it between updates.
    """
    draws: list[tuple[str, Array]] = []
    own = {name: getattr(owner, name) for name in names}

    def noting(name: str) -> Any:
        def draw(*arguments: Any, **options: Any) -> Any:
            drawn = own[name](*arguments, **options)
            draws.append((name, np.array(to_array(drawn))))
            return drawn

        return draw

    for name in names:
        setattr(owner, name, noting(name))
    try:
        yield draws
    finally:
        for name, function in own.items():
            setattr(owner, name, function)


def perturb(tree: Tree, seed: int, size: float = 0.1) -> dict[str, Any]:
    """Return parameters with normal noise added to every entry.

    :param tree: name -> array, or mappings of them.
    :param seed: of the noise; another for a moving average than for what it follows.
    :param size: standard deviation of the noise.
    :return: the same names, in float32.
    """
    generator = np.random.default_rng(seed)

    def perturbed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: perturbed(below) for name, below in value.items()}
        array = to_array(value)
        return (array + size * generator.standard_normal(array.shape)).astype(np.float32)

    return {name: perturbed(value) for name, value in tree.items()}


def norm(tree: Tree) -> float:
    """Return the Euclidean norm of all entries together, as of Adam's moments of one module.

    :param tree: name -> array, or mappings of them.
    :return: the norm.
    """
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in _flatten(tree).values())))


def _flatten(tree: Tree, prefix: str = "") -> dict[str, Array]:
    """Return every array by its path."""
    found: dict[str, Array] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flatten(value, f"{prefix}{name}/")
        else:
            found[f"{prefix}{name}"] = to_array(value)
    return found


def to_array(value: Any) -> Array:
    """Return numbers as a NumPy array; tensors of other libraries are taken too.

    :param value: number, array or tensor.
    :return: the array.
    :raises TypeError: if it is not numbers.
    """
    if hasattr(value, "detach"):  # PyTorch, perhaps with a graph and on a device
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers, got {value!r} of type {type(value).__name__}")
    return array
