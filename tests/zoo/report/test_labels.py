from dataclasses import replace

import pytest

from tests.zoo.report.samples import content_of, evaluations
from zoo.errors import UsageError
from zoo.report.comparison import baseline_of, ranking
from zoo.report.figures.styles import method_styles
from zoo.report.inputs import read_labels, read_order, relabelled


def test_label_belongs_to_the_longest_name_that_it_begins_with():
    names = read_labels(["qam (a=1)=Ours = best"], ["qam", "qam (a", "qam (a=1)"])
    assert names == {"qam": "qam", "qam (a": "qam (a", "qam (a=1)": "Ours = best"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["qan=Ours"], "unknown method `qan`; closest: qam"),
        (["qam"], "`--labels` must be NAME=TEXT, got `qam`; write e.g. `fql=Ours`"),
        (["qam="], "got no text for `qam`"),
        (["qam=fql"], "must give each method a name of its own, got `fql` twice"),
        (["qam=a\nb"], "without line breaks"),
    ],
)
def test_labels_that_make_no_sense_are_refused(words, message):
    with pytest.raises(UsageError) as caught:
        read_labels(words, ["fql", "qam"])
    assert message in str(caught.value)


def test_unknown_method_in_the_order_is_refused():
    with pytest.raises(UsageError, match="unknown method `qan`; closest: qam"):
        read_order(["qan"], ["fql", "qam"])


def test_label_renames_a_method_everywhere_and_keeps_its_colour():
    inputs = content_of(evaluations(["QAM", "FQL"])).inputs
    found = relabelled(inputs, {"QAM": "FQL-like", "FQL": "FQL"})
    assert set(found.methods) == set(found.evaluations["method"]) == {"FQL-like", "FQL"}
    before, after = method_styles(inputs.methods), method_styles(found.methods)
    assert after["FQL-like"] == before["QAM"]
    assert after["FQL"] == before["FQL"]


def test_order_moves_methods_to_the_front_but_not_the_best_one_as_baseline():
    comparison = content_of(evaluations(["QAM", "FQL", "BAM"])).comparisons[0]
    ranked = ranking(comparison)
    ordered = replace(comparison, order=[ranked[2], "absent"])
    assert ranking(ordered) == [ranked[2], ranked[0], ranked[1]]
    assert baseline_of(replace(ordered, baseline="absent")) == ranked[0]
