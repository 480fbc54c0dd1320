"""Published scores: ``python zoo/published.py list``, or ``import qam2026`` for the authors' data of single runs.

The tables of means in ``results/published`` come with the code, in a checkout and in an installed package. Data of
single runs, which give intervals, are fetched from their authors on demand, checked by their sha256, and kept as plain
numbers in the user's cache folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import unknown_name_message
from zoo.cli import Parser, run_program, whole_number
from zoo.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FOLDER = Path(__file__).resolve().parent.parent / "results" / "published"
_NUMBER_KINDS = "fiub"  # numpy's codes: floats, signed and unsigned integers, booleans
_NOT_EVALUATED = -1


@dataclass(frozen=True)
class PublishedSet:
    """A set of published scores.

    :param name: e.g. ``"qam2026"``.
    :param about: ``title``, ``authors``, ``reference``, ``date``, ``source`` and ``notes``.
    :param proposed: the method that the authors propose.
    :param protocol: fields of `zoo.runs.read.PROTOCOL` on most domains.
    :param domains: domain -> the fields that differ there.
    :param methods: method -> the fields that differ for it.
    :param raw: where the data of single runs are, or None.
    """

    name: str
    about: dict[str, Any]
    proposed: str
    protocol: dict[str, Any]
    domains: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    raw: dict[str, Any] | None

    def protocol_of(self, method: str, domain: str) -> dict[str, Any]:
        """Return the protocol of one method on one domain.

        :param method: its published name.
        :param domain: e.g. ``"scene-play"``.
        :return: fields of `zoo.runs.read.PROTOCOL`; None where the source does not say.
        """
        from zoo.runs.read import describe_layers

        protocol = {**self.protocol, **self.domains.get(domain, {}), **self.methods.get(method, {})}
        return {**protocol, "net_arch": describe_layers(protocol["net_arch"])}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the command line's words; None takes them from it.
    :return: exit code: 0 done, 2 bad arguments or data, 3 stopped by a signal, 1 anything else.
    """
    parser = Parser("published", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="which sets there are, and whether their runs were imported")
    command.set_defaults(command=_list)
    command = commands.add_parser("import", help="fetch the authors' data of single runs and convert it")
    command.add_argument("name", metavar="SET", help="e.g. qam2026")
    command.add_argument("--file", type=Path, help="the authors' file, where there is no network")
    command.set_defaults(command=_import)
    for command in commands.choices.values():
        command.add_argument(
            "--verbose", type=whole_number, default=1, help="2 shows the traceback of an unexpected failure"
        )
    args = parser.parse_args(arguments)
    return run_program(lambda: args.command(args), args.verbose)


def load_set(name: str) -> PublishedSet:
    """Return what is known about a set of published scores.

    :param name: e.g. ``"qam2026"``.
    :return: the set.
    :raises UsageError: if there is no such set.
    """
    sets = _metadata()["sets"]
    if name not in sets:
        raise UsageError(unknown_name_message("set of published scores", name, sets))
    entry = sets[name]
    about: dict[str, Any] = {key: str(entry[key]) for key in ("title", "authors", "reference", "date", "source")}
    about["notes"] = list(entry["notes"])
    return PublishedSet(
        name,
        about,
        entry["proposed"],
        entry["protocol"],
        entry["domains"],
        entry.get("methods", {}),
        entry.get("raw"),
    )


def load_means(published: PublishedSet) -> pd.DataFrame:
    """Return the published means over seeds.

    :param published: the set.
    :return: columns ``method``, ``phase``, ``step``, ``environment`` (a task, or a domain), ``mean`` and ``sd`` (sample
        standard deviation over seeds; fractions) and ``seeds``.
    """
    import pandas as pd

    return pd.read_csv(FOLDER / f"{published.name}.csv")


