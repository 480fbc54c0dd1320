from dataclasses import replace

import pandas as pd

from tests.zoo.report.samples import NO_MEANS, comparison_of_returns, evaluations, own_methods
from zoo.report.comparison import baseline_of, ranking
from zoo.report.compute import compare


def test_ranking_puts_the_best_first_and_late_starters_last():
    runs = evaluations(["QAM", "FQL"])
    runs.loc[runs["method"] == "QAM", "score"] = 0.9
    late = evaluations(["RLPD"], steps=((3000, "online"),))
    methods = own_methods(("FQL", "QAM", "RLPD"))
    comparison = compare(methods, pd.concat([runs, late]), NO_MEANS, reps=10)
    assert ranking(comparison) == ["QAM", "FQL", "RLPD"]


def test_baseline_without_scores_of_a_kind_is_replaced_by_the_best_method():
    comparison = comparison_of_returns(["SAC", "TD3"], environments=["Pendulum-v1"])
    assert baseline_of(replace(comparison, baseline="TD3")) == "TD3"
    assert baseline_of(replace(comparison, baseline="QAM")) == ranking(comparison)[0]
