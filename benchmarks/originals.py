"""Train the authors' own agents as `reference_ranks.py` trains ours: the same data, settings, seeds and episodes.

Agents, networks and the sampler of sequences are those of the checkouts, unmodified; this loop around them is ours.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

if __package__ in (None, ""):  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch
import yaml

from agents.common.observations import centre_and_factor
from benchmarks import reference_ranks as ranks
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, VALUES, our_names
from zoo.datasets.files import dataset_files
from zoo.datasets.formats.base import Dataset
from zoo.envs.make import make_env
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import Parser, parse_seeds
from zoo.training.plan import RunPlan, plan_run
from zoo.training.start import make_evaluator

SET_BY_CREATE = {"ob_dims", "action_dim", "ac_action_dim"}
CLONING = {"bc_only": True, "clip_grad": False}  # of TRQAM's agent: the row `bc`
SINGLE_ACTIONS = ("fan", "value_flows", "driftql", "iql")
"""Originals without chunks: a chunk is one action to them, its H steps one transition, with discount gamma^H."""
OTHER_CODE = (*SINGLE_ACTIONS, "rql", "qgf")
"""Algorithms whose code is not made from that of QAM."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = ranks.make_parser(__doc__)
    help = "the authors' repositories at the commits of reference_runs.yml, e.g. qam=PATH trqam=PATH sqam=PATH"
    parser.add_argument("--checkout", nargs="+", required=True, metavar="NAME=PATH", help=help)
    return parser


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train the rows whose scores are missing and whose checkout is given, and return the result to print."""
    checkouts = dict(word.split("=", 1) for word in args.checkout)
    note = yaml.safe_load(ranks.REFERENCE.with_suffix(".yml").read_text(encoding="utf-8"))
    scores = ranks.read_scores(ranks.REFERENCE)
    missing = [pair for pair in ranks.find_missing(scores, args) if pair[0] in ranks.ENTRIES]
    trained = []
    for part in note["code"]:
        checkout = Path(checkouts.get(part["repository"].rpartition("/")[2], ""))
        pairs = [
            pair
            for pair in missing
            if ranks.ENTRIES[pair[0]].algo in part["algorithms"] and checkout.name
        ]
        if pairs:
            ranks.require_data(dataset_files(ranks.DATASET, args.dataset_dir)[0])
            require_commit(checkout, part["commit"])
        for label, task in pairs:
            scores = ranks.add_scores(scores, train(label, task, checkout, args))
            ranks.write_scores(scores, ranks.REFERENCE)
            trained.append(f"{label} task{task}")
    return {
        "trained": trained,
        "missing": len(missing) - len(trained),
        "output": str(ranks.REFERENCE),
    }


def require_commit(checkout: Path, commit: str) -> None:
    """Refuse a checkout whose agents or utilities differ from those of the commit."""
    if subprocess.run(
        ["git", "-C", checkout, "diff", "--quiet", commit, "--", "agents", "utils"]
    ).returncode:
        raise UsageError(
            f"expected `agents` and `utils` in {checkout} to be those of commit {commit}; check it out"
        )


@contextmanager
def imported(checkout: Path, *names: str) -> Iterator[list[ModuleType]]:
    """Import modules of a checkout, whose package names clash with ours; ours are put back at the end."""

    def pop_modules() -> dict[str, ModuleType]:
        clashes = [name for name in sys.modules if name.split(".")[0] in ("agents", "utils")]
        return {name: sys.modules.pop(name) for name in clashes}

    ours = pop_modules()
    sys.path.insert(0, str(checkout))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(checkout))
        pop_modules()
        sys.modules.update(ours)


def train(label: str, task: int, checkout: Path, args: argparse.Namespace) -> list[list[Any]]:
    """Train all seeds of one row on one task, and return its rows of scores."""
    entry, seeds = ranks.ENTRIES[label], parse_seeds(args.seeds, "--seeds")
    plan = plan_run(ranks.requests(label, task, args)[0])
    settings = plan.config.settings
    content, see = read_transitions(plan)
    agent, dataset, buffer = load_original(checkout, entry.algo, content, settings)
    options = sampling_options(entry.algo, settings)
    agents, rows = Agents([agent(seed) for seed in seeds], see, options), []
    learners = [Learner(seed, dataset, plan, see, buffer) for seed in seeds]
    with closing(make_evaluator(plan)) as evaluator:
        for step in range(1, entry.checkpoints[-1] + 1):
            batches = [
                learner.advance(step, agents, index) for index, learner in enumerate(learners)
            ]
            if batches[0]:
                agents.update(
                    {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}, step
                )
            if step in entry.checkpoints:
                results = evaluator.evaluate(agents, seeds)
                assert results.successes is not None
                successes = results.successes.sum(axis=1)
                lengths = results.lengths.mean(axis=1).round(2)
                for index, seed in enumerate(seeds):
                    # Of an agent that became NaN: no success, and episodes of full length.
                    score = [0, float(ranks.EPISODE_STEPS), 1]
                    if results.played[index]:
                        score = [int(successes[index]), float(lengths[index]), 0]
                    score.insert(1, results.lengths.shape[1])
                    rows.append([label, task, seed, step, *score])
    return rows


def read_transitions(
    plan: RunPlan,
) -> tuple[dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return the data that our side trains on in the originals' layout, and what standardises observations."""
    with closing(make_env(plan.env_id, **plan.env_kwargs)) as env:
        data = plan.load_data(env)
    scale = plan.config.settings["observation_scale"]
    assert isinstance(data, Dataset)
    arrays, valid = data.content.arrays, data.content.valid
    observations = arrays["observations"]
    centre, factor = centre_and_factor(torch.from_numpy(observations[valid]), scale)

    def see(observations: np.ndarray) -> np.ndarray:
        return ((observations - centre.numpy()) * factor.numpy()).astype(np.float32)

    content = {name: arrays[name][valid] for name in ("actions", "rewards", "masks", "terminals")}
    next_observations = observations[np.flatnonzero(valid) + 1]
    return {
        "observations": see(observations[valid]),
        "next_observations": see(next_observations),
        **content,
    }, see


