"""Files of checkpoints that are not what was written."""

from __future__ import annotations

import random
from pathlib import Path

from agents.common.engine.checkpoint import find_checkpoints
from benchmarks.fault_suite import damage
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    REFUSED,
    Broken,
    Lab,
    newest_checkpoint,
    require,
    require_named,
    require_untouched,
    run_folder,
    snapshot,
)

BEFORE = "the checkpoint before it takes over with a warning that names the file; it ends bit for bit as undisturbed"


def _file(lab: Lab, checkpoint: Path) -> Path:
    """Return a file of a checkpoint: consecutive seeds take one after the other, those of the model first."""
    files = sorted(checkpoint.iterdir(), reverse=True)
    return files[lab.seed % len(files)]


def _damage_newest(lab: Lab, how: damage.Damage) -> None:
    name = lab.configuration()
    logs = lab.interrupted(name)
    checkpoint = newest_checkpoint(logs, name)
    file = _file(lab, checkpoint)
    how(file, lab.draw)
    ended = lab.resume(name, logs)
    require_named(ended.err, checkpoint.name, file.name)


@kind("checkpoint-flip", "one bit flipped in a file of the newest checkpoint", BEFORE, 72)
def flip(lab: Lab) -> None:
    """Flip a bit."""
    _damage_newest(lab, damage.flip)


@kind("checkpoint-truncate", "such a file cut to 0, 30 or 99%", BEFORE, 20)
def truncate(lab: Lab) -> None:
    """Cut a file."""

    def cut(path: Path, draw: random.Random) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * damage.FRACTIONS[lab.seed % 3])])

    _damage_newest(lab, cut)


@kind("checkpoint-remove", "such a file removed", BEFORE, 10)
def remove(lab: Lab) -> None:
    """Remove a file."""
    _damage_newest(lab, damage.remove)


@kind("checkpoint-garbage", "such a file filled with random bytes", BEFORE, 10)
def fill(lab: Lab) -> None:
    """Overwrite a file."""
    _damage_newest(lab, damage.fill)


@kind("checkpoint-folder", "a folder in the place of such a file", BEFORE, 4)
def replace(lab: Lab) -> None:
    """Put a folder in the place of a file."""
    _damage_newest(lab, damage.replace_by_folder)


@kind(
    "checkpoint-both",
    "a file of both checkpoints damaged",
    "refused with exit 2 and a message that names both and ways on; nothing is changed, no new run begins",
    10,
)
def damage_both(lab: Lab) -> None:
    """Damage a file of each checkpoint."""
    name = lab.configuration()
    logs = lab.interrupted(name)
    checkpoints = find_checkpoints(run_folder(logs, name) / "checkpoint")
    for checkpoint in checkpoints:
        file = lab.draw.choice(sorted(checkpoint.iterdir()))
        lab.draw.choice(list(damage.KINDS.values()))(file, lab.draw)
    before = snapshot(logs)
    ended = require(lab.train(name, logs), REFUSED)
    require_named(ended.err, *(checkpoint.name for checkpoint in checkpoints), "put back", "train again")
    try:
        require_untouched(logs, before)
    except Broken as error:
        raise Broken(f"{error}; it said: {ended.err[-600:]}") from error