def load_runs(published: PublishedSet) -> pd.DataFrame | None:
    """Return the imported data of single runs, one row an evaluation.

    The seed is the number of a column. It pairs nothing: the columns of two tasks, or methods, are in other orders.

    :param published: the set.
    :return: columns `zoo.runs.read.EVALUATION_COLUMNS` without returns and lengths, or None if nothing was imported.
    :raises UsageError: if the imported file is damaged.
    """
    import zipfile

    import numpy as np
    import pandas as pd

    from zoo.runs.read import split_environment
    from zoo.runs.scores import SUCCESS

    path = imported_path(published.name)
    if not path.exists():
        return None
    names = ("methods", "environments", "steps", "successes", "episodes", "offline_steps")
    try:
        with np.load(path, allow_pickle=False) as file:
            methods, environments, steps, successes, episodes, offline_steps = (file[name] for name in names)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"`{path}` cannot be read ({error}); run `zoo published import {published.name}`") from error
    where = np.nonzero(successes != _NOT_EVALUATED)
    method, environment, step, seed = where
    methods = methods.astype(object)  # shares one string between all rows
    parts = np.array([split_environment(str(name)) for name in environments], dtype=object)
    count = successes[where].astype(int)
    columns = {
        "method": methods[method],
        "algorithm": methods[method],
        "source": published.name,
        **{name: parts[environment, k] for k, name in enumerate(("environment", "domain", "task"))},
        "seed": seed,
        "phase": np.where(steps[step] <= offline_steps, "offline", "online"),
        "step": steps[step],
        "successes": count,
        "episodes": int(episodes),
        "kind": SUCCESS.name,
        "score": count / int(episodes),
        "run": published.name,
    }
    return pd.DataFrame(columns)


def published_name(algorithm: str) -> str | None:
    """Return the name under which an algorithm is published.

    :param algorithm: an id of this zoo, e.g. ``"qam_e"``.
    :return: e.g. ``"QAM-E"``, or None if it is not published.
    """
    return _metadata()["methods"].get(algorithm)


def published_names() -> list[str]:
    """Return the published names of all algorithms of this zoo.

    :return: names, in the order of the metadata.
    """
    return list(_metadata()["methods"].values())


def imported_path(name: str) -> Path:
    """Return where the imported data of a set are kept.

    :param name: the set.
    :return: a file below ``$XDG_CACHE_HOME``, or ``~/.cache`` without it.
    """
    import os

    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "flow-rl-zoo" / "published" / f"{name}.npz"


def read_pickle_of_arrays(data: bytes) -> dict[tuple[str, ...], np.ndarray]:
    """Read a pickled dict from tuples of strings to arrays of numbers, and nothing else.

    A pickle is a program. This reader knows four names, all stand-ins that only collect the parts of an array;
    any other name, and anything that is not such a dict in the end, is refused before it is looked up or called.

    :param data: the pickle.
    :return: the dict.
    :raises ValueError: if the pickle holds, or asks for, anything else.
    """
    import io
    import pickle

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            """Return the stand-in for one of numpy's names."""
            known = {"ndarray": "ndarray", "_reconstruct": _ArrayParts, "dtype": _DtypeParts}
            if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray") and name in known:
                return known[name]
            raise ValueError(f"it asks for `{module}.{name}`")

    try:
        content = Reader(io.BytesIO(data)).load()
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        result = {}
        for key, parts in content.items():
            if not (isinstance(key, tuple) and all(isinstance(word, str) for word in key)):
                raise ValueError(f"it has the key {key!r}")
            if not isinstance(parts, _ArrayParts):
                raise ValueError(f"`{', '.join(key)}` is a {type(parts).__name__}")
            result[key] = parts.array
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"expected a pickle of arrays under tuples of strings and nothing else, refused this one: {error}"
        ) from error
    return result


