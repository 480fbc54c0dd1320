"""Who may train a run when several processes, on several machines, could, and whether one still does.

The claim on a job is the folder ``held/NAME/`` in the job's folder. It appears there by a rename that fails while there
is another. Its holder touches it again and again, and prepares in it all that it writes
(`agents.common.files.prepare_in`). Whoever takes over gives it another name and empties it, so that whatever its holder
still writes appears nowhere, even if the holder was only suspended. So to take a living process for a dead one costs
time, but no results. A claim ends as the record ``NAME.json``.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.common.files import TakenOver, atomic_folder, atomic_path, prepare_beside, prepare_in
from zoo.processes.locks import HOST, Lock
from zoo.runs.folder import STATES, RunFolder, UnreadableRun
from zoo.terminal.messages import log, say_once

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
"""Age of the last sign of life at which a claim may be taken over; file attributes on NFS are up to a minute old."""
HIDDEN = ".claims"
"""Folder of all claims in a log folder."""
_HELD, _HOLDER = "held", "holder.json"
_MOST_TRIES = 1000
"""How often a folder is emptied that a client of NFS, which knows it by its handle, still puts something into."""


@dataclass(frozen=True)
class Claim:
    """A claim that this process holds, or the process that it trains in.

    :param folder: ``{log folder}/.claims/{job}/held/{name}``.
    :param lock: descriptor of a file that is locked until this process, and those that inherit it, have ended.
    """

    folder: Path
    lock: int | None = None

    @property
    def job(self) -> Path:
        """The folder of all claims on the job."""
        return self.folder.parents[1]

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        return not self.folder.is_dir()

    def beat(self) -> None:
        """Show that the holder is alive; raise TakenOver if the claim is lost."""
        try:
            os.utime(self.folder)
        except FileNotFoundError as error:
            raise TakenOver(f"another process has taken over {self.job.name}") from error

    def release(self, outcome: str, **more: Any) -> bool:
        """End the claim, and record how; return False if it was lost before."""
        if self.lock is not None:
            os.close(self.lock)
        return _end(self.folder, outcome, **more)


class Claims:
    """The claims on one job.

    :param folder: ``{log folder}/.claims/{job}``.
    :param stale_after: age of the last sign of life, in seconds, at which a claim may be taken over.
    """

    def __init__(self, folder: Path, stale_after: float = STALE_SECONDS) -> None:
        self.folder, self.stale_after = folder, stale_after

    def take(self, owner: str) -> Claim | None:
        """Claim the job for an owner, or return None if another process holds it."""
        held = self._held()
        if held is not None and not (self._is_stale(held) and _end(held, "lost", reason="no sign of life")):
            return None  # it lives, or another process was faster
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        try:
            with atomic_folder(self.folder / _HELD) as temporary:
                (temporary / name).mkdir()
                lock = os.open(temporary / name / _HOLDER, os.O_CREAT | os.O_RDWR)
                os.write(
                    lock, json.dumps({"owner": owner, "begin": time.time(), "host": HOST, "pid": os.getpid()}).encode()
                )
                with contextlib.suppress(OSError):  # not all storage has locks
                    fcntl.flock(lock, fcntl.LOCK_EX)
        except FileExistsError:
            os.close(lock)
            return None
        return Claim(self.folder / _HELD / name, lock)

    def end_earlier(self, owner: str) -> None:
        """End the claim that an earlier life of an owner has made; it may still run, if only Slurm believes it dead."""
        held = self._held()
        if held is not None and _read(held / _HOLDER).get("owner") == owner:
            _end(held, "lost", reason="its owner was started again")

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the job, or None if nobody does; nothing is sure to be known of the holder."""
        held = self._held()
        return None if held is None or self._is_stale(held) else _read(held / _HOLDER)

    def ended(self) -> list[dict[str, Any]]:
        """Return what is recorded of the claims that have ended, oldest first, without damaged records."""
        records = {path: _read(path) for path in self.folder.glob("*.json")}
        for path in [path for path, record in records.items() if not _is_record(record)]:
            say_once(f"{path} is damaged; the attempt that it recorded does not count")
            del records[path]
        return sorted(records.values(), key=lambda record: float(record["end"]))

    def _held(self) -> Path | None:
        """Return the folder of the claim that there is."""
        try:
            return min((self.folder / _HELD).iterdir(), default=None)
        except FileNotFoundError:
            return None

    def _is_stale(self, held: Path) -> bool:
        """Return whether a claim shows no sign of life.

        On the holder's host, its lock tells. Elsewhere the age does, measured with the storage's clock. A sign from the
        future is none: that clock was set back, and the next one of a living holder is on time.
        """
        if _read(held / _HOLDER).get("host") == HOST and Lock(held / _HOLDER).is_held() is False:
            return True
        try:
            with tempfile.TemporaryFile(dir=self.folder) as now:
                age = os.fstat(now.fileno()).st_mtime - held.stat().st_mtime
        except FileNotFoundError:
            return False  # it has just ended
        return abs(age) > self.stale_after


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Train under a claim: show signs of life, and write nothing more once it is lost.

    If the process that made the claim ends, this one is asked to stop, as by SIGTERM.

    :param folder: of the claim; None: without one.
    """
    if folder is None:
        yield
        return
    claim, stop = Claim(folder.resolve()), threading.Event()
    claim.beat()
    prepare_in(claim.folder, root=claim.job.parents[1])
    beats = threading.Thread(target=_beat, args=(claim, stop), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield
    finally:
        stop.set()
        beats.join()
        prepare_beside()


def _beat(claim: Claim, stop: threading.Event) -> None:
    """Show signs of life until the run has ended; end the process at once when the claim is lost."""
    maker = _read(claim.folder / _HOLDER).get("pid", os.getppid())
    is_orphan = False
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            claim.beat()
        except TakenOver as error:
            log.error("%s; this process ends without writing anything more", error)
            os._exit(1)  # from any state: training, evaluating, writing
        except OSError as error:  # storage that is away for a moment; if it lasts, the claim is lost
            log.warning("no sign of life of %s could be written: %s", claim.folder, error)
        if not is_orphan and os.getppid() != maker:
            is_orphan = True
            log.warning("the process that started this run has ended; stopping, with a checkpoint")
            os.kill(os.getpid(), signal.SIGTERM)


def _end(folder: Path, outcome: str, **more: Any) -> bool:
    """End a claim: fence off its holder first, then record how it ended; return False if it has ended already."""
    job = folder.parents[1]
    ending = job / f".{folder.name}.{uuid.uuid4().hex}"  # which nobody else knows
    try:
        os.rename(folder, ending)
    except FileNotFoundError:
        return False
    record = {**_read(ending / _HOLDER), "end": time.time(), "outcome": outcome, **more}
    with atomic_path(job / f"{folder.name}.json") as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
    tries = 0
    while ending.exists():
        tries += 1
        shutil.rmtree(ending, ignore_errors=tries < _MOST_TRIES)
    return True


def _is_record(record: dict[str, Any]) -> bool:
    times = (record.get("end"), record.get("seconds", 0.0))
    return isinstance(record.get("outcome"), str) and all(isinstance(seconds, float) for seconds in times)


def _read(path: Path) -> dict[str, Any]:
    """Return the mapping in a file; nothing if it is gone or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


