"""Time QAM's updates on images against the same update in plain PyTorch, in turn.

The plain version is one model of one seed: `torch.nn` modules, a loop over the critics, automatic differentiation. S
seeds at once are compared with S of its updates.
"""

from __future__ import annotations

import argparse
import copy
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.common.batch import Batch
from benchmarks import throughput
from zoo.cli import run_program
from zoo.terminal.arguments import Parser, whole_number

LAYER_NORM_EPS = 1e-6


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=whole_number, nargs="+", default=[1, 4], help="S, seeds trained at once")
    parser.add_argument("--image", type=whole_number, nargs=2, metavar=("SIDE", "CHANNELS"), default=[64, 9])
    parser.add_argument("--batch", type=whole_number, default=32, help="B, sequences per seed")
    parser.add_argument("--pairs", type=whole_number, default=6, help="pairs of updates")
    parser.add_argument("--num-threads", type=whole_number, default=1, help="CPU threads")
    parser.add_argument("-params", nargs="+", action="extend", default=[], help="settings, key=value")
    args = parser.parse_args(arguments)
    return run_program(lambda: measure(args), verbose=2)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time pairs of updates.

    :param args: parsed arguments.
    :return: the result to print; ratios are our speed over that of the plain version: quartiles.
    """
    torch.set_num_threads(args.num_threads)
    return {
        "processor": throughput.cpu_name(),
        "threads": args.num_threads,
        "image": args.image,
        "batch_size": args.batch,
        "pairs": args.pairs,
        "by_seeds": {seeds: compare(args, seeds) for seeds in args.seeds},
    }


def compare(args: argparse.Namespace, seeds: int) -> dict[str, Any]:
    """Time one number of seeds at once, and as many plain updates."""
    words = ["--device", "cpu", "--compile", "off", "--seeds", str(seeds), "--batch", str(args.batch)]
    words += ["--image", *map(str, args.image), *(["-params", *args.params] if args.params else [])]
    model = throughput.make_model(throughput.make_parser().parse_args(words))
    plain = PlainQAM(model)
    # with one thread, its own time, in which what other processes do hardly counts
    clock = time.process_time if args.num_threads == 1 else time.perf_counter

    def ours() -> float:
        begin = clock()
        model.trainer.update(args.batch)
        return clock() - begin

    def plainly() -> float:
        batch, noise = model.trainer.draw_batch(args.batch), model.trainer.draw_noise(args.batch)
        begin = clock()
        for replica in range(seeds):
            plain.update(batch, noise, replica)
        return clock() - begin

    ours(), plainly()
    times = [(ours(), plainly()) if pair % 2 else (plainly(), ours())[::-1] for pair in range(args.pairs)]
    return {
        "seconds_per_update": statistics.median(own for own, _ in times),
        "plain_seconds_per_update": statistics.median(other for _, other in times),
        "speed_ratio_quartiles": statistics.quantiles([other / own for own, other in times], n=4),
    }


# -- the plain version ------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """The encoder `impala_small` of uint8 images (B, C, H, W)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        widths = [channels, 16, 32, 32]
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, out, 3, padding=1) for i in (before, out, out))
            for before, out in pairwise(widths)
        )
        self.dense = nn.Linear(widths[-1] * math.ceil(side / 8) ** 2, 512)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, (B, 512)."""
        x = images.float() / 255.0
        for first, inner, outer in cast(Any, self.stages):
            x = first(x)
            x = F.max_pool2d(x, 3, 2, padding=x.shape[-1] % 2, ceil_mode=True)
            x = x + outer(inner(x.relu()).relu())
        return F.gelu(self.dense(x.relu().flatten(1)), approximate="tanh")


class Network(nn.Module):
    """An encoder and MLPs that see its features and further inputs."""

    def __init__(
        self, encoder: Encoder, inputs: int, hidden: Sequence[int], outputs: int, members: int, norm: bool
    ) -> None:
        super().__init__()
        self.encoder, self.members = encoder, nn.ModuleList()
        for _ in range(members):
            layers: list[nn.Module] = []
            for i, out in pairwise([512 + inputs, *hidden]):
                layers += [nn.Linear(i, out), nn.GELU(approximate="tanh")]
                layers += [nn.LayerNorm(out, eps=LAYER_NORM_EPS)] if norm else []
            self.members.append(nn.Sequential(*layers, nn.Linear(hidden[-1], outputs)))

    def forward(self, features: Tensor, *inputs: Tensor) -> Tensor:
        """Return the members' outputs, (E, B, outputs)."""
        x = torch.cat([features, *inputs], -1)
        return torch.stack([member(x) for member in self.members])


