"""The checksums of a folder's files, in one file that is written last and compared before anything is read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from agents.common.files import DamagedFile, open_file, read_text

NAME = "manifest.json"


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    :param path: the file.
    :return: 64 hexadecimal digits.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, **more: Any) -> None:
    """Write the checksum of every file of a folder.

    :param folder: with files only, which do not change any more.
    :param more: plain values to keep beside the checksums.
    """
    files = {path.name: digest_of(path) for path in sorted(folder.iterdir())}
    (folder / NAME).write_text(json.dumps({**more, "files": files}, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what :func:`write_manifest` wrote, without looking at the files.

    :param folder: the folder.
    :return: the values, with ``files``.
    :raises DamagedFile: if there is no manifest, or it is damaged itself.
    """
    path = folder / NAME
    try:
        found = json.loads(read_text(path))
        return {**found, "files": dict(found["files"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(str(path), f"it holds no checksums ({error!r})") from error


def verify(folder: Path) -> None:
    """Compare the files of a folder with their checksums.

    :param folder: the folder.
    :raises DamagedFile: if one is missing or differs; the message names it.
    """
    for name, digest in read_manifest(folder)["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedFile(str(path), "it is missing")
        if digest_of(path) != digest:
            raise DamagedFile(str(path), "its SHA-256 is not that of what was written")
