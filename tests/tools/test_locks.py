"""The lock files say what constraints.txt and pyproject.toml say, and name no place to get packages from."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.locks import FOLDER, ROOT, normalised, read_lock, read_pins
from tools.make_locks import ABOUT

LOCKS = pytest.mark.parametrize("name", sorted(ABOUT))


def wanted(*extras: str) -> list[Requirement]:
    """Return what the project needs with some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    found = [Requirement(text) for text in texts]
    own = [each for each in found if each.name == project["name"]]
    return [each for each in found if each not in own] + [
        each for parent in own for extra in parent.extras for each in wanted(extra)
    ]


def locked() -> dict[str, str]:
    return {package.name: package.version for name in ("build", "dev", "torch-cuda") for package in _read(name)}


def _read(name: str) -> list:
    return read_lock(FOLDER / f"{name}.lock")


@LOCKS
def test_versions_are_those_of_the_constraints(name: str) -> None:
    pins = read_pins(ROOT / "constraints.txt")
    assert {package.name: package.version.removesuffix("+cpu") for package in _read(name)}.items() <= pins.items(), (
        "run `make lock`"
    )


def test_everything_that_development_needs_is_locked() -> None:
    versions = locked()
    for requirement in wanted("dev"):
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), f"{requirement}: run `make lock`"


def test_everything_installed_that_something_locked_needs_is_locked() -> None:
    from importlib.metadata import PackageNotFoundError, requires

    versions = locked()
    for name in versions:
        try:
            texts = requires(name) or []
        except PackageNotFoundError:
            continue  # CUDA libraries, beside PyTorch's CPU build
        for requirement in map(Requirement, texts):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert normalised(requirement.name) in versions, f"{name} needs {requirement}: run `make lock`"


@LOCKS
def test_every_package_has_hashes_and_no_file_names_an_index(name: str) -> None:
    assert all(package.hashes for package in _read(name))
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", (FOLDER / f"{name}.lock").read_text())


def test_pytorch_has_one_version_in_both_builds() -> None:
    (cpu,) = _read("torch-cpu")
    assert cpu.version == f"{locked()['torch']}+cpu"


@pytest.mark.parametrize("line", ["numpy>=2", "numpy==2.4.6", "numpy==2.4.6 --hash=sha256:12", "-r other.txt"])
def test_a_line_that_is_no_locked_package_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.lock").write_text(f"# about\n{line}\n")
    with pytest.raises(ValueError, match=r"bad\.lock: expected `name==version"):
        read_lock(tmp_path / "bad.lock")


@pytest.mark.parametrize("uv_fails", [False, True])
def test_the_set_up_installs_with_uv_from_where_pip_looks_or_else_with_pip(tmp_path: Path, uv_fails: bool) -> None:
    calls, python, uv = tmp_path / "calls", tmp_path / "python", tmp_path / "uv"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in -c*|*"config list") exec {sys.executable} "$@";; esac\necho "$*" >> {calls}\n'
    )
    uv.write_text(f'#!/bin/sh\necho "uv $UV_DEFAULT_INDEX|$UV_FIND_LINKS|$*" >> {calls}\nexit {int(uv_fails)}\n')
    for program in (python, uv):
        program.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": "a b", "PIP_INDEX_URL": "https://index", "TORCH": "cpu"}
    subprocess.run([ROOT / "tools" / "install_locked.sh", python], env=environment, check=True)
    build, *locked, own, check = calls.read_text().splitlines()
    assert build.endswith("-r requirements/build.lock")
    programs = ("uv https://index", "-m pip") if uv_fails else ("uv https://index",)
    expected = [(program, name) for name in ("torch-cpu", "dev") for program in programs]
    for (program, name), call in zip(expected, locked, strict=True):
        assert call.startswith(program)
        assert ("a,b," in call) == program.startswith("uv")
        assert "install --quiet --require-hashes --no-deps" in call
        assert f"-r requirements/{name}.lock" in call
    assert own.endswith("--no-index -e .")
    assert "-m pip check " in check
