"""The programs of the zoo and what they share."""

from importlib.util import find_spec
from pathlib import Path

_agents = find_spec("agents")
if _agents is not None and _agents.origin and Path(_agents.origin).with_name("run.py").exists():
    raise ImportError(
        f"expected the package `agents` of flow-rl-zoo, got openai-agents' in {Path(_agents.origin).parent}: each of "
        "the two overwrites the other's. Run `pip uninstall openai-agents flow-rl-zoo`, then install one of them "
        "here, and the other in another virtual environment"
    )
