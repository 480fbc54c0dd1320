"""What a suite's file means, and what is refused in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.errors import UsageError
from zoo.suites.suite import SHIPPED, Run, Suite, find_suite, read_suite, select

MAZE = "pointmaze-medium-navigate-singletask-task1-v0"


def write(folder: Path, **values: Any) -> Path:
    """Write a suite's file: one that is right, except for what is given."""
    content = {"algorithms": ["fql"], "environments": [MAZE], "seeds": "0-1", **values}
    path = folder / "suite.yml"
    path.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return path


def runs(folder: Path, **values: Any) -> list[Run]:
    return read_suite(write(folder, **values)).runs()


def test_every_algorithm_runs_on_every_environment_with_all_seeds_at_once(tmp_path: Path) -> None:
    found = runs(tmp_path, algorithms=["fql", "qam"], environments=[MAZE, "scene-play-singletask-task2-v0"])
    assert [(run.algo, run.env, run.seeds) for run in found] == [
        ("fql", MAZE, (0, 1)),
        ("qam", MAZE, (0, 1)),
        ("fql", "scene-play-singletask-task2-v0", (0, 1)),
        ("qam", "scene-play-singletask-task2-v0", (0, 1)),
    ]


def test_a_domain_stands_for_its_five_tasks_and_any_other_name_for_itself(tmp_path: Path) -> None:
    found = [run.env for run in runs(tmp_path, environments=["scene-play", "mine:Unversioned"])]
    assert found == [*(f"scene-play-singletask-task{task}-v0" for task in range(1, 6)), "mine:Unversioned"]


@pytest.mark.parametrize(
    ("at_once", "groups"),
    [(1, [(0,), (1,), (2,), (7,)]), (3, [(0, 1, 2), (7,)]), ("all", [(0, 1, 2, 7)])],
)
def test_seeds_are_trained_in_groups(tmp_path: Path, at_once: int | str, groups: list[tuple[int, ...]]) -> None:
    assert [run.seeds for run in runs(tmp_path, seeds=["0-2", 7], seeds_at_once=at_once)] == groups


def test_overrides_hold_where_their_patterns_match_and_the_last_wins(tmp_path: Path) -> None:
    found = runs(
        tmp_path,
        algorithms=["fql", "qam", {"algo": "fql", "label": "FQL strong", "params": {"distill_weight": 1.0}}],
        environments=[MAZE, "scene-play-singletask-task2-v0"],
        params={"offline_steps": 10, "distill_weight": 2.0},
        overrides=[
            {"algorithms": "fql", "params": {"distill_weight": 3.0}},
            {"environments": "scene-*", "params": {"offline_steps": 20}},
            {"algorithms": ["FQL *"], "environments": ["scene-*"], "params": {"eval_freq": 5}},
        ],
    )
    params = {(run.label or run.algo, run.env == MAZE): dict(run.params) for run in found}
    assert params["fql", True] == {"offline_steps": 10, "distill_weight": 3.0}
    assert params["qam", False] == {"offline_steps": 20, "distill_weight": 2.0}
    assert params["FQL strong", True] == {"offline_steps": 10, "distill_weight": 1.0}
    assert params["FQL strong", False] == {"offline_steps": 20, "distill_weight": 1.0, "eval_freq": 5}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algorithm": ["fql"]}, "algorithms"),
        ({"seeds": None}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds_at_once": 0}, "seeds_at_once"),
        ({"algorithms": "fql"}, "algorithms"),
        ({"algorithms": ["fqll"]}, "closest: fql"),
        ({"algorithms": ["fql", {"algo": "fql"}]}, "label"),
        ({"algorithms": [{"label": "mine"}]}, "algo"),
        ({"algorithms": [{"algo": "fql", "param": {}}]}, "closest: params"),
        ({"params": [1]}, "params"),
        ({"params": {5: 1}}, "names as its keys"),
        ({"overrides": [{"params": 2}]}, "params"),
        ({"environments": [None]}, "environments"),
        ({"algorithms": ["fql", "bc"], "focus": "bcc"}, "closest: bc"),
        ({"quick": "no"}, "quick"),
        ({"quick": True, "profile": "qam"}, "give one of them"),
        ({"algorithms": []}, "at least one"),
        ({"algorithms": ["fbrac", "bptt"]}, "fbrac twice"),
        ({"overrides": [{"algorithms": ["bc"], "params": {"batch_size": 5}}]}, "for none"),
        ({"published": ["qam2062"]}, "closest: qam2026"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        runs(tmp_path, **values)


def test_a_file_that_is_missing_or_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yml").write_bytes("title: Größe".encode("latin-1"))
    (tmp_path / "list.yml").write_text("[1, 2]")
    for name in ("missing", "latin", "list"):
        with pytest.raises(UsageError, match=name):
            read_suite(tmp_path / f"{name}.yml")


def test_a_shipped_suite_is_found_by_its_name_and_a_wrong_name_has_its_closest() -> None:
    assert find_suite(Path("mini")) == SHIPPED / "mini.yml"
    with pytest.raises(UsageError, match="unknown suite `minni`; closest: mini"):
        find_suite(Path("minni"))


def test_runs_are_selected_by_patterns() -> None:
    suite = Suite(["fql", {"algo": "qam", "label": "QAM hot"}], [MAZE, "scene-play-singletask-task2-v0"], 0)
    assert [run.env for run in select(suite.runs(), ["QAM*"], ["scene-*"])] == ["scene-play-singletask-task2-v0"]
    assert len(select(suite.runs(), [], [])) == 4
    with pytest.raises(UsageError, match="`dsrl`"):
        select(suite.runs(), ["dsrl"], [])
