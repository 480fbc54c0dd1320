"""Disks that are full, limits of the system, folders that disappear, and locales that know no names."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fault_suite.kills import last_folders, wait_for
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import (
    DONE,
    FAILED,
    NAMES,
    REFUSED,
    Broken,
    Lab,
    Skipped,
    require,
    require_named,
    run_folder,
)
from benchmarks.fault_suite.programs import LONGEST, ROOT

AGAIN = "it ends with a message that names a file there; with room again the same command continues, and ends equal"
ONE_SEED = tuple(name for name in NAMES if "two" not in name)


@kind("disk-limit", "no file may grow above a random size (RLIMIT_FSIZE)", AGAIN, 14)
def limit_files(lab: Lab) -> None:
    """Train, or resume, with a limit on the size of files, and then without."""
    name = lab.configuration()
    logs = lab.interrupted(name) if lab.seed % 2 else lab.folder / "logs"
    most = lab.draw.randrange(1_000, 60_000) if lab.seed % 4 == 0 else lab.draw.randrange(66_000, 200_000)
    ended = require(lab.train(name, logs, limits={"RLIMIT_FSIZE": most}), DONE, FAILED, REFUSED)
    if ended.code != DONE:
        require_named(ended.err, str(logs))
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, last_folders(logs, name))


@contextlib.contextmanager
def small_disk(path: Path, kilobytes: int) -> Iterator[None]:
    """Mount a small file system in memory."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Skipped(f"file systems cannot be mounted here ({error.strerror})") from error
    if found.returncode:
        raise Skipped(f"file systems may not be mounted here ({' '.join(found.stderr.split())})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@kind("disk-full", "a file system in memory that becomes full", AGAIN, 8)
def fill_disk(lab: Lab) -> None:
    """Train on a disk that is too small, then on a larger one."""
    name, disk = lab.configuration(), lab.folder / "disk"
    with small_disk(disk, lab.draw.randrange(100, 900)):
        logs = disk / "logs"
        ended = require(lab.train(name, logs), DONE, FAILED, REFUSED)
        if ended.code != DONE:
            require_named(ended.err, str(logs))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        require(lab.train(name, logs), DONE)
        lab.require_same(name, logs, last_folders(logs, name))


@kind("files-open", "few files may be open (RLIMIT_NOFILE)", "it ends with a message, or done; then it ends equal", 4)
def limit_open_files(lab: Lab) -> None:
    """Train with a limit on open files, and then without."""
    name, logs = lab.configuration(), lab.folder / "logs"
    most = lab.draw.randrange(10, 30)
    ended = require(lab.train(name, logs, limits={"RLIMIT_NOFILE": most}), DONE, FAILED, REFUSED)
    if ended.code != DONE and not ended.err.strip():
        raise Broken("it said nothing")
    require(lab.train(name, logs), DONE)
    lab.require_same(name, logs, last_folders(logs, name))


@kind(
    "folder-deleted", "the log folder deleted under a run", "it ends with a message that names the folder (exit 1)", 4
)
def delete_folder(lab: Lab) -> None:
    """Remove the log folder some time after the run folder was made."""
    name, logs = lab.configuration(), lab.folder / "logs"
    running = lab.start(name, logs)
    wait_for(running, run_folder(logs, name) / "checkpoint")
    running.has_ended(lab.draw.uniform(0, 0.3))
    shutil.rmtree(logs, ignore_errors=True)
    shutil.rmtree(logs, ignore_errors=True)  # what was written meanwhile
    ended = require(running.wait(), FAILED, DONE)
    if ended.code == FAILED:
        require_named(ended.err, run_folder(logs, name).name)


@kind("locale", "a log folder with a name that the locale (`LC_ALL=C`) does not know", "it ends equal", 2)
def odd_locale(lab: Lab) -> None:
    """Train in the C locale, in a process of its own, since Python decides how to write names when it starts."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "läufe-δ"
    utf8 = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**os.environ, **utf8, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "zoo" / "train.py"), *lab.words(name, logs)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST)
    if ended.returncode:
        raise Broken(f"exit code {ended.returncode}: {ended.stderr[-1000:]}")
    lab.require_same(name, logs)
