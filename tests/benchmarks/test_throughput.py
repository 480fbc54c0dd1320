"""The throughput benchmark: what it counts and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from agents import registry
from agents.common.nets import fast
from benchmarks import throughput
from tests.common.toys import tiny_model, toy_dataset

SIZES = ["--observations", "4", "--actions", "2", "--batch", "64", "--seconds", "0.1", "--device", "cpu"]
SIZES += ["--compile", "off"]
ROOT = Path(__file__).parents[2]
TINY = ["-params", "net_arch=[32,32]", "horizon_length=3", "flow_steps=2", "ensemble_size=2"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """Run the program on the smallest sizes; return exit code, result and standard error."""
    threads = torch.get_num_threads()
    code = throughput.main([*SIZES, *words, *TINY])
    torch.set_num_threads(threads)
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out.strip() else {}, err


@pytest.mark.parametrize("onednn", [False, True])
def test_operations_are_those_of_the_networks_sizes(
    onednn: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(fast, "onednn_is_faster", lambda of_weights=False: onednn)
    monkeypatch.setattr(fast, "ONEDNN_WORK", 0)
    _, result, _ = run(capsys, "--algo", "bc")
    # cloning: one forward pass, the weights' gradients, and those of the inputs of all layers but the first
    first, others = (4 + 6) * 32, 32 * 32 + 32 * 6
    assert result["flop_per_update"] == 2 * 64 * (2 * first + 3 * others)


@pytest.mark.parametrize("id", registry.algorithm_ids())
def test_operations_of_every_algorithm_are_counted(id: str) -> None:
    model = tiny_model(id)
    model.load_dataset(toy_dataset())
    once, twice = (throughput.count_flop(model, rows) for rows in (64, 128))
    assert 1.9 * once < twice <= 2 * once  # what is done once a batch, as for the times of diffusion steps, is little


@pytest.mark.parametrize("id", ["bc", "qgf"])
def test_the_committed_work_of_an_update_is_what_is_counted(id: str) -> None:
    args = throughput.make_parser().parse_args(["--algo", id, "--device", "cpu", "--compile", "off", "--batch", "32"])
    work = pd.read_csv(ROOT / "results" / "published" / "update_work.csv", index_col="algorithm")["gflop"]
    assert set(work.index) == set(registry.BUILT_IN)
    assert throughput.count_flop(throughput.make_model(args), 32) * 8e-9 == pytest.approx(work[id], rel=0.01)


def test_the_share_of_the_peak_is_taken_round_by_round(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = [(1.0, 2e9), (3.0, 12e9), (2.0, 5e9)]  # the machine is not equally fast in all of them
    monkeypatch.setattr(throughput, "time_rounds", lambda *_: rounds)
    _, result, _ = run(capsys)
    flop = result["flop_per_update"]
    assert result["fraction_of_peak"] == pytest.approx(0.4e-9 * flop)
    assert result["fraction_of_peak_range"] == pytest.approx([0.25e-9 * flop, 0.5e-9 * flop])
    assert (result["updates_per_s"], result["matmul_peak_flop_per_s"]) == (2.0, 5e9)


def test_a_sweep_measures_every_number_of_seeds_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result, _ = run(capsys, "--sweep-seeds", "1", "3", "-o", str(tmp_path / "plot.png"))
    assert code == 0
    assert [row["seeds"] for row in result["sweep"]] == [1, 3]
    assert result["sweep"][1]["flop_per_update"] == 3 * result["sweep"][0]["flop_per_update"]
    assert (tmp_path / "plot.png").read_bytes()[1:4] == b"PNG"
