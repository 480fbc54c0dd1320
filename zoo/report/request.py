"""The request for a comparison, from a command line, a suite or a page of the documentation."""

# ruff: noqa: RUF009  # `flag` declares a field

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.terminal.errors import UsageError
from zoo.terminal.parser import check_output, flag


@dataclass(frozen=True)
class CompareRequest:
    """Scores to compare, options of the comparison, and outputs: the flags of ``zoo compare``.

    :param paths: folders to search for run folders.
    :param focus: the method in focus, from a suite's file; it may have no runs yet.
    :param command_line: the command line to print in the report.
    """

    paths: Sequence[Path] = ()
    published: Sequence[str] = flag(
        "published scores, e.g. qam2026", default=(), metavar="SET", section="scores to compare"
    )
    scores: Sequence[Path] = flag(
        "scores to include: scores.csv files of other reports",
        name="--with",
        default=(),
        action="extend",
        metavar="FILE",
    )
    methods: Sequence[str] = flag(
        "compare only these methods, e.g. qam QAM-E (default: all)", default=(), metavar="NAME"
    )
    envs: Sequence[str] = flag(
        "compare only in these environments, e.g. 'scene-*' (default: all)",
        default=(),
        metavar="PATTERN",
    )
    reference_scores: Sequence[str] = flag(
        "returns of a random and an expert policy, to normalise returns",
        default=(),
        action="extend",
        metavar="ENV=LOW,HIGH",
    )
    reps: int = flag("bootstrap repetitions", default=2_000, section="computation")
    output: Path | None = flag(
        "write report.html, tables and figures to this folder",
        "-o",
        metavar="DIR",
        section="output (default: tables in the terminal)",
    )
    latex: bool = flag(
        "add figures as PDF and tables as LaTeX to the report, for a paper", default=False
    )
    focus: str = ""
    command_line: str = ""

    def check(self) -> None:
        """Raise UsageError if there is nothing to compare or an output path is invalid."""
        if not (self.paths or self.published or self.scores):
            raise UsageError(
                "expected folders of runs, --published SET or --with FILE, got none; see --help"
            )
        if self.output is not None:
            check_output("--output", self.output, "folder")
