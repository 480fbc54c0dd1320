"""Train QAM in every precision on a small maze, and compare the success of many seeds with that in float32.

No GPU is needed. TF32 is emulated: the factors of every matrix product in float32 are rounded to its ten bits, forwards
and backwards. With ``bf16`` the hidden layers are in bfloat16, as on any device, and what stays in float32 is rounded
to TF32, as CUDA does it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.cli import run_program
from zoo.terminal.arguments import Parser, whole_number

if TYPE_CHECKING:
    from agents.common.sb3.model import FlowQLearning

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results"
PRECISIONS = ("fp32", "tf32", "bf16")
SETTINGS: dict[str, Any] = {
    "learning_rate": "lin_1e-3", "batch_size": 128, "tau": 0.02, "gamma": 0.97, "horizon_length": 5, "flow_steps": 5,
    "ensemble_size": 2, "net_arch": [64, 64, 64], "observation_scale": 4.0, "inverse_temperature": 10.0,
}  # fmt: skip
EVALUATIONS = 3
MEASURES = {"success": ("success, %", 100), "steps": ("steps to the goal", 1)}
TEXT = """# Learning in float32, TF32 and bf16

What `python benchmarks/precision.py` found on a CPU: QAM on a maze of one wall between start and goal, the same seeds
in every precision, 40 episodes per seed. TF32 is emulated: the factors of every float32 matrix product are rounded to
its ten bits, forwards and backwards, in training and in acting. With bf16 the hidden layers are in bfloat16 and the
other products in emulated TF32.

A cell has the mean over seeds, and the mean difference from the same seed in float32 with its 95% interval (Student's
t). An episode that never reaches the goal has 50 steps. A difference beyond its interval is marked; of the twelve
intervals one or none misses by chance. A few seeds learn badly in every precision: how the networks begin decides that.

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    :param arguments: the words after the program's name; None takes them from the command line.
    :return: exit code.
    """
    parser = Parser(description=__doc__)
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=list(PRECISIONS), help="what to train")
    parser.add_argument("--seeds", type=whole_number, default=12, help="number of seeds, trained together")
    parser.add_argument("--steps", type=whole_number, default=1_200, help="updates, with three evaluations among them")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS / "precision.json", help="JSON; the table is beside it"
    )
    args = parser.parse_args(arguments)
    return run_program(lambda: run(args), verbose=2)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train, write the JSON file and the table, and return the result to print.

    :param args: parsed arguments.
    """
    torch.set_num_threads(1)
    known = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else []
    for precision in args.precision:
        rows = train(precision, args.seeds, args.steps)
        known = [row for row in known if row["precision"] != precision] + rows
        write(args.output, known)
    return {"precisions": args.precision, "output": str(args.output)}


