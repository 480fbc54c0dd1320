"""Saved models and replay buffers that are not what was written."""

from __future__ import annotations

from pathlib import Path

import agents
from benchmarks.fault_suite import damage
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, REFUSED, Broken, Lab, require, require_named, run_folder

REFUSED_OR_EQUAL = "refused with the name of the file, or everything that is loaded is equal"
FLIPS_AND_OTHERS = (damage.flip, damage.flip, damage.flip, damage.truncate, damage.fill)
ONE_SEED = ("qam", "sqam", "dsrl")


def _damage_and_load(lab: Lab, program: str, how: damage.Damage, *words: Path) -> None:
    """Damage the last of the files that are given to a program, and compare what it reads."""
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
    _damage_and_load(lab, "load", damage.flip, _final_model(lab))


@kind("model-truncate", "a saved model cut to 0, 30 or 99%, or filled with random bytes", REFUSED_OR_EQUAL, 12)
def cut_model(lab: Lab) -> None:
    """Cut or overwrite a saved model."""
    _damage_and_load(lab, "load", damage.fill if lab.seed % 4 == 3 else damage.truncate, _final_model(lab))


@kind("buffer", "a saved replay buffer: one bit flipped, cut, or filled with random bytes", REFUSED_OR_EQUAL, 20)
def damage_buffer(lab: Lab) -> None:
    """Damage a replay buffer."""
    name = lab.configuration(ONE_SEED)
    target = lab.folder / "replay_buffer.npz"
    target.write_bytes((run_folder(lab.reference(name), name) / "replay_buffer.npz").read_bytes())
    how = FLIPS_AND_OTHERS[lab.seed % len(FLIPS_AND_OTHERS)]
    _damage_and_load(lab, "load buffer", how, _final_model(lab), target)


def saved_policy(lab: Lab) -> Path:
    """Return a policy that was saved by itself, in the folder of this try."""
    target = lab.folder / "policy.pt"
    agents.load(_final_model(lab), device="cpu").policy.save(str(target))
    return target


@kind("policy", "a policy saved by itself: one bit flipped, cut, or filled with random bytes", REFUSED_OR_EQUAL, 5)
def damage_policy(lab: Lab) -> None:
    """Damage a policy."""
    _damage_and_load(lab, "load policy", FLIPS_AND_OTHERS[lab.seed % len(FLIPS_AND_OTHERS)], saved_policy(lab))
