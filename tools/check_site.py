"""Check the built site for broken internal links, missing pictures, and pages without a link back to the documentation.

``make docs`` runs this check. Sphinx checks only links that it creates, not links in raw HTML and reports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

OTHER_ANCHORS = {"reports", "_modules"}
"""Folders whose anchors are not checked, because scripts create them or Sphinx links to lines of code that moved."""


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the tag's addresses and anchors."""
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            elif name in ("id", "name"):
                self.anchors.add(value or "")


def problems(site: Path) -> Iterator[str]:
    """Yield every broken link of a site, and every page without a link to a page in ``docs/``."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    docs = {path.resolve() for path in (site / "docs").rglob("*.html")}
    for path, page in pages.items():
        if not docs & {
            (path.parent / unquote(urlsplit(link).path)).resolve() for link in page.links
        }:
            yield f"{path.relative_to(site.resolve())}: no link leads to a page in docs/"
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(site.resolve())}: {link} does not exist"
            elif target not in pages or OTHER_ANCHORS & {*path.parts, *target.parts}:
                continue
            elif unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path.relative_to(site.resolve())}: {link} has no such anchor"


if __name__ == "__main__":
    broken = list(problems(Path(sys.argv[1])))
    print("\n".join([*broken, f"{len(broken)} problems"]))
    sys.exit(bool(broken))
