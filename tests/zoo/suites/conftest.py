"""Fixtures for the tests of launchers."""

import pytest

from tests.zoo.suites.tiny import Project


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """Return a project whose suite was trained on this machine without disturbance."""
    project = Project(tmp_path_factory.mktemp("reference"), data, seconds=0.0)
    with project.started("--launcher", "local", "--workers", "2") as driver:
        project.finish(driver)
    return project


@pytest.fixture
def project(data, tmp_path):
    return Project(tmp_path / "project", data, seconds=0.05)
