"""Read Minari's datasets: a folder with HDF5, or the id of one that is on the disk or can be downloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Transitions
from agents.common.files import read_text
from agents.common.validation import checked_pair
from zoo.datasets.formats.base import (
    Array,
    Episode,
    Format,
    ReadOptions,
    explaining_damage,
    joined,
    masks_of,
    require_keys,
    warn,
)
from zoo.datasets.formats.hdf5 import Stored, groups_of, import_extra, opened, read_array
from zoo.terminal.errors import UsageError

MINARI = "minari:"
_FILE = Path("data", "main_data.hdf5")
PEN_OF_100_STEPS = (96.262799, 3076.8331017826877)
"""Returns of a random and of an expert policy with the pen in D4RL (``d4rl/infos.py``), of episodes of 100 steps."""
_ARRAYS = ("observations", "actions", "rewards", "terminations")


class Minari(Format):
    """A Minari set. Its environment is never made, and none of its own classes: arrays of an HDF5 file are read."""

    def matches(self, path: Path) -> bool:
        """Return whether it is the folder of a set."""
        return (path / "data" / "metadata.json").is_file()

    def read(self, path: Path, options: ReadOptions) -> Transitions:
        """Return the transitions."""
        if (kind := _metadata(path).get("data_format", "hdf5")) != "hdf5":
            raise UsageError(f"{path} has the format {kind}, expected hdf5; write it again as hdf5")
        with opened(path / _FILE) as stored:
            groups = groups_of(stored, r"episode_([0-9]{1,9})/(.+)")
            order = recorded_parts(path)
            episodes = [_episode(f"{path / _FILE}, episode {k}", groups[k], order) for k in sorted(groups)]
        low_and_high = self.references(path)
        if low_and_high is not None and np.allclose(low_and_high, PEN_OF_100_STEPS):
            warn(
                str(path),
                "its reference scores are those of D4RL's pen, whose episodes have 100 steps, and AdroitHandPen-v1 has "
                "200 (github.com/Farama-Foundation/Minari/issues/303), so normalised scores are about twice as high; "
                "give others with `--reference-scores RANDOM,EXPERT`, or compare returns",
            )
        return joined(str(path), episodes)

    def environment(self, path: Path) -> str | None:
        """Return the id of the environment that it was recorded in, if it says one; nothing is made of it."""
        try:
            return str(json.loads(_metadata(path)["env_spec"])["id"])
        except (KeyError, TypeError, ValueError):
            return None

    def references(self, path: Path) -> tuple[float, float] | None:
        """Return the returns of a random and of an expert policy, which Minari normalises by, if it says them."""
        metadata = _metadata(path)
        try:
            return checked_pair("reference", [metadata.get(name) for name in ("ref_min_score", "ref_max_score")])
        except ValueError:
            return None


def minari_folder(name: str) -> Path:
    """Return where Minari keeps a set, whether it is there or not."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser() / name


def find_minari(source: str) -> Path:
    """Return the folder of a set that is named by its id; it is downloaded where it is missing."""
    name = source.removeprefix(MINARI)
    folder = minari_folder(name)
    if ".." in Path(name).parts or not name or Path(name).is_absolute():
        raise UsageError(f"`{MINARI}` must be followed by the id of a Minari dataset, got {name!r}")
    if not (folder / "data").is_dir():
        minari = import_extra("minari", f"downloading {source}")
        try:
            minari.download_dataset(name)
        except Exception as error:  # whatever its hosts raise
            raise UsageError(
                f"there is no Minari dataset {name} at {folder}, and its download failed "
                f"({' '.join(str(error).split()) or type(error).__name__}); check the id with `minari list remote`, or "
                f"run `minari download {name}` where there is internet, and copy it there or set MINARI_DATASETS_PATH"
            ) from error
    return folder


def recorded_parts(path: Path) -> list[str]:
    """Return the names of the arrays of an observation in the order of a set's space; none if it is not recorded."""
    try:
        return list(parts_of(json.loads(_metadata(path)["observation_space"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        return []


def parts_of(space: Any, name: str = "observations") -> Iterator[str]:
    """Yield the names that Minari gives the arrays of an observation, in the order of its space.

    :param space: one of Gymnasium's, or what Minari writes of it.
    """
    inner = space.get("subspaces") if isinstance(space, dict) else getattr(space, "spaces", None)
    if inner is None:
        yield name
        return
    named = inner if isinstance(inner, dict) else {f"_index_{index}": part for index, part in enumerate(inner)}
    for key, part in named.items():
        yield from parts_of(part, f"{name}/{key}")


def _episode(name: str, group: Stored, order: list[str]) -> Episode:
    seen = [key for key in group if key.partition("/")[0] == "observations"]
    require_keys(name, [*group, *["observations"] * bool(seen)], _ARRAYS)
    if len(seen) > 1:
        if set(seen) != set(order):
            raise UsageError(
                f"{name}: `observations` must have the parts of the recorded space, which says their order, "
                f"{', '.join(order) or 'none'}; got {', '.join(sorted(seen))}; write the dataset again with its space"
            )
        seen = order
    parts: list[Array] = [read_array(name, group, key) for key in seen]
    if parts[1:] and any(part.ndim != 2 for part in parts):
        raise UsageError(f"{name}: `observations` must be vectors, got a Dict of others; flatten them")
    actions, rewards, terminated = (read_array(name, group, key) for key in _ARRAYS[1:])
    masks = masks_of(name, terminated, len(actions))
    return Episode(name, np.concatenate(parts, axis=-1), actions, rewards, masks)


def _metadata(folder: Path) -> dict[str, Any]:
    """Return what a set says about itself; its spaces and its environment are JSON in it, and stay texts."""
    path = folder / "data" / "metadata.json"
    with explaining_damage(path, "Minari's metadata"):
        return dict(json.loads(read_text(path)))
