"""The loop around the authors' agents, with a tiny agent in their place."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import agents
from benchmarks import originals, reference_ranks
from zoo.training.arguments import make_parser
from zoo.training.options import read_request

AGENT = """
import jax.numpy as jnp
from jax.tree_util import register_pytree_node_class
from ml_collections import ConfigDict
from utils.datasets import NAME

@register_pytree_node_class
class Agent:  # its only weight is the seed and the sum of all rewards that it was updated with
    def __init__(self, weight, config):
        self.weight, self.config = weight, config
    def tree_flatten(self):
        return (self.weight,), self.config
    @classmethod
    def tree_unflatten(cls, config, leaves):
        return cls(*leaves, config)
    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config):
        Config = type("Config", (dict,), {"__hash__": lambda self: 0})
        return cls(jnp.float32(seed), Config(config, action_dim=len(ex_actions)))
    def update(self, batch):
        return Agent(self.weight + batch["rewards"].sum(), self.config), {}
    def sample_actions(self, observations, rng):
        return jnp.full(2 * self.config["horizon_length"], self.weight / 1000)

def get_config():
    return ConfigDict({"lr": 0.0})
"""
DATASETS = """
NAME = "theirs"
class Dataset(dict):
    create = classmethod(lambda cls, **fields: cls(fields))
    def sample(self, size, idxs):
        return {name: array[idxs] for name, array in self.items()}
    def sample_sequence(self, size, length, discount):
        return {"rewards": self["rewards"][:size]}
class ReplayBuffer(Dataset):
    pass
"""


def make_checkout(folder: Path) -> str:
    """Write a checkout with an agent called `qam`, and return its commit."""
    files = {"agents/fake.py": AGENT, "utils/datasets.py": DATASETS, "utils/__init__.py": ""}
    files["agents/__init__.py"] = "from agents.fake import Agent\nagents = {'qam': Agent}\n"
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("label", reference_ranks.ENTRIES)
def test_originals_get_our_settings_under_their_names(label: str) -> None:
    args = reference_ranks.make_parser(None).parse_args([])
    words = reference_ranks.commands(label, 1, args)[0][2:]
    settings = read_request(make_parser().parse_args(words)).config.settings
    name, found = originals.original_settings(reference_ranks.ENTRIES[label].algo, settings)
    assert found["actor_hidden_dims"] == (64, 64)
    assert (found["discount"], found["horizon_length"], found["lr"], found["tau"]) == (0.995, 10, 1e-3, 0.02)
    assert found["num_qs"] == (4 if label.endswith("_4_critics") or label == "rlpd" else 2)
    own = {"qam_e": ("edit_scale", 0.1), "dac": ("clip_sampler_before", True), "bc": ("bc_only", True)}
    own |= {"qsm": ("clip_sampler_before", False), "cgql_linex": ("mode", "linex"), "fedit": ("edit_scale", 0.9)}
    key, value = own.get(label, ("agent_name", name))
    assert found[key] == value


def test_a_checkout_of_other_code_is_refused(tmp_path: Path) -> None:
    commit = make_checkout(tmp_path)
    originals.require_commit(tmp_path, commit)
    (tmp_path / "utils" / "datasets.py").write_text("")
    with pytest.raises(originals.UsageError, match=commit):
        originals.require_commit(tmp_path, commit)


def test_all_seeds_are_updated_side_by_side_and_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    pytest.importorskip("ml_collections")
    make_checkout(tmp_path)
    content = {name: np.zeros((200, 2), np.float32) for name in ("observations", "next_observations", "actions")}
    content["rewards"] = np.ones(200, np.float32)
    monkeypatch.setattr(originals, "read_transitions", lambda request: (content, lambda observations: observations))

    def evaluate(policy: Any, seeds: list[int]) -> SimpleNamespace:
        noise = {"key": torch.stack([policy.draw_action_noise(3, torch.Generator())["key"] for _ in seeds])}
        lengths = (1000 * policy.plan(np.zeros((len(seeds), 3, 2)), noise)[:, :, 0, 0]).round()
        return SimpleNamespace(played=lengths[:, 0] != 257, successes=lengths > 256, lengths=lengths)

    evaluator = SimpleNamespace(evaluate=evaluate, close=lambda: None)
    monkeypatch.setattr(originals, "make_evaluator", lambda request: evaluator)
    entry = replace(reference_ranks.ENTRIES["qam"], checkpoints=(1, 2))
    for entries in (reference_ranks.ENTRIES, reference_ranks.TRAINED):
        monkeypatch.setitem(entries, "qam", entry)
    args = reference_ranks.make_parser(None).parse_args(["--seeds", "0-1"])
    rows = originals.train("qam", 5, tmp_path, args)
    assert rows == [  # each update adds the 128 rewards of a batch
        ["qam", 5, 0, 1, 0, 3, 128.0, 0],
        ["qam", 5, 1, 1, 0, 3, 129.0, 0],
        ["qam", 5, 0, 2, 0, 3, 256.0, 0],
        ["qam", 5, 1, 2, 0, 3, 1000.0, 1],  # planned NaN
    ]
    assert sys.modules["agents"] is agents
