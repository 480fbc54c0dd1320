"""Who may train a run when several processes, on several machines, could: numbered claims on shared storage.

The claims on a job lie in one folder. Claim number n is the folder ``n/`` there, made by a rename that only one process
can win. Its holder touches ``n/heartbeat``, and prepares in ``n/`` all that it writes
(`agents.common.files.prepare_in`). A claim ends as ``n.json``, which says how. A claim without heartbeat is taken over:
its folder is renamed and emptied, so that whatever its holder still writes appears nowhere, even if the holder was only
suspended; then number n + 1 is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.common.files import TakenOver, atomic_folder, atomic_path, prepare_beside, prepare_in
from zoo.messages import log

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 180.0
"""Age of the last heartbeat at which a claim may be taken over; file attributes on NFS are up to a minute old."""
HIDDEN = ".claims"
"""Folder of all claims in a log folder."""
_HEARTBEAT, _HOLDER, _TRAINER = "heartbeat", "holder.json", "trainer.json"


@dataclass(frozen=True)
class Claim:
    """A claim that this process holds, or the process that it trains in.

    :param folder: ``{log folder}/.claims/{job}/{number}``.
    """

    folder: Path

    @property
    def number(self) -> int:
        """How many claims on the job there were, this one included."""
        return int(self.folder.name)

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken over."""
        return not self.folder.is_dir()

    def beat(self) -> None:
        """Show that the holder is alive; raise TakenOver if the claim is lost."""
        try:
            os.utime(self.folder / _HEARTBEAT)
        except FileNotFoundError as error:
            raise TakenOver(f"another process has taken over {self.folder.parent.name}") from error

    def release(self, outcome: str, **more: Any) -> bool:
        """End the claim, and record how; return False if it was lost before."""
        return _end(self.folder, outcome, **more)


