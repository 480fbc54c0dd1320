import csv
import io
import shutil
import subprocess

import pytest

from tests.zoo.report.samples import content_of, evaluations
from zoo.report.tables import texts as rendering
from zoo.report.tables.entries import Entry, Table

DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{geometry}
\usepackage{adjustbox,booktabs}
\begin{document}
%s
\end{document}
"""


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


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("-1.2", "$-$1.2"),
        ("[-0.5, 1.0]", "{[}$-$0.5, 1.0]"),
        ("QAM-1 (a=-2)", "QAM-1 (a=$-$2)"),
        ("2021-11-05", "2021-11-05"),
        (r"a_b 5% $x ~ {y} #1 \z ^ & <b>", r"a\_b 5\% \$x $\sim$ \{y\} \#1 $\backslash$z \^{} \& $<$b$>$"),
    ],
)
def test_texts_are_escaped_with_true_minus_signs_before_numbers(text, written):
    assert rendering.latex(text) == written


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX installation")
@pytest.mark.parametrize("width", ["column", "text"])
def test_tables_compile_and_fit_without_bitmap_fonts(tmp_path, width):
    content = content_of(evaluations(["QAM", "my_agent & co", *(f"agent {k}" for k in range(15))], tasks=8))
    text = "\\clearpage\n".join(rendering.to_latex(table, width) for table in content.tables)
    (tmp_path / "tables.tex").write_text(DOCUMENT % text)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert b"/Type3" not in (tmp_path / "tables.pdf").read_bytes()


def test_csv_is_read_back():
    rows = list(csv.DictReader(io.StringIO(rendering.to_csv(nasty()))))
    assert rows == [{"name": "<b>|50%", "score": "1.0"}]
