"""Trained agents are made of the runs that the rule names, and their page says what their files say."""

import shutil
from pathlib import Path

from tools.make_trained import PAGE, table, write_page
from zoo.models.agent import FOLDER


def test_the_page_shows_what_the_files_state(tmp_path):
    page = Path(shutil.copy(PAGE, tmp_path))
    write_page(FOLDER, page)
    assert page.read_text() == PAGE.read_text()
    assert table(FOLDER).count("\n| ") == len(list(FOLDER.glob("*")))
