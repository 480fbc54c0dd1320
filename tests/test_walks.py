"""Each kind of addition touches only the files that docs/architecture.md names; each addition is made here."""

import json
import re
from pydoc import locate

import numpy as np

from tests import ROOT
from zoo.datasets.formats import read
from zoo.datasets.formats.base import Format, episode_of, joined
from zoo.terminal.cli import main

PAGES = "\n".join((ROOT / name).read_text() for name in ("docs/architecture.md", "CONTRIBUTING.md"))


def test_what_the_pages_for_contributors_name_is_there():
    files = {*re.findall(r"\b((?:agents|docs|hyperparams|tests|zoo)/[\w/<>.]*[\w>])", PAGES)}
    assert len(files) > 30
    for id in sorted(path.stem for path in ROOT.glob("docs/algorithms/[a-z]*.md")):
        assert not [name for name in files if not (ROOT / name.replace("<id>", id)).exists()], id
        assert re.search(rf"\b{id}\b", (ROOT / "agents/registry.py").read_text()), id
    assert not [
        name for name in re.findall(r"`((?:agents|zoo)(?:\.\w+)+)", PAGES) if locate(name) is None
    ]


class Lines(Format):
    """Rows of observation, action and reward as text, one episode per file."""

    def read(self, path, reading):
        rows, name = np.loadtxt(path), str(path)
        observations, actions, rewards = rows[:, :3], rows[:-1, 3:4], rows[:-1, 4]
        episode = episode_of(name, observations, actions, rewards, masks=np.ones(len(rewards)))
        return joined(name, {name: episode})


def test_a_format_is_one_class_in_one_list(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(read.FORMATS, ".txt", (Lines(),))
    np.savetxt(tmp_path / "set.txt", np.linspace(-1, 1, 100).reshape(20, 5))
    assert main(f"dataset check {tmp_path / 'set.txt'} --env Pendulum-v1".split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sound"]
    assert result["trajectories"] == 1
    assert result["transitions"] == 19
