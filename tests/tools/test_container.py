"""Tests of the container recipe that need no container engine."""

import re
import subprocess

from tools.make_locks import ROOT


def instructions():
    """Return the recipe's instructions with their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def copied():
    """Return the files and folders that are copied into the image."""
    text = " ".join(
        arguments.rpartition(" ")[0] for name, arguments in instructions() if name == "COPY"
    )
    return {word.rstrip("/") for word in text.split() if not word.startswith("--")}


def test_everything_that_is_copied_is_in_the_repository():
    for source in copied():
        listed = subprocess.check_output(["git", "ls-files", source], cwd=ROOT, text=True)
        assert listed, source
    ignored = (ROOT / ".dockerignore").read_text()
    assert copied() == set(re.findall(r"^!(.*)", ignored, flags=re.MULTILINE))
