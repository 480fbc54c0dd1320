"""The page of runs at the papers' size: which scores are inside the published seeds, and what made them."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import full_size
from tests.zoo.runs.test_read import write_run


def finished(folder: Path, algo: str, seed: int, successes: tuple[int, ...]) -> None:
    """Write a run with evaluations after 25,000, 50,000, ... updates, at 2 updates a second but for a pause."""
    run = write_run(folder, algo=algo, seed=seed, offline=successes, every=25_000, settings={"precision": "bf16"})
    about = '{"processor": "Some CPU", "git_commit": "aaaaaaaaaaaaaaaa", "dataset_fingerprint": "f1"}'
    (run / "versions.json").write_text(about)
    rows = [f"{step},{step / 2},{2 if step != 30_000 else 0.1},{step}" for step in range(10_000, 60_000, 10_000)]
    rows.insert(0, "time/total_timesteps,time/time_elapsed,time/fps,train/n_updates")
    (run / "progress.csv").write_text("\n".join(rows) + "\n")


def test_each_score_stands_beside_the_published_seeds(tmp_path: Path) -> None:
    finished(tmp_path / "logs" / "first", "ifql", 0, (45, 48))
    finished(tmp_path / "logs" / "second", "fql", 1, (0, 50))
    assert full_size.main(["-f", str(tmp_path / "logs"), "-o", str(tmp_path)]) == 0
    page = (tmp_path / "full_size.md").read_text()
    assert "| IFQL | scene-play-singletask-task1-v0 | 50,000 | 0 | 96 | 96 | " in page
    assert "| IFQL | scene-play-singletask-task1-v0 | 25,000 | 0 | 90 |  |  |  | 3.5 |" in page
    assert re.search(r"\| 50,000 \| 1 \| 100 \| 16 \| .* \| \*\*no\*\* \| 6.9 \|", page)
    assert page.endswith("Some CPU, bf16, commit `aaaaaaaaaaaa`, data with SHA-256 `f1`.\n")
