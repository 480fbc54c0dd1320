"""Read Minari's datasets, given by a folder or an id; a dataset given by its id is downloaded if missing."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.common.data.arrays import Array, Transitions
from agents.common.validation import checked_pair, count
from zoo.datasets.files import Folder
from zoo.datasets.formats.base import (
    Arrays,
    Format,
    Metadata,
    episode_of,
    explaining_damage,
    joined,
    masks_of,
)
from zoo.datasets.formats.hdf5 import groups_of, import_extra, opened
from zoo.terminal.errors import UsageError, one_line

MINARI = "minari:"

_ignoring_damage = contextlib.suppress(
    KeyError, TypeError, ValueError, AttributeError, RecursionError
)


class Minari(Format):
    """A Minari dataset in any format that Minari reads. Its environment is never created."""

    def matches(self, path: Path) -> bool:
        """Return whether the path is the folder of a Minari dataset."""
        return (path / "data" / "metadata.json").is_file()

    def read(self, path: Path, reward_from: str | None = None) -> Transitions:
        """Return the transitions."""
        content = _read_metadata(path)
        part_names = self.metadata(path).parts
        # If a space is missing, Minari would create the environment to find it.
        if not part_names or not isinstance(content.get("action_space"), str):
            raise UsageError(
                f"{path} must record the spaces of observations and actions; write the dataset again with Minari"
            )
        minari = import_extra("minari", f"reading {path}")
        data = path / "data"
        if content.get("data_format") == "hdf5":
            # rejects links, which Minari would follow
            with opened(data / "main_data.hdf5") as stored:
                num_episodes = len(groups_of(stored, r"episode_([0-9]{1,9})/(.+)"))
        else:  # other formats have a folder for each episode; Arrow and parquet files cannot contain links
            num_episodes = sum(folder.is_dir() for folder in data.iterdir())
        with explaining_damage(path, "a Minari dataset"):
            total = content["total_episodes"]
            if total != num_episodes:  # Minari would allocate an array with `total` elements
                raise ValueError(
                    f"its metadata state {count(total, 'episode')}, but it has {num_episodes:,}"
                )
            dataset = minari.MinariDataset(data)
            episodes = {}
            for part in dataset.iterate_episodes():
                name = f"{path}, episode {part.id}"
                episodes[name] = _episode(name, part, part_names)
            # Minari's Arrow reader reads only one batch of rows per episode, so it truncates long episodes.
            steps = sum(len(arrays["actions"]) for arrays in episodes.values())
            if dataset.total_steps != steps:
                raise ValueError(
                    f"its metadata state {count(dataset.total_steps, 'step')}, but it has {steps:,}"
                )
        return joined(str(path), episodes)

    def metadata(self, path: Path) -> Metadata:
        """Return the metadata without damaged entries; nothing in the dataset is executed."""
        content = _read_metadata(path)
        environment = references = None
        parts: list[str] = []
        with _ignoring_damage:
            environment = str(json.loads(content["env_spec"])["id"])
        with _ignoring_damage:  # Minari's reference scores for normalised returns
            scores = [content["ref_min_score"], content["ref_max_score"]]
            references = checked_pair("reference", scores)
        with _ignoring_damage:
            parts = list(parts_of(json.loads(content["observation_space"])))
        return Metadata(environment, references, parts)


def minari_folder(name: str, folder: Folder = None) -> Path:
    """Return the folder of a Minari dataset, whether it exists or not."""
    root = folder or os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets"
    return Path(root).expanduser() / name


def find_minari(source: str) -> Path:
    """Return the folder of a dataset given by its id; a missing dataset is downloaded."""
    name = source.removeprefix(MINARI)
    folder = minari_folder(name)
    # The id is appended to the path of a folder, and must not lead outside this folder.
    if ".." in Path(name).parts or not name or Path(name).is_absolute():
        raise UsageError(f"`{MINARI}` must be followed by the id of a Minari dataset, got {name!r}")
    if not Minari().matches(folder):
        minari = import_extra("minari", f"downloading {source}")
        try:
            minari.download_dataset(name)
        except Exception as error:  # a download can fail with any error
            raise UsageError(
                f"there is no Minari dataset {name} at {folder}, and its download failed "
                f"({one_line(error)}); check the id with `minari list remote`, or copy the dataset to this folder from "
                "a machine with internet access"
            ) from error
    return folder


def parts_of(space: Any, name: str = "observations") -> Iterator[str]:
    """Yield the names under which Minari stores the arrays of an observation, in the order of the space.

    :param space: a Gymnasium space, or its JSON in Minari's metadata.
    """
    inner = space.get("subspaces") if isinstance(space, dict) else getattr(space, "spaces", None)
    if inner is None:
        yield name
        return
    if not isinstance(inner, dict):  # Minari's files use these names for the parts of a Tuple
        inner = {f"_index_{index}": part for index, part in enumerate(inner)}
    for key, part in inner.items():
        yield from parts_of(part, f"{name}/{key}")


def _episode(name: str, part: Any, part_names: Sequence[str]) -> Arrays:
    """Return the arrays of one Minari episode.

    :param part_names: names of the arrays of an observation, in the order in which the environment flattened them.
        The episode itself lacks this order, because Gymnasium sorts the keys of a Dict space when the space is read.
    """
    parts: list[Array] = []
    for path in part_names:
        values = part.observations
        for key in path.split("/")[1:]:
            if isinstance(values, tuple):
                values = {f"_index_{index}": value for index, value in enumerate(values)}
            values = values[key]
        parts.append(np.asarray(values))
    if parts[1:] and any(values.ndim != 2 for values in parts):
        raise UsageError(
            f"{name}: the parts of a Dict in `observations` must be vectors; flatten them"
        )
    masks = masks_of(name, np.asarray(part.terminations), len(part.actions))
    return episode_of(name, np.concatenate(parts, axis=-1), part.actions, part.rewards, masks)


def _read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a dataset; spaces and environment remain JSON text."""
    path = folder / "data" / "metadata.json"
    with explaining_damage(path, "Minari's metadata"):
        return dict(json.loads(path.read_text(encoding="utf-8")))