class _DtypeParts:
    """Stands in for ``numpy.dtype`` while a pickle is read."""

    __slots__ = ("code",)

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order: (version, byte order, fields, ...)."""
        self.code = state[1].replace("|", "") + self.code


class _ArrayParts:
    """Stands in for an array while a pickle is read."""

    __slots__ = ("array",)

    def __init__(self, kind: str, shape: tuple[int, ...], code: bytes) -> None:
        if kind != "ndarray":
            raise ValueError("it builds something that is not an array")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Build the array: (version, shape, dtype, is Fortran order, bytes)."""
        import numpy as np

        _, shape, parts, is_fortran, data = state
        dtype = np.dtype(parts.code if isinstance(parts, _DtypeParts) else None)
        if dtype.kind not in _NUMBER_KINDS or not isinstance(data, bytes):
            raise ValueError("it holds an array of something else than numbers")
        self.array = np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _metadata() -> dict[str, Any]:
    """Return ``results/published/sets.yml``."""
    import yaml

    path = FOLDER / "sets.yml"
    if not path.exists():
        raise UsageError(f"expected the published tables in `{FOLDER}`, got no such folder; install the package anew")
    return yaml.safe_load(path.read_text())


def _list(args: argparse.Namespace) -> dict[str, Any]:
    """Show the sets."""
    result = []
    for name in _metadata()["sets"]:
        published = load_set(name)
        means = load_means(published)
        kept = imported_path(name)
        runs = "imported" if kept.exists() else ("can be imported" if published.raw else "not released")
        print(f"{name}: {published.about['title']} ({published.about['reference']}), single runs: {runs}")
        result.append({"set": name, "methods": means["method"].nunique(), "runs": runs})
    return {"sets": result}


def _import(args: argparse.Namespace) -> dict[str, Any]:
    """Fetch, check and convert the data of single runs."""
    import hashlib

    published = load_set(args.name)
    if published.raw is None:
        raise UsageError(f"the authors of `{args.name}` released no data of single runs; its means need no import")
    data = _fetch(published.raw["url"]) if args.file is None else _read(args.file)
    found = hashlib.sha256(data).hexdigest()
    if found != published.raw["sha256"]:
        raise UsageError(
            f"expected the file with sha256 {published.raw['sha256']}, got {found}; nothing was read from it, fetch it "
            f"again from {published.raw['url']}"
        )
    arrays = _convert(read_pickle_of_arrays(data), published)
    path = imported_path(args.name)
    _save(arrays, path)
    methods, environments, _, seeds = arrays["successes"].shape
    return {"set": args.name, "file": str(path), "methods": methods, "environments": environments, "seeds": seeds}


def _fetch(url: str) -> bytes:
    """Download a file."""
    import requests

    try:
        answer = requests.get(url, timeout=60)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise UsageError(f"cannot fetch {url} ({error}); fetch it elsewhere and give it with --file") from error
    return answer.content


def _read(path: Path) -> bytes:
    """Read a local file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"`--file` must be a file that can be read, got {path}: {error}") from error


def _convert(content: dict[tuple[str, ...], np.ndarray], published: PublishedSet) -> dict[str, np.ndarray]:
    """Return success counts of the single tasks: (methods, environments, steps, seeds), -1 where not evaluated.

    Rows of the authors' arrays are evaluations at equal distance up to the last step; a method that starts online has
    fewer. Rows of domains are left out: they are means of tasks.
    """
    import numpy as np

    raw = published.raw or {}
    episodes = published.protocol["eval_episodes"]
    tasks = {key: array for key, array in content.items() if "-singletask-" in key[0]}
    environments = sorted({key[0] for key in tasks})
    methods = sorted({key[1] for key in tasks})
    rows = max(len(array) for array in tasks.values())
    steps = raw["last_step"] - raw["evaluated_every"] * np.arange(rows)[::-1]
    seeds = max(array.shape[1] for array in tasks.values())
    successes = np.full((len(methods), len(environments), rows, seeds), _NOT_EVALUATED, dtype=np.int16)
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


def _save(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write the arrays, whole or not at all."""
    import numpy as np

    from agents.common.files import atomic_path

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **arrays)


if __name__ == "__main__":
    sys.exit(main())
