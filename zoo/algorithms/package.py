"""The template of a package for an algorithm: agent, settings, test, project file and README."""

import importlib.util
import inspect
import keyword
import re
import textwrap
from pathlib import Path
from typing import Any

import jinja2

from agents.common.files import atomic_folder
from agents.common.method import Method
from agents.registry import ALIASES
from zoo.algorithms.catalogue import algorithm_ids
from zoo.terminal.errors import UsageError

FILES = {
    "{name}.py": "agent.py.jinja",
    "{name}.yml": "settings.yml.jinja",
    "test_{name}.py": "test.py.jinja",
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
}
"""File of the package -> its template."""

WIDTH = 116
"""Columns of a comment in the written agent file."""


def write_package(name: str, parent: Path) -> dict[str, Any]:
    """Write a new folder with a package that holds one algorithm; return its path, files and the algorithm's name.

    :param name: of package and algorithm, e.g. ``my_agent``.
    :param parent: where the folder is made.
    :raises UsageError: if the name cannot be used, or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UsageError(
            f"the name must be lower case with underscores, e.g. `my_agent`, got {name!r}"
        )
    # A package of that name would hide the module, or be hidden by it.
    if name in (*algorithm_ids(), *ALIASES) or importlib.util.find_spec(name) is not None:
        raise UsageError(
            f"`{name}` is the name of an algorithm or a module; choose another name, e.g. `my_{name}`"
        )
    folder = parent / name
    if folder.exists():
        raise UsageError(
            f"{folder} exists, and nothing is overwritten; choose another name or --folder"
        )
    if not parent.is_dir():
        raise UsageError(f"`--folder` must be an existing folder, got {parent}")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,  # a name that a template misspells is an error
    )
    files = {path.format(name=name): template for path, template in FILES.items()}
    with atomic_folder(folder) as temporary:
        for file, template in files.items():
            text = templates.get_template(template).render(
                name=name, class_name=class_name, explain=explain
            )
            (temporary / file).write_text(text, encoding="utf-8")
    return {"folder": str(folder), "files": list(files), "algo": f"{name}:{class_name}"}


def explain(hook: str) -> str:
    """Return the docstring of a hook of `agents.Method` as lines of comment inside a class."""
    text = (inspect.getdoc(getattr(Method, hook)) or "").partition(":param")[0]
    return "\n".join(
        textwrap.wrap(text, WIDTH, initial_indent="    # ", subsequent_indent="    # ")
    )
