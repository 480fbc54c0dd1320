"""The programs of the zoo and their shared code."""

from importlib.util import find_spec
from pathlib import Path

_agents = find_spec("agents")
if _agents is not None and _agents.origin and Path(_agents.origin).with_name("run.py").exists():
    raise ImportError(
        f"openai-agents and flow-rl-zoo both install a package `agents` ({Path(_agents.origin).parent}), and overwrite "
        "each other's files. Run `pip uninstall openai-agents flow-rl-zoo`, then install them in separate virtual "
        "environments"
    )