# -- whether a run is being trained, or its process is gone and could not say so --------------------------------------


DEAD = "dead"
SHOWN_STATES = (*STATES, DEAD)
WHAT_TO_DO = "its process is gone; --resume continues it"
SILENT_FOR = datetime.timedelta(days=1)
"""Age of the status at which a run of another host counts as dead."""


def state_now(folder: RunFolder, status: Mapping[str, Any]) -> str:
    """Return a run's state: the one in its ``status.json``, or ``dead``.

    A run that says ``running`` is dead if nobody holds the lock of its folder and its status was written on this host.
    Locks need not reach other hosts, and copies of a folder have none. So a run of another host, or of an older version
    that recorded no host, counts as dead only when its status is more than a day old. Where locks cannot be tested the
    status is believed. A run of a suite is dead if nobody holds the claim of its job, see `zoo.runs.claims`.

    :param status: what ``status.json`` says.
    """
    state = str(status["state"])
    if state != "running":
        return state
    claim = folder.read_claim()
    is_held = _first(folder).lock.is_held() if claim is None else _is_claimed(folder, claim)
    if is_held is not False:
        return state
    is_known = claim is not None or status.get("host") == HOST
    return DEAD if is_known or _age(status) > SILENT_FOR else state


def _first(folder: RunFolder) -> RunFolder:
    """Return the folder of a run's first seed, whose lock stands for all."""
    try:
        names = folder.read_config().get("folders")
    except UnreadableRun:
        names = None
    return RunFolder(folder.path.with_name(names[0])) if names else folder


def _is_claimed(folder: RunFolder, claim: Path) -> bool | None:
    """Return whether a process holds the claim of a suite's run; None if that cannot be told."""
    job = folder.path.parents[1] / HIDDEN / claim.parent.parent.name
    return Claims(job).holder() is not None if job.is_dir() else None


def _age(status: Mapping[str, Any]) -> datetime.timedelta:
    """Return how old a status is; zero if it does not say."""
    try:
        written = datetime.datetime.fromisoformat(str(status.get("updated")))
        return datetime.datetime.now(datetime.UTC) - written
    except (TypeError, ValueError):
        return datetime.timedelta(0)
