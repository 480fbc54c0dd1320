"""Write the lock files in `requirements/`: every package that `make` installs, with the hashes of its files.

``make lock`` runs this script. `constraints.txt` sets the versions; the hashes come from the package index, without
downloading packages. The lock files are for Python 3.11 to 3.14 on x86-64 Linux, and do not name an index.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
ABOUT = {
    "build": "Packages that build and install the other packages.",
    "dev": "Dependencies of the project and of its development, except PyTorch.",
    "torch-cuda": "PyTorch from the package index, and the CUDA libraries that it needs.",
    "torch-cpu": "PyTorch's CPU build, which is smaller and not in the package index; for Python 3.11 only.",
}
COMPILE = (
    "pip compile pyproject.toml --extra dev --universal --generate-hashes --constraint constraints.txt --no-header "
    "--no-annotate --quiet"
)
CPU_BUILD = {
    "version": "2.13.0",
    "hash": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
}
"""Version and SHA-256 of ``torch-<version>+cpu-cp311-cp311-manylinux_2_28_x86_64.whl``, which is not in uv's index."""


def read_lock(path: Path) -> list[tuple[str, str]]:
    """Return the name and version of each package in a lock file, in which every package must have hashes.

    :raises ValueError: for a malformed line.
    """
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    packages: list[tuple[str, str]] = []
    for block in text.replace("\\\n", " ").splitlines():
        match = re.fullmatch(
            r"([A-Za-z0-9._-]+)==(\S+)(?: ; [^-]+)?(?: +--hash=sha256:[0-9a-f]{64})+", block
        )
        if match is None:
            raise ValueError(
                f"{path.name}: expected `name==version --hash=sha256:...`, got {block[:80]!r}"
            )
        packages.append((canonicalize_name(match[1]), match[2]))
    return packages


def compile_all(uv: str) -> list[str]:
    """Return the locked requirements of ``.[dev]``, each as a text of several lines."""
    command = [uv, *COMPILE.split()]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.split(r"\n(?=\S)", text.strip())


def lock_of(name: str) -> str:
    """Return the name of the lock file for a package."""
    if name in ("setuptools", "uv"):
        return "build"
    return "torch-cuda" if re.match(r"(torch|triton|cuda-.*|nvidia-.*)$", name) else "dev"


def cpu_build(torch: str) -> str:
    """Return the requirement of PyTorch's CPU build, given the requirement of the CUDA build."""
    version = torch.split()[0].partition("==")[2]
    if version != CPU_BUILD["version"]:
        raise SystemExit(
            f"`CPU_BUILD` in {Path(__file__).name} is torch {CPU_BUILD['version']}, constraints.txt pins {version}; "
            "enter the version and the SHA-256 of the new wheel"
        )
    return f"torch=={version}+cpu \\\n    --hash=sha256:{CPU_BUILD['hash']}"


def main(uv: str) -> None:
    """Write the lock files."""
    requirements: dict[str, list[str]] = {name: [] for name in ABOUT}
    for block in compile_all(uv):
        name = block.partition("==")[0]
        requirements[lock_of(name)].append(block)
        if name == "torch":
            requirements["torch-cpu"].append(cpu_build(block))
    FOLDER.mkdir(exist_ok=True)
    for name, blocks in requirements.items():
        head = f"# {ABOUT[name]}\n# Written by `make lock` from constraints.txt; do not edit.\n"
        (FOLDER / f"{name}.lock").write_text(head + "\n".join(blocks) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
