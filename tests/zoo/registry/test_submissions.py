"""Submissions: made from runs, found sound, refused where they are not, and read by `compare`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.zoo.report.samples import SCENE
from tests.zoo.runs.test_read import write_run
from zoo import submit, verify
from zoo.registry.submit import ABOUT
from zoo.report import published_scores

SEEDS = range(3)
DATA = "0123456789abcdef" * 4


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for k, env in enumerate(SCENE):
        for seed in SEEDS:
            run = write_run(tmp_path / "logs" / f"{env}_{seed}", env=env, seed=seed, offline=(10, 20 + k + seed))
            versions = {"packages": {"ogbench": "1.2.2", "mujoco": "4.0.0"}, "git_commit": "c0ffee1" * 5}
            machine = {"device": "cpu", "processor": "a processor", "dataset_fingerprint": DATA}
            (run / "versions.json").write_text(json.dumps(versions | machine))
            (run / "command.txt").write_text(
                f"python zoo/train.py --algo qam --env {env} --dataset-dir /home/me/data\n"
            )
    return tmp_path / "logs"


@pytest.fixture
def about(tmp_path: Path) -> Path:
    (tmp_path / "about.yml").write_text(yaml.safe_dump(ABOUT | {"date": "2026-11-30"}))
    return tmp_path / "about.yml"


@pytest.fixture
def folder(tmp_path: Path, logs: Path, about: Path) -> Path:
    assert submit.main([str(logs), "--about", str(about), "-o", str(tmp_path / "community")]) == 0
    return tmp_path / "community" / "qam" / "2026-11-30-my-lab"


def problems_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    code = verify.main([str(folder)])
    (found,) = json.loads(capsys.readouterr().out.splitlines()[-1])["submissions"]
    assert code == int(bool(found["problems"]))
    return list(found["problems"])


def test_a_submission_says_what_was_run_and_how(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert problems_of(folder, capsys) == []
    assert {path.name for path in folder.iterdir()} == {"submission.yml", "scores.csv", "config.yml", "command.txt"}
    entry = yaml.safe_load((folder / "submission.yml").read_text())
    assert entry["stated"] == {"offline": 46.0}
    assert entry["protocol"] | {"profile": "qam", "offline_steps": 2000, "eval_episodes": 50} == entry["protocol"]
    table = pd.read_csv(folder / "scores.csv")
    assert len(table) == 2 * len(SCENE) * len(SEEDS)
    assert set(table["dataset"]) == {DATA}
    assert set(table["mujoco"]) == {"4.0.0"}
    assert "/home/me" not in (folder / "command.txt").read_text()


def change(name: str, **values: Any) -> Callable[[Path], None]:
    """Return what gives the first row of a table, or an entry, other values."""

    def write(folder: Path) -> None:
        path = folder / name
        if name.endswith(".csv"):
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            for column, value in values.items():
                table.loc[0, column] = value
            table.to_csv(path, index=False)
        else:
            content = {**yaml.safe_load(path.read_text()), **values}
            path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))

    return write


def drop_last_run(folder: Path) -> None:
    table = pd.read_csv(folder / "scores.csv", dtype=str, keep_default_na=False)
    table[(table["environment"] != SCENE[0]) | (table["seed"] != "2")].to_csv(folder / "scores.csv", index=False)


def cut_a_run(folder: Path) -> None:
    lines = (folder / "scores.csv").read_text().splitlines()
    (folder / "scores.csv").write_text("\n".join(lines[:-1]) + "\n")


def other_settings(folder: Path) -> None:
    path = folder / "config.yml"
    path.write_text(path.read_text().replace("offline_steps: 2000", "offline_steps: 9000", 1))


def link(folder: Path) -> None:
    (folder / "command.txt").unlink()
    os.symlink("/dev/zero", folder / "command.txt")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (change("submission.yml", licence=None), "`licence` is missing; add it: the licence of the scores"),
        (change("submission.yml", team="My Lab!"), "`team` must be who made the runs: small letters"),
        (change("submission.yml", code={"url": "ftp://x", "commit": "c0ffee1"}), "`code.url` must be an address"),
        (change("submission.yml", colour="red"), "got colour; remove it"),
        (change("submission.yml", suite="atari"), "`suite` must be one of qam50, fql50, mini, got atari"),
        (change("submission.yml", date="2026-12-01"), "its folder must be qam/2026-12-01-my-lab"),
        (change("submission.yml", stated={"offline": 51.0}), "`stated.offline` is 51.0, but the scores give 46.0"),
        (change("submission.yml", domains={"cube": {"sparse": True}}), "`domains` must be domains of qam50, got cube"),
        (change("scores.csv", successes="51"), "line 2: expected an evaluation on a task"),
        (change("scores.csv", episodes="20"), "line 2: `episodes` must be 50 as in the protocol, got 20"),
        (change("scores.csv", dataset="unknown"), "line 2: `dataset` must be the SHA-256 of the data, got unknown"),
        (change("scores.csv", ogbench="1.1.0"), "line 2: `ogbench` must be 1.2.2 as in submission.yml, got 1.1.0"),
        (change("scores.csv", method="fql"), "line 2: `method` must be qam, got fql"),
        (drop_last_run, f"{SCENE[0]}: expected the seeds 0, 1, 2 as on the other tasks, got 0, 1; add or remove runs"),
        (cut_a_run, "seed 2: expected an evaluation offline at 2,000, got none; finish the run"),
        (other_settings, "offline_steps 9,000 against 2,000 of submission.yml; state what was run"),
        (lambda folder: (folder / "submission.yml").write_text("a: [1"), "must be valid YAML"),
        (lambda folder: (folder / "notes.exe").touch(), "notes.exe: expected only submission.yml, scores.csv"),
        (lambda folder: (folder / "scores.csv").unlink(), "and either scores.csv (each run's counts)"),
        (link, "command.txt"),
    ],
)  # fmt: skip
def test_a_spoiled_submission_is_refused_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)
    capsys.readouterr()
    found = problems_of(folder, capsys)
    assert any(sentence in problem for problem in found), found
    assert len(found) <= 2


@pytest.mark.parametrize("fault", ["no licence", "two methods"])
def test_nothing_is_written_of_what_is_not_sound(tmp_path: Path, logs: Path, about: Path, fault: str) -> None:
    if fault == "no licence":
        change("about.yml", licence=None)(tmp_path)
    else:
        write_run(logs / "other", algo="fql")
    assert submit.main([str(logs), "--about", str(about), "-o", str(tmp_path / "community")]) == 2
    assert not (tmp_path / "community").exists() or not list((tmp_path / "community").iterdir())


def test_a_submission_stands_beside_other_sets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_scores, "COMMUNITY", folder.parents[1])
    name = "qam/2026-11-30-my-lab"
    assert name in published_scores.set_names()
    found = published_scores.load_set(name)
    assert found.level == "raw"
    runs = published_scores.load_runs(found)
    assert runs is not None
    assert len(runs) == 2 * len(SCENE) * len(SEEDS)
    (folder / "scores.csv").unlink()
    row = {"method": "qam", "phase": "offline", "step": 2000, "environment": SCENE[0]}
    row |= {"mean": 0.5, "sd": 0.1, "seeds": 3}
    pd.DataFrame([row]).to_csv(folder / "means.csv", index=False)
    (folder / "config.yml").unlink()
    assert verify.main([str(folder)]) == 0
    assert published_scores.load_set(name).level == "reported"
    wrong = ({"mean": 50}, {"mean": "half"}, {"sd": -1}, {"sd": "x"}, {"seeds": None}, {"step": 0.5})
    for rows in ([row, row], *([row | bad] for bad in wrong)):
        pd.DataFrame(rows).to_csv(folder / "means.csv", index=False)
        assert verify.main([str(folder)]) == 1, rows


def test_every_submission_of_the_registry_is_sound() -> None:
    folders = [published_scores.COMMUNITY / name for name in published_scores.submission_names()]
    assert all(verify.main([str(folder)]) == 0 for folder in folders)
