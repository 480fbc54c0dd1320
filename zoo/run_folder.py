"""A run's folder: created at once for one owner, every file in it written whole or not at all."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from agents.common.files import atomic_path
from zoo.cli import UsageError

RECORDED_PACKAGES = (
    "flow-rl-zoo", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "ogbench", "mujoco", "numpy", "rliable",
)  # fmt: skip
STATES = ("running", "done", "failed", "interrupted")


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
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        status = {"state": state, "seed": seed, "offline_step": offline_step, "online_step": online_step}
        self.write_text("status.json", json.dumps({**status, "updated": now, **more}) + "\n")

    def read_state(self) -> str | None:
        """Return the state that was last written, or None if there is none that can be read."""
        try:
            return str(json.loads((self.path / "status.json").read_text())["state"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class UnfinishedRun:
    """A run to go on with.

    :param folders: one run folder per replica, claimed for this process.
    :param seeds: the replicas' seeds.
    """

    folders: list[RunFolder]
    seeds: list[int]


def find_unfinished(log_folder: Path, record: Mapping[str, Any], seeds: list[int] | None) -> UnfinishedRun | None:
    """Return the newest run of the same settings that has not come to its end.

    :param log_folder: where all runs are.
    :param record: what ``config.yml`` holds of the settings.
    :param seeds: the replicas' seeds; None takes a run of any.
    :return: the run, or None; a finished run is named on standard error.
    :raises UsageError: if another process is at it.
    """
    wanted = _settings_in(yaml.safe_load(yaml.safe_dump(dict(record))))
    parent = log_folder / record["algo"]
    numbered = {int(p.name.rpartition("_")[2]): p for p in parent.glob(f"{record['env']}_*") if p.name[-1].isdigit()}
    for _, path in sorted(numbered.items(), reverse=True):
        try:
            config = yaml.safe_load((path / "config.yml").read_text())
        except (OSError, ValueError, yaml.YAMLError):
            continue  # killed before it began
        if not isinstance(config, dict) or _settings_in(config) != wanted:
            continue
        stack = config.get("seeds", [config["seed"]])
        if config["seed"] != stack[0] or seeds not in (None, stack):
            continue
        folders = [RunFolder(parent / name, record["env"]) for name in config.get("folders", [path.name])]
        states = {folder.read_state() for folder in folders}
        if None in states:
            continue  # killed before it began
        if "done" in states and states <= {"done", "failed"}:
            print(f"{path} is a finished run of these settings, which --resume leaves alone", file=sys.stderr)
            continue
        if not folders[0].claim():
            raise UsageError(f"another process is training {path}; wait for its end, or stop it, before --resume")
        return UnfinishedRun(folders, stack)
    return None


def _settings_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``config.yml`` that makes two runs the same."""
    return {name: value for name, value in config.items() if name not in ("sources", "seed", "seeds", "folders")}


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
