"""Parts of a check that hold, differ, fail, hang and die; other processes import them quickly."""

from __future__ import annotations

import os
import time
from typing import Any

from agents.testing.subject import NotApplicable, Violation


def hold(options: Any) -> dict[str, Any]:
    return {"detail": f"process {os.getpid()}", "process": os.getpid()}


def differ(options: Any) -> dict[str, Any]:
    raise Violation("`x` differs by 1")


def fail(options: Any) -> dict[str, Any]:
    raise RuntimeError("an illegal memory access")


def leave_out(options: Any) -> dict[str, Any]:
    raise NotApplicable("there is nothing to try")


def hang(options: Any) -> dict[str, Any]:
    time.sleep(60)
    return {"detail": "too late"}


def die(options: Any) -> dict[str, Any]:
    os._exit(5)
