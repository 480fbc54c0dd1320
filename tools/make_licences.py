"""Write requirements/licences.csv: the licence of every locked package, from its metadata.

``make lock`` runs it after the lock files are made. pip downloads the metadata without installing anything.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tools.make_locks import FOLDER, read_lock

TABLE = FOLDER / "licences.csv"


def parts_of(expression: str) -> set[str]:
    """Return the licences of an expression."""
    return {part.strip(" ()") for part in re.split(r" (?:AND|OR|and|or) ", expression)}


ALLOWED = parts_of(
    "0BSD OR Apache-2.0 OR Apache-2.0 WITH LLVM-exception OR BSD-2-Clause OR BSD-3-Clause OR BSL-1.0 OR CC0-1.0 OR "
    "CNRI-Python OR HPND OR ISC OR MIT OR MIT-0 OR MIT-CMU OR MPL-2.0 OR NCSA OR PSF-2.0 OR Python-2.0 OR Unlicense OR "
    "Zlib OR NVIDIA"
)
"""Licences under which a package may be used here: permissive ones, MPL-2.0, whose terms stay with its own files, and
NVIDIA's for the CUDA libraries, which PyTorch's build for GPUs needs.
"""
SPELLINGS = {
    "Apache-2.0": (
        "apache; apache 2.0; apache license 2.0; apache software license; apache license, version 2.0; "
        "apache license version 2.0; apache-2"
    ),
    "BSD-2-Clause": "2-clause bsd",
    "BSD-3-Clause": "bsd; bsd license; bsd 3-clause; bsd 3-clause license; 3-clause bsd license; bsd-3; new bsd",
    "ISC": "isc license (iscl)",
    "MIT": "mit license; the mit license",
    "MPL-2.0": "mozilla public license 2.0 (mpl 2.0)",
    "NCSA": "university of illinois/ncsa open source license",
    "NVIDIA": (
        "nvidia proprietary software; licenseref-nvidia-proprietary; licenseref-nvidia-software-license; "
        "other/proprietary license"
    ),
    "PSF-2.0": "python software foundation license; psf",
    "Zlib": "zlib/libpng",
}
"""Licences -> how metadata spell them in lower case."""
LICENCES = {
    spelling: licence for licence, texts in SPELLINGS.items() for spelling in texts.split("; ")
}
STATED_ELSEWHERE = {"cuda-toolkit": "NVIDIA"}
"""Packages whose metadata state no licence -> the one in their files, or of the libraries that they stand for."""
INSTALL = (
    "-m pip --disable-pip-version-check install --quiet --dry-run --ignore-installed --no-deps "
    "--use-feature=fast-deps --report -"
)
RUN_ONLY = {"codespell": "GPL-2.0-only"}
"""Tools that are run and never imported: their licences do not reach what they are run on."""


def read_metadata(lock: Path, python: str) -> list[Mapping[str, Any]]:
    """Return the metadata of the packages of a lock file; older pips than 25 do not read every licence."""
    # Without hashes, pip downloads metadata alone where it can, instead of whole packages. Where several Pythons have
    # a version of a package each, the last one is the newest.
    requirements = {name: f"{name}=={version}" for name, version in read_lock(lock)}
    text = subprocess.run(
        [python, *INSTALL.split(), *requirements.values()],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return [package["metadata"] for package in json.loads(text)["install"]]


def licence_of(metadata: Mapping[str, Any]) -> str:
    """Return a package's licence from its metadata or classifiers, as an SPDX expression where we know its spelling."""
    stated = [metadata.get("license_expression"), _first_line(metadata.get("license"))]
    stated += [
        text.rpartition(" :: ")[2]
        for text in metadata.get("classifier", ())
        if text.startswith("License :: ")
    ]
    texts = [
        text for text in stated if text and text not in ("OSI Approved", "UNKNOWN", "Dual License")
    ]
    licences = [LICENCES.get(text.lower(), text) for text in texts]
    allowed = [licence for licence in licences if parts_of(licence) <= ALLOWED]
    return (
        STATED_ELSEWHERE.get(canonicalize_name(metadata["name"]))
        or (allowed or licences or ["not stated"])[0]
    )


def _first_line(text: str | None) -> str | None:
    return text.strip().splitlines()[0] if text and text.strip() else None


def rows(packages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the rows of the table, one a package, sorted by name."""
    licences = {}
    for metadata in packages:
        version = metadata["version"].partition("+")[0]  # `+cpu` is a build of the same version
        licences[canonicalize_name(metadata["name"])] = f"{version},{licence_of(metadata)}"
    return [f"{name},{text}" for name, text in sorted(licences.items())]


if __name__ == "__main__":
    locks = [FOLDER / f"{name}.lock" for name in ("build", "dev", "torch-cuda")]
    packages = rows(package for lock in locks for package in read_metadata(lock, sys.argv[1]))
    TABLE.write_text("\n".join(["package,version,licence", *packages]) + "\n", encoding="utf-8")
