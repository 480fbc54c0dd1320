import re
import shutil
import subprocess

import pytest

from tests.zoo.report.samples import content_of, evaluations
from zoo.report import latex, rendering
from zoo.report.entries import Entry, Table

DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{geometry}
\usepackage{array,booktabs,graphicx}
\begin{document}
%s
\end{document}
"""


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("-1.2", "$-$1.2"),
        ("[-0.5, 1.0]", "{[}$-$0.5, 1.0]"),
        ("a [-5, -.5]", "a [$-$5, $-$.5]"),
        ("QAM-1 (a=-2)", "QAM-1 (a=$-$2)"),
        ("cube-double-play task1", "cube-double-play task1"),
        ("2021-11-05", "2021-11-05"),
        (r"a_b 5% $x ~ {y} #1 \z ^ & <b>", r"a\_b 5\% \$x $\sim$ \{y\} \#1 $\backslash$z \^{} \& $<$b$>$"),
    ],
)
def test_texts_are_escaped_with_true_minus_signs_before_numbers(text, written):
    assert latex.escape(text) == written


def wide_table(columns=17, rows=50, detail="[-10.0, 12.0]"):
    names = [f"antmaze-large task{k}" for k in range(rows)]
    body = [[Entry(name), *(Entry(f"{k}.5", detail) for k in range(columns))] for name in names]
    return Table("wide", "Wide", "A wide table.", ["environment", *(f"CGQL-{k}" for k in range(columns))], body)


@pytest.mark.parametrize("width", ["column", "text"])
def test_wide_tables_are_split_into_parts_that_fit(width):
    place = latex.PLACES[width]
    parts = latex.split(wide_table(), place)
    assert len(parts) > 1
    for k, part in enumerate(parts):
        assert part.caption == f"A wide table. (part {k + 1} of {len(parts)})"
        assert len(part.rows) <= 31  # with two lines each
        for row in part.rows[1:]:
            cells = row.split(" & ")
            assert cells[0].startswith("antmaze")
            lines = [re.sub(r"\\(begin|end){tabular}({@{}c@{}})?|[{}$]", "", cell).split(r" \\ ") for cell in cells]
            used = sum(max(map(latex.text_width, found)) * place.size + 4 for found in lines)
            assert used <= place.width
    shown = [cell for part in parts for row in part.rows[1:] for cell in row.split(" & ")[1:]]
    assert len(shown) == 17 * 50


def test_columns_in_which_all_rows_agree_move_into_the_caption():
    rows = [[Entry(name), Entry(name), Entry("12"), Entry("-")] for name in ("a", "b")]
    (part,) = latex.split(
        Table("t", "T", "A caption.", ["method", "mean", "seeds", "IQM"], rows), latex.PLACES["column"]
    )
    assert part.caption == "A caption. In all rows: seeds: 12."
    assert part.rows == ["method & mean & IQM", "a & a & --", "b & b & --"]


def test_tables_are_neither_scaled_nor_set_in_small_print():
    text = rendering.to_latex(wide_table(), "column")
    assert "resizebox" not in text
    assert "tiny" not in text
    sizes = {float(size) for size in re.findall(r"\\fontsize{([\d.]+)}", text)}
    assert min(sizes) >= 6.5
    assert r"\toprule" in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX installation")
@pytest.mark.parametrize("width", ["column", "text"])
def test_tables_compile_and_fit_without_bitmap_fonts(tmp_path, width):
    tables = [*content_of(evaluations(["QAM", "my_agent & co"], tasks=8)).tables, wide_table()]
    text = "\\clearpage\n".join(rendering.to_latex(table, width) for table in tables)
    (tmp_path / "tables.tex").write_text(DOCUMENT % text)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert b"/Type3" not in (tmp_path / "tables.pdf").read_bytes()
