"""Cut libraries in the compiler's cache, as a process leaves them that is killed while it compiles.

PyTorch's compiler takes a library that is there for a whole one. Loading a cut one fails, or ends the process.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

ELF_HEADER = struct.Struct("<40xQ10xHH2x")
"""Of 64-bit systems with little-endian numbers: where the table of sections begins, their size and their number."""


def remove_cut_libraries() -> None:
    """Remove each library that is cut, so that it is compiled again, and warn of it."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # seconds, which only compiling is worth

    folder = Path(cache_dir())
    (folder / "locks").mkdir(exist_ok=True)
    for path in filter(is_cut, folder.glob("*/*.so")):
        try:
            with FileLock(folder / "locks" / f"{path.name.partition('.')[0]}.lock", timeout=0):
                if not is_cut(path):
                    continue
                path.unlink()
        except Timeout:  # another process is compiling it
            continue
        warnings.warn(f"{path} was cut, as by a kill during compilation, and is compiled again", stacklevel=2)


def is_cut(path: Path) -> bool:
    """Return whether a library has lost its end, where its table of sections is; False where that cannot be told.

    :param path: the library.
    :return: the answer.
    """
    if not path.exists():
        return False
    with path.open("rb") as file:
        header = file.read(ELF_HEADER.size)
    if len(header) < ELF_HEADER.size:
        return True
    begin, size, count = ELF_HEADER.unpack(header)
    return header.startswith(b"\x7fELF\x02\x01") and path.stat().st_size < begin + size * count
