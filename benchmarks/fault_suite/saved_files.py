"""Saved models and replay buffers that are not what was written."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fault_suite import damage
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, REFUSED, Broken, Lab, require, require_named, run_folder

REFUSED_OR_EQUAL = "refused with the name of the file, or everything that is loaded is equal"
ONE_SEED = ("qam", "sqam", "dsrl")


def _damage_and_load(lab: Lab, how: damage.Damage, *words: Path) -> None:
    """Damage the last of the files that are given to a program, and compare what it reads."""
    program = "load buffer" if len(words) > 1 else "load"
    expected = require(lab.programs.run(program, words), DONE).result
    how(words[-1], lab.draw)
    ended = require(lab.programs.run(program, words), DONE, REFUSED)
    if ended.code == REFUSED:
        require_named(ended.err, words[-1].name)
    elif ended.result != expected:
        raise Broken("it is loaded as something else")


def _final_model(lab: Lab) -> Path:
    name = lab.configuration(ONE_SEED)
    target = lab.folder / "model.zip"
    target.write_bytes((run_folder(lab.reference(name), name) / f"{ENV}.zip").read_bytes())
    return target


@kind("model-flip", "one bit flipped in a saved model", REFUSED_OR_EQUAL, 28)
def flip_model(lab: Lab) -> None:
    """Flip a bit of a saved model."""
    _damage_and_load(lab, damage.flip, _final_model(lab))


@kind("model-truncate", "a saved model cut to 0, 30 or 99%, or filled with random bytes", REFUSED_OR_EQUAL, 12)
def cut_model(lab: Lab) -> None:
    """Cut or overwrite a saved model."""
    _damage_and_load(lab, damage.fill if lab.seed % 4 == 3 else damage.truncate, _final_model(lab))


@kind("buffer", "a saved replay buffer: one bit flipped, cut, or filled with random bytes", REFUSED_OR_EQUAL, 20)
def damage_buffer(lab: Lab) -> None:
    """Damage a replay buffer."""
    name = lab.configuration(ONE_SEED)
    target = lab.folder / "replay_buffer.npz"
    target.write_bytes((run_folder(lab.reference(name), name) / "replay_buffer.npz").read_bytes())
    how = damage.flip if lab.seed % 5 < 3 else damage.truncate if lab.seed % 5 == 3 else damage.fill
    _damage_and_load(lab, how, _final_model(lab), target)
