import gzip
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from tests.zoo.report.samples import content_of, evaluations
from zoo.report import table_entries as rendering
from zoo.report.page import report as page
from zoo.report.table_entries import Table, TableEntry

pytestmark = pytest.mark.usefixtures("figures_on_demand")
DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage[textwidth=6.75in,textheight=9in,columnsep=0.25in]{geometry}
\usepackage{adjustbox,booktabs}
\begin{document}
%s
\end{document}
"""


def table_with_signs():
    """Return a table of characters that HTML, Markdown and LaTeX read as something else."""
    row = {"a|b": "<b>|50% & a_b$", "x_y": TableEntry("1.0†", "[0.5, 1.5]", True)}
    return Table.of("signs", "A title", "100% of a_b", [row])


def test_markdown_is_a_table_with_its_signs_escaped():
    lines = rendering.to_markdown(table_with_signs()).splitlines()
    assert lines[2:] == [
        r"| a\|b | x_y |",
        "| --- | --- |",
        r"| &lt;b>\|50% & a_b$ | **1.0†** [0.5, 1.5] |",
    ]


def test_csv_has_unrounded_numbers_intervals_and_details():
    entries = [
        TableEntry("1.0†", "[0.5, 1.5]", value=0.0101, interval=(0.005, 0.015)),
        TableEntry("-"),
    ]
    rows = [
        {
            "method": TableEntry("QAM‡", value="QAM"),
            "mean": entries[0],
            "n": TableEntry("2", "seeds"),
        },
        {"method": "FQL", "mean": entries[1], "n": "3"},
    ]
    text = rendering.to_csv(Table.of("t", "", "", rows))
    assert text.splitlines() == [
        "method,mean,mean low,mean high,n,n detail",
        "QAM,0.0101,0.005,0.015,2,seeds",
        "FQL,,,,3,",
    ]


def test_latex_signs_are_escaped():
    text = rendering.to_latex(table_with_signs())
    assert r"$<$b$>$$|$50\% \& a\_b\$ & \textbf{1.0$^\dagger$} {[}0.5, 1.5] \\" in text
    assert r"\caption{A title. 100\% of a\_b}" in text
    assert text.count(r"\\") == 2  # one line of names, one row


@pytest.mark.parametrize(
    ("text", "written"),
    {
        "-1.2": "$-$1.2",
        "[-0.5, 1.0]": "{[}$-$0.5, 1.0]",
        "QAM-1 (a=-2)": "QAM-1 (a=$-$2)",
        "2021-11-05": "2021-11-05",
        r"a_b 5% $x ~ {y} #1 \z ^ & <b>": r"a\_b 5\% \$x $\sim$ \{y\} \#1 $\backslash$z \^{} \& $<$b$>$",
    }.items(),
)
def test_texts_are_escaped_with_true_minus_signs_before_numbers(text, written):
    assert rendering.latex(text) == written


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs a TeX installation")
@pytest.mark.parametrize("width", ["column", "text"])
def test_tables_compile_and_fit_without_bitmap_fonts(tmp_path, width):
    content = content_of(
        evaluations(["QAM", "my_agent & co", *(f"agent {k}" for k in range(15))], tasks=8)
    )
    text = "\\clearpage\n".join(rendering.to_latex(table, width) for table in content.tables)
    (tmp_path / "tables.tex").write_text(DOCUMENT % text)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert b"/Type3" not in (tmp_path / "tables.pdf").read_bytes()


@pytest.fixture(scope="module")
def content():
    return content_of(evaluations(["QAM", "FQL"]))


def test_every_evaluation_curve_and_profile_of_the_comparison_is_in_a_file(content, tmp_path):
    page.write_report(tmp_path, content)
    table = pd.read_csv(tmp_path / "evaluations.csv")
    # methods, tasks, seeds, evaluations
    assert len(table) == len(content.inputs.evaluations) == 2 * 2 * 6 * 3
    phases = content.comparisons[0].phases.values()
    for name in ("curves", "profiles"):
        expected = pd.concat([getattr(phase, name) for phase in phases], ignore_index=True)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{name}.csv"), expected)


def test_a_large_table_is_compressed_without_loss_and_takes_the_place_of_the_plain_one(
    content, tmp_path, monkeypatch
):
    contents = []
    for largest in (10_000_000, 1000, 10_000_000):
        monkeypatch.setattr(page, "LARGEST_CSV", largest)
        page.write_report(tmp_path, replace(content))  # which has made no file yet
        (path,) = tmp_path.glob("evaluations.csv*")
        contents.append((path.suffix, path.read_bytes()))
    plain, (suffix, compressed), plain_again = contents
    assert plain == plain_again
    assert suffix == ".gz"
    assert gzip.decompress(compressed) == plain[1]
