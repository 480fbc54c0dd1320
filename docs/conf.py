"""Sphinx configuration of the site, which ``make docs`` builds.

The source folder is the repository's root, so that links between files work both on GitHub and on the site.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agents import __version__  # noqa: E402

project = "Flow RL Zoo"
author = "the authors of Flow RL Zoo"
version = release = __version__
root_doc = "docs/index"
SHOWN = {
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs",
    "results",
    "benchmarks",
}
# paths in which Sphinx does not look for pages
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in SHOWN] + [
    "docs/_build",
    "docs/jupyter_execute",  # output of myst-nb
]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx.ext.mathjax",
    "docs.directives",
    "docs.algorithm_page",
]

myst_enable_extensions = ["dollarmath", "html_image"]
nb_execution_mode = "off"  # show notebooks with their saved outputs
myst_heading_anchors = 4  # the same anchors of headings as on GitHub

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
add_module_names = False
toc_object_entries = False
nitpicky = True
# ignore names of other projects, which cannot be looked up offline, type variables, and a base class that is documented
# through its subclass
nitpick_ignore_regex = [
    ("py:.*", r"(?!agents|zoo).*"),
    ("py:class", r".*\.(T|\w+T|Bounds|StoredModel|TrainedModel)|Bounds"),
]

html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_copyright = False
html_title = "Flow RL Zoo"
html_favicon = html_logo = "assets/logo.svg"
html_extra_path = ["assets/index.html"]  # redirects from the site's root to the first page
html_static_path = ["assets/site.css"]
html_css_files = ["site.css"]
html_search_scorer = str(ROOT / "docs" / "assets" / "search.js")
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d63b8", "color-brand-content": "#1d63b8"},
    "dark_css_variables": {"color-brand-primary": "#6fb1ff", "color-brand-content": "#6fb1ff"},
}