def train(precision: str, seeds: int, steps: int) -> list[Row]:
    """Train and evaluate all seeds at once.

    :param precision: of the matrix products.
    :param seeds: their number.
    :param steps: updates.
    :return: one row per seed and evaluation.
    """
    from stable_baselines3.common.logger import configure

    import agents

    rows: list[Row] = []

    def note(variables: dict[str, Any], _: dict[str, Any]) -> bool:
        model = variables["self"]
        if model.num_timesteps % (steps // EVALUATIONS) == 0:
            for seed, lengths in enumerate(evaluate(model)):
                measures = {"success": float((lengths < LIMIT).mean()), "steps": float(lengths.mean())}
                rows.append({"precision": precision, "updates": model.num_timesteps, "seed": seed, **measures})
        return True

    wishes: dict[str, Any] = {"device": "cpu", "compile": "off", "precision": precision, "seeds": list(range(seeds))}
    with emulated(precision):
        model = agents.get("qam").algorithm("MlpPolicy", Maze(), **SETTINGS, **wishes)
        model.set_logger(configure(None, []))
        model.learn_offline(steps, callback=note, dataset=dataset())
    return rows


# -- the table --------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the JSON file, and the table beside it once there is float32 to compare with.

    :param path: of the JSON file.
    :param rows: one per precision, seed and evaluation.
    """
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
    if {"fp32"} < {row["precision"] for row in rows}:
        path.with_suffix(".md").write_text(TEXT + table(rows), encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table: means over seeds, and differences from float32 with their 95% intervals.

    :param rows: one per precision, seed and evaluation.
    """
    others = [precision for precision in PRECISIONS[1:] if any(row["precision"] == precision for row in rows)]
    head = ["updates", "measure", "float32", *(f"{precision}, difference" for precision in others)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for updates in sorted({row["updates"] for row in rows}):
        for measure, (name, scale) in MEASURES.items():

            def values(precision: str, updates: int = updates, measure: str = measure, by: int = scale) -> Any:
                own = (row for row in rows if (row["precision"], row["updates"]) == (precision, updates))
                return by * np.array([row[measure] for row in own])

            cells = [describe(values("fp32"), values(precision)) for precision in others]
            lines.append("| " + " | ".join([f"{updates:,}", name, f"{values('fp32').mean():.1f}", *cells]) + " |")
    return "\n".join(lines) + "\n"


def describe(reference: NDArray[Any], values: NDArray[Any]) -> str:
    """Return a mean, and the mean difference seed by seed with its 95% interval, in words.

    :param reference: values of the seeds in float32.
    :param values: those of the same seeds in the other precision.
    """
    differences = values - reference
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    difference = differences.mean()
    return f"{values.mean():.1f}, {difference:+.2f} ± {half:.2f}" + " **differs**" * bool(abs(difference) > half)


# -- a small maze: a wall between start and goal, open above and below ------------------------------------------------

GOAL, REACH, STEP, LIMIT, WALL = np.array([0.8, 0.0]), 0.2, 0.2, 50, 0.6


class Maze(gymnasium.Env[Any, Any]):
    """The spaces of the maze; its episodes are played many at once, by :func:`evaluate`."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode that nobody plays; training without an environment's steps begins with it too.

        :param seed: not used.
        :param options: not used.
        :return: an observation.
        """
        return np.zeros(2, np.float32), {}


def move(points: NDArray[Any], actions: NDArray[Any]) -> NDArray[Any]:
    """Return where points get to, (..., 2); what would cross the wall stops at it.

    :param points: in [-1, 1]^2.
    :param actions: in [-1, 1]^2.
    """
    new = np.clip(points + STEP * np.clip(actions, -1, 1), -1, 1)
    (x, y), (new_x, new_y) = np.moveaxis(points, -1, 0), np.moveaxis(new, -1, 0)
    way = np.divide(-x, new_x - x, out=np.zeros_like(x), where=new_x != x)  # until it is at the wall's x
    stopped = (np.sign(x) != np.sign(new_x)) & (np.abs(y + way * (new_y - y)) < WALL)
    new[..., 0] = np.where(stopped, np.copysign(1e-3, x), new_x)
    return new


def arrived(points: NDArray[Any]) -> NDArray[Any]:
    """Return which points are at the goal.

    :param points: (..., 2).
    """
    return np.linalg.norm(points - GOAL, axis=-1) < REACH


def dataset(episodes: int = 400) -> dict[str, NDArray[np.float32]]:
    """Return episodes of points that wander about, of which one in fifty steps is near the goal.

    :param episodes: how many.
    """
    draw = np.random.default_rng(0)
    points = draw.uniform(-1, 1, (episodes, 2))
    heading = draw.uniform(-np.pi, np.pi, episodes)
    found: list[tuple[NDArray[Any], ...]] = []
    for _ in range(LIMIT):
        heading = heading + 0.6 * draw.standard_normal(episodes)
        noise = 0.3 * draw.standard_normal((episodes, 2))
        actions = np.clip(np.stack([np.cos(heading), np.sin(heading)], -1) + noise, -1, 1)
        following = move(points, actions)
        found.append((points, actions, following))
        points = following
        at_edge = np.abs(points).max(-1) > 0.99
        heading = np.where(at_edge, draw.uniform(-np.pi, np.pi, episodes), heading)
    columns = (np.stack(parts, 1).reshape(-1, 2).astype(np.float32) for parts in zip(*found, strict=True))
    observations, taken, next_observations = columns
    done = arrived(next_observations)
    return {
        "observations": observations,
        "actions": taken,
        "next_observations": next_observations,
        "rewards": done.astype(np.float32) - 1,
        "masks": 1 - done.astype(np.float32),
        "terminals": (done | (np.arange(len(done)) % LIMIT == LIMIT - 1)).astype(np.float32),
    }


def evaluate(model: FlowQLearning, episodes: int = 40) -> NDArray[Any]:
    """Play episodes from the other side of the wall, with the same starts and noise at every call.

    :param model: the model.
    :param episodes: of each seed.
    :return: steps to the goal, (S, episodes); `LIMIT` where it was not reached.
    """
    replicas = model.policy.num_replicas
    draw = np.random.default_rng(1)
    starts = np.stack([draw.uniform(-1, -0.5, episodes), draw.uniform(-1, 1, episodes)], -1)
    points = np.repeat(starts[None], replicas, 0)
    generators = [torch.Generator().manual_seed(replica) for replica in range(replicas)]
    lengths = np.full((replicas, episodes), LIMIT)
    step = 0
    while step < LIMIT:
        noise = [model.policy.draw_action_noise(episodes, generator) for generator in generators]
        plans = model.policy.plan(points, {name: torch.stack([each[name] for each in noise]) for name in noise[0]})
        for actions in np.moveaxis(plans, 2, 0):
            points, step = move(points, actions), step + 1
            lengths[arrived(points) & (lengths == LIMIT)] = min(step, LIMIT)
    return lengths


# -- TF32 without a GPU -----------------------------------------------------------------------------------------------

DROPPED_BITS = 13  # of float32's 23; TF32 keeps ten
PRODUCTS: dict[Any, tuple[int, int]] = {
    torch.ops.aten.mm.default: (0, 1),
    torch.ops.aten.bmm.default: (0, 1),
    torch.ops.aten.addmm.default: (1, 2),
    torch.ops.aten.baddbmm.default: (1, 2),
}
"""Matrix products, and which of their arguments are the factors."""
if torch.backends.mkldnn.is_available():
    PRODUCTS[torch.ops.mkldnn._linear_pointwise.default] = (0, 1)


def emulated(precision: str) -> AbstractContextManager[Any]:
    """Return a context in which float32 products are those of a GPU in this precision.

    :param precision: of the model.
    """
    return nullcontext() if precision == "fp32" else RoundedFactors()


class RoundedFactors(TorchDispatchMode):
    """Rounds the factors of every float32 matrix product to TF32, those of gradients too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        factors = PRODUCTS.get(func, ())
        rounded = [to_tf32(value) if place in factors else value for place, value in enumerate(args)]
        return func(*rounded, **(kwargs or {}))


def to_tf32(x: Tensor) -> Tensor:
    """Return float32 values rounded to TF32's ten bits, halves away from zero; other types as they are.

    :param x: any shape.
    """
    if x.dtype != torch.float32:
        return x
    half, kept = 1 << (DROPPED_BITS - 1), -1 << DROPPED_BITS
    return (x.detach().view(torch.int32).add(half) & kept).view(torch.float32)


if __name__ == "__main__":
    sys.exit(main())
