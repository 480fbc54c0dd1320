"""Show formulas as MathML, which browsers draw themselves: no script, and nothing from another host."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

MATHML = "http://www.w3.org/1998/Math/MathML"
ACCENTS = ("\u02c9", "~", "\u02c6")  # bar, tilde, hat
ElementTree.register_namespace("", MATHML)


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def visit_inline(writer: Any, node: nodes.math) -> None:
    """Write a formula inside a line."""
    writer.body.append(_mathml_of(node, as_block=False))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula of its own, which scrolls where the window is too narrow for it."""
    writer.body.append(f'<div class="formula">{_mathml_of(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def to_mathml(formula: str, as_block: bool) -> str:
    """Return a LaTeX formula as MathML; mend what docutils writes otherwise than LaTeX.

    :raises MathError: if docutils does not know a command.
    """
    # docutils takes 12 in \frac12 for the numerator
    separated = re.sub(r"(\\[dt]?frac)(\d)(\d)", r"\1{\2}{\3}", formula)
    mathml = re.sub(r">\s+<", "><", str(tex2mathml(separated, as_block=as_block)))
    # names that HTML has and XML has not, e.g. of spaces
    mathml = re.sub(r"&(?!amp;|lt;|gt;)\w+;", lambda name: html.unescape(name[0]), mathml)
    root = ElementTree.fromstring(mathml)
    for element in list(root.iter(f"{{{MATHML}}}munderover")):
        base, index, accent = element
        if accent.text in ACCENTS:
            _put_index_beside(element, base, index, accent)
    for operator in root.iter(f"{{{MATHML}}}mo"):
        if operator.text == "‖":
            # the bar that closes a squared norm stands alone in its element, and would be sized without what it closes
            operator.set("stretchy", "false")
    return ElementTree.tostring(root, encoding="unicode")


def _put_index_beside(element: Element, base: Element, index: Element, accent: Element) -> None:
    """Turn a base between an index below and an accent above into an accented base with a subscript."""
    accented = Element(f"{{{MATHML}}}mover", {"accent": "true"})
    accented.extend([base, accent])
    element.tag = f"{{{MATHML}}}msub"
    element[:] = [accented, index]


def _mathml_of(node: nodes.Element, as_block: bool) -> str:
    try:
        return to_mathml(node.astext(), as_block)
    except MathError as error:
        log.warning("formula %r: %s", node.astext(), error, location=node)
        return ""
