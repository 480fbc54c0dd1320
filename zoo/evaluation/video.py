"""Write frames to an MP4 or GIF video."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

from agents.common.files import WriteError, atomic_path
from zoo.algorithms.packages import import_optional
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import check_output

SPEEDS = {".mp4": 30, ".gif": 20}
"""File extension -> frames per second."""
STEPS_BETWEEN = {".mp4": 1, ".gif": 2}
"""File extension -> environment steps per frame; GIFs skip frames, because they are larger and slower to write."""


def check_video(path: Path) -> None:
    """Check that a video can be written.

    :raises UsageError: if the extension is unknown, ffmpeg's package is missing, or the folder is not writable.
    """
    if path.suffix not in SPEEDS:
        raise UsageError(f"`--video` must end in {' or '.join(SPEEDS)}, got {path}")
    check_output("--video", path)
    if path.suffix == ".mp4":
        gif = f", or record a GIF: {path.with_suffix('.gif')}"
        import_optional("imageio_ffmpeg", "imageio-ffmpeg", "an MP4", "imageio-ffmpeg", gif)


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[Callable[[Any], None]]:
    """Yield a function that adds a frame, shape (height, width, 3); the file is written atomically."""
    speed = SPEEDS[path.suffix]
    # MP4 needs an even height and width, and old players need this pixel format
    options = {"fps": speed, "macro_block_size": 2, "pixelformat": "yuv420p"}
    if path.suffix == ".gif":
        options = {"duration": 1000 / speed, "loop": 0}
    with atomic_path(path) as temporary:
        # write a GIF to memory, because a writer that failed on a full disk would fail again when it is deleted
        target = io.BytesIO() if path.suffix == ".gif" else temporary
        writer = imageio.get_writer(target, path.suffix, "I", **options)

        def add(frame: Any) -> None:
            if np.ndim(frame) != 3:
                raise UsageError(
                    "`render` must return an image of shape (height, width, 3), got "
                    f"{type(frame).__name__}; correct it, or omit --video"
                )
            with _explaining_ffmpeg(path):
                writer.append_data(frame)

        with writer:
            yield add
        if isinstance(target, io.BytesIO):
            temporary.write_bytes(target.getvalue())
        else:
            # read the file, because ffmpeg does not report failures at the end of writing
            with _explaining_ffmpeg(path):
                imageio.get_reader(temporary).close()


@contextlib.contextmanager
def _explaining_ffmpeg(path: Path) -> Iterator[None]:
    """Convert errors of ffmpeg to a WriteError; ffmpeg itself prints the cause."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} could not be written: ffmpeg does not start, or failed with the error above"
        ) from error