class PlainQAM:
    """QAM's update for one seed, with the settings and sizes of a model.

    :param model: whose settings, sizes, batches and noise are used; it observes square images.
    """

    def __init__(self, model: Any) -> None:
        self.method, size = model.method, model.policy.chunk_size
        self.shape = model.observation_space.shape
        critic = self._network(size, 1, self.method.ensemble_size, self.method.critic_layer_norm)
        flows = [self._network(size + 1, size, 1, self.method.actor_layer_norm) for _ in range(2)]
        self.critic, self.behaviour, self.fine_tuned = critic, *flows
        self.critic_target, self.behaviour_target = (
            copy.deepcopy(network).requires_grad_(False) for network in (self.critic, self.behaviour)
        )
        self.trained = nn.ModuleList([self.critic, self.behaviour, self.fine_tuned])
        self.optimizer = torch.optim.Adam(self.trained.parameters(), lr=model.learning_rate, fused=True)

    def _network(self, inputs: int, outputs: int, members: int, norm: bool) -> Network:
        hidden = self.method.net_arch or [512] * 4
        return Network(Encoder(self.shape[0], self.shape[1]), inputs, hidden, outputs, members, norm)

    def update(self, batch: Batch, noise: Mapping[str, Tensor], replica: int = 0) -> None:
        """Take one gradient step on one replica's part of a batch and of the noise."""
        self.optimizer.zero_grad()
        self.loss(batch, noise, replica).backward()
        nn.utils.clip_grad_norm_(self.trained.parameters(), self.method.max_grad_norm)
        with torch.no_grad():
            for target, own in ((self.critic_target, self.critic), (self.behaviour_target, self.behaviour)):
                for p, q in zip(target.parameters(), own.parameters(), strict=True):
                    p.lerp_(q, self.method.tau)
        self.optimizer.step()

    def loss(self, batch: Batch, noise: Mapping[str, Tensor], replica: int = 0) -> Tensor:
        """Return the sum of QAM's losses on one replica's part of a batch and of the noise."""
        batch, noise = batch.map(lambda value: value[replica]), {name: v[replica] for name, v in noise.items()}
        images, next_images = (x.unflatten(-1, self.shape) for x in (batch.observations, batch.next_observations))
        with torch.no_grad():
            target = self.td_target(batch, next_images, noise["td_action"])
        states, adjoints, prior = self.adjoints(images, noise)
        q = self.critic(self.critic.encoder(images), batch.actions).squeeze(-1)
        x_0, t = noise["bc_x0"], noise["bc_t"].unsqueeze(-1)
        cloned = self.behaviour(self.behaviour.encoder(images), torch.lerp(x_0, batch.actions, t), t)[0]
        features, rows = self.fine_tuned.encoder(images), len(images)
        velocities = torch.stack([self.velocity(self.fine_tuned, features, x, i) for i, x in enumerate(states)])
        sigma = torch.tensor([self.sigma(i) for i in range(len(states))]).view(-1, 1, 1)
        matching = (2 / sigma * (velocities - prior) + sigma * adjoints).square().sum() / rows
        td = (batch.valid * (q - target).square()).mean()
        cloning = (batch.valid * (cloned - (batch.actions - x_0)).square().mean(-1)).mean()
        return td + cloning + matching

    def td_target(self, batch: Batch, images: Tensor, x: Tensor) -> Tensor:
        """Return what the critics regress to, (B,)."""
        features = self.fine_tuned.encoder(images)
        for step in range(self.method.flow_steps):
            x = x + self.velocity(self.fine_tuned, features, x, step) / self.method.flow_steps
        q = self.critic_target(self.critic_target.encoder(images), x.clamp(-1, 1)).squeeze(-1)
        return batch.rewards + batch.discounts * (q.mean(0) - self.method.rho * q.std(0, correction=0))

    def adjoints(self, images: Tensor, noise: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the rollout's states, their lean adjoints and the prior's velocities there, K times (B, D)."""
        steps = self.method.flow_steps
        with torch.no_grad():
            own, prior = (network.encoder(images) for network in (self.fine_tuned, self.behaviour_target))
            guide, states = self.critic_target.encoder(images), [noise["am_x0"]]
            for i in range(steps - 1):
                drift = 2 / steps * self.velocity(self.fine_tuned, own, states[-1], i)
                spread = math.sqrt(1 / steps) * self.sigma(i) * noise["am_eps"][i]
                states.append(i / (i + 1) * states[-1] + drift + spread)
            velocities = [self.velocity(self.behaviour_target, prior, x, i) for i, x in enumerate(states)]
        end = (states[-1] + velocities[-1] / steps).requires_grad_()
        value = self.critic_target(guide, end.clamp(-1, 1)).mean(0).sum()
        adjoint = -self.method.inverse_temperature * torch.autograd.grad(value, end)[0]
        adjoints: list[Tensor] = []
        for i in reversed(range(steps)):
            x = states[i].detach().requires_grad_()
            velocity = self.velocity(self.behaviour_target, prior, x, i + 1)
            adjoint = i / (i + 1) * adjoint + 2 / steps * torch.autograd.grad(velocity, x, adjoint)[0]
            adjoints.insert(0, adjoint)
        return states, torch.stack(adjoints), torch.stack(velocities)

    def velocity(self, network: Network, features: Tensor, x: Tensor, step: int) -> Tensor:
        """Return a flow's velocity at a step's time, (B, D)."""
        return network(features, x, torch.full_like(x[:, :1], step / self.method.flow_steps))[0]

    def sigma(self, step: int) -> float:
        """Return the memoryless process's noise scale."""
        return math.sqrt(2.0 * (self.method.flow_steps + 2) / (step + 1) - 2)


if __name__ == "__main__":
    sys.exit(main())
