"""Runs that are resumed under other circumstances than they began in."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np

from agents.common.engine.checkpoint import find_checkpoints
from agents.common.files.manifest import NAME as MANIFEST
from benchmarks.fault_suite import damage, forge
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    DONE,
    NAMES,
    REFUSED,
    Broken,
    Lab,
    Skipped,
    require,
    require_named,
    require_untouched,
    run_folder,
    snapshot,
)

DATASET = "pointmaze-medium-navigate-v0.npz"
OTHER = "0.0.1-other"
ONE_SEED = tuple(name for name in NAMES if "two" not in name)


def _other_data(lab: Lab) -> Path:
    """Return a folder with the dataset, changed in one number and whole in form, or in one bit."""
    data = Path(shutil.copytree(lab.stock.data, lab.folder / "data"))
    path = data / DATASET
    if lab.seed % 2:
        damage.flip(path, lab.draw)
        return data
    with np.load(path) as arrays:
        observations = arrays["observations"]
    observations.view(np.uint8).flat[lab.draw.randrange(observations.nbytes // 4) * 4] ^= 1
    forge.change_arrays(path, {"observations": observations})
    path.with_name(f"{DATASET}.sha256").unlink()
    return data


@kind(
    "other-data",
    "one bit of the dataset changed before a resume",
    "refused with the file's name, or a new run begins and says that the dataset differs; the old one stays as it is",
    6,
)
def change_data(lab: Lab) -> None:
    """Resume a run with another dataset."""
    name = lab.configuration(("qam", "sqam", "dsrl"))
    logs = lab.interrupted(name)
    before = snapshot(run_folder(logs, name))
    words = lab.words(name, logs, "--resume", data=_other_data(lab))
    ended = require(lab.programs.run("train", words), DONE, REFUSED)
    if ended.code == REFUSED:
        require_named(ended.err, DATASET)
    elif run_folder(logs, name, 2).exists():
        require_named(ended.err, "fingerprint")
    else:
        lab.require_same(name, logs)  # a bit of the file that is not content
        return
    require_untouched(run_folder(logs, name), before)


@kind(
    "other-settings",
    "other settings on the command line of a resume",
    "a new run begins and says what differs; the old one stays as it is",
    2,
)
def change_settings(lab: Lab) -> None:
    """Resume a run with another setting."""
    name = lab.configuration()
    logs = lab.interrupted(name)
    before = snapshot(run_folder(logs, name))
    ended = require(lab.train(name, logs, "gamma=0.9"), DONE)
    require_named(ended.err, "gamma", "0.9")
    require_untouched(run_folder(logs, name), before)


@kind("other-versions", "a run that began with another MuJoCo or PyTorch", "resumed with a warning that names it", 2)
def change_versions(lab: Lab) -> None:
    """Resume a run whose record names another version of a package."""
    name = lab.configuration(ONE_SEED)
    logs = lab.interrupted(name)
    folder, package = run_folder(logs, name), lab.draw.choice(["mujoco", "torch"])
    checkpoints = find_checkpoints(folder / "checkpoint")
    for path in (folder / "versions.json", *(checkpoint / "0.versions.json" for checkpoint in checkpoints)):
        content = json.loads(path.read_text())
        content["packages"][package] = OTHER
        path.write_text(json.dumps(content, indent=1) + "\n")
    for checkpoint in checkpoints:
        forge.sign(checkpoint)
    (folder / MANIFEST).unlink()
    require_named(lab.resume(name, logs).err, package, OTHER)


@kind("moved", "the run folder has another number, or is in another log folder", "resumed there, it ends equal", 4)
def move(lab: Lab) -> None:
    """Rename or move a run before it is resumed."""
    name = lab.configuration(ONE_SEED)
    logs = lab.interrupted(name)
    if lab.seed % 2:
        logs = logs.rename(lab.folder / "elsewhere")
        lab.resume(name, logs)
        return
    run_folder(logs, name).rename(run_folder(logs, name, 7))
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, (7,))


@kind("read-only", "a log folder that may not be written to", "refused with the folder's name (exit 2)", 2)
def forbid_writing(lab: Lab) -> None:
    """Train into a folder that is not writable."""
    if os.geteuid() == 0:
        raise Skipped("root may write everywhere")
    name, logs = lab.configuration(), lab.folder / "logs"
    logs.mkdir()
    logs.chmod(stat.S_IRUSR | stat.S_IXUSR)
    require_named(require(lab.train(name, logs), REFUSED).err, str(logs))
    if list(logs.iterdir()):
        raise Broken("something was written")
