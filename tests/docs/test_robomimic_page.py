"""The page on robomimic: its commands check, train, evaluate and compare in the real simulator, at a small size.

The demonstrations are scripted ones in robomimic's layout: the real ones can only be downloaded.
"""

import pytest
import yaml

from tests.docs.commands import run_all
from tests.zoo.envs.lifting import INSTALL, NAME, record
from zoo.datasets.benchmarks import ROBOMIMIC_FILE

TINY = "-params net_arch=[16,16] ensemble_size=2 flow_steps=2 batch_size=16 buffer_size=1000 learning_starts=1"
SMALL = [
    "--pretraining-steps",
    "2",
    "--offline-steps",
    "4",
    "--eval-freq",
    "2",
    "--eval-episodes",
    "1",
]
SMALL += [
    "--n-eval-envs",
    "1",
    "--device",
    "cpu",
    "--env-kwargs",
    "max_episode_steps=12",
    *TINY.split(),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return an empty folder, which is the current one and the user's, with demonstrations where they belong."""
    pytest.importorskip("robosuite", reason=f"needs `{INSTALL}`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    record(tmp_path / ".robomimic" / "lift" / "mh" / ROBOMIMIC_FILE, 3)
    return tmp_path


@pytest.mark.slow
def test_every_command_of_robomimics_page_works(place, capsys):
    extra = {"compare": ["--reps", "50"], "evaluate": ["--episodes", "1", "--n-eval-envs", "1"]}

    def smaller(words):
        return (
            SMALL[0 if "trqam" in words else 2 :]
            if words[1] == "train"
            else extra.get(words[1], [])
        )

    name = "test_every_command_of_robomimics_page_works"
    results = run_all(name, capsys, smaller, {"--online-steps": "6"})
    trained = [result for line, result in results.items() if line.startswith("zoo train")]
    assert len(trained) == 2
    assert all(
        result["success"] == 0.0 for result in trained
    )  # reported, and out of reach within 12 steps
    config = yaml.safe_load(
        (place / "logs_of_trqam" / "trqam" / f"{NAME}_1" / "config.yml").read_text()
    )
    assert config["settings"]["observation_scale"] == "range"
    assert NAME in (place / "report" / "report.html").read_text()
    assert (
        next(result for line, result in results.items() if " benchmark " in line)["runs"]
        == 8 * 3 * 8
    )
    assert next(result for line, result in results.items() if " check " in line)["sound"]
