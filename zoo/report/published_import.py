"""Import of published single runs: fetched from their authors, checked by their sha256, kept as plain numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import requests

from agents.common.files import atomic_path
from zoo.errors import UsageError
from zoo.report.pickled_arrays import read_pickle_of_arrays
from zoo.report.published import NOT_EVALUATED, PublishedSet


def import_runs(published: PublishedSet, file: Path | None = None) -> dict[str, Any]:
    """Fetch the data of single runs, or read the authors' file where one is given, and convert it.

    :raises UsageError: if there are no such data, or they cannot be read or are not those that were published.
    """
    if published.runs is not None:
        raise UsageError(f"the single runs of `{published.name}` come with the code; they need no import")
    if published.raw is None:
        raise UsageError(f"there are no single runs of `{published.name}` to import; its means need no import")
    data = _fetch(published.raw["url"]) if file is None else _read(file)
    found = hashlib.sha256(data).hexdigest()
    if found != published.raw["sha256"]:
        raise UsageError(
            f"expected the file with sha256 {published.raw['sha256']}, got {found}; nothing was read from it, fetch it "
            f"again from {published.raw['url']}"
        )
    arrays = convert(read_pickle_of_arrays(data), published)
    path = published.imported
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    methods, environments, _, seeds = arrays["successes"].shape
    shape = {"methods": methods, "environments": environments, "seeds": seeds}
    return {"set": published.name, "file": str(path), **shape}


def _fetch(url: str) -> bytes:
    try:
        answer = requests.get(url, timeout=60)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise UsageError(f"cannot fetch {url} ({error}); fetch it elsewhere and give it with --file") from error
    return answer.content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"`--file` must be a file that can be read, got {path}: {error}") from error


def convert(content: dict[tuple[str, ...], np.ndarray], published: PublishedSet) -> dict[str, np.ndarray]:
    """Return success counts of the single tasks, (methods, environments, steps, seeds), -1 where not evaluated.

    Rows of the authors' arrays are evaluations at equal distance up to the last step; a method that starts online has
    fewer. Rows of domains are left out: they are means of tasks.
    """
    raw = published.raw or {}
    episodes = published.protocol["eval_episodes"]
    tasks = {key: array for key, array in content.items() if "-singletask-" in key[0]}
    environments = sorted({key[0] for key in tasks})
    methods = sorted({key[1] for key in tasks})
    rows = max(len(array) for array in tasks.values())
    steps = raw["last_step"] - raw["evaluated_every"] * np.arange(rows)[::-1]
    seeds = max(array.shape[1] for array in tasks.values())
    successes = np.full((len(methods), len(environments), rows, seeds), NOT_EVALUATED, dtype=np.int16)
    for (environment, method), array in tasks.items():
        counts = np.rint(array * episodes)
        if not (np.abs(counts - array * episodes) < 1e-6).all() or counts.min() < 0 or counts.max() > episodes:
            raise ValueError(f"expected fractions of {episodes} episodes for {method} on {environment}, got others")
        block = successes[methods.index(method), environments.index(environment)]
        block[rows - len(array) :, : array.shape[1]] = counts
    return {
        "methods": np.array(methods),
        "environments": np.array(environments),
        "steps": steps,
        "successes": successes,
        "episodes": np.array(episodes),
        "offline_steps": np.array(published.protocol["offline_steps"]),
        "sha256": np.array(raw["sha256"]),
    }
