"""The comparison of updates on images with plain PyTorch: both compute the same, and the ratio is printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import images, throughput

TINY = ["-params", "net_arch=[16,16]", "flow_steps=3", "ensemble_size=2", "horizon_length=2"]


def copy_network(plain: images.Network, own: Any) -> None:
    """Give a plain network the parameters of one of ours, which are of one replica."""
    extractor, mlp = own.features_extractor, own.mlp
    convolutions = [layer for stage in plain.encoder.stages for layer in stage]
    for layer, weight, bias in zip(convolutions, extractor.weights, extractor.biases, strict=True):
        fill(layer, weight[0], bias[0])
    fill(plain.encoder.dense, extractor.mlp.weights[0][0].T, extractor.mlp.biases[0][0])
    for number, member in enumerate(plain.members):
        linear = [layer for layer in member if isinstance(layer, torch.nn.Linear)]
        for layer, weights, biases in zip(linear, mlp.weights, mlp.biases, strict=True):
            weight, bias = (each.flatten(0, each.ndim - rank - 1)[number] for each, rank in ((weights, 2), (biases, 1)))
            fill(layer, weight.T, bias)


def fill(layer: torch.nn.Module, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


def test_the_plain_version_is_the_same_update() -> None:
    words = ["--device", "cpu", "--compile", "off", "--image", "12", "3", "--batch", "8", *TINY]
    model = throughput.make_model(throughput.make_parser().parse_args(words))
    with torch.no_grad():  # moving averages that differ from what they follow
        for name, parameter in model.policy.nets.named_parameters():
            if "_target." in name and "norm" not in name:
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    plain = images.PlainQAM(model)
    for name in ("critic", "behaviour", "fine_tuned", "critic_target", "behaviour_target"):
        copy_network(getattr(plain, name), model.policy.nets[name])
    batch, noise = model.trainer.draw_batch(8), model.trainer.draw_noise(8)
    own, _ = model.trainer.losses(batch, noise)
    loss = plain.loss(batch, noise)
    torch.testing.assert_close(own[0], loss, rtol=1e-4, atol=1e-5)
    loss.backward()
    own[0].backward()
    for name in ("critic", "behaviour", "fine_tuned"):
        first = getattr(plain, name).encoder.stages[0][0].weight.grad
        torch.testing.assert_close(
            first, model.policy.nets[name].features_extractor.weights[0].grad[0], rtol=1e-3, atol=1e-5
        )


def test_the_ratio_is_printed_for_each_number_of_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    words = ["--image", "12", "3", "--batch", "4", "--pairs", "2", "--seeds", "1", "2", *TINY]
    assert images.main(words) == 0
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["by_seeds"].keys() == {"1", "2"}
    for found in result["by_seeds"].values():
        low, middle, high = found["speed_ratio_quartiles"]
        assert 0 < low <= middle <= high
