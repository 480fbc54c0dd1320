"""The benchmark of the networks' optimisations."""

from __future__ import annotations

import json
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch

from benchmarks import optimisations
from tests.common.toys import tiny_model, toy_batch

TINY = ["-params", "net_arch=[32,32]", "horizon_length=3", "flow_steps=2", "ensemble_size=2"]


def test_ratios_of_every_optimisation_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert optimisations.main(["--pairs", "2", *TINY]) == 0
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result["speed_ratio_quartiles"]) == list(optimisations.OFF)
    assert all(quartile > 0 for found in result["speed_ratio_quartiles"].values() for quartile in found)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", optimisations.OFF)
def test_an_optimisation_changes_no_loss_but_by_rounding(name: str, precision: str, onednn: None) -> None:
    model = tiny_model("qam", precision=precision)
    batch, noise = toy_batch(model, rows=64), model.trainer.draw_noise(64)
    expected, _ = model.trainer.losses(batch, noise)
    with ExitStack() as stack:
        for change in optimisations.OFF[name]:
            stack.enter_context(patch.object(*change))
        found, _ = model.trainer.losses(batch, noise)
    torch.testing.assert_close(found, expected, rtol=1e-4 if precision == "fp32" else 2e-2, atol=1e-4)