def load_original(
    checkout: Path, algo: str, content: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> tuple[Callable[[int], Any], Any, type]:
    """Return what creates an agent of a seed, the dataset, and the class of replay buffers, all of a checkout."""
    name, changes = original_settings(algo, settings)
    with imported(checkout, "agents", "utils.datasets") as (package, datasets):
        kind = package.agents[name]
        config = sys.modules[kind.__module__].get_config()
    config.update(changes)
    if algo in SINGLE_ACTIONS:
        content = chunk_transitions(content, settings["horizon_length"], settings["gamma"])
    dataset = datasets.Dataset.create(**content)
    # QAM's agents are made of one row, the others of a batch
    example = dataset.sample(0, idxs=np.arange(1) if algo in OTHER_CODE else 0)
    if "example_batch" in inspect.signature(kind.create).parameters:
        rewards = content["rewards"]
        example |= {"min_reward": float(rewards.min()), "max_reward": float(rewards.max())}
        create = partial(kind.create, example_batch=example)
    else:
        create = partial(
            kind.create, ex_observations=example["observations"], ex_actions=example["actions"]
        )
    if algo == "rql":
        dataset.config = {"h": settings["horizon_length"]}  # as its `main.py` does
    return (
        lambda seed: create(seed, config=config.copy_and_resolve_references()),
        dataset,
        datasets.ReplayBuffer,
    )


def chunk_transitions(
    content: Mapping[str, np.ndarray], horizon: int, gamma: float
) -> dict[str, np.ndarray]:
    """Return one transition for every chunk within a trajectory: flat actions, and the discounted sum of rewards."""
    windows = {
        name: np.lib.stride_tricks.sliding_window_view(array, horizon, axis=0)
        for name, array in content.items()
    }
    is_whole = ~windows["terminals"][:, :-1].any(axis=1)
    whole = {name: array[is_whole] for name, array in windows.items()}
    return {
        "observations": whole["observations"][..., 0],
        "next_observations": whole["next_observations"][..., -1],
        "actions": whole["actions"].swapaxes(1, 2).reshape(is_whole.sum(), -1),
        "rewards": (whole["rewards"] * gamma ** np.arange(horizon)).sum(axis=1),
        "masks": whole["masks"].min(axis=1),
        "terminals": whole["terminals"][:, -1],
    }


def original_settings(algo: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of an original, and our settings under its names; settings that we lack are as in `tests/parity`.

    :param settings: ours, all of them.
    """
    is_cloning = algo == "bc"
    original = "trqam" if is_cloning else algo
    (path,) = OWN_FIXTURES.glob(f"*/{original}.npz")
    recorded = read_fixture(path).config
    config = {key: value for key, value in recorded.items() if key not in SET_BY_CREATE}
    names = our_names(original)
    names.pop("clip_grad", None)  # TRQAM's switch, where ours is a bound
    for key, name in names.items():
        if key in config and name in settings:  # BC lacks what is special to TRQAM
            translated = {ours: original for original, ours in VALUES.get(name, {}).items()}
            config[key] = translated.get(settings[name], settings[name])
    sizes = tuple(settings["net_arch"])
    config |= {"actor_hidden_dims": sizes, "value_hidden_dims": sizes}
    if is_cloning:
        config |= CLONING
    if algo in SINGLE_ACTIONS:
        config["discount"] = settings["gamma"] ** settings["horizon_length"]
    return str(config["agent_name"]), config | special_settings(algo, settings)


def special_settings(algo: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of an original that have no name in the recorded ones, or another value than ours."""
    match algo:
        case "rql":
            return {"h": settings["horizon_length"], "ema": 1 - settings["policy_tau"]}
        case "driftql":
            return {"drift_batch_size": settings["batch_size"], "noise_dim": 0}
        case "iql":
            return {"const_std": True}  # of the likelihood; evaluations play the mean
        case "value_flows":
            return {"actor_layer_norm": settings["actor_layer_norm"]}
        case "qgf":
            rates = dict.fromkeys(("bc_lr", "critic_lr", "value_lr"), settings["learning_rate"])
            critic = {"value_network_kwargs": {"hidden_dims": tuple(settings["net_arch"])}}
            return {**rates, **critic, "use_layer_norm": int(settings["actor_layer_norm"])}
    return {}


def sampling_options(algo: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return arguments of an original's `sample_actions` in an evaluation; None for those made from QAM's code."""
    if algo == "qgf":
        return {"guidance_weight": settings["guidance_weight"]}
    if algo in OTHER_CODE:
        return {"temperature": 0.0}
    return None


class Agents:
    """The seeds of an original side by side, a policy that `Evaluator` can play with.

    :param agents: one a seed, equal but for their numbers.
    :param see: standardises observations.
    :param options: as `sampling_options` returns them.
    """

    def __init__(
        self,
        agents: Sequence[Any],
        see: Callable[[np.ndarray], np.ndarray],
        options: Mapping[str, Any] | None,
    ) -> None:
        import jax
        import jax.numpy as jnp

        self.config = agents[0].config
        self.see = see
        self.options = options
        self.num_replicas = len(agents)
        self.chunk_length = int(self.config["horizon_length"])
        self.is_cloning = self.config.get("bc_only", False)
        leaves = zip(*(jax.tree.leaves(agent) for agent in agents), strict=True)
        stacked = [jnp.stack([jnp.asarray(leaf) for leaf in group]) for group in leaves]
        self.agents = jax.tree.unflatten(jax.tree.structure(agents[0]), stacked)
        self._act = jax.jit(jax.vmap(jax.vmap(self._act_once, in_axes=(None, 0, 0))))
        self._updates: dict[bool, Callable[..., Any]] = {}
        for full in (False, True):
            options = {"full_update": full} if "actor_freq" in self.config else {}
            self._updates[full] = jax.jit(
                jax.vmap(lambda agent, batch, options=options: agent.update(batch, **options)[0])
            )

    def _act_once(self, agent: Any, observation: Any, key: Any) -> Any:
        """Return one chunk, flat; while cloning that of the cloned flow, since `sample_actions` follows the other."""
        import jax

        if self.options is not None:
            return agent.sample_actions(observation, seed=key, **self.options)
        if not self.is_cloning:
            return agent.sample_actions(observation, rng=key)
        noise = jax.random.normal(key, (self.config["action_dim"] * self.chunk_length,))
        return agent.compute_flow_actions(observation, noise, model="slow")

    def update(self, batch: Mapping[str, np.ndarray], step: int) -> None:
        """Take one update of every seed, (S, B, ...)."""
        self.agents = self._updates[step % self.config.get("actor_freq", 1) == 0](
            self.agents, dict(batch)
        )

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the keys of some plans of one seed."""
        return {"key": torch.randint(2**32, (rows, 2), generator=generator)}

    def plan(self, observations: np.ndarray, noise: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Return chunks, (S, B, H, A), for observations, (S, B, O)."""
        chunks = self._act(
            self.agents, self.see(observations), noise["key"].numpy().astype(np.uint32)
        )
        return np.clip(np.asarray(chunks), -1, 1).reshape(
            *observations.shape[:2], self.chunk_length, -1
        )


class Learner:
    """Draws the batches of one seed as the authors' loop does: from NumPy's global generator after `np.random.seed`.

    Online it plays a step before each batch. Its transitions follow the dataset in one buffer; with balanced sampling
    they have a buffer of their own, and half of a batch is from each.

    :param see: standardises observations.
    :param buffer: the checkout's class of replay buffers.
    """

    def __init__(self, seed: int, dataset: Any, plan: RunPlan, see: Any, buffer: Any) -> None:
        self.seed, self.dataset, self.see = seed, dataset, see
        self.settings, run = plan.config.settings, plan.config.run
        self.offline_steps = run.offline_steps
        self.state = np.random.RandomState(seed).get_state()
        if not run.online_steps:
            return
        self.queue: list[np.ndarray] = []
        self.env = make_env(plan.env_id, **plan.env_kwargs)
        self.observation, _ = self.env.reset(seed=seed)
        if self.settings["balanced_sampling"]:
            self.replay = buffer.create(dataset.sample(0, idxs=0), size=run.online_steps)
        else:
            size = dataset.size + run.online_steps
            self.replay = buffer.create_from_initial_dataset(dict(dataset), size=size)

    def advance(self, step: int, agents: Agents, index: int) -> dict[str, np.ndarray]:
        """Return the batch of a step, nothing where there is no update."""
        np.random.set_state(self.state)
        try:
            return self._advance(step, agents, index)
        finally:
            self.state = np.random.get_state()

    def _advance(self, step: int, agents: Agents, index: int) -> dict[str, np.ndarray]:
        size = self.settings["batch_size"]
        if step <= self.offline_steps:
            return self._sample(self.dataset, size)
        trains = step - self.offline_steps >= self.settings["learning_starts"]
        is_balanced = self.settings["balanced_sampling"]
        if not self.queue:
            # as in the authors' loop, balanced sampling alone begins with uniform actions
            if is_balanced and not trains:
                self.queue = [np.random.uniform(-1, 1, self.env.action_space.shape)]
            else:
                self.queue = self._plan(step, agents, index)
        self._play(self.queue.pop(0))
        if not trains:
            return {}
        if not is_balanced:
            return self._sample(self.replay, size)
        halves = [self._sample(source, size // 2) for source in (self.dataset, self.replay)]
        return {key: np.concatenate([half[key] for half in halves]) for key in halves[0]}

    def _sample(self, source: Any, size: int) -> dict[str, np.ndarray]:
        if not hasattr(source, "sample_sequence"):
            sequences = source.sample(size)
        else:
            sequences = source.sample_sequence(
                size, self.settings["horizon_length"], self.settings["gamma"]
            )
        return {key: np.asarray(array, np.float32) for key, array in sequences.items()}

    def _plan(self, step: int, agents: Agents, index: int) -> list[np.ndarray]:
        """Return the chunk of this seed's agent; all of them plan, since they are stacked."""
        keys = torch.tensor([[[self.seed, step]]]).expand(agents.num_replicas, 1, 2)
        observations = np.broadcast_to(
            self.observation, (agents.num_replicas, 1, *self.observation.shape)
        )
        return list(agents.plan(observations, {"key": keys})[index, 0])

    def _play(self, action: np.ndarray) -> None:
        """Add a transition; a chunk ends with its episode."""
        next_observation, reward, terminated, truncated, _ = self.env.step(
            action.astype(np.float32)
        )
        done = terminated or truncated
        self.replay.add_transition(
            {
                "observations": self.see(self.observation),
                "next_observations": self.see(next_observation),
                "actions": action,
                "rewards": reward,
                "masks": 1.0 - terminated,
                "terminals": float(done),
            }
        )
        self.observation = next_observation
        if done:
            self.observation, self.queue = self.env.reset()[0], []


main = as_program(make_parser, run)

if __name__ == "__main__":
    sys.exit(main())
