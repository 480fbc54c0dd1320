"""Runs, comparisons and contents of reports, for tests."""

import itertools
import shutil

import numpy as np
import pandas as pd

from tests.zoo.runs.helpers import write_run
from zoo.report import scores as published
from zoo.report.comparison import ComparedMethod
from zoo.report.compute import compare, compare_kinds
from zoo.report.inputs import Inputs, collect
from zoo.report.page import Content
from zoo.report.request import CompareRequest
from zoo.report.scores import COLUMNS, ScoreTables
from zoo.runs.read import read_runs
from zoo.runs.scores import RETURN, SUCCESS

SCENE = [f"scene-play-singletask-task{k}-v0" for k in range(1, 6)]
CUBE = [f"cube-double-play-singletask-task{k}-v0" for k in range(1, 6)]


def own_methods(names):
    return {name: ComparedMethod(name, "own") for name in names}


def evaluations(
    methods, steps=((1000, "offline"), (2000, "offline"), (3000, "online")), seeds=6, tasks=2
):
    """Return random evaluations of methods on tasks of two domains."""
    places = itertools.product(methods, range(tasks), range(seeds), steps)
    rows = [(*place, step, phase) for *place, (step, phase) in places]
    table = pd.DataFrame(rows, columns=["method", "number", "seed", "step", "phase"])
    number = table.pop("number")
    domain = np.where(number % 2, "cube-double-play", "scene-play")
    return table.assign(
        domain=domain,
        environment=domain + "-singletask-task" + (number // 2 + 1).astype(str) + "-v0",
        score=np.random.RandomState(0).randint(0, 51, len(table)) / 50,
        kind="success",
        episodes=50,
    )


def returns(methods, environments=("HalfCheetah-v5", "Pendulum-v1"), seeds=6):
    """Return evaluations scored by return: around 5,000 in the first environment, around -1,000 in the second."""
    steps = ((1000, "online"), (2000, "online"))
    table = evaluations(methods, steps, seeds, len(environments))
    names = table["environment"].map(
        dict(zip(sorted({*table["environment"]}), environments, strict=True))
    )
    is_cheetah = names == "HalfCheetah-v5"
    return table.assign(
        environment=names,
        domain=names,
        episodes=10,
        kind="return",
        score=np.where(is_cheetah, 4500, -1100) + np.where(is_cheetah, 1000, 200) * table["score"],
    )


def comparison_of_runs(runs, means=None, methods=None, reps=20, **options):
    """Return the comparison of runs and published means; methods without information are the user's."""
    table = pd.concat([runs, means] if len(runs) else [means])
    names = sorted({*table["method"]})
    return compare(ScoreTables(own_methods(names) | (methods or {}), table), reps, **options)


def means_of_scene(names):
    """Return published means of methods, on the first task of scene."""
    rows = pd.concat([scene_runs([[0.4]], name) for name in names])
    return rows.assign(seed=np.nan, seeds=3, step=9)


def comparison_of_returns(methods, focus=None, **options):
    runs = returns(methods, **options)
    return comparison_of_runs(runs, kind=RETURN, focus=focus)


def comparison_of(methods, **options):
    return comparison_of_runs(evaluations(methods, **options))


def scene_runs(scores, method="qam"):
    """Return offline evaluations on the first tasks of scene, from one list of scores per task."""
    rows = [
        (env, seed, score)
        for env, scores_of_task in zip(SCENE, scores, strict=False)
        for seed, score in enumerate(scores_of_task)
    ]
    return pd.DataFrame(rows, columns=["environment", "seed", "score"]).assign(
        method=method,
        domain="scene-play",
        phase="offline",
        step=1_000_000,
        episodes=50,
        kind="success",
    )


def comparison_of_scene(scores, kind=SUCCESS, focus=None, **methods):
    """Return a comparison of methods on the first tasks of scene, from one list of scores per task."""
    runs = pd.concat([scene_runs(tasks, name) for name, tasks in scores.items()])
    runs = runs.assign(kind=kind.name)
    return comparison_of_runs(runs, methods=methods, curves=False, kind=kind, focus=focus)


def collected(**options):
    """Return the inputs that the compare program collects with some options."""
    return collect(CompareRequest(**options))


def compared(reps=20, curves=False, **options):
    """Return the inputs that the compare program collects with some options, and their comparisons."""
    inputs = collected(**options)
    return inputs, compare_kinds(inputs, reps, curves=curves)


def content_of(table, methods=None, paths=(), sets=(), **choices):
    methods = methods or own_methods(sorted(set(table["method"])))
    comparison = comparison_of_runs(table, methods=methods, **choices)
    inputs = Inputs(methods, table.assign(run=None), read_runs(paths), sets, references={})
    request = CompareRequest(command_line="zoo compare logs")
    return Content(inputs, [comparison], request)


def write_published_runs(tmp_path, monkeypatch, environments=SCENE, seeds=6):
    """Replace qam2026's runs by a few random ones, offline to 1M steps, then online to 1.5M; return their scores."""
    methods, steps = ("QAM", "FQL"), (500_000, 1_000_000, 1_500_000)
    shape = (2, len(environments), 3, seeds)
    scores = np.random.RandomState(0).randint(0, 51, shape) / 50
    rows = []
    for place in np.ndindex(shape):
        method, env, step, seed = place
        phase = "online" if step == 2 else "offline"
        about = [methods[method], environments[env], phase, seed, steps[step], scores[place]]
        rows.append([*about, 50])
    folder = tmp_path / "published"
    shutil.copytree(published.FOLDER, folder)
    monkeypatch.setattr(published, "FOLDER", folder)
    pd.DataFrame(rows, columns=COLUMNS).to_csv(folder / "qam2026.csv.gz", index=False)
    return scores


def write_runs(folder, environments, *, algo="qam", seeds=6, start=20, **about):
    """Write runs whose final successes or returns increase by one per seed and environment; return their folder."""
    for k, env in enumerate(environments):
        for seed in range(seeds):
            about |= {"algo": algo, "env": env, "seed": seed, "offline": (5, start + seed + k)}
            write_run(folder / algo / f"{env}_{seed}", **about)
    return folder / algo


def scores_of(runs, tasks, seed=0, levels=50):
    """Return random success rates, multiples of 1 / `levels`: (runs, tasks)."""
    random = np.random.RandomState(seed)
    rates = random.rand(tasks) * 0.8 + 0.2 * random.rand(runs, tasks)
    return np.round(levels * rates) / levels


def by_task(matrix):
    """Return the columns of an array (runs, tasks[, evaluations]) in the form that our functions take."""
    return {f"task{k:02d}": matrix[:, k] for k in range(matrix.shape[1])}
