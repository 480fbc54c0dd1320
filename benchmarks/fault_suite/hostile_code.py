"""Files of strangers with code in them, for everything that reads files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from agents.common.engine.checkpoint import find_checkpoints
from benchmarks.fault_suite import forge
from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, ENV, REFUSED, Broken, Lab, require, require_named, run_folder

NO_CODE = "none of it runs; refused with the name of the file (exit 2), or the run is skipped or another copy taken"
BY_CLASS = {"qam": "QAM", "sqam": "SQAM", "dsrl": "DSRL"}
ALGORITHMS = tuple(BY_CLASS)
BESIDE = {
    "subprocess": "subprocess:Popen",
    "os": "os:system",
    "import": "antigravity:Model",
    "builtins": "builtins:eval",
}


def _require_no_code(lab: Lab) -> None:
    if (lab.folder / "trap").exists():
        raise Broken("the code in the file ran")


# -- models -----------------------------------------------------------------------------------------------------------


def _pickled_attribute(lab: Lab, model: Path) -> None:
    forge.change_attributes(model, {lab.draw.choice(["policy_kwargs", "extra"]): forge.trap_attribute(_trap(lab))})


def _pickled_tensors(lab: Lab, model: Path) -> None:
    member = lab.draw.choice(["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"])
    forge.change_zip(model, {member: forge.trap_pickle(_trap(lab))})


def _named_class(lab: Lab, model: Path) -> None:
    path = lab.draw.choice(list(BESIDE.values()))
    value = lab.draw.choice(
        [{":class:": path}, {":object:": path, "attributes": {}}, {":named tuple:": path, "items": [["true"]]}]
    )
    forge.change_attributes(model, {"policy_class": value})


def _named_algorithm(lab: Lab, model: Path) -> None:
    forge.change_attributes(model, {"algorithm_id": lab.draw.choice(list(BESIDE.values()))})


MODEL_FORGERIES = (_pickled_attribute, _pickled_tensors, _named_class, _named_algorithm)


def _trap(lab: Lab) -> Path:
    return lab.folder / "trap"


def _forged_model(lab: Lab, name: str, forgeries: tuple[Callable[[Lab, Path], None], ...]) -> Path:
    model = lab.folder / "model.zip"
    shutil.copyfile(run_folder(lab.reference(name), name) / f"{ENV}.zip", model)
    forgeries[lab.seed % len(forgeries)](lab, model)
    return model


@kind("code-model", "code, or a class of another library, in a model given to `agents.load` or `QAM.load`", NO_CODE, 12)
def load_model(lab: Lab) -> None:
    """Load a forged model."""
    name = lab.configuration(ALGORITHMS)
    model = _forged_model(lab, name, MODEL_FORGERIES)
    by_class = [BY_CLASS[name]] if lab.seed // len(MODEL_FORGERIES) % 2 else []
    ended = lab.programs.run("load", [model, *by_class])
    _require_no_code(lab)
    require_named(require(ended, REFUSED).err, model.name)


@kind("code-train", "the same, given to `--pretrained-actor` or `--trained-agent`", NO_CODE, 8)
def train_from_model(lab: Lab) -> None:
    """Start a run from a forged model."""
    name = lab.configuration(ALGORITHMS)
    model = _forged_model(lab, name, (_pickled_attribute, _pickled_tensors))
    flag = ("--pretrained-actor", "--trained-agent")[lab.seed // 2 % 2]
    words = lab.words(name, lab.folder / "logs")
    ended = lab.programs.run("train", [flag, model, *words])
    _require_no_code(lab)
    if flag == "--trained-agent" and lab.seed % 2 == 0:  # only tensors are read from it, so the attribute is not
        require(ended, DONE, REFUSED)
        return
    require_named(require(ended, REFUSED).err, model.name)


# -- checkpoints ------------------------------------------------------------------------------------------------------


def _class_in_state(lab: Lab, checkpoint: Path) -> Path:
    path = checkpoint / "state.json"
    value = f'{{":object:": "{lab.draw.choice(list(BESIDE.values()))}", "attributes": {{"args": "true"}}}}'
    path.write_text(path.read_text().replace('"in_flight": {', f'"in_flight": {{"x": {value}, ', 1))
    return path


def _pickle_in_buffer(lab: Lab, checkpoint: Path) -> Path:
    forge.change_arrays(checkpoint / "buffer.npz", {"tail": forge.trap_array(_trap(lab))})
    return checkpoint / "buffer.npz"


def _pickle_as_buffer(lab: Lab, checkpoint: Path) -> Path:
    (checkpoint / "buffer.npz").write_bytes(forge.trap_pickle(_trap(lab)))
    return checkpoint / "buffer.npz"


def _pickle_as_evaluations(lab: Lab, checkpoint: Path) -> Path:
    forge.change_arrays(checkpoint / "0.evaluations.npz", {"results": forge.trap_array(_trap(lab))})
    return checkpoint / "0.evaluations.npz"


def _attribute_in_checkpoint(lab: Lab, checkpoint: Path) -> Path:
    _pickled_attribute(lab, checkpoint / "model.zip")
    return checkpoint / "model.zip"


def _tensors_in_checkpoint(lab: Lab, checkpoint: Path) -> Path:
    _pickled_tensors(lab, checkpoint / "model.zip")
    return checkpoint / "model.zip"


CHECKPOINT_FORGERIES = (
    _class_in_state, _pickle_in_buffer, _pickle_as_buffer, _pickle_as_evaluations, _attribute_in_checkpoint,
    _tensors_in_checkpoint,
)  # fmt: skip


@kind("code-resume", "code in a file of a stranger's checkpoint, whose sums fit, given to `--resume`", NO_CODE, 12)
def resume_checkpoint(lab: Lab) -> None:
    """Resume a run of a stranger, one or both of whose checkpoints hold code."""
    name = lab.configuration()
    logs = lab.interrupted(name)
    checkpoints = find_checkpoints(run_folder(logs, name) / "checkpoint")
    both = lab.seed // len(CHECKPOINT_FORGERIES) % 2 == 1
    for checkpoint in checkpoints if both else checkpoints[:1]:
        CHECKPOINT_FORGERIES[lab.seed % len(CHECKPOINT_FORGERIES)](lab, checkpoint)
        forge.sign(checkpoint)
    ended = lab.train(name, logs)
    _require_no_code(lab)
    if both:
        require_named(require(ended, REFUSED).err, checkpoints[0].name)
    else:
        require_named(require(ended, DONE).err, checkpoints[0].name)
        lab.require_same(name, logs)


# -- everything else --------------------------------------------------------------------------------------------------


def _buffer_pickle(lab: Lab) -> None:
    name = lab.configuration(ALGORITHMS)
    folder = run_folder(lab.reference(name), name)
    buffer = lab.folder / "replay_buffer.npz"
    if lab.draw.random() < 0.5:
        buffer.write_bytes(forge.trap_pickle(_trap(lab)))
    else:
        shutil.copyfile(folder / "replay_buffer.npz", buffer)
        forge.change_arrays(buffer, {"_observations": forge.trap_array(_trap(lab))})
    ended = lab.programs.run("load buffer", [folder / f"{ENV}.zip", buffer])
    require_named(require(ended, REFUSED).err, buffer.name)


def _evaluations(lab: Lab) -> None:
    logs = lab.finished("qam")
    path = run_folder(logs, "qam") / "evaluations.npz"
    (path.parent / "manifest.json").unlink()
    forge.change_arrays(path, {"results": forge.trap_array(_trap(lab))})
    ended, _ = lab.compare(logs)
    require_named(require(ended, REFUSED).err, path.name)  # there is no other run to compare


def _dataset(lab: Lab) -> None:
    data = lab.folder / "data"
    shutil.copytree(lab.stock.data, data)
    path = next(path for path in sorted(data.rglob("*.npz")) if "val" not in path.name)
    forge.change_arrays(path, {lab.draw.choice(["observations", "actions", "x"]): forge.trap_array(_trap(lab))})
    words = lab.words("qam", lab.folder / "logs", data=data)
    require_named(require(lab.programs.run("train", words), REFUSED, DONE).err, path.name)


def _yaml(lab: Lab) -> None:
    text = f"!!python/object/apply:os.mkdir ['{_trap(lab)}']\n"
    which = lab.draw.choice(["config", "settings", "suite"])
    if which == "config":
        logs = lab.finished("qam")
        path = run_folder(logs, "qam") / "config.yml"
        (path.parent / "manifest.json").unlink()
        path.write_text(text)
        ended, _ = lab.compare(logs)
    else:
        path = lab.folder / f"{which}.yml"
        path.write_text(text)
        words = lab.words("qam", lab.folder / "logs")
        program, words = ("train", ["-conf", str(path), *words]) if which == "settings" else ("benchmark", [str(path)])
        ended = lab.programs.run(program, words)
    require_named(require(ended, REFUSED).err, path.name)


def _policy(lab: Lab) -> None:
    path = lab.folder / "policy.pt"
    if lab.draw.random() < 0.5:
        path.write_bytes(forge.trap_pickle(_trap(lab)))
    else:
        torch.save({"state_dict": {}, "about": forge.Trap(_trap(lab))}, path)
    require_named(require(lab.programs.run("load policy", [path]), REFUSED).err, path.name)


OTHER_FORGERIES = (_buffer_pickle, _evaluations, _dataset, _yaml, _policy)


@kind("code-other", "code in a replay buffer, evaluations, a dataset, YAML, a policy", NO_CODE, 15)
def read_other(lab: Lab) -> None:
    """Give a forged file to what reads it."""
    try:
        OTHER_FORGERIES[lab.seed % len(OTHER_FORGERIES)](lab)
    finally:
        _require_no_code(lab)
