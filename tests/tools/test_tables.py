"""Tables of scores in files, and the marked parts of pages that contain them."""

import pandas as pd
import pytest

from tools.tables import merge_tables, read_table, replace_marked, write_table
from zoo.terminal.errors import UsageError

KEY = ["name", "seed"]
COLUMNS = [*KEY, "score"]


def test_of_rows_with_one_key_the_last_stays(tmp_path):
    first = pd.DataFrame([["b", 1, 5], ["a", 10, 6]], columns=COLUMNS)
    second = pd.DataFrame([["b", 1, 7], ["a", 9, 8]], columns=COLUMNS)
    path = tmp_path / "scores.csv"
    merged = merge_tables([read_table(path, COLUMNS), first, second], KEY)
    write_table(merged, path)
    expected = [["a", 9, 8], ["a", 10, 6], ["b", 1, 7]]
    assert read_table(path, COLUMNS).to_numpy().tolist() == expected


def test_a_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("name,score\na,1\n")
    with pytest.raises(
        UsageError, match=r"expected the columns name,seed,score in .*, got name,sc"
    ):
        read_table(path, COLUMNS)


def test_a_page_that_lacks_a_mark_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before<after")
    with pytest.raises(UsageError, match="expected the markers '<' and '>'"):
        replace_marked(page, "<", ">", "new")
