"""The trained agents that come with the package: small policies saved for acting, one for each algorithm and task."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from agents.common.validation import unknown_name_message
from zoo.errors import UsageError
from zoo.runs.folder import file_name_of

ENDING = ".safetensors"
FOLDER = Path(str(files("zoo") / "trained"))


def find_trained(algo: str, env: str, folder: Path = FOLDER) -> Path:
    """Return the file of a trained agent.

    :raises UsageError: if there is none; the message says which there are.
    """
    found = list_trained(folder)
    if algo not in found:
        raise UsageError(f"{unknown_name_message('trained algorithm', algo, found)}; docs/trained.md lists them")
    names = {file_name_of(name): name for name in found[algo]}
    if file_name_of(env) not in names:
        raise UsageError(f"{algo} was trained on {', '.join(sorted(found[algo]))}; got {env}")
    return folder / algo / f"{file_name_of(env)}{ENDING}"


def list_trained(folder: Path = FOLDER) -> dict[str, list[str]]:
    """Return the environments that each algorithm was trained on, sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob(f"*/*{ENDING}")):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found
