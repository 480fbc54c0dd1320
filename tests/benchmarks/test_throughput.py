"""The throughput benchmark: what it counts and what it prints."""

import json

import pandas as pd
import pytest
import torch

from agents import registry
from agents.common.nets import onednn
from benchmarks import throughput
from tests import ROOT

SIZES = ["--observations", "4", "--actions", "2", "--batch", "64", "--seconds", "0.1"]
SIZES += ["--device", "cpu", "--compile", "off"]
TINY = ["-params", "net_arch=[32,32]", "horizon_length=3", "flow_steps=2", "ensemble_size=2"]


def run(capsys, *words):
    """Run the program on the smallest sizes; return exit code, result and standard error."""
    threads = torch.get_num_threads()
    code = throughput.main([*SIZES, *words, *TINY])
    torch.set_num_threads(threads)
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out.strip() else {}, err


@pytest.mark.parametrize("by_onednn", [False, True])
def test_operations_are_those_of_the_networks_sizes(by_onednn, capsys, monkeypatch):
    if by_onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    monkeypatch.setattr(onednn, "is_faster", lambda of_weights=False: by_onednn)
    monkeypatch.setattr(onednn, "WORK", 0)
    _, result, _ = run(capsys, "--algo", "bc")
    # cloning: one forward pass, the weights' gradients, and those of the inputs of all layers but the first
    first, remaining_layers = (4 + 6) * 32, 32 * 32 + 32 * 6
    assert result["flop_per_update"] == 2 * 64 * (2 * first + 3 * remaining_layers)


@pytest.mark.parametrize("id", ["bc", "qgf"])
def test_the_committed_work_of_an_update_is_what_is_counted(id):
    args = throughput.make_parser().parse_args(
        f"--algo {id} --device cpu --compile off --batch 32".split()
    )
    work = pd.read_csv(ROOT / "results" / "published" / "update_work.csv", index_col="algorithm")[
        "gflop"
    ]
    assert set(work.index) == set(registry.BUILT_IN)
    assert throughput.count_flop(throughput.make_model(args), 32) * 8e-9 == pytest.approx(
        work[id], rel=0.01
    )
