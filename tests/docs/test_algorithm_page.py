"""The parts of an algorithm's page that are generated from data: scores, ranks and commands."""

import re

import pytest

pytest.importorskip("sphinx")

from docs import algorithm_page
from docs.make_tables import domain_means
from zoo.report.scores import last_evaluations, load_set


def test_scores_are_those_of_the_published_set_with_their_rank():
    text = "\n".join(algorithm_page.scores("qam2026", "QAM", "qam"))
    means = domain_means("qam2026").set_index(["method", "phase", "environment"])["score"]
    offline, online = (100 * means["QAM", phase, "scene-play"] for phase in ("offline", "online"))
    shown = re.search(r"- scene\n +- (\d+)\n +- (\d+)\n", text)
    assert shown
    assert [int(number) for number in shown.groups()] == [round(offline), round(online)]
    runs = last_evaluations(load_set("qam2026").scores.evaluations)
    order = runs.groupby(["phase", "method"])["score"].mean()["online"].sort_values(ascending=False)
    assert f"{list(order.index).index('QAM') + 1} of 17 online" in text
    assert "zoo benchmark ogbench50_qam --algos qam" in text
