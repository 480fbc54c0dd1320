"""Values of stacked replicas, and which of them have diverged."""

import pickle

import pytest
import torch
from stable_baselines3.common.logger import CSVOutputFormat, Logger

from agents.common.replicas import PerReplica
from tests.common.toys import tiny_model, toy_dataset


def test_a_value_of_each_replica_is_their_mean_to_a_logger_of_sb3_and_survives_pickling(tmp_path):
    logger = Logger(str(tmp_path), [CSVOutputFormat(str(tmp_path / "log.csv"))])
    logger.record("loss", pickle.loads(pickle.dumps(PerReplica([1.0, 2.0, 6.0]))))
    assert logger.name_to_value["loss"].values.tolist() == [1, 2, 6]
    logger.dump()
    assert (tmp_path / "log.csv").read_text() == "loss\n3.0\n"


@pytest.mark.parametrize("id", ["qam", "trqam", "rlpd", "dac"])
def test_replicas_with_losses_or_parameters_that_are_not_finite_have_diverged(id):
    model = tiny_model(id, seeds=[1, 2, 3])
    model.learn_offline(1, dataset=toy_dataset())
    model._last_info["q_mean"] = torch.tensor([1.0, torch.nan, 1.0])  # a diagnostic may be NaN
    assert model.find_divergence() == {}
    model._last_info["total_loss"] = torch.tensor([torch.inf, 1.0, 1.0])
    with torch.no_grad():
        next(model.policy.nets.critic.parameters())[2].view(-1)[0] = torch.nan
    reasons = {0: "total_loss is not finite", 2: "parameters of critic are not finite"}
    assert model.find_divergence() == reasons
