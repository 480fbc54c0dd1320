"""Files of strangers that claim, or unpack to, more than they should, or name other places."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from benchmarks.fault_suite import forge
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    DONE,
    ENV,
    REFUSED,
    Broken,
    Lab,
    newest_checkpoint,
    require,
    require_named,
    run_folder,
)
from benchmarks.fault_suite.programs import Ended

Spoil: TypeAlias = Callable[[Path], None]
"""Makes a file hostile."""
MOST_MEMORY = 1_500_000
"""kB that reading a file may take besides what the program takes anyway."""
BOMB = 127 << 24
SMALL = "refused with the name of the file (exit 2), or the run is skipped; memory stays below 1.5 GB more than usual"
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A thousand million values in a few hundred characters."""


def _require_small(ended: Ended, usual: Ended, *names: str, codes: tuple[int, ...] = (REFUSED,)) -> None:
    """Require that a program has refused a file, and has not taken much memory for that."""
    require(ended, *codes)
    require_named(ended.err, *names)
    if ended.memory > usual.memory + MOST_MEMORY:
        raise Broken(f"it took {ended.memory / 1e6:.1f} GB, usually {usual.memory / 1e6:.1f} GB")


def _bomb(lab: Lab, member: str) -> bytes:
    """Return a zip archive of some MB with a member of some GB."""

    def make(folder: Path) -> None:
        (folder / "bomb.zip").write_bytes(forge.zip_bomb(member, BOMB))

    return (lab.stock.get(f"bomb {member}", make) / "bomb.zip").read_bytes()


def _usual_load(lab: Lab) -> tuple[Path, Ended]:
    """Return a saved model, and how loading it ends."""
    path = run_folder(lab.reference("qam"), "qam") / f"{ENV}.zip"
    return path, require(lab.programs.run("load", [path]), DONE)


def _without_manifest(logs: Path) -> Path:
    """Return the folder of a run that says nothing about what its files must be."""
    folder = run_folder(logs, "qam")
    (folder / "manifest.json").unlink()
    return folder


def _model_bomb(lab: Lab) -> None:
    _, usual = _usual_load(lab)
    path = lab.folder / "model.zip"
    path.write_bytes(_bomb(lab, "data"))
    _require_small(lab.programs.run("load", [path]), usual, path.name)


def _evaluations(lab: Lab, spoil: Spoil) -> None:
    logs = lab.finished("qam")
    usual, _ = lab.compare(logs)
    path = _without_manifest(logs) / "evaluations.npz"
    spoil(path)
    ended, _ = lab.compare(logs)
    _require_small(ended, usual, path.name)


def _dataset(lab: Lab, spoil: Spoil) -> None:
    data = lab.folder / "data"
    shutil.copytree(lab.stock.data, data)
    path = data / "pointmaze-medium-navigate-v0.npz"
    spoil(path)
    _, usual = _usual_load(lab)
    _require_small(lab.programs.run("train", lab.words("qam", lab.folder / "logs", data=data)), usual, path.name)


def _buffer(lab: Lab, spoil: Spoil) -> None:
    model, usual = _usual_load(lab)
    path = lab.folder / "replay_buffer.npz"
    shutil.copyfile(model.parent / path.name, path)
    spoil(path)
    _require_small(lab.programs.run("load buffer", [model, path]), usual, path.name)


@kind("size-bomb", "a zip bomb as model, evaluations, dataset or replay buffer", SMALL, 4)
def bomb(lab: Lab) -> None:
    """Give a zip bomb to what reads zip files."""

    def fill(member: str) -> Spoil:
        def spoil(path: Path) -> None:
            path.write_bytes(_bomb(lab, member))

        return spoil

    tries: tuple[Callable[[], None], ...] = (
        lambda: _model_bomb(lab),
        lambda: _evaluations(lab, fill("results.npy")),
        lambda: _dataset(lab, fill("observations.npy")),
        lambda: _buffer(lab, fill("description.npy")),
    )
    tries[lab.seed % 4]()


def _claim(lab: Lab, path: Path, *arrays: str) -> None:
    """Make one of the arrays of an ``.npz`` file claim a million million entries."""
    array = lab.draw.choice(arrays)
    forge.change_zip(path, {f"{array}.npy": forge.npy((10**12,), lab.draw.choice(["<f8", "|u1", "<U4"]), bytes(64))})


def _checkpoint_claim(lab: Lab) -> None:
    logs = lab.interrupted("qam")
    checkpoint = newest_checkpoint(logs, "qam")
    _claim(lab, checkpoint / "buffer.npz", "tail")
    forge.sign(checkpoint)
    _, usual = _usual_load(lab)
    _require_small(lab.train("qam", logs), usual, checkpoint.name, codes=(DONE,))
    lab.require_same("qam", logs)


@kind(
    "size-header", "a header of a million million entries in evaluations, dataset, replay buffer, checkpoint", SMALL, 8
)
def header(lab: Lab) -> None:
    """Give an array that claims to be huge to what reads arrays."""

    def claim(*arrays: str) -> Spoil:
        return lambda path: _claim(lab, path, *arrays)

    tries: tuple[Callable[[], None], ...] = (
        lambda: _evaluations(lab, claim("results", "timesteps", "phase")),
        lambda: _dataset(lab, claim("observations", "actions", "terminals")),
        lambda: _buffer(lab, claim("_observations", "_rewards", "description")),
        lambda: _checkpoint_claim(lab),
    )
    tries[lab.seed % 4]()


@kind("size-aliases", "YAML whose aliases expand to 10^9 values as `config.yml`, settings file or suite", SMALL, 6)
def aliases(lab: Lab) -> None:
    """Give a YAML bomb to what reads YAML."""
    _, usual = _usual_load(lab)
    if lab.seed % 3 == 0:
        logs = lab.finished("qam")
        path = _without_manifest(logs) / "config.yml"
        path.write_text(ALIASES)
        ended, _ = lab.compare(logs)
    else:
        path = lab.folder / "bomb.yml"
        path.write_text(ALIASES)
        words = ["-conf", str(path), *lab.words("qam", lab.folder / "logs")]
        ended = lab.programs.run(*(("train", words) if lab.seed % 3 == 1 else ("benchmark", [path])))
    _require_small(ended, usual, path.name)


@kind(
    "size-names",
    "members called `../x` or `/x` in a model, replay buffer or evaluations",
    "refused with the name of the file (exit 2), or the run is skipped; nothing is written anywhere",
    6,
)
def names(lab: Lab) -> None:
    """Give an archive with names of other places to what reads archives."""
    member = lab.draw.choice(["../x.npy", "/x.npy", "a/../../x.pth", "C:\\x.npy"])
    change = functools.partial(forge.change_zip, members={member: forge.npy((1,), "<f8", bytes(8))})
    model, _ = _usual_load(lab)
    if lab.seed % 3 == 0:
        path = lab.folder / "model.zip"
        shutil.copyfile(model, path)
        change(path)
        ended = lab.programs.run("load", [path])
    elif lab.seed % 3 == 1:
        path = lab.folder / "replay_buffer.npz"
        shutil.copyfile(model.parent / path.name, path)
        change(path)
        ended = lab.programs.run("load buffer", [model, path])
    else:
        logs = lab.finished("qam")
        path = _without_manifest(logs) / "evaluations.npz"
        change(path)
        ended, _ = lab.compare(logs)
    require_named(require(ended, REFUSED).err, path.name)
