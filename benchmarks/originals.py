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
from contextlib import closing
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

if not __package__:  # run as a file from anywhere
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import pandas as pd
import torch
import yaml

from agents.common.data.arrays import Transitions
from agents.common.observations import centre_and_factor
from benchmarks import reference_ranks as ranks
from benchmarks.rank_table import COLUMNS, KEY
from tests.parity.fixture import read_fixture
from tests.parity.reference import OWN_FIXTURES, VALUES, our_names
from tools.tables import merge_tables, read_table, write_table
from zoo.datasets.files import dataset_files
from zoo.datasets.formats.base import Dataset
from zoo.envs.make import make_env
from zoo.runs.episodes import EpisodeResults
from zoo.terminal.cli import as_program
from zoo.terminal.errors import UsageError
from zoo.terminal.parser import Parser, parse_seeds
from zoo.training.plan import RunPlan, plan_run
from zoo.training.start import make_evaluator

Batch: TypeAlias = dict[str, np.ndarray]
Standardise: TypeAlias = Callable[[np.ndarray], np.ndarray]
SET_BY_CREATE = {"ob_dims", "action_dim", "ac_action_dim"}
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
    scores = read_table(ranks.REFERENCE, COLUMNS)
    missing = ranks.find_missing(scores, args)
    pairs: dict[tuple[str, int], Path] = {}
    for code in note["code"]:
        name = code["repository"].rpartition("/")[2]
        rows = [pair for pair in missing if ranks.ENTRIES[pair[0]].algo in code["algorithms"]]
        if rows and name in checkouts:
            require_commit(Path(checkouts[name]), code["commit"])
            pairs |= dict.fromkeys(rows, Path(checkouts[name]))
    if pairs:
        ranks.require_data(dataset_files(ranks.DATASET, args.dataset_dir)[0])
    for (label, task), checkout in pairs.items():
        scores = merge_tables([scores, train(label, task, checkout, args)], KEY)
        write_table(scores, ranks.REFERENCE)
    return {
        "trained": [f"{label} task{task}" for label, task in pairs],
        "missing": len(missing) - len(pairs),
        "output": str(ranks.REFERENCE),
    }


def require_commit(checkout: Path, commit: str) -> None:
    """Refuse a checkout whose agents or utilities differ from those of the commit."""
    command = ["git", "-C", str(checkout), "diff", "--quiet", commit, "--", "agents", "utils"]
    if subprocess.run(command).returncode:
        raise UsageError(
            f"expected `agents` and `utils` in {checkout} to be those of commit {commit}; check it out, or run `git "
            "reset` there if an interrupted checkout has left no index"
        )


def import_original(checkout: Path, name: str) -> tuple[Any, Any, ModuleType]:
    """Return class and settings of an agent, and the module of datasets, whose packages have the names of ours."""

    def pop_modules() -> dict[str, ModuleType]:
        clashes = [name for name in sys.modules if name.split(".")[0] in ("agents", "utils")]
        return {name: sys.modules.pop(name) for name in clashes}

    ours = pop_modules()
    sys.path.insert(0, str(checkout))
    try:
        agent = importlib.import_module("agents").agents[name]
        config = sys.modules[agent.__module__].get_config()
        return agent, config, importlib.import_module("utils.datasets")
    finally:
        sys.path.remove(str(checkout))
        pop_modules()
        sys.modules.update(ours)


def train(label: str, task: int, checkout: Path, args: argparse.Namespace) -> pd.DataFrame:
    """Train all seeds of one row on one task, and return its scores."""
    import jax

    entry, seeds = ranks.ENTRIES[label], parse_seeds(args.seeds, "--seeds")
    plan = plan_run(ranks.requests(label, task, args)[0])
    content, standardise = read_transitions(plan)
    settings = plan.config.settings
    create, dataset, buffer = load_original(checkout, entry.algo, content, settings)
    agents = Agents(create, seeds, standardise, partial(act, entry.algo, settings))
    batches = [
        take_turns(seed, draw_batches(seed, index, agents, plan, dataset, buffer))
        for index, seed in enumerate(seeds)
    ]
    tables = []
    with closing(make_evaluator(plan)) as evaluator:
        for step in range(1, entry.checkpoints[-1] + 1):
            by_seed = [next(source) for source in batches]
            batch = jax.tree.map(lambda *arrays: np.stack(arrays), *by_seed)
            if batch:
                agents.update(batch, step)
            if step in entry.checkpoints:
                scores = scores_of(evaluator.evaluate(agents, seeds))
                tables.append(scores.assign(algorithm=label, task=task, seed=seeds, step=step))
    return pd.concat(tables)[COLUMNS]


def scores_of(results: EpisodeResults) -> pd.DataFrame:
    """Return the scores of an evaluation, one row a seed.

    An agent that became NaN has no success, and episodes of full length.
    """
    # where no episode has ended at all
    successes = np.zeros_like(results.lengths)
    if results.successes is not None:
        successes = results.successes
    lengths = results.lengths.mean(axis=1).round(2)
    return pd.DataFrame(
        {
            "successes": np.where(results.played, successes.sum(axis=1), 0),
            "episodes": results.lengths.shape[1],
            "mean_length": np.where(results.played, lengths, ranks.EPISODE_STEPS),
            "diverged": (~results.played).astype(int),
        }
    )


