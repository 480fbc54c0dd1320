"""Errors about the user's input, and the files of a run folder."""

import json
from pathlib import Path

import pytest
import yaml

from zoo.terminal.errors import UsageError


def refuses(text):
    """Expect the block to raise a UsageError with a message that matches a pattern."""
    return pytest.raises(UsageError, match=text)


def status_of(folder):
    return json.loads(Path(folder, "status.json").read_text())


def change_status(folder, **entries):
    Path(folder, "status.json").write_text(json.dumps(status_of(folder) | entries))


def config_of(folder):
    return yaml.safe_load(Path(folder, "config.yml").read_text())
