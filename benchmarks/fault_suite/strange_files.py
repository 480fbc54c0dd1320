"""Journals of studies that somebody has changed, and pipes and devices in the place of files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna

from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    DONE,
    ENV,
    REFUSED,
    TINY,
    Broken,
    Lab,
    require,
    require_named,
    run_folder,
    snapshot,
)
from zoo.tuning.journal import CHECKSUM, open_journal

NAME = "pointmaze-medium-navigate-v0"
LONGEST = 100.0
"""Seconds in which a file must be refused, also on a busy core."""

# -- journals ---------------------------------------------------------------------------------------------------------


def _words(lab: Lab, logs: Path) -> list[str]:
    """Return the command line of a study of two trials."""
    words = ["--algo", "qam", "--env", ENV, "--dataset-dir", str(lab.stock.data), "-f", str(logs), "--device", "cpu"]
    words += ["--seed", "1000003", "--study-name", "s", "--max-total-trials", "2", "--offline-steps", "4"]
    words += ["--eval-freq", "4", "--eval-episodes", "1", "--n-eval-envs", "1", "--log-interval", "4"]
    return [*words, "--env-kwargs", "max_episode_steps=9", "-params", *TINY]


def _finished_study(lab: Lab) -> Path:
    """Return a copy of the logs of a study that has its two trials."""

    def make(logs: Path) -> None:
        require(lab.programs.run("tune", _words(lab, logs)), DONE)

    return lab.copy(lab.stock.get("study", make))


def _lines(change: Callable[[list[str]], object]) -> Callable[[Path, Path], None]:
    """Return what changes the lines of a journal."""

    def spoil(journal: Path, outside: Path) -> None:
        lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
        change(lines)
        journal.write_text("".join(lines), encoding="utf-8")

    return spoil


def _raise_score(lines: list[str]) -> None:
    index = next(number for number, line in enumerate(lines) if '"values": [' in line)
    lines[index] = json.dumps(json.loads(lines[index]) | {"values": [1e9]}) + "\n"


def _without_checksums(lines: list[str]) -> None:
    for number, line in enumerate(lines):
        lines[number] = json.dumps({key: value for key, value in json.loads(line).items() if key != CHECKSUM}) + "\n"


def _attributes(**attributes: str) -> Callable[[Path, Path], None]:
    """Return what adds a trial that a dead worker has left, whose checksums fit; ``{}`` is a path outside."""

    def spoil(journal: Path, outside: Path) -> None:
        trial = optuna.load_study(study_name="s", storage=open_journal(journal)).ask()
        for name, value in attributes.items():
            trial.set_user_attr(name, value.format(outside))

    return spoil


def _pipe(journal: Path, outside: Path) -> None:
    journal.unlink()
    os.mkfifo(journal)


SPOILERS: tuple[tuple[int, Callable[[Path, Path], None]], ...] = (
    (REFUSED, _lines(_raise_score)),
    (REFUSED, _lines(lambda lines: lines.pop(len(lines) // 2))),
    (REFUSED, _lines(lambda lines: lines.pop(0))),
    (REFUSED, _lines(lambda lines: lines.insert(3, "[[[\n"))),
    (REFUSED, _lines(lambda lines: lines.insert(3, lines[4]))),
    (REFUSED, _lines(lambda lines: lines.__delitem__(slice(4, None)))),
    (REFUSED, _lines(lambda lines: lines.clear())),
    (REFUSED, _lines(_without_checksums)),
    (DONE, _lines(lambda lines: lines.append(lines[-1][:40]))),
    (REFUSED, _attributes(worker="{}/status.json")),
    (REFUSED, _attributes(worker="host-1-gone", retry_of="{}")),
    (DONE, _attributes(worker="host-1-gone", folder="{}")),
    (REFUSED, _pipe),
)
"""What the program is to answer, and what is done."""


@kind(
    "journal",
    "the journal of a study: lines changed, removed, added or cut; paths outside in it; a pipe",
    "refused with its name (exit 2), or as if nothing had happened after half a line; nothing outside changes",
    len(SPOILERS),
)
def spoil_journal(lab: Lab) -> None:
    """Spoil a journal and go on with its study."""
    logs = _finished_study(lab)
    code, spoil = SPOILERS[lab.seed % len(SPOILERS)]
    outside = lab.folder / "outside"
    outside.mkdir()
    (outside / "status.json").write_text('{"state": "running", "seed": 3}\n')
    (outside / "config.yml").write_text("algo: qam\n")
    before = snapshot(outside)
    spoil(logs / "studies" / "s" / "journal.log", outside)
    words = _words(lab, logs)
    ended = require(lab.programs.start("tune", words).wait(LONGEST), code)
    if code == REFUSED:
        require_named(ended.err, "journal" if "worker" in ended.err else "journal.log")
    elif ended.result["trials"].get("complete") != 2:
        raise Broken(f"expected two complete trials, got {ended.result['trials']}")
    if snapshot(outside) != before:
        raise Broken("a file outside of the study was changed or removed")


# -- pipes and devices ------------------------------------------------------------------------------------------------


def _make_pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _model(lab: Lab) -> Path:
    return run_folder(lab.reference("qam"), "qam") / f"{ENV}.zip"


def _run_around(lab: Lab, file: Path) -> Path:
    """Put a run around one of its files, and return its folder."""
    others = shutil.ignore_patterns(file.name, "manifest.json", "checkpoint")
    return Path(shutil.copytree(_model(lab).parent, file.parent, ignore=others, dirs_exist_ok=True))


READERS: tuple[tuple[str, str, Callable[[Lab, Path], Sequence[str | Path]]], ...] = (
    ("x.npz", "dataset", lambda lab, file: ["check", file, "--env", "Pendulum-v1"]),
    ("x.hdf5", "dataset", lambda lab, file: ["check", file, "--env", "Pendulum-v1"]),
    ("set/data/x.parquet", "dataset", lambda lab, file: ["check", file.parents[1], "--env", "Pendulum-v1"]),
    ("set/x.npz", "dataset", lambda lab, file: ["check", file.parent, "--env", "Pendulum-v1"]),
    (f"{NAME}.npz", "dataset", lambda lab, file: ["check", NAME, "--dataset-dir", file.parent]),
    ("x.npz", "train", lambda lab, file: [*lab.words("qam", lab.folder / "logs"), "--dataset", file]),
    ("x.yml", "train", lambda lab, file: ["-conf", file, *lab.words("qam", lab.folder / "logs")]),
    ("x.yml", "benchmark", lambda lab, file: [file]),
    ("x.zip", "load", lambda lab, file: [file]),
    ("x.pt", "load policy", lambda lab, file: [file]),
    ("x.npz", "load buffer", lambda lab, file: [_model(lab), file]),
    ("x.safetensors", "evaluate", lambda lab, file: [file, "--env", ENV]),
    ("x.zip", "evaluate", lambda lab, file: [file, "--env", ENV]),
    ("x_1/config.yml", "compare", lambda lab, file: [_run_around(lab, file)]),
)


@kind(
    "special",
    "a pipe, or a link to /dev/zero, as dataset, settings, suite, model, policy, buffer or run",
    f"refused (exit 2) within {LONGEST:.0f} s",
    2 * len(READERS),
)
def give_special_file(lab: Lab) -> None:
    """Give what is not a regular file to a program that reads files."""
    name, program, words = READERS[lab.seed % len(READERS)]
    file = lab.folder / "special" / name
    file.parent.mkdir(parents=True)
    (_make_pipe, _link_to_zeros)[lab.seed // len(READERS) % 2](file)
    ended = lab.programs.start(program, words(lab, file), limits={"RLIMIT_AS": 64 << 30}).wait(LONGEST)
    require_named(require(ended, REFUSED).err, file.name)
