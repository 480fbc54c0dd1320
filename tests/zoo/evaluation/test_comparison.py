import pandas as pd

from tests.zoo.evaluation.test_plots import evaluations
from zoo.evaluation.comparison import MEAN_COLUMNS, Method, compare, ranking


def test_ranking_puts_the_best_first_and_late_starters_last():
    runs = evaluations(["QAM", "FQL"])
    runs.loc[runs["method"] == "QAM", "score"] = 0.9
    late = evaluations(["RLPD"], steps=((3000, "online"),))
    methods = {name: Method(name, name, "own") for name in ("FQL", "QAM", "RLPD")}
    comparison = compare(methods, pd.concat([runs, late]), pd.DataFrame(columns=MEAN_COLUMNS), reps=10)
    assert ranking(comparison) == ["QAM", "FQL", "RLPD"]
