"""Texts of strangers that a terminal, a spreadsheet or a browser would obey."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, REFUSED, Broken, Lab, require, run_folder
from benchmarks.fault_suite.programs import Ended

TEXTS = (
    "\x1b]0;owned\x07\x1b[2J", "=HYPERLINK(\"http://x/\"&A1)", "<script>alert(1)</script>",
    "@SUM(1+1)*cmd|' /C calc'!A0", "a|b\n| injected |", "<img src=x onerror=alert(1)>", "-2+3+cmd|' /C calc'!A0",
    "\u202eevil\u0000",
)  # fmt: skip


def _change_config(logs: Path, name: str, **values: Any) -> None:
    folder = run_folder(logs, name)
    (folder / "manifest.json").unlink()
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))


def _require_harmless(ended: Ended, report: Path, text: str) -> None:
    """Require that no text of a run is there as something that is obeyed."""
    for where, shown in (("the terminal", ended.out + ended.err), *_files(report)):
        if any(sign in shown for sign in "\x1b\x07\x00\u202e"):
            raise Broken(f"a control byte is in {where}")
        if where.endswith((".html", ".md")) and text.startswith("<") and text in shown:
            raise Broken(f"the text is markup in {where}")
    for path in report.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        if text in cells and text[0] in "=@-":
            raise Broken(f"the text is a formula in {path.name}")


def _files(report: Path) -> list[tuple[str, str]]:
    suffixes = (".html", ".md", ".csv", ".json", ".tex", ".txt")
    return [(path.name, path.read_text(encoding="utf-8")) for path in report.rglob("*") if path.suffix in suffixes]


@kind(
    "text-compared",
    "control bytes, formulas and markup in the label, algorithm or departures of a run that is compared",
    "none is written where a terminal, spreadsheet or browser would obey it; or the run is skipped",
    8,
)
def compare_texts(lab: Lab) -> None:
    """Compare a run with a hostile text in its configuration and make a report."""
    logs = lab.finished("qam")
    text = TEXTS[lab.seed % len(TEXTS)]
    which = lab.draw.choice(["label", "algo", "departures"])
    _change_config(logs, "qam", **{which: [text] if which == "departures" else text})
    report = lab.folder / "report"
    ended = lab.programs.run("compare", [logs, "-o", report, "--print", "--reps", "50"])
    require(ended, DONE, REFUSED)
    _require_harmless(ended, report, text)


@kind("text-label", "the same given to `--label`", "refused (exit 2), or harmless in `runs.csv` and the terminal", 4)
def label_run(lab: Lab) -> None:
    """Train a run with a hostile label."""
    logs, text = lab.folder / "logs", TEXTS[lab.seed % 4].replace("\x00", "")
    ended = lab.programs.run("train", [f"--label={text}", *lab.words("qam, offline", logs)])
    require(ended, DONE, REFUSED)
    _require_harmless(ended, logs, text)
