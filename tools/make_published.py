"""Convert the authors' data of single runs into the counts of ``results/published``.

``python tools/make_published.py qam-exp-data.pkl`` writes ``results/published/qam2026.npz``: success counts of single
tasks and what their axes are. Rows of domains are left out, since they are means of tasks.
``python tools/make_published.py sqam-exp-data.pkl trqam2026``, or TRQAM's file, writes ``trqam2026.npz``, which then
stands in place of that set's means, with which it must agree.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.report.published_scores import FOLDER, NOT_EVALUATED
from zoo.runs.read import split_environment

SHA256 = "fd57d0f811af0613a69c42c95e369ba2151344b9975683a73d2d2ae4166f98a9"
"""Checksum of the file that the authors of QAM released: exp_data/qam-exp-data.pkl of github.com/ColinQiyangLi/qam."""
_NAMES = {"ndarray": np.ndarray, "dtype": np.dtype, "_reconstruct": np.empty(0).__reduce__()[0]}
EPISODES, LAST_STEP, EVALUATED_EVERY = 50, 1_500_000, 50_000


def main(file: Path, name: str = "qam2026") -> None:
    """Check the authors' file and write its counts; raises ValueError if it is another file."""
    data = file.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if name == "qam2026" and digest != SHA256:
        raise ValueError(
            f"expected the file with SHA-256 {SHA256}, got {digest}; nothing was read from it"
        )
    arrays = convert(read_arrays(data))
    if name != "qam2026":
        require_means(arrays, pd.read_csv(FOLDER / f"{name}.csv"))
    np.savez_compressed(FOLDER / f"{name}.npz", **arrays)  # type: ignore[arg-type]


class _Reader(pickle.Unpickler):
    """Refuses every global but those that build NumPy arrays, since unpickling runs code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed global."""
        if (
            module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
            and name in _NAMES
        ):
            return _NAMES[name]
        raise ValueError(f"expected a pickle of arrays, got one that asks for `{module}.{name}`")


def read_arrays(data: bytes) -> dict[tuple[str, ...], np.ndarray]:
    """Return a pickled dict from tuples of strings to numeric arrays; refuse any other content."""
    content = _Reader(io.BytesIO(data)).load()
    if not all(
        isinstance(array, np.ndarray) and array.dtype.kind in "fiu" for array in content.values()
    ):
        raise ValueError("expected a pickle of arrays of numbers, got something else in it")
    return content


def require_means(arrays: dict[str, np.ndarray], means: pd.DataFrame) -> None:
    """Refuse counts whose means of domains are not the published ones, which are rounded half up to whole percent."""
    domains = np.array([split_environment(str(name))[1] for name in arrays["environments"]])
    for row in means[means["method"].isin(arrays["methods"])].itertuples():
        at = arrays["successes"][list(arrays["methods"]).index(row.method)][
            domains == row.environment
        ]
        percent = 100 * at[:, list(arrays["steps"]).index(row.step)].mean() / EPISODES
        if not at.size or np.floor(percent + 0.5 + 1e-9) != round(100 * row.mean):
            raise ValueError(
                f"expected a mean of {100 * row.mean:.0f}% for {row.method} on {row.environment}, as published, got "
                f"{percent:.2f}%; nothing was written"
            )


def convert(content: dict[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    """Return success counts of the single tasks, (methods, environments, steps, seeds), -1 where not evaluated.

    Rows of the authors' arrays are evaluations `EVALUATED_EVERY` steps apart, up to the last step. A method that starts
    online has fewer rows. An evaluation at step 0 is left out.
    """
    evaluations = LAST_STEP // EVALUATED_EVERY
    tasks = {
        key: array[-evaluations:] for key, array in content.items() if "-singletask-" in key[0]
    }
    environments = sorted({environment for environment, _ in tasks})
    methods = sorted({method for _, method in tasks})
    rows = max(len(array) for array in tasks.values())
    seeds = max(array.shape[1] for array in tasks.values())
    shape = (len(methods), len(environments), rows, seeds)
    successes = np.full(shape, NOT_EVALUATED, dtype=np.int8)
    for (environment, method), array in tasks.items():
        counts = np.rint(array * EPISODES)
        if (
            np.abs(counts - array * EPISODES).max() >= 1e-6
            or not 0 <= counts.min() <= counts.max() <= EPISODES
        ):
            raise ValueError(
                f"expected fractions of {EPISODES} episodes for {method} on {environment}, got others"
            )
        of_task = successes[methods.index(method), environments.index(environment)]
        of_task[rows - len(array) :, : array.shape[1]] = counts
    steps = LAST_STEP - EVALUATED_EVERY * np.arange(rows)[::-1]
    return {
        "methods": np.array(methods),
        "environments": np.array(environments),
        "steps": steps,
        "successes": successes,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
