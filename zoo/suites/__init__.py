"""Suites: many runs described in one file, trained on any machine, reported together."""

from pathlib import Path

from agents.common.validation import unknown_name_message
from zoo.terminal.errors import UsageError

SHIPPED = Path(__file__).resolve().parents[2] / "benchmarks" / "suites"


def find_suite(path: Path) -> Path:
    """Return the file of a suite, given the file's path or the name of a suite that comes with the zoo."""
    if path.exists() or path.suffix:
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.yml")}
    if path.name not in shipped:
        raise UsageError(unknown_name_message("suite", str(path), shipped))
    return shipped[path.name]
