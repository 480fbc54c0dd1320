"""The lock files say what constraints.txt and pyproject.toml say, and name no place to get packages from."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tools.make_locks import ABOUT, FOLDER, ROOT, normalised, read_lock, read_pins

LOCKS = pytest.mark.parametrize("name", sorted(ABOUT))


def wanted(*extras):
    """Return what the project needs with some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    found = [Requirement(text) for text in texts]
    own = [each for each in found if each.name == project["name"]]
    return [each for each in found if each not in own] + [
        each for parent in own for extra in parent.extras for each in wanted(extra)
    ]


def locked():
    return {package.name: package.version for name in ("build", "dev", "torch-cuda") for package in _read(name)}


def _read(name):
    return read_lock(FOLDER / f"{name}.lock")


@LOCKS
def test_versions_are_those_of_the_constraints(name):
    pins = read_pins(ROOT / "constraints.txt")
    assert {(package.name, package.version.removesuffix("+cpu")) for package in _read(name)} <= pins, "run `make lock`"


def test_everything_that_development_needs_is_locked():
    versions = locked()
    for requirement in wanted("dev"):
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), f"{requirement}: run `make lock`"


@LOCKS
def test_every_package_has_hashes_and_no_file_names_an_index(name):
    assert all(package.hashes for package in _read(name))
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", (FOLDER / f"{name}.lock").read_text())


def test_pytorch_has_one_version_in_both_builds():
    (cpu,) = _read("torch-cpu")
    assert cpu.version == f"{locked()['torch']}+cpu"
