"""A package for an algorithm of one's own, from a template: agent, settings, test, project file and README."""

import importlib.util
import keyword
import re
from pathlib import Path
from typing import Any

from agents.common.files import atomic_folder
from agents.registry import ALIASES
from zoo.algorithms.catalogue import algorithm_ids
from zoo.terminal.errors import UsageError

TEMPLATE = Path(__file__).parent / "template"
"""The package of an algorithm called `my_agent`; ``.txt`` keeps its files from being taken for code of the zoo."""


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
        raise UsageError(f"{folder} exists already; choose another name or --folder")
    if not parent.is_dir():
        raise UsageError(f"`--folder` must be an existing folder, got {parent}")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    names = {"my_agent": name, "MyAgent": class_name, "my-agent": name.replace("_", "-")}
    files = []
    with atomic_folder(folder) as temporary:
        for path in sorted(TEMPLATE.iterdir()):
            file = path.name.removesuffix(".txt")
            text = path.read_text(encoding="utf-8")
            for placeholder, replacement in names.items():
                file = file.replace(placeholder, replacement)
                text = text.replace(placeholder, replacement)
            (temporary / file).write_text(text, encoding="utf-8")
            files.append(file)
    return {"folder": str(folder), "files": files, "algo": f"{name}:{class_name}"}
