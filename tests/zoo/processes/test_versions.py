"""What is recorded of the software that made a run."""

import subprocess

import pytest

from zoo.processes import versions
from zoo.processes.versions import git_commit


def commit_in(folder):
    """Make a repository with one commit; return its hash."""
    commands = (
        "git init -q && git add . && git -c user.name=A -c user.email=a@b.c commit -q --allow-empty -m first && "
        "git rev-parse HEAD"
    )
    return subprocess.check_output(commands, shell=True, cwd=folder, text=True).strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Let the zoo be installed somewhere else, without a repository."""
    module = tmp_path / "repository" / "site-packages" / "zoo" / "processes" / "versions.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(versions, "__file__", str(module))
    return module.parents[1]


def test_the_commit_is_that_of_the_zoos_own_checkout(package, monkeypatch, tmp_path):
    commit = commit_in(package.parent)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    commit_in(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))  # as in a hook of that repository
    assert git_commit() == commit
    (package / "processes" / "versions.py").write_text("changed")
    assert git_commit() == f"{commit}-dirty"


def test_the_commit_of_a_repository_around_an_installed_package_is_not_recorded(package):
    commit_in(package.parents[1])
    assert git_commit() is None
