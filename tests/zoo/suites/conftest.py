"""What the tests of launchers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo.suites.tiny import Project


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose suite was trained here, undisturbed."""
    project = Project(tmp_path_factory.mktemp("reference"), data, seconds=0.0)
    with project.started("--launcher", "local", "--workers", "2") as driver:
        project.finish(driver, 400)
    return project
