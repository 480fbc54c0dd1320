"""The container recipe, as far as it can be checked without a container engine."""

import re
import subprocess

from tools.make_locks import ROOT


def instructions():
    """Return the recipe's instructions and their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def copied():
    """Return the files and folders that are copied into the image."""
    sources = []
    for name, arguments in instructions():
        if name == "COPY":
            sources += [
                word.rstrip("/") for word in arguments.split()[:-1] if not word.startswith("--")
            ]
    return sources


def test_everything_that_is_copied_is_in_the_repository_and_not_ignored():
    files = set(
        subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for source in copied():
        assert any(file == source or file.startswith(f"{source}/") for file in files), source
    assert set(copied()) == allowed


def test_packages_are_installed_from_the_lock_files():
    runs = [arguments for name, arguments in instructions() if name == "RUN"]
    assert any(
        "tools/install_locked.sh .venv/bin/python --packages-only" in arguments
        for arguments in runs
    )
    for arguments in runs:
        for command in re.findall(r"pip install .*", arguments):
            assert "--no-deps" in command
            assert "--no-index" in command
