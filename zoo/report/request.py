"""What a comparison is asked for, by a command line, a suite or a page of the documentation."""

# ruff: noqa: RUF009  # `flag` declares a field

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agents.common.validation import number
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.parser import check_output, flag


@dataclass(frozen=True)
class CompareRequest:
    """What to compare, how, and what to make of it, as the flags of ``zoo compare`` ask for it.

    :param paths: folders to search for run folders.
    :param suite_focus: the method that a suite's file puts into focus, which may have no run yet.
    :param command_line: what the report names as its command.
    """

    paths: Sequence[Path] = ()
    published: Sequence[str] = flag(
        "published scores, e.g. qam2026", default=(), metavar="SET", section="what to compare"
    )
    scores: Sequence[Path] = flag(
        "scores.csv of other reports, whose runs stand beside",
        default=(),
        action="extend",
        metavar="FILE",
    )
    methods: Sequence[str] = flag(
        "only these, e.g. qam QAM-E (default: all)", default=(), metavar="NAME"
    )
    envs: Sequence[str] = flag(
        "only these, e.g. 'scene-*' (default: all)", default=(), metavar="PATTERN"
    )
    reference_scores: Sequence[str] = flag(
        "returns of a random and an expert policy, which normalise returns",
        default=(),
        action="extend",
        metavar="ENV=RANDOM,EXPERT",
    )
    strict: bool = flag("fail (exit 2) if any run is skipped", default=False)
    baseline: str | None = flag(
        "method to compare against (default: the one of the first set)",
        metavar="NAME",
        section="how",
    )
    focus: str | None = flag(
        "method that the report is about: a verdict on it, the others in grey (default: your own if it is one; of two, "
        "the last one that is not the baseline)",
        metavar="NAME",
        either="focus",
    )
    no_focus: bool = flag(
        "a verdict on the leading method of each phase instead", default=False, either="focus"
    )
    suite_focus: str = ""
    tolerance: float = flag(
        "largest difference that counts as reproduced, as a fraction", default=0.05
    )
    resolve: float = flag(
        "difference of means for which to say how many seeds are needed, in points (default: 3)",
        default=3.0,
        metavar="POINTS",
    )
    reps: int = flag("bootstrap repetitions", default=5_000)
    width: Literal["page", "column", "text"] = flag(
        "draw figures and LaTeX tables to stand in a paper as they are: 3.25 inches (column) or 6.75 (text)",
        default="page",
        section="how figures and tables look",
    )
    format: Sequence[Literal["pdf", "svg", "png"]] = flag(
        "files of each figure (default: all three)", default=("pdf", "svg", "png")
    )
    labels: Sequence[str] = flag(
        "what to call methods", default=(), action="extend", metavar="NAME=TEXT"
    )
    order: Sequence[str] = flag(
        "these methods first (default: the best first)", default=(), metavar="NAME"
    )
    output: Path | None = flag(
        "report.html, tables and figures",
        "-o",
        metavar="DIR",
        section="what to make (default: --print)",
    )
    json: Path | None = flag("every number, for other programs", metavar="FILE")
    prints: bool = flag("the main tables in the terminal", default=False)
    command_line: str = ""

    def check(self) -> None:
        """Raise UsageError if there is nothing to compare, or a value makes no sense."""
        if not (self.paths or self.published or self.scores):
            raise UsageError(
                "expected folders of runs, --published SET or --with FILE, got none; see --help"
            )
        if self.output is not None:
            check_output("--output", self.output, "folder", makes_folders=True)
        if self.json is not None:
            check_output("--json", self.json, makes_folders=True)
        with as_usage_error():
            number("--tolerance", self.tolerance, above=0, at_most=1)
            number("--resolve", self.resolve, above=0, at_most=100)
