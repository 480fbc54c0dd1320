import csv
import io

from zoo.report import rendering
from zoo.report.entries import Entry, Table


def nasty():
    rows = [[Entry("<b>|50% & a_b$"), Entry("1.0†", "[0.5, 1.5]", True)]]
    return Table("nasty", "A title", "100% of a_b", ["a|b", "x_y"], rows, [{"name": "<b>|50%", "score": 1.0}])


def test_markdown_is_a_table_with_its_signs_escaped():
    lines = rendering.to_markdown(nasty()).splitlines()
    assert lines[2:] == [r"| a\|b | x_y |", "| --- | --- |", r"| &lt;b>\|50% & a_b$ | **1.0†** [0.5, 1.5] |"]


def test_latex_signs_are_escaped():
    text = rendering.to_latex(nasty())
    assert r"$<$b$>$$|$50\% \& a\_b\$ & \textbf{1.0$^\dagger$} {[}0.5, 1.5] \\" in text
    assert r"\caption{100\% of a\_b}" in text
    assert text.count(r"\\") == 2  # one line of names, one row


def test_csv_is_read_back():
    rows = list(csv.DictReader(io.StringIO(rendering.to_csv(nasty()))))
    assert rows == [{"name": "<b>|50%", "score": "1.0"}]
