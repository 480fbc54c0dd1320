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
def test_a_model_names_the_network_of_a_diverged_replica(id):
    model = tiny_model(id, seeds=[1, 2, 3])
    model.learn_offline(1, dataset=toy_dataset())
    assert model.find_divergence() == {}
    with torch.no_grad():
        next(model.policy.nets.critic.parameters())[2].view(-1)[0] = torch.nan
    assert model.find_divergence() == {2: "parameters of critic are not finite"}


def test_a_loss_that_is_not_finite_is_a_divergence_and_a_diagnostic_is_not():
    model = tiny_model(seeds=[1, 2])
    model.learn_offline(1, dataset=toy_dataset())
    model._last_info["total_loss"] = torch.tensor([torch.inf, 1.0])
    model._last_info["q_mean"] = torch.tensor([1.0, torch.nan])
    assert model.find_divergence() == {0: "total_loss is not finite"}
