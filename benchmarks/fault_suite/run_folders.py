"""Files of run folders that are not what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fault_suite import damage
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    CONFIGURATIONS,
    DONE,
    ENV,
    NAMES,
    REFUSED,
    Broken,
    Lab,
    require,
    require_named,
    require_same_folder,
    run_folder,
)
from zoo.runs.folder import RunFolder

RESTORED = (
    "config.yml", "status.json", "args.yml", "versions.json", "command.txt", "evaluations.npz", "progress.csv",
    "manifest.json",
)  # fmt: skip
"""Files that a checkpoint can bring back, or that are written again."""
MODELS = ("best_model.zip", f"{ENV}.zip")
INTACT = "other"
"""Label of a run beside the damaged one."""


def _choose(lab: Lab, files: tuple[str, ...]) -> tuple[str, Path, damage.Damage]:
    """Return configuration, name of a file, and damage: every file meets every damage."""
    kinds = list(damage.KINDS.values())
    file, how = files[lab.seed % len(files)], kinds[lab.seed // len(files) % len(kinds)]
    return NAMES[lab.seed // 3 % len(NAMES)], Path(file), how


def _damage(lab: Lab, name: str, logs: Path, file: Path, how: damage.Damage) -> Path:
    """Damage a file of one of the run's folders and return its path."""
    number = lab.draw.randint(1, CONFIGURATIONS[name].replicas)
    path = run_folder(logs, name, number) / file
    how(path, lab.draw)
    return path


@kind(
    "folder-interrupted",
    "a file of the folder of an interrupted run damaged or removed",
    "resumed, it ends bit for bit as an undisturbed run",
    40,
)
def damage_interrupted(lab: Lab) -> None:
    """Damage a file that a resumed run brings back."""
    name, file, how = _choose(lab, RESTORED)
    logs = lab.interrupted(name)
    path = _damage(lab, name, logs, file, how)
    ended = lab.resume(name, logs)
    if file.name in ("config.yml", "versions.json", "command.txt", "args.yml"):
        require_named(ended.err, path.name)


@kind(
    "folder-finished",
    "a file of the folder of a finished run damaged or removed, which is resumed",
    "it is left or ends bit for bit as an undisturbed run",
    24,
)
def damage_finished(lab: Lab) -> None:
    """Damage a file of a finished run and resume it."""
    name, file, how = _choose(lab, RESTORED)
    logs = lab.finished(name)
    _damage(lab, name, logs, file, how)
    require(lab.train(name, logs), DONE)
    if file.name != "progress.csv":  # nothing reads that of a finished run
        lab.require_same(name, logs)


@kind(
    "folder-models",
    "a best or final model in a run folder damaged or removed, and the run resumed",
    "the model is as in an undisturbed run, or loading it is refused with its name",
    12,
)
def damage_models(lab: Lab) -> None:
    """Damage a model, which no checkpoint has a copy of."""
    name, file, how = _choose(lab, MODELS)
    logs = lab.finished(name) if file.name == MODELS[1] else lab.interrupted(name)
    path = _damage(lab, name, logs, file, how)
    require(lab.train(name, logs), DONE)
    ended = lab.programs.run("load", [path])
    if path.is_file() and ended.code == DONE:
        reference = lab.reference(name) / path.relative_to(logs)
        expected = lab.programs.run("load", [reference]).result
        if ended.result != expected:
            raise Broken(f"{path.name} loads as another model")
        return
    if path.exists():
        require(ended, REFUSED)
    require_named(ended.err, str(path))
    path.unlink(missing_ok=True)
    intact = run_folder(lab.reference(name), name, int(path.parent.name.rpartition("_")[2]))
    (path.parent / path.name).write_bytes((intact / path.name).read_bytes())
    require_same_folder(path.parent, intact)  # everything else is


@kind(
    "folder-compared",
    "a file of the folder of a finished run damaged or removed, which is compared with another",
    "the same numbers, or the run is skipped with a reason; those of the other run stay",
    24,
)
def damage_compared(lab: Lab) -> None:
    """Damage a file of a run that is compared."""
    name, file, how = _choose(lab, RESTORED)
    logs = lab.copy(_runs_to_compare(lab, name))
    ended, expected = lab.compare(logs)
    require(ended, DONE)
    path = _damage(lab, name, logs, file, how)
    ended, found = lab.compare(logs)
    require(ended, DONE)
    require_same_scores(found, expected, path.parent)


def require_same_scores(found: dict[str, Any], expected: dict[str, Any], damaged: Path) -> None:
    """Require that a comparison gives each method the scores as before, or has skipped the damaged run."""
    skipped = [entry["path"] for entry in found["skipped"]]
    if skipped not in ([], [str(damaged)]):
        raise Broken(f"these runs were skipped: {skipped}")
    for entry in found["skipped"]:
        if not entry["reason"]:
            raise Broken("a run was skipped without a reason")
    before, after = _scores(expected), _scores(found)
    for key, value in before.items():
        is_damaged = key[-1] != INTACT
        if skipped and is_damaged:
            continue
        if after.get(key) != value:
            raise Broken(f"the score of {key} is {after.get(key)}, expected {value}")
    if after.keys() - before.keys():
        raise Broken(f"there are other scores: {sorted(after.keys() - before.keys())}")


def _scores(found: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return (phase, task, method) -> mean and number of seeds."""
    return {
        (phase, task, method): (cell["mean"], cell["seeds"])
        for phase in ("offline", "online")
        for task, cells in ((found.get(phase) or {}).get("tasks") or {}).items()
        for method, cell in cells.items()
    }


def _runs_to_compare(lab: Lab, name: str) -> Path:
    """Return logs of a finished run with successes, and of a copy of it under another label."""
    reference = lab.reference(name)

    def make(logs: Path) -> None:
        algo = CONFIGURATIONS[name].algo
        (logs / algo).mkdir()
        for number in range(1, CONFIGURATIONS[name].replicas + 1):
            for label, shift in ((None, 0), (INTACT, 10)):
                folder = RunFolder(logs / algo / f"{ENV}_{number + shift}")
                source = run_folder(reference, name, number)
                folder.path.mkdir()
                for file in source.iterdir():
                    if file.is_file():
                        (folder.path / file.name).write_bytes(file.read_bytes())
                arrays = folder.read_evaluations()
                shape = arrays["successes"].shape
                arrays["successes"] = (
                    np.arange(shape[0] * shape[1]).reshape(shape).astype(arrays["successes"].dtype) % 2
                )
                folder.write_evaluations(arrays)
                folder.write_config({**folder.read_config(), **({} if label is None else {"label": label})})

    return lab.stock.get(f"compared {name}", make)
