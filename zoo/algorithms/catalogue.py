"""Find algorithms by id; list all with their published scores, operations per update, and recommended use.

The numbers are from committed files: ``docs/make_tables.py`` writes ``overview.csv`` from the published scores, and
``benchmarks/throughput.py --work`` counts operations and writes ``update_work.csv``. PyTorch and pandas are imported
only when an algorithm is looked up.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import agents
from agents import registry
from agents.common.settings import Setting
from agents.common.validation import unknown_name_message
from zoo.terminal.errors import UsageError, as_usage_error

SB3 = {
    "sac": ("SAC", "Soft Actor-Critic, Haarnoja et al., arXiv 1801.01290"),
    "td3": ("TD3", "Addressing Function Approximation Error in Actor-Critic Methods, Fujimoto et al., "
            "arXiv 1802.09477"),
    "tqc": ("TQC", "Controlling Overestimation Bias with Truncated Mixture of Continuous Distributional Quantile "
            "Critics, Kuznetsov et al., arXiv 2005.04269"),
    "crossq": ("CrossQ", "CrossQ: Batch Normalization in Deep Reinforcement Learning, Bhatt et al., arXiv 1902.05605"),
}  # fmt: skip
"""Id -> (published name, paper); the published name is also the name of the class."""
BASELINES = "zoo.algorithms.baselines"
"""Module of SB3's algorithms."""

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published"
START_WITH = {"offline": "sqam", "offline to online": "fql", "online": "rlpd", "baseline": "bc"}
"""Kind of training -> the algorithm to start with."""
SCORES = ("offline", "online", "mini")
NUMBERS = (*SCORES, "work")


def algorithm_ids() -> list[str]:
    """Return the ids of all algorithms that can be trained: those of `agents.registry`, then SB3's algorithms."""
    return [*registry.algorithm_ids(), *SB3]


def find_algorithm(id: str) -> registry.Entry:
    """Return the registry entry of an algorithm of this zoo, of SB3, or of a user.

    :param id: an id, an alias or ``"module:Class"``.
    :raises UsageError: if the id is unknown (the message suggests the closest ids), its module cannot be imported, or
        the class has the id of an SB3 algorithm.
    """
    if id in SB3:
        name, paper = SB3[id]
        # imported only here, because most commands need none of SB3's algorithms
        algorithm = getattr(registry.import_named(BASELINES), name)
        return registry.Entry(id, None, paper, name, algorithm=algorithm)
    try:
        entry = agents.get(id)
    except KeyError as error:
        if ":" in id:
            raise UsageError(str(error.args[0])) from error
        message = unknown_name_message("algorithm", id, algorithm_ids(), "zoo agents list")
        raise UsageError(f"{message}; for your algorithm, write module:Class") from error
    except Exception as error:  # importing a user's module may raise any error
        raise UsageError(f"`{id}` cannot be imported: {type(error).__name__}: {error}") from error
    if entry.id in SB3:
        raise UsageError(
            f"algorithm id `{entry.id}` belongs to an SB3 algorithm; register {id} with another id"
        )
    return entry


def find_named_by_file(
    name: str, file: object, package: str | None = None, *, trust: bool = False
) -> registry.Entry:
    """Return the entry of an algorithm named in a file; see :func:`agents.registry.find_named_by_file`.

    :raises UsageError: if the algorithm is unknown, or needs an import that the user has not allowed.
    """
    sb3 = {f"{BASELINES}:{title}": id for id, (title, _) in SB3.items()}
    id = sb3.get(name, name)
    if id not in algorithm_ids():
        with as_usage_error(ValueError):
            id = registry.find_named_by_file(id, file, package, trust=trust).id
    return find_algorithm(id)


def settings_of(entry: registry.Entry) -> dict[str, Setting]:
    """Return name -> setting, declared by the algorithm's method or, if it has none, by its own class."""
    settings: dict[str, Setting] = (entry.method or entry.algorithm).declared()
    return settings


def describe_algorithms() -> dict[str, dict[str, Any]]:
    """Return algorithm id -> published name, paper, recommended use, scores and work.

    ``offline`` and ``online`` are mean success rates in percent from the published scores ``source``; ``mini`` is the
    mean in the mini benchmark. ``work`` is the number of operations per update, relative to BC. None: no number.
    """
    scores = _read("overview")
    # operations per update at the papers' sizes, in units of 10^9
    operations = {id: float(row["gflop"]) for id, row in _read("update_work").items()}
    algorithms: dict[str, dict[str, Any]] = {}
    for id in algorithm_ids():
        if id in SB3:
            name, paper = SB3[id]
            when = "Online baseline; needs no dataset."
            row: dict[str, Any] = {"published_name": name, "paper": paper, "when": when}
        else:
            try:
                # built-in algorithms are not imported
                entry = registry.BUILT_IN.get(id) or registry.find(id)
                row = {name: getattr(entry, name) for name in ("published_name", "paper", "when")}
            except (ImportError, KeyError) as error:  # raised by a user's package
                row = {"published_name": id, "paper": "", "when": str(error.args[0])}
        cells = scores.get(id, {})
        row |= {"source": cells.get("source"), **dict.fromkeys(NUMBERS)}
        for name in cells.keys() & SCORES:
            row[name] = float(cells[name])
        if id in operations:
            row["work"] = round(operations[id] / operations["bc"], 1)
        algorithms[id] = row
    return algorithms


def in_order(algorithms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ids sorted by source (the one with the most algorithms first), then by score (best first)."""
    sizes = Counter(row["source"] for row in algorithms.values() if row["source"])

    def sort_key(id: str) -> tuple[Any, ...]:
        row = algorithms[id]
        source = row["source"]
        # algorithms without a source, and therefore without a published score, come last
        return -sizes[source], source or "", -(row["offline"] or 0), -(row["mini"] or 0)

    return sorted(algorithms, key=sort_key)


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """Return an algorithm's scores and work as text."""
    return ["" if row[name] is None else f"{row[name]:.0f}" for name in NUMBERS]


def start_text(algorithms: Mapping[str, Mapping[str, Any]], link: str) -> str:
    """Return advice on which algorithm to start with, as text.

    :param link: format of an algorithm's name, with `{name}` and `{id}`.
    """
    written = {
        use: link.format(id=id, name=algorithms[id]["published_name"])
        for use, id in START_WITH.items()
    }
    return (
        f"Start with {written['offline']} for offline training, {written['offline to online']} for offline-to-online "
        f"training, or {written['online']} for training online from the first step. Offline scores of SQAM and TRQAM "
        f"were obtained with `--profile trqam`. Train {written['baseline']} too: it ignores rewards, so a method that "
        "does not beat BC learns nothing from rewards."
    )


def _read(name: str) -> dict[str, dict[str, str]]:
    """Return algorithm -> the non-empty cells of its row in a committed file."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["algorithm"]: {column: cell for column, cell in row.items() if cell}
            for row in csv.DictReader(file)
        }
