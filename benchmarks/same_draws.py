"""Train FAWAC on the weights, batches and noise of the authors' agent, and print how far the two sides end apart.

What is left is rounding. So other differences of scores come of the random numbers that the two sides draw.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
from torch import Tensor

from agents.common.batch import Batch
from agents.common.sb3.model import FlowAlgorithm
from benchmarks import originals
from benchmarks import reference_ranks as ranks
from tests.parity.fixture import Fixture
from tests.parity.reference import Agent
from zoo.envs.make import make_env
from zoo.terminal.cli import as_program
from zoo.terminal.parser import Parser, parse_seeds
from zoo.training.plan import RunPlan, plan_run
from zoo.training.start import make_environments, make_model

LABEL = "fawac_online"


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", default=["300-302"], help="e.g. 300-302 or 300 305")
    parser.add_argument("--task", type=int, default=5, choices=ranks.TASKS)
    parser.add_argument("--dataset-dir", help="folder of the dataset (default: OGBench's)")
    help = "QAM's repository, at the commit of reference_runs.yml"
    parser.add_argument("--checkout", type=Path, required=True, help=help)
    parser.set_defaults(verbose=2, log_folder=Path("logs"))  # nothing is written
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train both sides for the offline phase of the comparison, and return their distances by network."""
    import jax

    plan = plan_run(ranks.requests(LABEL, args.task, args)[0])
    seeds = parse_seeds(args.seeds, "--seeds")
    content, see = originals.read_transitions(plan)
    settings = plan.config.settings
    create, dataset, buffer = originals.load_original(args.checkout, "fawac", content, settings)
    original = originals.Agents([create(seed) for seed in seeds], see, None)
    learners = [originals.Learner(seed, dataset, plan, see, buffer) for seed in seeds]
    model = make_ours(plan, seeds)
    start = read_parameters(original)
    # as a fixture of these sizes, which says where our parameters are
    arrays = {f"params_before/{path}": value.numpy() for path, value in start.items()}
    ours = Agent(model, Fixture(arrays, {"id": "fawac"}))
    with torch.no_grad():
        for path, parameter in ours.parameters():
            parameter.copy_(start[path].view_as(parameter))
    shape = settings["batch_size"], start["actor/mlp/Dense_2/bias"].shape[-1]
    draw = jax.jit(jax.vmap(lambda key: draw_noise(key, shape)))
    for step in range(1, plan.config.run.offline_steps + 1):
        batches = [learner.advance(step, original, index) for index, learner in enumerate(learners)]
        batch = {name: np.stack([sequences[name] for sequences in batches]) for name in batches[0]}
        noise = {name: tensor_of(array) for name, array in draw(original.agents.rng).items()}
        model.trainer.update_on(reduce_batch(batch, settings), noise)
        original.update(batch, step)
    return {"seeds": seeds, "task": args.task, **distances(ours, read_parameters(original), start)}


def make_ours(plan: RunPlan, seeds: list[int]) -> FlowAlgorithm:
    """Return our model of the seeds, at the beginning of its training."""
    with closing(make_env(plan.env_id, **plan.env_kwargs)) as env:
        model = make_model(
            plan, seeds, plan.load_data(env), make_environments(plan, len(seeds), env)
        )
    model._update_current_progress_remaining(0, plan.config.run.offline_steps)
    return model


def read_parameters(original: originals.Agents) -> dict[str, Tensor]:
    """Return an original's parameters by path, as fixtures name them, with the axis of the seeds."""
    from flax.traverse_util import flatten_dict

    parameters = flatten_dict(original.agents.network.params, sep="/")
    return {path.removeprefix("modules_"): tensor_of(value) for path, value in parameters.items()}


def draw_noise(key: Any, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the noise of one update as the original draws it from its key, under our names."""
    import jax

    _, key = jax.random.split(key)
    _, of_actor, of_critic = jax.random.split(key, 3)
    _, of_x, of_t = jax.random.split(of_actor, 3)
    return {
        "td_action": jax.random.normal(of_critic, shape),
        "bc_x0": jax.random.normal(of_x, shape),
        "bc_t": jax.random.uniform(of_t, (shape[0], 1))[:, 0],
    }


def reduce_batch(batch: dict[str, np.ndarray], settings: dict[str, Any]) -> Batch:
    """Return the last position of the original's sequences, (S, B, H, ...), as a batch of ours."""
    discount = settings["gamma"] ** settings["horizon_length"]
    return Batch(
        observations=tensor_of(batch["observations"]),
        actions=tensor_of(batch["actions"]).flatten(-2),
        rewards=tensor_of(batch["rewards"][..., -1]),
        discounts=discount * tensor_of(batch["masks"][..., -1]),
        next_observations=tensor_of(batch["next_observations"][..., -1, :]),
        valid=tensor_of(batch["valid"][..., -1]),
        steps_valid=tensor_of(batch["valid"]),
    )


def tensor_of(array: Any) -> Tensor:
    """Return a copy of an array as a tensor."""
    return torch.tensor(np.array(array))


def distances(
    ours: Agent, theirs: dict[str, Tensor], start: dict[str, Tensor]
) -> dict[str, list[float]]:
    """Return the distance of the two sides in units of the way from the start, by network and seed."""
    errors: dict[str, Tensor] = {}
    lengths: dict[str, Tensor] = {}
    for path, parameter in ours.parameters():
        network = path.partition("/")[0]
        end = theirs[path]
        error = parameter.detach().view_as(end) - end
        for squares, difference in ((errors, error), (lengths, end - start[path])):
            square = difference.double().square().flatten(1).sum(1)
            squares[network] = squares.get(network, 0) + square
    ratios = {name: (square / lengths[name]).sqrt() for name, square in errors.items()}
    return {name: [float(f"{value:.1e}") for value in ratio] for name, ratio in ratios.items()}


main = as_program(make_parser, run)

if __name__ == "__main__":
    sys.exit(main())
