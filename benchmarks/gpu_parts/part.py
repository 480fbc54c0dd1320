"""A part of the check, and the process that runs the parts one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.testing.subject import NotApplicable, Violation
from zoo.processes.serving import ServingProcess, WorkerError

Found = dict[str, Any]
"""What a part found: ``detail`` is a sentence for the table, ``state`` is given if it is not ``holds``, and the rest is
kept as numbers.
"""


@dataclass(frozen=True)
class Options:
    """What all parts are told.

    :param device: where models are.
    :param small: whether sizes are tiny, so that the logic can be tried on a CPU.
    """

    device: str
    small: bool


@dataclass(frozen=True)
class Part:
    """Something to check or to measure.

    :param name: unique.
    :param promise: what must hold, or what is measured.
    :param run: a function of a module, or a partial of one.
    :param seconds: how long it may take, and, without a warm-up, how much time must be left for it to begin.
    :param needs_cuda: whether it has no meaning on a CPU.
    :param spoils: whether its process is not used again.
    :param warm_up: a command that does beforehand, beside other parts, what takes long; the part waits for its end.
    :param seconds_warm: how much time must be left then.
    """

    name: str
    promise: str
    run: Callable[[Options], Found]
    seconds: float
    needs_cuda: bool = False
    spoils: bool = False
    warm_up: tuple[str, ...] = ()
    seconds_warm: float = 0.0


class OutOfTime(Exception):
    """A part was ended because it took too long."""


class Runner:
    """Runs parts in another process, so that one that hangs or spoils the device harms no other.

    :param options: for all parts.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.check_in: Callable[[], None] = lambda: None
        """Called again and again while a part runs."""
        self._process: ServingProcess | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, part: Part, seconds: float) -> dict[str, Any]:
        """Run a part and return its ``state``, ``detail`` and ``seconds``, with the numbers it found.

        The state is ``holds``, ``measured``, ``differs``, ``failed`` (it could not be tried to the end) or ``skipped``.

        :param part: the part.
        :param seconds: how long it may take; its process is killed then.
        :raises OutOfTime: if that was not enough.
        """
        if part.needs_cuda and not self.options.device.startswith("cuda"):
            return {"state": "skipped", "detail": "needs CUDA", "seconds": 0.0}
        begin = time.monotonic()

        def look() -> None:
            if time.monotonic() - begin > seconds:
                raise OutOfTime
            self.check_in()

        try:
            outcome = self._ask(part, look)
        except WorkerError as error:
            outcome = {"state": "failed", "detail": str(error)}
        except BaseException:
            self.close(at_once=True)
            raise
        if part.spoils or outcome["state"] in ("differs", "failed"):
            self.close(at_once=True)
        return {**outcome, "seconds": round(time.monotonic() - begin, 1)}

    def _ask(self, part: Part, look: Callable[[], None]) -> dict[str, Any]:
        if self._process is None:
            self._process = ServingProcess(
                Worker, "run", what="checking", name=self.options.device, preload=["torch"], has_children=True,
                imports_main=False,
            )  # fmt: skip
            self._process.receive(look)
        self._process.send(part, self.options)
        return self._process.receive(look)

    def close(self, at_once: bool = False) -> None:
        """End the process.

        :param at_once: even in the middle of its work.
        """
        process, self._process = self._process, None
        if process is not None:
            if at_once:
                process.kill()
            process.close()


class Worker:
    """What the process holds."""

    def run(self, part: Part, options: Options) -> dict[str, Any]:
        """Run a part; whatever it raises is its outcome.

        :param part: the part.
        :param options: its options.
        :return: ``state`` and ``detail``, with the numbers that were found.
        """
        return outcome_of(part, options)

    def close(self) -> None:
        """Do nothing: the process ends."""


def outcome_of(part: Part, options: Options) -> dict[str, Any]:
    """Run a part in this process; whatever it raises is its outcome.

    :param part: the part.
    :param options: its options.
    :return: ``state`` and ``detail``, with the numbers that were found.
    """
    try:
        return {"state": "holds", **part.run(options)}
    except NotApplicable as reason:
        return {"state": "skipped", "detail": str(reason)}
    except Violation as error:
        return {"state": "differs", "detail": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"state": "failed", "detail": f"{type(error).__name__}: {error}"}
