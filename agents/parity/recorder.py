"""Recording fixtures: the numbers of an original implementation, while it runs unmodified."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.files import atomic_path
from agents.parity.adapter import to_array
from agents.parity.fixture import (
    FORMAT,
    META,
    STEPS,
    STEPS_WITH_PARAMETERS,
    TARGET,
    Array,
    Fixture,
    ParityError,
    require_complete,
)

Tree = Mapping[str, Any]
"""Arrays by name, or mappings of them, as Flax nests parameters."""


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
