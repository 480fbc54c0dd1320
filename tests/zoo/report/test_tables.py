"""Tables, as text for readers and as files."""

import shutil
import subprocess
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from tests.zoo.report.samples import (
    SCENE,
    comparison_of,
    comparison_of_runs,
    content_of,
    evaluations,
    scene_runs,
)
from zoo.report import tables
from zoo.report.comparison import ComparedMethod, Tally, ranking
from zoo.report.statistics import Estimate
from zoo.report.tables import (
    Table,
    TableEntry,
    latex,
    number_entry,
    to_csv,
    to_latex,
)
from zoo.runs.scores import RETURN

DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def numbers_of(table):
    """Return the numbers in a table's CSV file; its first column is the index."""
    return pd.read_csv(StringIO(to_csv(table)), index_col=0)


def test_aggregates_are_in_per_cent_with_intervals():
    comparison = comparison_of(["QAM", "FQL"])
    phase = comparison.phases["offline"]
    table = tables.aggregates_table(comparison, phase)
    rows = {row[0].text: row for row in table.rows}
    mean = phase.aggregates["FQL"].mean
    text = "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * np.array([mean.point, *mean.interval])))
    assert rows["FQL"][1].plain == text
    assert "Tasks: cube-double-play task1, scene-play task1." in table.caption
    assert table.header == ["method", "mean", "IQM", "seeds", "steps"]
    assert [entry.text for entry in rows["FQL"][3:]] == ["6", "2,000"]


def test_bold_is_the_best_of_several_whose_runs_all_finished():
    def bold(*means, unfinished=0):
        runs = [scene_runs([[mean] * 6], f"m{k}") for k, mean in enumerate(means)]
        tally = Tally(7, 7 - unfinished, unfinished)
        method = ComparedMethod("m0", "own", tallies={SCENE[0]: tally})
        comparison = comparison_of_runs(pd.concat(runs), methods={"m0": method})
        rows = tables.aggregates_table(comparison, comparison.phases["offline"]).rows
        return [row[1].is_bold for row in rows]

    assert bold(0.8, 0.78) == [True, False]
    assert bold(0.8, 0.78, unfinished=1) == [False, False]
    assert bold(0.8, 0.8) == [False, False]


def test_protocol_table_has_one_row_for_each_protocol():
    longer = {SCENE[0]: {"offline_steps": 2000, "sparse": True}}
    methods = {"a": ComparedMethod("a", "own", longer)}
    assert tables.protocol_table(methods).header[3:] == ["offline steps", "sparse"]
    protocols = {env: {"offline_steps": 1000, "sparse": True} for env in SCENE}
    methods |= {name: ComparedMethod(name, "own", protocols) for name in "bcdefghi"}
    table = tables.protocol_table(methods)
    assert table.header == ["source", "methods", "where", "offline steps"]
    assert "sparse True" in table.caption
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["own", "b, c, d, e, f, g, and 2 more", "5 tasks of scene-play", "1,000"],
        ["own", "a", "scene-play task1", "2,000"],
    ]
    names = '"b, c, d, e, f, g, h, i"'
    assert to_csv(table).splitlines()[1] == f"own,{names},5 tasks of scene-play,1000"


@pytest.mark.parametrize(
    ("interval", "point", "text"),
    [((-0.012, 0.1345), -0.01, "~1.0 [~1.2, 13.4]"), ((0.0, 0.004), 0.0, "0.0 [0.0, 0.4]")],
)
def test_numbers_have_true_minus_signs_and_few_digits(interval, point, text):
    entry = number_entry(Estimate(point, interval), 100, 1)
    assert entry.plain == text.replace("~", "\N{MINUS SIGN}")
    assert tables.digits_of(RETURN, [Estimate(1e-17)]) == 1
    assert tables.digits_of(RETURN, [Estimate(0.5, (-20.0, 1000.0))]) == 0
    assert tables.p_text(0.0004) == "< 0.001"


def test_csv_has_unrounded_numbers_intervals_and_details():
    mean = number_entry(Estimate(-0.0101, (-0.015, 0.005)), 100, 1)
    rows = [
        {"method": TableEntry("Q", numbers={"": "QAM"}), "SAC": mean, "n": "2"},
        {"method": "FQL", "SAC": TableEntry("-"), "n": "3"},
    ]
    text = to_csv(Table.of("t", "", {}, rows))
    assert text.splitlines() == [
        "method,SAC,SAC [low],SAC [high],n",
        "QAM,-0.0101,-0.015,0.005,2",
        "FQL,,,,3",
    ]


@pytest.mark.parametrize(("tasks", "over_tasks"), [(1, ()), (3, ("low", "high"))])
def test_verdict_is_rounded_only_as_text(tasks, over_tasks):
    comparison = comparison_of(["QAM", "FQL"], tasks=tasks)
    phase = comparison.phases["offline"]
    (verdict,) = phase.decision.verdicts
    table = tables.verdict_table(comparison, phase)
    numbers = numbers_of(table).loc[verdict.method]
    assert numbers["p"] == pytest.approx(verdict.p_value)
    columns = numbers.filter(like="over tasks").to_dict()  # which do not repeat the difference
    interval = verdict.over_tasks.interval or ()
    assert columns == pytest.approx(
        {f"over tasks [{end}]": x for end, x in zip(over_tasks, interval, strict=True)}
    )
    texts = dict(zip(table.header, (entry.plain for entry in table.rows[0]), strict=True))
    assert texts["p"] == f"{verdict.p_value:.3f}"
    assert texts["P(better)"].startswith(f"{verdict.probability.point:.2f} [")
    assert "with a 95% t-interval" in table.caption
    assert "Not comparable" not in table.caption


def test_tables_of_tasks_and_domains_have_the_means_of_each_method():
    runs = pd.concat([evaluations(["QAM"], tasks=4), evaluations(["FQL"], tasks=3)])
    comparison = comparison_of_runs(runs)
    phase = comparison.phases["offline"]
    last = runs.query("phase == 'offline' and step == 2000")
    means = last.pivot_table("score", "environment", "method")[[*ranking(phase)]]
    written = numbers_of(tables.tasks_table(comparison, phase))
    pd.testing.assert_frame_equal(written[[*means]], means, check_names=False)
    means = last.pivot_table("score", "method", "domain")
    means.loc["FQL", "cube-double-play"] = np.nan  # one of its two tasks was not run
    means = means.rename(columns="{} (2)".format).loc[[*ranking(phase)]]
    table = tables.domains_table(comparison, phase)
    pd.testing.assert_frame_equal(numbers_of(table)[[*means]], means, check_names=False)
    assert "-" in [entry.text for row in table.rows for entry in row]


def test_latex_has_its_signs_escaped_and_true_minus_signs():
    row = {"a|b": "<b>|50% & a_b$", "x_y": TableEntry("\N{MINUS SIGN}1.0", "[0.5, 1.5]", True)}
    text = to_latex(Table.of("signs", "A title", {"x_y": "100% of a_b", "z": ""}, [row]))
    assert r"$<$b$>$|50\% \& a\_b\$ & \textbf{$-$1.0 [0.5, 1.5]} \\" in text
    assert r"\caption{A title. 100\% of a\_b}" in text
    assert latex(r"~ {y} #1 \z ^") == r"$\sim$ \{y\} \#1 $\backslash$z \^{}"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX installation")
def test_tables_compile(tmp_path):
    content = content_of(evaluations(["QAM", "my_agent & co"], tasks=8))
    text = "\\clearpage\n".join(map(to_latex, content.tables))
    (tmp_path / "tables.tex").write_text(DOCUMENT % text)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
