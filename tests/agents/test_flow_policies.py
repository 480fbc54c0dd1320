"""What is special about single algorithms with a flow or diffusion, and is in no recorded number of `tests/parity`."""

from dataclasses import replace

import pytest
import torch

from agents.common.maths.denoising import NoiseSchedule
from tests.agents.oracles import bare, small_model
from tests.common.toys import toy_batch, toy_noise

# -- flows that clone, teach or climb ---------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("id", "setting", "loss"),
    [("ifql", "mask_value", "value_loss"), ("qgf", "mask_cloning", "bc_flow_loss")],
)
def test_a_loss_counts_crossing_sequences_as_the_authors_do_unless_masked(
    id, setting, loss, masked
):
    model = small_model(id, **{setting: masked})
    batch = toy_batch(model)
    batch = replace(batch, valid=torch.zeros_like(batch.valid))
    _, info = model.trainer.losses(batch, toy_noise(model))
    counted = {name for name in ("td_loss", "bc_flow_loss", "value_loss") if float(info[name]) > 0}
    assert counted == (set() if masked else {loss})


def test_mean_flows_targets_are_bounded():
    x = torch.ones(1, 4, 1)
    target = bare("meanflowql").mean_flow_target(x, x, x, 100 * x)
    assert (target == -5).all()


# -- diffusion policies -----------------------------------------------------------------------------------------------


def test_the_schedule_travels_with_a_replica():
    single = small_model("qsm", seeds=[1, 2], beta_schedule="cosine").replica(1)
    assert single.policy.nets.schedule.table.tolist() == [NoiseSchedule(1, 3, "cosine").alpha_bars]
