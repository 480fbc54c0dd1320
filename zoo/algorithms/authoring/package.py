"""A package to start an algorithm from: agent, settings, test, project file and README."""

from __future__ import annotations

import ast
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
from agents.common.validation import unknown_name_message
from agents.registry import ALIASES, BUILT_IN, find
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
WEIGHTED = {"beta": 1.0}
"""Settings of the agent that a package starts with."""


def write_package(name: str, like: str | None, parent: Path) -> dict[str, Any]:
    """Write a new folder with a package that holds one algorithm; return its path, files and the algorithm's name.

    :param name: of package and algorithm, e.g. ``my_agent``.
    :param like: id of a built-in algorithm whose hooks to start from; None for a short one of its own.
    :param parent: where the folder is made.
    :raises UsageError: if the name cannot be used, there is no such algorithm, or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise UsageError(f"the name must be lower case with underscores, e.g. `my_agent`, got {name!r}")
    if name in (*algorithm_ids(), *ALIASES) or importlib.util.find_spec(name) is not None:
        raise UsageError(f"`{name}` is the name of an algorithm or a module; choose another name, e.g. `my_{name}`")
    folder = parent / name
    if folder.exists():
        raise UsageError(f"{folder} exists, and nothing is overwritten; choose another name or --folder")
    if not parent.is_dir():
        raise UsageError(f"`--folder` must be an existing folder, got {parent}")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    body, settings = (None, WEIGHTED) if like is None else _start_from(like, name, class_name)
    values = {"name": name, "class_name": class_name, "settings": settings, "body": body, "like": like}
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    files = {path.format(name=name): template for path, template in FILES.items()}
    with atomic_folder(folder) as temporary:
        for file, template in files.items():
            text = templates.get_template(template).render(values, explain=explain)
            (temporary / file).write_text(text, encoding="utf-8")
    return {"folder": str(folder), "files": list(files), "algo": f"{name}:{class_name}"}


def explain(hook: str) -> str:
    """Return what `agents.Method` says of a hook as lines of comment inside a class."""
    text = (inspect.getdoc(getattr(Method, hook)) or "").partition(":param")[0]
    return "\n".join(textwrap.wrap(text, WIDTH, initial_indent="    # ", subsequent_indent="    # "))


# -- from a built-in algorithm ----------------------------------------------------------------------------------------


def _start_from(like: str, name: str, class_name: str) -> tuple[str, dict[str, Any]]:
    """Return the source of a built-in algorithm under a new name, its hooks explained, and its own settings."""
    id = ALIASES.get(like, like)
    if id not in BUILT_IN:
        raise UsageError(f"`--like`: {unknown_name_message('algorithm', like, BUILT_IN)}")
    method = find(id).method
    shared = Method.declared()
    own = {key: found.default for key, found in method.declared().items() if key not in shared}
    source, old = Path(inspect.getsourcefile(method) or "").read_text(encoding="utf-8"), method.__name__
    lines = source.splitlines()
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == old)
    for node in ast.walk(found):
        if isinstance(node, ast.Name) and node.id == old:
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line[: node.col_offset] + class_name + line[node.end_col_offset :]
    lines[found.lineno - 1] = re.sub(rf"\b{old}\b", class_name, lines[found.lineno - 1], count=1)
    for node in reversed(found.body):
        if isinstance(node, ast.FunctionDef) and callable(getattr(Method, node.name, None)):
            lines.insert(node.lineno - 1, explain(node.name))
    decorator = f'@register("{name}", paper="", published_name="{class_name}")'
    lines[min(node.lineno for node in found.decorator_list) - 1 : found.lineno - 1] = [decorator]
    return "\n".join(lines[1:]) + "\n", own  # without the old module's docstring
