"""The lock files agree with constraints.txt and pyproject.toml, and do not name a package index."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.make_locks import ABOUT, FOLDER, ROOT, read_lock

LOCKS = pytest.mark.parametrize("name", sorted(ABOUT))


def requirements_of(*extras):
    """Return the project's requirements with some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = list(project["dependencies"])
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    requirements = []
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:  # an extra may consist of other extras
            requirements += requirements_of(*requirement.extras)
        else:
            requirements.append(requirement)
    return requirements


def read(name):
    return read_lock(FOLDER / f"{name}.lock")


@LOCKS
def test_versions_are_those_of_the_constraints(name):
    build = "+cpu" if name == "torch-cpu" else ""
    pins = set()
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line.partition("#")[0])
            version = str(pin.specifier).removeprefix("==")
            pins.add((canonicalize_name(pin.name), version + build))
    assert {*read(name)} <= pins, "run `make lock`"


def test_everything_that_development_needs_is_locked():
    versions = dict([*read("build"), *read("dev"), *read("torch-cuda")])
    for requirement in requirements_of("dev"):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), (
            f"{requirement}: run `make lock`"
        )


@LOCKS
def test_no_file_names_an_index(name):
    text = (FOLDER / f"{name}.lock").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", text)
