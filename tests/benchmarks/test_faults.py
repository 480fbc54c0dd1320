"""The suite of faults, a few tries of it: `make faults` makes all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import faults
from benchmarks.fault_suite import all_kinds
from benchmarks.fault_suite.kind import Kind
from benchmarks.fault_suite.lab import Broken, Lab, Stock, require_same_folder, run_folder
from benchmarks.fault_suite.programs import Programs
from benchmarks.fault_suite.runner import Outcome, stored_data, try_once
from benchmarks.fault_suite.table import write_table

QUICK = (
    "kill-event", "checkpoint-flip", "checkpoint-both", "folder-interrupted", "folder-finished", "model-flip", "policy",
    "code-model", "code-resume", "code-other", "size-header", "text-label",
)  # fmt: skip
"""Kinds that take a run of QAM and little more."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    return Stock(folder, stored_data(folder / "data"))


@pytest.mark.parametrize("id", [pytest.param(id, marks=[] if id in QUICK else pytest.mark.slow) for id in all_kinds()])
def test_a_fault_is_survived_as_promised(programs: Programs, stock: Stock, tmp_path: Path, id: str) -> None:
    outcome = try_once(all_kinds()[id], 0, programs, stock, tmp_path / "try")
    assert outcome.lost is None


@pytest.fixture
def runs(programs: Programs, stock: Stock, tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of a finished run and of a copy of it."""
    reference = Lab(programs, stock, tmp_path, 0).reference("qam")
    copied = shutil.copytree(reference, tmp_path / "copied")
    return run_folder(copied, "qam"), run_folder(reference, "qam")


def test_a_run_is_the_same_as_its_copy(runs: tuple[Path, Path]) -> None:
    require_same_folder(*runs)


@pytest.mark.parametrize("name", ["evaluations.npz", "progress.csv", "best_model.zip", "status.json"])
def test_a_run_that_ended_otherwise_is_told_apart(runs: tuple[Path, Path], name: str) -> None:
    path = runs[0] / name
    if path.suffix == ".csv":
        path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    elif path.suffix == ".zip":
        shutil.copyfile(next(runs[0].glob("checkpoint/*/model.zip")), path)
    else:
        path.write_bytes(path.read_bytes().replace(b"done", b"dead").replace(b"\xf0?", b"\xe0?") + b" ")
    with pytest.raises(Broken, match=r"progress|evaluations|model|status|Zip"):
        require_same_folder(*runs)


def test_what_is_not_as_promised_is_lost_and_its_folder_stays(programs: Programs, stock: Stock, tmp_path: Path) -> None:
    def check(lab: Lab) -> None:
        (lab.folder / "left").touch()
        raise Broken("it differs")

    outcome = try_once(Kind("id", "fault", "promise", 1, check), 3, programs, stock, tmp_path / "try")
    assert outcome.lost == "it differs"
    assert (tmp_path / "try" / "left").exists()
    assert outcome.command == "python benchmarks/faults.py --only id --seed 3"


def test_the_table_counts_tries_and_names_what_is_lost() -> None:
    kind = Kind("flip", "a bit", "nothing", 3, lambda lab: None)
    outcomes = [Outcome(kind, 0, 1.0), Outcome(kind, 1, 1.0, lost="it differs"), Outcome(kind, 2, 1.0, skipped="root")]
    text = write_table(outcomes, [kind], "made by hand")
    assert "made by hand; 0 minutes of tries" in text
    assert "| a bit (`flip`) | nothing | 2 | 1 | 1 |" in text
    assert "- `python benchmarks/faults.py --only flip --seed 1`: it differs" in text
    assert "- `flip`: root" in text


def test_a_kind_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--only", "checkpoint-flop"]) == 2
    assert "checkpoint-flop" in capsys.readouterr().err
