"""Agents of one's own that are written in another way than the zoo's, and what compiling them leaves behind."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import agents
from agents.common.method import normal
from agents.common.nets.fast import FastMLP
from agents.common.nets.heads import ObservingNetwork
from agents.common.nets.mlp import fill_uniform, maybe_detach
from agents.common.nets.specs import NetworkSpec, critic
from agents.testing.subject import Subject, make_batch, make_noise
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, Broken, Lab, require_named
from benchmarks.fault_suite.programs import LONGEST, ROOT

UPDATES, ROWS, RATE = 30, 256, 1e-3
REGISTERED = f"""import agents
from {__name__} import Strange

agents.register("strange", paper="", published_name="Strange")(Strange)
"""


class TransposedActor(ObservingNetwork):
    """A layer whose weight is (S, out, in), so that its gradient has other strides."""

    def __init__(self, replicas: int, observations: int, actions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, actions, observations))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Draw one replica's weight."""
        fill_uniform(self.weight, replica, 0.5, generator)

    def forward(self, observations: Tensor, frozen: bool = False) -> Tensor:
        """Return the actions, (S, N, D)."""
        return torch.tanh(self.features(observations, frozen) @ maybe_detach(self.weight, frozen).mT)


class Strange(agents.Method):
    """Fits rewards under a gradient penalty, and actions by a network with transposed weights."""

    penalty: float = agents.setting(default=0.1, at_least=0, doc="Weight of the gradient penalty.")
    actor_learning_rate: float = agents.setting(default=1e-4, above=0, doc="What nothing reads.")

    def networks(self) -> dict[str, NetworkSpec]:
        """Return a critic and the actor."""
        actor = NetworkSpec(lambda n: TransposedActor(n.replicas, n.observations, n.actions))
        return {"critic": critic(target=False), "actor": actor}

    def noise(self) -> dict[str, Any]:
        """Return where the penalty is taken."""
        return {"near": normal()}

    def act(self, observations: Tensor, noise: Any, nets: Any) -> Tensor:
        """Return the actor's actions."""
        return nets.actor(observations)

    def targets(self, *given: Any) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def losses(self, batch: Any, targets: Any, noise: Any, nets: Any, info: Any) -> dict[str, Tensor]:
        """Return the three losses."""
        actions = (batch.actions + 0.1 * noise["near"]).requires_grad_()
        q = nets.critic(batch.observations, actions)
        (slope,) = torch.autograd.grad(q.sum(), actions, create_graph=True)
        error = (nets.actor(batch.observations) - batch.actions).square().sum(-1)
        return {
            "fit": ((q - batch.rewards.unsqueeze(1)).square().mean(1) * batch.valid).mean(1),
            "penalty": self.penalty * (slope.square().sum(-1) * batch.valid).mean(1),
            "copy": (error * batch.valid).mean(1),
        }


@kind(
    "own-network",
    "an own agent with transposed weights, a gradient penalty and a setting that nothing reads",
    "it learns as in plain PyTorch, and training warns of the setting",
    4,
)
def train_strange_agent(lab: Lab) -> None:
    """Train an agent beside plain PyTorch, and begin a run of it."""
    seeds = [[lab.seed], [lab.seed, lab.seed + 1]][lab.seed % 2]
    settings: dict[str, Any] = {
        "net_arch": [lab.draw.choice([32, 128, 256])] * 2,
        "max_grad_norm": lab.draw.choice([None, 1e6]),
    }
    model = Subject(Strange, {}).make_model(seeds=seeds, batch_size=ROWS, learning_rate=RATE, **settings)
    nets = copy.deepcopy(model.policy.nets)
    for network in nets.modules():
        if isinstance(network, FastMLP):
            network.evaluate_plainly()
    optimizer = torch.optim.Adam(nets.parameters(), RATE, foreach=False, fused=False)
    batch, noise = make_batch(model, rows=ROWS), make_noise(model, rows=ROWS)
    for _ in range(UPDATES):
        found = model.trainer.update_on(batch, noise)
        optimizer.zero_grad()
        expected = model.method.losses(batch, {}, noise, nets, {})
        torch.stack(list(expected.values())).sum().backward()
        optimizer.step()
    for name, loss in expected.items():
        if not torch.allclose(found[f"{name}_loss"], loss.detach(), rtol=0.02):
            raise Broken(f"loss `{name}` is {found[f'{name}_loss'].tolist()}, in plain PyTorch {loss.tolist()}")
    (lab.folder / "strange.py").write_text(REGISTERED)
    words = _words(lab, "strange:Strange", "net_arch=[128]", "ensemble_size=2")
    told = _train(lab, words)
    if told.count("`actor_learning_rate`") != 1:
        raise Broken(f"expected one warning of `actor_learning_rate`, got: {told[:1000]}")


@kind(
    "compiler-cache",
    "a library in the compiler's cache that a kill has cut",
    "it is named and compiled again, and updates are compiled",
    2,
)
def cut_compiled_library(lab: Lab) -> None:
    """Cut a library that an earlier run has compiled."""
    cache = lab.folder / "cache"
    words = _words(lab, "bc", "net_arch=[16,16]", "compile='on'")
    _train(lab, words, TORCHINDUCTOR_CACHE_DIR=str(cache))
    library = lab.draw.choice(sorted(cache.glob("*/*.main.so")))
    os.truncate(library, lab.seed * lab.draw.randrange(library.stat().st_size))
    told = _train(lab, words, TORCHINDUCTOR_CACHE_DIR=str(cache))
    require_named(told, str(library))
    if "not compiled" in told:
        raise Broken(f"updates are not compiled: {told[-1000:]}")


def _train(lab: Lab, words: list[str | Path], **environment: str) -> str:
    """Train in a process with warnings and an environment of its own; return what it says."""
    fixed = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "zoo" / "train.py", *words],
        cwd=lab.folder,
        env=fixed | environment,
        capture_output=True,
        text=True,
        timeout=2 * LONGEST,
    )
    if done.returncode != DONE:
        raise Broken(f"exit code {done.returncode}: {done.stderr[-1000:]}")
    return done.stderr


def _words(lab: Lab, algo: str, *params: str) -> list[str | Path]:
    """Return the command line of a run of three updates."""
    words: list[str | Path] = [
        "--algo",
        algo,
        "--env",
        ENV,
        "--dataset-dir",
        lab.stock.data,
        "-f",
        lab.folder / "logs",
        "--device",
        "cpu",
    ]
    words += ["--offline-steps", "3", "--online-steps", "0", "--eval-episodes", "1", "--n-eval-envs", "1"]
    return [*words, "--env-kwargs", "max_episode_steps=9", "-params", "horizon_length=3", "batch_size=8", *params]
