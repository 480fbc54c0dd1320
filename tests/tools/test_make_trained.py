"""The page about the trained agents shows the scores in their files."""

import shutil
from pathlib import Path

from tools.make_trained import PAGE, table, write_page
from zoo.models.agent import FOLDER


def test_the_page_shows_what_the_files_state(tmp_path):
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(page)
    assert page.read_text() == PAGE.read_text()
    assert table().count("\n| ") == len(list(FOLDER.glob("*")))
