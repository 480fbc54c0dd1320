"""How fast updates are, and what they spend their time in: `benchmarks/throughput.py` for one setting after the other.

Compiling takes about a minute a setting. Other processes do it beside the checks of correctness, and leave what they
compiled in the compiler's cache.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import throughput
from benchmarks.gpu_parts.part import Found, Options, Part
from zoo.processes.serving import available_cores

SECONDS = 5.0
SMALL_SECONDS = 0.05
CORES_PER_COMPILER = 4


@dataclass(frozen=True)
class Setting:
    """What is trained.

    :param algo: algorithm id.
    :param seeds: S, trained at once.
    :param precision: of the matrix products.
    """

    algo: str
    seeds: int
    precision: str

    @property
    def name(self) -> str:
        """Name of the part."""
        return f"speed {self.algo} x{self.seeds} {self.precision}"

    def words(self, options: Options, seconds: float = SECONDS) -> list[str]:
        """Return the command line of the throughput benchmark.

        :param options: of the check.
        :param seconds: how long to measure.
        """
        words = ["--algo", self.algo, "--seeds", str(self.seeds), "--precision", self.precision]
        words += ["--device", options.device, "--seconds", str(SMALL_SECONDS if options.small else seconds)]
        if options.small:
            words += ["--observations", "4", "--actions", "2", "--batch", "16"]
            words += ["-params", "net_arch=[16,16]", "flow_steps=2", "ensemble_size=2"]
        return words


SETTINGS = (
    *(Setting("qam", seeds, precision) for seeds in (1, 12) for precision in ("tf32", "bf16")),
    *(Setting("qam", seeds, precision) for seeds in (4, 24) for precision in ("tf32", "bf16")),
    *(Setting(algo, seeds, "tf32") for seeds in (1, 12) for algo in ("fql", "fawac", "qam_e", "sqam")),
)
"""The most wanted first."""
SMALL_SETTINGS = (Setting("qam", 1, "tf32"), Setting("fql", 2, "bf16"))


def speed_parts(options: Options) -> list[Part]:
    """Return the parts in the order in which they are run.

    :param options: of the check.
    """
    return [
        Part(
            setting.name,
            "updates a second",
            functools.partial(measure_speed, setting),
            seconds=240,
            seconds_warm=75,
            warm_up=() if options.small else tuple(warm_up_command(setting, options)),
        )
        for setting in (SMALL_SETTINGS if options.small else SETTINGS)
    ]


def measure_speed(setting: Setting, options: Options) -> Found:
    """Measure one setting.

    :param setting: what is trained.
    :param options: of the check.
    """
    gc.collect()  # models are part of cycles, and take gigabytes
    torch.compiler.reset()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    row = throughput.measure(throughput.make_parser().parse_args(setting.words(options)))
    peak = row["peak_memory_bytes"]
    memory = "" if peak is None else f", {row['kernels_per_update']:,} kernels, {peak / 2**30:.1f} GiB"
    text = (
        f"{row['updates_per_s']:,.0f} updates/s, {row['seed_updates_per_s']:,.0f} of all seeds{memory}; {row['mode']}"
    )
    return {"state": "measured", "detail": text, "speed": row}


def warm_up_command(setting: Setting, options: Options) -> list[str]:
    """Return the command that compiles a setting and measures nothing.

    :param setting: what is trained.
    :param options: of the check.
    """
    return [sys.executable, str(Path(throughput.__file__).resolve()), *setting.words(options, seconds=0.5)]


class WarmUps:
    """Commands that run beside the parts that do not measure time, a few at once.

    :param parts: whose commands to run, in their order.
    :param most: how many at once; None: by the number of cores.
    """

    def __init__(self, parts: Iterable[Part], most: int | None = None) -> None:
        self._left = [part for part in parts if part.warm_up]
        self._most = max(1, available_cores() // CORES_PER_COMPILER) if most is None else most
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.done: set[str] = set()
        """Names of the parts whose command has ended well."""

    def __enter__(self) -> WarmUps:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def look(self) -> None:
        """Note which commands have ended, and start others in their place."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                self.done |= {name} if process.returncode == 0 else set()
        while self._left and len(self._running) < self._most:
            part = self._left.pop(0)
            self._running[part.name] = _start(part.warm_up)

    def wait(self, until: float) -> None:
        """Wait until all have ended, or it is too late; end those that run then, and start no others.

        :param until: a time of `time.monotonic`.
        """
        self.look()
        while (self._running or self._left) and time.monotonic() < until:
            time.sleep(0.1)
            self.look()
        self.stop()

    def stop(self) -> None:
        """End what runs, and start no others."""
        self._left.clear()
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the compiler has processes of its own
            process.wait()
        self._running.clear()


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    threads = {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": str(CORES_PER_COMPILER - 1)}
    return subprocess.Popen(
        command,
        env={**os.environ, **threads},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
