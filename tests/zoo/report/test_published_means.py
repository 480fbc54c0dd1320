import pandas as pd

from tests.zoo.report.samples import SCENE
from zoo.report.comparison import MEAN_COLUMNS
from zoo.report.compute import PublishedMeans


def means_of(*rows):
    fixed = {"phase": "offline", "step": 1000, "sd": 0.1, "seeds": 4}
    rows = [{**fixed, "method": m, "environment": e, "domain": d, "mean": x} for m, e, d, x in rows]
    return PublishedMeans(pd.DataFrame(rows, columns=list(MEAN_COLUMNS)))


def test_mean_of_a_domain_stands_for_all_its_tasks():
    assert means_of(("a", "scene-play", "scene-play", 0.5)).tasks() == {"a": SCENE}


def test_mean_of_a_domain_stands_for_the_tasks_that_others_have():
    table = means_of(("a", "scene-play", "scene-play", 0.5), ("b", SCENE[1], "scene-play", 0.4))
    assert table.tasks() == {"a": [SCENE[1]], "b": [SCENE[1]]}
    assert means_of(("a", "scene-play", "scene-play", 0.5)).tasks(SCENE[:2]) == {"a": SCENE[:2]}


def test_mean_of_a_domain_gives_no_mean_of_some_of_its_tasks():
    table = means_of(("a", "scene-play", "scene-play", 0.5))
    assert table.aggregates(SCENE[:2]) == {}
    assert table.aggregates(SCENE)["a"].estimates["mean"].point == 0.5
