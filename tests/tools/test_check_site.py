"""What the check of the built site finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_site import problems


def site(folder: Path, body: str) -> Path:
    (folder / "a").mkdir()
    (folder / "a" / "b.html").write_text('<h1 id="here">b</h1>')
    (folder / "picture 1.png").write_bytes(b"")
    (folder / "index.html").write_text(f'<p id="own">{body}</p>')
    return folder


@pytest.mark.parametrize(
    "link", ["a/b.html", "a/b.html#here", "#own", "#", "picture%201.png", "https://example.org/x", "mailto:a@b.c"]
)
def test_a_link_that_leads_somewhere_is_fine(link: str, tmp_path: Path) -> None:
    assert not list(problems(site(tmp_path, f'<a href="{link}">x</a><img src="{link.partition("#")[0]}">')))


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("a/c.html", "index.html: a/c.html is not there"),
        ("a", "index.html: a is not there"),
        ("a/b.html#there", "index.html: a/b.html#there has no such anchor"),
        ("#other", "index.html: #other has no such anchor"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(link: str, problem: str, tmp_path: Path) -> None:
    assert list(problems(site(tmp_path, f'<a href="{link}">x</a>'))) == [problem]
