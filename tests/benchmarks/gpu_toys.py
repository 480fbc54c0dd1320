"""Parts of a check that hold, hang and die; other processes import them quickly."""

from __future__ import annotations

import os
import time
from typing import Any


def hold(options: Any) -> dict[str, Any]:
    return {"detail": f"process {os.getpid()}", "process": os.getpid()}


def hang(options: Any) -> dict[str, Any]:
    time.sleep(60)
    return {"detail": "too late"}


def die(options: Any) -> dict[str, Any]:
    os._exit(5)