class Claims:
    """The claims on one job.

    :param folder: ``{log folder}/.claims/{job}``.
    :param stale_after: age of the last heartbeat, in seconds, at which a claim may be taken over.
    """

    def __init__(self, folder: Path, stale_after: float = STALE_SECONDS) -> None:
        self.folder, self.stale_after = folder, stale_after

    def take(self, owner: str, earlier: int | None = None) -> Claim | None:
        """Claim the job, or return None if another process holds it.

        :param owner: who asks.
        :param earlier: number of a claim that an earlier life of the owner has made, which is taken over at once.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self._newest()
        held = self.folder / str(number)
        if held.is_dir() and number != earlier and not self._is_stale(held):
            return None
        reason = "its owner was started again" if number == earlier else "no sign of life"
        if held.is_dir() and not _end(held, "lost", reason=reason, taken_over_by=owner):
            return None  # another process was faster
        claim = Claim(self.folder / str(number + 1))
        try:
            with atomic_folder(claim.folder) as temporary:
                (temporary / _HEARTBEAT).touch()
                holder = {"owner": owner, "begin": time.time(), **_this_process()}
                (temporary / _HOLDER).write_text(json.dumps(holder), encoding="utf-8")
        except FileExistsError:
            return None
        if any(path != claim.folder for path in self._numbered(claim.number)):
            _fence_off(claim.folder)  # the number was used while this process was slow
            return None
        return claim

    def held_by(self, owner: str) -> int | None:
        """Return the number of the claim that an owner has made and not ended, or None if there is none."""
        number = self._newest()
        return number if _read(self.folder / str(number) / _HOLDER).get("owner") == owner else None

    def holder(self) -> dict[str, Any] | None:
        """Return who holds the job, or None if nobody does."""
        held = self.folder / str(self._newest())
        return _read(held / _HOLDER) if held.is_dir() and not self._is_stale(held) else None

    def ended(self) -> list[dict[str, Any]]:
        """Return what is recorded of the claims that have ended, oldest first."""
        files = [path for path in self.folder.glob("*.json") if path.stem.isdigit()]
        return [{"number": int(path.stem), **_read(path)} for path in sorted(files, key=lambda path: int(path.stem))]

    def _newest(self) -> int:
        """Return the highest number so far, also of claims that are just being ended; 0 if there is none."""
        return max(map(_number_of, self._numbered(1)), default=0)

    def _numbered(self, least: int) -> list[Path]:
        """Return what has a number, at least that; what is only being made is hidden."""
        found = [path for path in self.folder.glob("[0-9]*") if path.name.partition(".")[0].isdigit()]
        return [path for path in found if _number_of(path) >= least]

    def _is_stale(self, held: Path) -> bool:
        """Return whether a claim shows no sign of life; ages are measured with the storage's clock."""
        processes = [_read(path) for path in (held / _HOLDER, held / _TRAINER) if path.exists()]
        if processes and all(map(_is_dead, processes)):
            return True
        probe = self.folder / f".{uuid.uuid4().hex}.now"
        probe.touch()
        try:
            age = probe.stat().st_mtime - (held / _HEARTBEAT).stat().st_mtime
        except FileNotFoundError:
            return False  # it has just ended
        finally:
            probe.unlink()
        return age > self.stale_after


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Train under a claim: show signs of life, and write nothing more once it is lost.

    If the process that made the claim ends, this one is asked to stop, as by SIGTERM, and ends the claim itself.

    :param folder: of the claim; None: without one.
    """
    if folder is None:
        yield
        return
    claim, stop = Claim(folder.resolve()), threading.Event()
    claim.beat()
    maker = _read(claim.folder / _HOLDER).get("pid")
    (claim.folder / _TRAINER).write_text(json.dumps(_this_process()), encoding="utf-8")
    prepare_in(claim.folder, root=claim.folder.parents[2])
    beats = threading.Thread(target=_beat, args=(claim, stop, maker), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield
    finally:
        stop.set()
        beats.join()
        prepare_beside()
        if os.getppid() != maker:
            claim.release("interrupted", reason="the process that started the run has ended")


def _beat(claim: Claim, stop: threading.Event, maker: int | None) -> None:
    """Show signs of life until the run has ended; end the process at once when the claim is lost."""
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
    ending = _renamed(folder)
    if ending is None:
        return False
    record = {**_read(ending / _HOLDER), "end": time.time(), "outcome": outcome, **more}
    with atomic_path(folder.with_name(f"{folder.name}.json")) as temporary:
        temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
    _remove(ending)
    return True


def _fence_off(folder: Path) -> None:
    """End a claim without a record."""
    ending = _renamed(folder)
    if ending is not None:
        _remove(ending)


def _renamed(folder: Path) -> Path | None:
    """Give a claim's folder another name, which nobody else knows; None if it has gone."""
    ending = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    try:
        os.rename(folder, ending)
    except FileNotFoundError:
        return None
    return ending


def _remove(folder: Path) -> None:
    """Remove a folder; a client of NFS that knows it by its handle may still put something into it until then."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def _number_of(path: Path) -> int:
    return int(path.name.partition(".")[0])


def _this_process() -> dict[str, Any]:
    """Return what identifies this process, among those of the same system only."""
    return {"host": socket.gethostname(), "system": _system(), "pid": os.getpid(), "started": _start_of(os.getpid())}


def _is_dead(process: Mapping[str, Any]) -> bool:
    """Return whether a process has certainly ended: it ran on this system, and is not there any more."""
    if _system() is None or process.get("system") != _system():
        return False
    return _start_of(process["pid"]) != process.get("started")


def _system() -> str | None:
    """Return what tells this system's process numbers from those of another, or None if that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip() + os.readlink(
            "/proc/self/ns/pid"
        )
    except OSError:
        return None


def _start_of(pid: int) -> str | None:
    """Return when a process started, in the system's own units; None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return None


def _read(path: Path) -> dict[str, Any]:
    """Return what a file says; nothing if it is gone or was not finished."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
