"""What a folder's files must be, byte for byte: their sizes and SHA-256 sums, written when all of them are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents.common.files import DamagedFile, open_file

NAME = "manifest.json"


class DamagedFolderError(ValueError):
    """A file of a folder is missing or is not what was written."""


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file.

    :param path: the file.
    :return: 64 hexadecimal digits.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, **more: Any) -> None:
    """Write down what the files of a folder are now.

    :param folder: with files only, none of which changes any more.
    :param more: plain values to keep beside the sums.
    """
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in sorted(folder.iterdir())}
    (folder / NAME).write_text(seal({**more, "files": files}), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what :func:`write_manifest` kept, without looking at the files.

    :param folder: the folder.
    :return: the values, with ``files``.
    :raises DamagedFolderError: if there is no manifest, or it is damaged itself.
    :raises OSError: if it cannot be read just now.
    """
    path = folder / NAME
    try:
        with open_file(path) as file:
            return unseal(file.read(), path)
    except (FileNotFoundError, DamagedFile) as error:
        raise DamagedFolderError(f"{path} cannot be read ({error})") from error


def verify(folder: Path, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Compare files with the manifest of their folder.

    :param folder: the folder.
    :param names: the files to compare; None for all.
    :return: the manifest.
    :raises DamagedFolderError: if one is missing or differs; the message names it.
    """
    manifest = read_manifest(folder)
    for name, wanted in manifest["files"].items():
        if names is not None and name not in names:
            continue
        path = folder / name
        if not path.is_file():
            raise DamagedFolderError(f"{path} is missing")
        size = path.stat().st_size
        if size != wanted["bytes"]:
            raise DamagedFolderError(f"{path} is damaged: it has {size:,} bytes, {wanted['bytes']:,} were written")
        if digest_of(path) != wanted["sha256"]:
            raise DamagedFolderError(f"{path} is damaged: its SHA-256 is not that of what was written")
    return manifest


def seal(values: dict[str, Any]) -> str:
    """Return values as JSON that holds its own sum.

    :param values: plain values.
    :return: the text.
    """
    return json.dumps({**values, "sha256": _sum(values)}, indent=1) + "\n"


def unseal(content: bytes, path: Path) -> dict[str, Any]:
    """Return what :func:`seal` was given.

    :param content: the text.
    :param path: of its file, for messages.
    :return: the values.
    :raises DamagedFolderError: if it is another text.
    """
    try:
        values = json.loads(content)
        claimed = values.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedFolderError(f"{path} is damaged: it is not what was written") from error
    if claimed != _sum(values):
        raise DamagedFolderError(f"{path} is damaged: it is not what was written")
    return dict(values)


def _sum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
