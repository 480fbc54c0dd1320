"""The container recipe, as far as it can be checked without a container engine."""

import re
import subprocess

from tools.make_locks import ROOT


def instructions():
    """Return the recipe's instructions and what they are given."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def copied():
    """Return what is copied into the image."""
    words = [given.split() for name, given in instructions() if name == "COPY"]
    return [word.rstrip("/") for each in words for word in each[:-1] if not word.startswith("--")]


def test_everything_that_is_copied_is_in_the_repository_and_not_ignored():
    files = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in copied():
        assert any(file == source or file.startswith(f"{source}/") for file in files), source
    assert set(copied()) == kept


def test_packages_are_installed_from_the_lock_files():
    runs = [given for name, given in instructions() if name == "RUN"]
    assert any("tools/install_locked.sh .venv/bin/python --packages-only" in given for given in runs)
    for given in runs:
        for command in re.findall(r"pip install .*", given):
            assert "--no-deps" in command
            assert "--no-index" in command
