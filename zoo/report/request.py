"""What a comparison is asked for, by a command line, a suite or a page of the documentation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.common.validation import number
from zoo.terminal.errors import UsageError, as_usage_error


@dataclass(frozen=True)
class CompareRequest:
    """What to compare, how, and what to make of it; ``zoo compare --help`` explains each by its flag.

    :param paths: folders to search for run folders.
    :param published: names of sets of published scores.
    :param scores: ``scores.csv`` of other reports.
    :param methods: names of the only methods, and `envs` patterns of the only environments, to compare.
    :param failed: what failed runs count for.
    :param strict: whether to refuse runs that do not count.
    :param suite_focus: the method that a suite's file puts into focus, which may have no run yet.
    :param tolerance: the largest difference that counts as reproduced, as a fraction.
    :param resolve: difference of means that matters, in points.
    :param reps: bootstrap repetitions.
    :param width: what figures are drawn for.
    :param format: kinds of files of each figure.
    :param output: folder of the report; None for no report.
    :param json: file for every number.
    :param prints: whether to print the main tables.
    :param command_line: what the report names as its command.
    """

    paths: Sequence[Path] = ()
    published: Sequence[str] = ()
    scores: Sequence[Path] = ()
    methods: Sequence[str] = ()
    envs: Sequence[str] = ()
    reference_scores: Sequence[str] = ()
    merge_protocols: bool = False
    failed: Literal["last", "zero", "exclude"] = "last"
    strict: bool = False
    baseline: str | None = None
    focus: str | None = None
    no_focus: bool = False
    suite_focus: str = ""
    tolerance: float = 0.05
    resolve: float = 3.0
    reps: int = 5_000
    width: str = "page"
    format: Sequence[str] = ("pdf", "svg", "png")
    labels: Sequence[str] = ()
    order: Sequence[str] = ()
    output: Path | None = None
    json: Path | None = None
    prints: bool = False
    command_line: str = ""

    def check(self) -> None:
        """Raise UsageError if there is nothing to compare, or a value makes no sense."""
        if not (self.paths or self.published or self.scores):
            raise UsageError(
                "expected folders of runs, --published SET or --with FILE, got none; see --help"
            )
        for flag, path in (("--output", self.output), ("--json", self.json)):
            if path is None:
                continue
            # the path itself need not exist yet
            folder = next(place for place in (path, *path.absolute().parents) if place.is_dir())
            is_file = flag == "--json"
            if (path.exists() and path.is_file() != is_file) or not os.access(folder, os.W_OK):
                kind = "a file" if is_file else "a folder"
                raise UsageError(
                    f"`{flag}` must be {kind} to write to, got {path}; choose another place"
                )
        with as_usage_error():
            number("--tolerance", self.tolerance, above=0, at_most=1)
            number("--resolve", self.resolve, above=0, at_most=100)
