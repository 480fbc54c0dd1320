"""Check the built site: its links to itself lead somewhere, its pictures are there, and every page has a way back.

``make docs`` runs it. Sphinx checks the links that it makes; this sees those of raw HTML and of reports too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

OTHER_ANCHORS = {"reports", "_modules"}
"""Folders of pages whose anchors a script makes, or that Sphinx does not always find the right line of code for."""


class Page(HTMLParser):
    """What a page links to, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep addresses and anchors."""
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("href", "src") if name in found]
        self.anchors |= {found[name] for name in ("id", "name") if name in found}


def problems(site: Path) -> Iterator[str]:
    """Give every link of a site that leads nowhere, and every page that does not lead to the site's pages."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    places = {page.resolve() for page in (site / "docs").rglob("*.html")}
    for path, page in pages.items():
        if not places & {(path.parent / unquote(urlsplit(link).path)).resolve() for link in page.links}:
            yield f"{path.relative_to(site.resolve())}: no link leads to a page in docs/"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(site.resolve())}: {link} is not there"
            elif target not in pages or OTHER_ANCHORS & {*path.parts, *target.parts}:
                continue
            elif unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path.relative_to(site.resolve())}: {link} has no such anchor"


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1])))
    print("\n".join([*found, f"{len(found)} problems"]))
    sys.exit(bool(found))
