"""The progress bar of what takes long."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(what: str, *, total: int | None, done: int = 0, **options: Any) -> tqdm:
    """Return a progress bar on standard error; without a terminal it prints a line once a minute.

    :param options: of ``tqdm``, e.g. ``unit``.
    """
    interval = 0.1 if sys.stderr.isatty() else 60.0
    return tqdm(desc=what, total=total, initial=done, mininterval=interval, maxinterval=max(10.0, interval), **options)
