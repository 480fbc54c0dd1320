"""Tries faults, several at once, each in a folder of its own."""

from __future__ import annotations

import shutil
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_suite.kind import Kind
from benchmarks.fault_suite.lab import Broken, Lab, Skipped, Stock
from benchmarks.fault_suite.programs import Programs
from zoo.datasets.generate.ogbench import generate_dataset


@dataclass(frozen=True)
class Outcome:
    """What came of one try.

    :param lost: what was not as promised, or None.
    :param skipped: why it was not tried, or None.
    """

    kind: Kind
    seed: int
    seconds: float
    lost: str | None = None
    skipped: str | None = None

    @property
    def command(self) -> str:
        """How to repeat it."""
        return f"python benchmarks/faults.py --only {self.kind.id} --seed {self.seed}"


def try_all(tries: Sequence[tuple[Kind, int]], folder: Path, jobs: int) -> list[Outcome]:
    """Try faults and return what came of each, in their order; say at once which are lost.

    :param folder: where to work; what the lost ones left stays there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stock = Stock(folder / "stock", stored_data(folder / "data"))
    threads = threading.local()
    servers: list[Programs] = []
    counter = _Counter(len(tries))

    def attempt(kind: Kind, seed: int) -> Outcome:
        if not hasattr(threads, "programs"):
            threads.programs = Programs()
            servers.append(threads.programs)
        outcome = try_once(kind, seed, threads.programs, stock, folder / f"{kind.id}-{seed}")
        counter.tell(outcome)
        return outcome

    pool = ThreadPoolExecutor(jobs)
    try:
        return list(pool.map(attempt, *zip(*tries, strict=True)))
    finally:
        pool.shutdown(cancel_futures=True)  # those that have begun end first
        for programs in servers:
            programs.__exit__()


def try_once(kind: Kind, seed: int, programs: Programs, stock: Stock, folder: Path) -> Outcome:
    """Try a fault once; its folder stays if it is lost."""
    folder.mkdir()
    begin = time.monotonic()
    lost = skipped = None
    try:
        kind.check(Lab(programs, stock, folder, seed))
    except Skipped as reason:
        skipped = str(reason)
    except Broken as problem:
        lost = str(problem)
    except Exception:  # the others are to be tried all the same, and this one is not as promised
        lost = traceback.format_exc()
    if lost is None:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(kind, seed, time.monotonic() - begin, lost, skipped)


def stored_data(folder: Path) -> Path:
    """Return a folder with a small dataset, generated if it is not there."""
    if not folder.exists():
        folder.mkdir(parents=True)
        generate_dataset("pointmaze-medium-navigate-v0", folder, num_episodes=2, num_workers=1)
    return folder


class _Counter:
    """Says how far the suite is, and what is lost."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._guard = total, 0, threading.Lock()

    def tell(self, outcome: Outcome) -> None:
        """Count a try, and say if it is lost."""
        with self._guard:
            self._done += 1
            text = "lost" if outcome.lost else "skipped" if outcome.skipped else "as promised"
            print(
                f"[{self._done}/{self._total}] {outcome.kind.id} {outcome.seed}: {text} ({outcome.seconds:.1f} s)",
                file=sys.stderr,
            )
            if outcome.lost:
                print(f"  {outcome.lost}\n  repeat: {outcome.command} --folder FOLDER", file=sys.stderr)
