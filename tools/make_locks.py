"""Write the lock files in `requirements/`: every package that `make` installs, with the hashes of its files.

``make lock`` runs it. `constraints.txt` decides the versions; the hashes come from the package index, without
downloading packages. The files hold for Python 3.11 to 3.14 on Linux on x86-64, and name no index.
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
    "build": "What builds and installs the other packages.",
    "dev": "What the project and its development need, except PyTorch.",
    "torch-cuda": "PyTorch as the package index has it, and the CUDA libraries that it needs.",
    "torch-cpu": "PyTorch's CPU build, which is smaller and not in the package index; known for Python 3.11 only.",
}
COMPILE = (
    "pip compile pyproject.toml --extra dev --universal --generate-hashes --constraint constraints.txt --no-header "
    "--no-annotate --quiet"
)
CPU_BUILD = {
    "version": "2.13.0",
    "hash": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
}
"""Of ``torch-<version>+cpu-cp311-cp311-manylinux_2_28_x86_64.whl``, which is not in the index that `uv` reads."""


def read_lock(path: Path) -> list[tuple[str, str]]:
    """Return name and version of the packages of a lock file, which states hashes of each.

    :raises ValueError: for a line of another form.
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
    """Return the locked requirements of ``.[dev]``, each as its lines."""
    command = [uv, *COMPILE.split()]
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.split(r"\n(?=\S)", text.strip())


def lock_of(name: str) -> str:
    """Return the lock file that a package belongs in."""
    if name in ("setuptools", "uv"):
        return "build"
    return "torch-cuda" if re.match(r"(torch|triton|cuda-.*|nvidia-.*)$", name) else "dev"


def cpu_build(torch: str) -> str:
    """Return the requirement of PyTorch's CPU build, given that of the other one."""
    version = torch.split()[0].partition("==")[2]
    if version != CPU_BUILD["version"]:
        raise SystemExit(
            f"`CPU_BUILD` in {Path(__file__).name} is of torch {CPU_BUILD['version']}, constraints.txt pins {version}; "
            "give it the version and the sha256 of the new wheel"
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
