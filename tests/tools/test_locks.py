"""The lock files say what constraints.txt and pyproject.toml say, and name no place to get packages from."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tools.make_locks import ABOUT, FOLDER, ROOT, normalised, read_lock, read_pins

LOCKS = pytest.mark.parametrize("name", sorted(ABOUT))


def requirements_of(*extras):
    """Return the project's requirements with some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    requirements = []
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:  # an extra may be made of others
            requirements += requirements_of(*requirement.extras)
        else:
            requirements.append(requirement)
    return requirements


def locked():
    return {
        package.name: package.version
        for name in ("build", "dev", "torch-cuda")
        for package in _read(name)
    }


def _read(name):
    return read_lock(FOLDER / f"{name}.lock")


@LOCKS
def test_versions_are_those_of_the_constraints(name):
    pins = read_pins(ROOT / "constraints.txt")
    assert {
        (package.name, package.version.removesuffix("+cpu")) for package in _read(name)
    } <= pins, "run `make lock`"


def test_everything_that_development_needs_is_locked():
    versions = locked()
    for requirement in requirements_of("dev"):
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), (
            f"{requirement}: run `make lock`"
        )


@LOCKS
def test_every_package_has_hashes_and_no_file_names_an_index(name):
    assert all(package.hashes for package in _read(name))
    assert not re.search(
        r"://|--(extra-)?index|--find-links|--trusted", (FOLDER / f"{name}.lock").read_text()
    )


def test_pytorch_has_one_version_in_both_builds():
    (cpu,) = _read("torch-cpu")
    assert cpu.version == f"{locked()['torch']}+cpu"
