"""Recorded numbers of an original implementation: one ``.npz`` file without pickled objects for each fixture.

``README.md`` lists the arrays.
"""

import json
from dataclasses import dataclass

import numpy as np

META = "meta"


@dataclass(frozen=True)
class Fixture:
    """Recorded numbers of one agent: arrays by key, and metadata."""

    arrays: dict
    meta: dict

    def __getitem__(self, key):
        return self.arrays[key]

    def __contains__(self, key):
        return key in self.arrays

    @property
    def id(self):
        """Id of the algorithm."""
        return self.meta["id"]

    @property
    def config(self):
        """The original's settings, under the original's names; without chunks, single actions are sampled."""
        single_actions = {"horizon_length": 1, "action_chunking": True}
        return {**single_actions, **self.meta["config"]}

    @property
    def sizes(self):
        """Sizes of the observations ("obs") and actions ("A")."""
        return self.meta["sizes"]

    @property
    def parameters(self):
        """Parameters at the start, by path: ``module/...``."""
        return self.below("params_before/")

    @property
    def batch(self):
        """The batch of every update, by name."""
        return self.below("batch/")

    @property
    def losses(self):
        """The losses of the first update, by name; ``NAME_masked`` replaces the loss ``NAME``."""
        losses = self.below("loss/")
        masked = [name for name in losses if name.endswith("_masked")]
        for name in masked:
            losses[name.removesuffix("_masked")] = losses.pop(name)
        return losses

    def noise(self, step):
        """Return all noise of update 1, 2 or 3, by role."""
        return self.below(f"noise/step_{step}/")

    def total(self, step):
        """Return the total loss at the start of update 1, 2 or 3, with masking if the masked loss was recorded."""
        unmasked = float(self["loss/total"]) - float(self.losses["total"])
        return float(self[f"loss_total/step_{step}"]) - unmasked

    def below(self, prefix):
        """Return copies of the arrays whose key begins with a prefix, by the rest of the key."""
        return {
            key.removeprefix(prefix): array.copy()
            for key, array in self.arrays.items()
            if key.startswith(prefix)
        }


def read_fixture(path):
    """Read a fixture."""
    with np.load(path) as archive:
        arrays = dict(archive)
    return Fixture(arrays, json.loads(str(arrays.pop(META))))


def find_fixtures(folder):
    """Return the files of all fixtures below a folder, sorted; files of other kinds have no ``id`` in ``meta``."""
    return [path for path in sorted(folder.rglob("*.npz")) if '"id"' in _meta_of(path)]


def _meta_of(path):
    with np.load(path) as archive:
        return str(archive[META]) if META in archive else ""
