"""A run's folder: created at once for one owner, every file in it written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import datetime
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from agents.common.files import atomic_path
from zoo.errors import Interrupted, UsageError

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy", "rliable",
)  # fmt: skip
STATES = ("running", "done", "failed", "interrupted")
INDEX = "runs.csv"
INDEX_COLUMNS = ("run", "env", "seed", "label", "started", "command")


def check_log_folder(folder: Path) -> None:
    """Make a folder for runs if need be, and see that it takes files.

    :param folder: the folder.
    :raises UsageError: if it cannot be made, or a file of 64 KiB cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"0" * 65536)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(
            f"the log folder must be writable with free space, got {error.strerror} for {folder}; "
            "choose another with -f/--log-folder"
        ) from error


class RunFolder:
    """One run of one seed: ``{log}/{algo}/{env}_{k}/``.

    :param path: the folder, which exists.
    :param env: environment name; names the final model.
    """

    def __init__(self, path: Path, env: str) -> None:
        self.path, self.env = path, env

    @classmethod
    def create(cls, log_folder: Path, algo: str, env: str) -> RunFolder:
        """Make the folder with the next free number; runs that start together never share one.

        :param log_folder: where all runs are.
        :param algo: algorithm id.
        :param env: environment name.
        :return: the run folder.
        :raises UsageError: if the folder cannot be made or written to.
        """
        parent = log_folder / algo
        check_log_folder(parent)
        taken = [p.name.removeprefix(f"{env}_") for p in parent.glob(f"{env}_*")]
        number = 1 + max((int(text) for text in taken if text.isdigit()), default=0)
        while True:
            try:
                (parent / f"{env}_{number}").mkdir()
                folder = cls(parent / f"{env}_{number}", env)
                folder.claim()
                return folder
            except FileExistsError:
                number += 1

    def claim(self) -> bool:
        """Claim the run for this process until it ends, however it ends, or calls :meth:`release`.

        :return: False if another process has claimed it.
        """
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Give up the claim."""
        os.close(self._handle)

    @property
    def model_path(self) -> Path:
        """The final model, for ``agents.X.load``."""
        return self.path / f"{self.env}.zip"

    def write_yaml(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a mapping as YAML.

        :param name: file name.
        :param values: plain values.
        """
        self.write_text(name, yaml.safe_dump(dict(values), sort_keys=False))

    def write_text(self, name: str, text: str) -> None:
        """Write a text file.

        :param name: file name.
        :param text: its content.
        """
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text)

    def write_status(self, state: str, seed: int, offline_step: int, online_step: int, **more: Any) -> None:
        """Say how far the run is.

        :param state: one of ``running``, ``done``, ``failed``, ``interrupted``.
        :param seed: the run's seed.
        :param offline_step: gradient steps taken offline.
        :param online_step: environment steps taken online.
        :param more: further entries, e.g. an error.
        """
        assert state in STATES
        status = {"state": state, "seed": seed, "offline_step": offline_step, "online_step": online_step}
        self.write_text("status.json", json.dumps({**status, "updated": _now(), **more}) + "\n")

    def write_ending(self, state: str, seed: int, reason: str) -> None:
        """Say how the run ended, at the steps that its status names, unless that is written already.

        :param state: ``failed`` or ``interrupted``.
        :param seed: the run's seed.
        :param reason: why.
        """
        try:
            status = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            status = {}
        if status.get("state") not in ("done", "failed"):
            kept = {"offline_step": 0, "online_step": 0, **status, "state": state, "seed": seed, "reason": reason}
            self.write_status(**{name: value for name, value in kept.items() if name != "updated"})

    def enter_in_index(self, seed: int, label: str) -> None:
        """Append a row about the run to ``runs.csv`` beside its folder; runs that start together lose none.

        :param seed: the run's seed.
        :param label: the name of its row in a comparison.
        """
        with open(self.path.parent / INDEX, "a", newline="") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
            writer = csv.DictWriter(file, INDEX_COLUMNS)
            if os.fstat(file.fileno()).st_size == 0:
                writer.writeheader()
            values = (self.path.name, self.env, seed, label, _now(), command_line())
            writer.writerow(dict(zip(INDEX_COLUMNS, values, strict=True)))


@contextlib.contextmanager
def ending_recorded(folders: Sequence[RunFolder], seeds: Sequence[int]) -> Iterator[None]:
    """Write into the status of runs how they end, if an exception ends them here.

    :param folders: the run folders; they may still be being made.
    :param seeds: one per folder.
    """
    try:
        yield
    except BaseException as error:
        state = "interrupted" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "failed"
        for folder, seed in zip(folders, seeds, strict=False):
            folder.write_ending(state, seed, f"{type(error).__name__}: {error}")
        raise


def describe_versions(device: str, dataset_fingerprint: str | None) -> dict[str, Any]:
    """Return what software and data a run used.

    :param device: name of the device.
    :param dataset_fingerprint: the dataset's, or None.
    :return: plain values for ``versions.json``.
    """
    packages = {}
    for name in RECORDED_PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "git_commit": git_commit(),
        "device": device,
        "dataset_fingerprint": dataset_fingerprint,
    }


def git_commit() -> str | None:
    """Return the commit that the zoo runs from, with ``-dirty`` behind it if files differ; None outside a checkout."""
    root = Path(__file__).resolve().parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def command_line() -> str:
    """Return the command that started the program, quoted for a shell."""
    import shlex

    return shlex.join(sys.orig_argv)


def _now() -> str:
    """Return the time, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
