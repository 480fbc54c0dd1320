"""The throughput benchmark: which updates and steps it counts."""

import pandas as pd
import pytest

from agents import registry
from benchmarks import throughput
from tests import ROOT


@pytest.mark.parametrize("id", ["bc", "meanflowql"])
def test_the_committed_work_of_an_update_is_what_is_counted(id):
    words = f"--algo {id} --device cpu --compile off --batch 32".split()
    model = throughput.make_model(throughput.make_parser().parse_args(words))
    file = ROOT / "results" / "published" / "update_work.csv"
    work = pd.read_csv(file, index_col="algorithm")["gflop"]
    assert set(work.index) == set(registry.BUILT_IN)
    assert throughput.count_flop(model, 32) * 8e-9 == pytest.approx(work[id], rel=0.01)
