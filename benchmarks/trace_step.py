"""What a reader of one gradient step goes through: which files, how long they are, how often the step changes file.

``python benchmarks/trace_step.py --algo fql`` runs one update on a CPU, eagerly, with tiny networks and two flow steps,
and follows every call of a function of ``agents/``. Comprehensions and lambdas belong to the function around them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import agents` find the package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Print the files of one gradient step as JSON.

    :param arguments: words of the command line; None takes this process's.
    :return: what was printed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", default="fql", help="algorithm id")
    parser.add_argument("--flow-steps", type=int, default=2, help="Euler steps of a flow")
    args = parser.parse_args(arguments)
    result = {"algo": args.algo, **trace(args.algo, args.flow_steps)}
    print(json.dumps(result, indent=2))
    return result


def trace(algo: str, flow_steps: int) -> dict[str, Any]:
    """Follow the calls of one gradient step.

    :param algo: algorithm id.
    :param flow_steps: Euler steps of a flow.
    :return: lines of every file, their sum, the number of files and of changes from file to file.
    """
    model = make_model(algo, flow_steps)
    for _ in range(2):  # what is set up by the first update is not part of a step
        model.trainer.update(16)
    visited: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{ROOT / 'agents'}/") and not code.co_name.startswith("<"):
            visited.append(code.co_filename)

    sys.setprofile(note)
    try:
        model.trainer.update(16)
    finally:
        sys.setprofile(None)
    lines = {
        str(Path(file).relative_to(ROOT)): len(Path(file).read_text(encoding="utf-8").splitlines())
        for file in set(visited)
    }
    changes = sum(before != after for before, after in itertools.pairwise(visited))
    return {
        "files": dict(sorted(lines.items())),
        "number_of_files": len(lines),
        "lines": sum(lines.values()),
        "file_changes": changes,
    }


def make_model(algo: str, flow_steps: int) -> Any:
    """Return a small model with a random dataset."""
    import numpy as np
    from gymnasium import Env, spaces

    import agents

    class Spaces(Env[Any, Any]):
        observation_space = spaces.Box(-1, 1, (3,), np.float32)
        action_space = spaces.Box(-1, 1, (2,), np.float32)

    draw = np.random.default_rng(0)
    states = draw.standard_normal((101, 3)).astype(np.float32)
    dataset = {
        "observations": states[:-1],
        "next_observations": states[1:],
        "actions": draw.uniform(-1, 1, (100, 2)).astype(np.float32),
        "rewards": np.zeros(100, np.float32),
        "masks": np.ones(100, np.float32),
        "terminals": np.arange(100) == 99,
    }
    settings = {"net_arch": [16, 16], "compile": "off", "device": "cpu", "seed": 0}
    model = agents.get(algo).algorithm("MlpPolicy", Spaces(), flow_steps=flow_steps, **settings)
    model.load_dataset(dataset)
    return model


if __name__ == "__main__":
    main()
