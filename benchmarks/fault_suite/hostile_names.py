"""Modules that a stranger's files name, for every program that is given such files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.fault_suite import forge
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, REFUSED, Broken, Lab, require, require_named, run_folder
from zoo.models.trained import find_trained
from zoo.runs.folder import RunFolder

MODULE = "strangers_module"
ALGORITHM, ENVIRONMENT = f"{MODULE}:Agent", f"{MODULE}:Env-v0"
NAMES = (ALGORITHM, f"zoo.baselines:{ALGORITHM}", ENVIRONMENT)
"""What is named: an algorithm, one that poses as SB3's, an environment."""
PROGRAMS = ("evaluate", "enjoy", "export", "push-to-hub", "collect", "train", "resume", "compare", "monitor")


def _forge_run(folder: RunFolder, name: str) -> Path:
    """Let the settings of a run and its model name a module; return the folder."""
    config = folder.read_config()
    entry = {"env": name} if name == ENVIRONMENT else {"algo": name, "agent": {"class": name}}
    folder.write_config(config | entry)
    if name != ENVIRONMENT:
        forge.change_attributes(folder.model, {"algorithm_id": name})
    return folder.path


def _forge_policy(path: Path, name: str) -> Path:
    """Write a policy that names a module."""
    source = find_trained("bc", ENV)
    with safe_open(source, framework="pt") as file:
        header = dict(file.metadata())
    part, entry = ("about", {"env": name}) if name == ENVIRONMENT else ("policy", {"method": name})
    header[part] = json.dumps(json.loads(header[part]) | entry)
    save_file(load_file(source), path, header)
    return path


def _words(lab: Lab, program: str, model: Path, run: Path) -> tuple[str, list[str | Path]]:
    """Return the program of a try, and its words."""
    out = lab.folder / "out"
    words: dict[str, list[str | Path]] = {
        "evaluate": [model, "--episodes", "1"],
        "enjoy": [model, "--episodes", "1", "--no-render"],
        "export": [model, "-o", f"{out}.onnx"],
        "push-to-hub": [model, "-orga", "me", "-o", out],
        "compare": [run.parent, "--reps", "50", "-o", out],
        "monitor": [run.parent],
        "train": ["-i", run / f"{ENV}.zip", *lab.words("qam", lab.folder / "other")],
        "resume": ["--resume", *lab.words("qam", run.parents[1])],
        "collect": ["collect", run / f"{ENV}.zip", "--env", ENV, "--episodes", "1", "-o", f"{out}.npz"],
    }
    return {"resume": "train", "collect": "dataset"}.get(program, program), words[program]


@kind(
    "code-name",
    "a module that a stranger's run folder, model or policy names as algorithm or environment, given to each program",
    "it is not imported; a program that needs it names the flag that would let it",
    len(PROGRAMS) * len(NAMES) + 4 * 2,
)
def import_nothing(lab: Lab) -> None:
    """Give a program a run, or a policy, that names a module which is there to be imported."""
    (lab.folder / f"{MODULE}.py").write_text(f"open({str(lab.folder / 'trap')!r}, 'w')\n")
    tries = [(program, name, False) for program in PROGRAMS for name in NAMES]
    tries += [(program, name, True) for program in PROGRAMS[:4] for name in (ALGORITHM, ENVIRONMENT)]
    program, name, is_policy = tries[lab.seed % len(tries)]
    run = _forge_run(RunFolder(run_folder(lab.finished("qam"), "qam")), name)
    model = _forge_policy(lab.folder / "policy.safetensors", name) if is_policy else run
    which, words = _words(lab, program, model, run)
    path = {"sys:path": [str(lab.folder), *sys.path]}
    ended = lab.programs.run(which, words, folder=lab.folder, constants=path)
    if (lab.folder / "trap").exists():
        raise Broken(f"{program} imported `{MODULE}`, which only a file names")
    needs_environment = program in ("evaluate", "enjoy") or (program == "push-to-hub" and not is_policy)  # else stated
    needs_algorithm = program in ("evaluate", "enjoy", "export", "push-to-hub", "collect")
    if needs_environment if name == ENVIRONMENT else needs_algorithm:
        require_named(require(ended, REFUSED).err, MODULE, "--trust")
        require_named(ended.err, f"--env {name}" if name == ENVIRONMENT else f"--algo {name}")
    else:
        require(ended, DONE, REFUSED)
    shutil.rmtree(lab.folder / "out", ignore_errors=True)
