"""Measure what an update costs with a flow from elsewhere: ``python benchmarks/pretrained_flow.py qam papers 5``.

An algorithm, a size (``quick`` or ``papers``) and a number of rounds. Each round times an update with the library's own
network, with that network as a foreign module, and with plain linear layers of the same widths, by the CPU time of one
thread.
"""

import sys
import time

import numpy as np
import torch
from torch import nn

import agents
from agents.common.nets.networks import Sizes, VelocityField
from agents.common.sb3 import model as sb3_model
from tests.common.toys import tiny_model, toy_dataset
from tests.envs import SpacesEnv

SIZES = {
    "quick": {"net_arch": [128] * 3, "ensemble_size": 2, "flow_steps": 5, "horizon_length": 10},
    "papers": {"net_arch": [512] * 4, "ensemble_size": 10, "flow_steps": 10, "horizon_length": 5},
}
SPACES = {"quick": (4, 2), "papers": (37, 5)}  # a point maze, and two cubes
UPDATES = {"quick": 5, "papers": 1}  # in a round


class OwnNetwork(nn.Module):
    """The library's velocity field, as a module that knows one replica."""

    def __init__(self, observations: int, actions: int, widths: list[int]) -> None:
        super().__init__()
        sizes = Sizes(1, observations, actions, 2, 10, widths, widths, False, True)
        self.field = VelocityField(sizes)
        self.field.initialise(0, torch.Generator().manual_seed(0))

    def forward(self, observations: torch.Tensor, x: torch.Tensor, times: torch.Tensor):
        """Return velocities (N, D)."""
        return self.field(observations[None], x[None], times[None, :, None])[0]


class PlainLayers(nn.Sequential):
    """The same layers in plain PyTorch."""

    def __init__(self, observations: int, actions: int, widths: list[int]) -> None:
        sizes = [observations + actions + 1, *widths]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes, widths, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.GELU(approximate="tanh")]
        super().__init__(*layers, nn.Linear(widths[-1], actions))

    def forward(self, observations: torch.Tensor, x: torch.Tensor, times: torch.Tensor):
        """Return velocities (N, D)."""
        return super().forward(torch.cat([observations, x, times[:, None]], -1))


def main(algorithm: str, size: str, rounds: int) -> None:
    """Print the median time of an update with each network, and its ratio to the library's own."""
    torch.set_num_threads(1)
    sb3_model.check_samples = lambda *_: None  # networks are drawn at random
    observations, actions = SPACES[size]
    settings = SIZES[size]
    shape = (observations, actions * settings["horizon_length"], settings["net_arch"])
    models = {}
    for kind in (None, OwnNetwork, PlainLayers):
        flow = (
            {} if kind is None else {"behaviour": agents.PretrainedFlow(kind(*shape), train=True)}
        )
        env = SpacesEnv(observations, actions)
        model = tiny_model(algorithm, env, **settings, batch_size=256, buffer_size=2000, **flow)
        model.load_dataset(toy_dataset(2000, observations=observations, actions=actions))
        model.trainer.update(256)
        models["own" if kind is None else kind.__name__] = model
    times = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            begin = time.process_time()
            for _ in range(UPDATES[size]):
                model.trainer.update(256)
            times[name].append((time.process_time() - begin) / UPDATES[size])
    for name, seconds in times.items():
        ratio = np.median(np.divide(seconds, times["own"]))
        print(f"{algorithm} {size} {name}: {1000 * np.median(seconds):.1f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