def read_transitions(plan: RunPlan) -> tuple[dict[str, np.ndarray], Standardise]:
    """Return the data that our side trains on in the originals' layout, and what standardises observations."""
    with closing(make_env(plan.env_id, **plan.env_kwargs)) as env:
        data = plan.load_data(env)
    assert isinstance(data, Dataset)
    transitions = data.content
    assert isinstance(transitions, Transitions)
    arrays, valid = transitions.arrays, transitions.valid
    observations = arrays["observations"]
    scale = plan.config.settings["observation_scale"]
    centre, factor = centre_and_factor(torch.from_numpy(observations[valid]), scale)

    def standardise(observations: np.ndarray) -> np.ndarray:
        return ((observations - centre.numpy()) * factor.numpy()).astype(np.float32)

    content = {name: arrays[name][valid] for name in ("actions", "rewards", "masks", "terminals")}
    content["observations"] = standardise(observations[valid])
    content["next_observations"] = standardise(observations[np.flatnonzero(valid) + 1])
    return content, standardise


def load_original(
    checkout: Path, algo: str, content: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> tuple[Callable[[Any], Any], Any, Any]:
    """Return what creates an agent of a seed, the dataset, and the class of replay buffers, all of a checkout."""
    name, changes = original_settings(algo, settings)
    agent, config, datasets = import_original(checkout, name)
    config.update(changes)
    if algo in SINGLE_ACTIONS:
        content = chunk_transitions(content, settings["horizon_length"], settings["gamma"])
    dataset = datasets.Dataset.create(**content)
    # QAM's agents are made of one row, the others of a batch
    example = dataset.sample(0, idxs=np.arange(1) if algo in OTHER_CODE else 0)
    arguments = {f"ex_{name}": example[name] for name in ("observations", "actions")}
    if "example_batch" in inspect.signature(agent.create).parameters:
        rewards = content["rewards"]
        example |= {"min_reward": float(rewards.min()), "max_reward": float(rewards.max())}
        arguments = {"example_batch": example}
    if algo == "rql":
        dataset.config = {"h": settings["horizon_length"]}  # as its `main.py` does
    return partial(agent.create, config=config, **arguments), dataset, datasets.ReplayBuffer


def chunk_transitions(
    content: Mapping[str, np.ndarray], horizon: int, gamma: float
) -> dict[str, np.ndarray]:
    """Return one transition for every chunk within a trajectory: flat actions, and the discounted sum of rewards."""
    starts = np.arange(len(content["rewards"]) - horizon + 1)
    rows = starts[:, None] + np.arange(horizon)
    rows = rows[~content["terminals"][rows[:, :-1]].any(axis=1)]
    chunks = {name: array[rows] for name, array in content.items()}
    return {
        "observations": chunks["observations"][:, 0],
        "next_observations": chunks["next_observations"][:, -1],
        "actions": chunks["actions"].reshape(len(rows), -1),
        "rewards": (chunks["rewards"] * gamma ** np.arange(horizon)).sum(axis=1),
        "masks": chunks["masks"].min(axis=1),
        "terminals": chunks["terminals"][:, -1],
    }


def original_settings(algo: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of an original, and our settings under its names; settings that we lack are as in `tests/parity`.

    :param settings: ours, all of them.
    """
    original = "trqam" if algo == "bc" else algo
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
    if algo in SINGLE_ACTIONS:
        config["discount"] = settings["gamma"] ** settings["horizon_length"]
    return str(config["agent_name"]), config | special_settings(algo, settings)


def special_settings(algo: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of an original that have no name in the recorded ones, or another value than ours."""
    match algo:
        case "bc":
            return {"bc_only": True, "clip_grad": False}
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


def act(algo: str, settings: Mapping[str, Any], agent: Any, observation: Any, key: Any) -> Any:
    """Return one chunk of an original in an evaluation, flat."""
    import jax

    if algo == "bc":  # `sample_actions` would follow another flow than the cloned one
        length = agent.config["action_dim"] * agent.config["horizon_length"]
        noise = jax.random.normal(key, (length,))
        return agent.compute_flow_actions(observation, noise, model="slow")
    if algo == "qgf":
        weight = settings["guidance_weight"]
        return agent.sample_actions(observation, seed=key, guidance_weight=weight)
    if algo in OTHER_CODE:
        return agent.sample_actions(observation, seed=key, temperature=0.0)
    return agent.sample_actions(observation, rng=key)


class Agents:
    """The seeds of an original side by side, a policy that `Evaluator` can play with.

    :param create: creates the agent of a seed; agents are equal but for their numbers.
    :param standardise: of observations.
    :param act: as `act` of a row.
    """

    def __init__(
        self,
        create: Callable[[Any], Any],
        seeds: Sequence[int],
        standardise: Standardise,
        act: Callable[..., Any],
    ) -> None:
        import jax

        self.agents = jax.vmap(create)(np.asarray(seeds, np.uint32))
        self.config = self.agents.config
        self.standardise = standardise
        self.num_replicas = len(seeds)
        self.chunk_length = int(self.config["horizon_length"])
        self._act = jax.jit(jax.vmap(jax.vmap(act, in_axes=(None, 0, 0))))
        self._update = jax.jit(self._update_all, static_argnums=2)

    def _update_all(self, agents: Any, batch: dict[str, Any], is_full: bool) -> Any:
        import jax

        options = {"full_update": is_full} if "actor_freq" in self.config else {}
        return jax.vmap(lambda agent, rows: agent.update(rows, **options)[0])(agents, batch)

    def update(self, batch: dict[str, np.ndarray], step: int) -> None:
        """Take one update of every seed, (S, B, ...)."""
        is_full = step % self.config.get("actor_freq", 1) == 0
        self.agents = self._update(self.agents, batch, is_full)

    def draw_action_noise(self, rows: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the keys of some plans of one seed."""
        return {"key": torch.randint(2**32, (rows, 2), generator=generator)}

    def plan(self, observations: np.ndarray, noise: Mapping[str, torch.Tensor]) -> np.ndarray:
        """Return chunks, (S, B, H, A), for observations, (S, B, O)."""
        keys = noise["key"].numpy().astype(np.uint32)
        chunks = self._act(self.agents, self.standardise(observations), keys)
        shape = (*observations.shape[:2], self.chunk_length, -1)
        return np.clip(np.asarray(chunks), -1, 1).reshape(shape)

    def plan_one(self, index: int, observation: np.ndarray, key: Sequence[int]) -> np.ndarray:
        """Return the chunk of one seed's agent, (H, A); all of them plan, since they are stacked."""
        shape = (self.num_replicas, 1)
        keys = torch.tensor(key).expand(*shape, 2)
        observations = np.broadcast_to(observation, (*shape, *observation.shape))
        return self.plan(observations, {"key": keys})[index, 0]


def take_turns(seed: int, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches that are drawn from NumPy's global generator after `np.random.seed`, which other seeds use too."""
    state = np.random.RandomState(seed).get_state()
    while True:
        np.random.set_state(state)
        batch = next(batches)
        state = np.random.get_state()
        yield batch


def draw_batches(
    seed: int, index: int, agents: Agents, plan: RunPlan, dataset: Any, buffer: Any
) -> Iterator[Batch]:
    """Yield the batch of each step as the authors' loop draws it, an empty one where there is no update.

    Online a step is played before each batch. Its transitions follow the dataset in one buffer; with balanced sampling
    they have a buffer of their own, and half of a batch is from each.

    :param index: of the seed among the agents.
    :param buffer: the checkout's class of replay buffers.
    """
    settings, run = plan.config.settings, plan.config.run
    size, is_balanced = settings["batch_size"], settings["balanced_sampling"]
    sample = partial(sample_sequences, horizon=settings["horizon_length"], gamma=settings["gamma"])
    for _ in range(run.offline_steps):
        yield sample(dataset, size)
    if is_balanced:
        replay = buffer.create(dataset.sample(0, idxs=0), size=run.online_steps)
    else:
        replay = buffer.create_from_initial_dataset(
            dict(dataset), size=dataset.size + run.online_steps
        )
    env = make_env(plan.env_id, **plan.env_kwargs)
    observation, _ = env.reset(seed=seed)
    queue: list[np.ndarray] = []
    for step in range(1, run.online_steps + 1):
        trains = step >= settings["learning_starts"]
        if is_balanced and not trains:
            # as in the authors' loop, balanced sampling alone begins with uniform actions
            queue = queue or [np.random.uniform(-1, 1, env.action_space.shape)]
        queue = queue or list(agents.plan_one(index, observation, (seed, run.offline_steps + step)))
        action = queue.pop(0)
        next_observation, reward, terminated, truncated, _ = env.step(action.astype(np.float32))
        transition = {"actions": action, "rewards": reward, "masks": 1.0 - terminated}
        transition["terminals"] = float(terminated or truncated)
        transition["observations"] = agents.standardise(observation)
        transition["next_observations"] = agents.standardise(next_observation)
        replay.add_transition(transition)
        observation = next_observation
        if terminated or truncated:  # a chunk ends with its episode
            observation, queue = env.reset()[0], []
        if not trains:
            yield {}
        elif is_balanced:
            halves = [sample(source, size // 2) for source in (dataset, replay)]
            yield {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
        else:
            yield sample(replay, size)


def sample_sequences(source: Any, size: int, horizon: int, gamma: float) -> Batch:
    """Return a batch of sequences, or of transitions where a dataset has no others."""
    if hasattr(source, "sample_sequence"):
        sequences = source.sample_sequence(size, horizon, gamma)
    else:
        sequences = source.sample(size)
    return {name: np.asarray(array, np.float32) for name, array in sequences.items()}


main = as_program(make_parser, run)

if __name__ == "__main__":
    sys.exit(main())
