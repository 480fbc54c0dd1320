"""How a run was made, and where two runs differ."""

import pandas as pd

from zoo.runs.protocol import PROTOCOL, what_differs


def test_a_run_without_evaluations_does_not_differ_in_the_kind_of_its_scores():
    runs = pd.DataFrame(
        dict.fromkeys(["label", "algorithm", "environment", *PROTOCOL], ["qam"] * 3)
    )
    runs["method"] = ["qam a", "qam a", "qam b"]
    runs["settings"] = [{"tau": "1"}, {"tau": "1"}, {"tau": "2"}]
    runs = runs.assign(kind=["success", None, "success"], problem=None)
    differences = what_differs(runs, ["qam a", "qam b"])
    assert differences == {"qam a": {"tau": "1"}, "qam b": {"tau": "2"}}
