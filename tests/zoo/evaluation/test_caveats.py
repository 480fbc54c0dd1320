import pandas as pd
import pytest

from tests.zoo.evaluation.test_plots import evaluations
from tests.zoo.evaluation.test_report import SCENE, content_of
from zoo.evaluation.caveats import warnings


def warnings_of(content):
    return warnings(content.comparison, content.own)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [(1, "One seed gives no interval: FQL, QAM."), (4, "Fewer than 5 seeds: FQL (4), QAM (4).")],
)
def test_too_few_seeds_are_warned_of(seeds, sentence):
    found = content_of(evaluations(["QAM", "FQL"], seeds=seeds))
    assert any(sentence in warning for warning in warnings_of(found))


def test_enough_seeds_on_the_same_tasks_give_no_warning():
    assert warnings_of(content_of(evaluations(["QAM", "FQL"]))) == []


def test_unequal_seeds_left_out_tasks_and_different_steps_are_warned_of():
    table = pd.concat([evaluations(["QAM"], tasks=4), evaluations(["FQL"], tasks=2, steps=((500, "offline"),))])
    table = table[~((table["environment"] == SCENE[0]) & (table["seed"] == 5) & (table["method"] == "QAM"))]
    text = "\n".join(warnings_of(content_of(table)))
    assert "offline: unequal numbers of seeds between tasks: QAM (5 to 6)" in text
    assert (
        f"aggregates leave out tasks that some methods lack: cube-double-play-singletask-task2-v0 (FQL); {SCENE[1]}"
        in text
    )
    assert "offline: methods were scored at different steps" in text
