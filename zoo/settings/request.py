"""Requests for training runs and studies, read from flags."""

# ruff: noqa: RUF009  # `flag` declares a field

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, Literal

from agents.common.common_settings import CommonSettings
from agents.common.settings import Setting
from zoo.settings.layers import DEFAULT_PROFILE, load_yaml
from zoo.settings.record import RunSettings
from zoo.terminal.parser import (
    SEED,
    SEED_OR_ANY,
    Parser,
    add_flags,
    add_verbose,
    flag,
    given_flags,
    options_of,
    parse_seeds,
)

MACHINE = {name: CommonSettings.declared()[name] for name in CommonSettings.with_role("machine")}
"""Settings of the machine, which all algorithms of this project declare."""

SOURCES = ("auto", "download", "generate")
"""Sources of a benchmark's dataset; any other value of `--dataset` is a path or Minari id."""
TUNING_SEED = 1_000_000
"""First training seed of a study, and its evaluation seed. Both differ from the seeds of reports, which start at 0."""
RARELY_GIVEN = (
    "eval_at_start", "log_interval", "dataset_replace_interval", "success_at", "normalize", "noise_type", "noise_std",
)  # fmt: skip
"""Settings of a run that have no flag; `-params` and settings files can set them."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A run as requested by the flags of ``zoo train``; each field but `run` has the value of the flag with its name.

    :param env: name of the environment; with `no_env`, empty until it is derived from the dataset's name.
    :param seeds: one seed for each replica; None to sample one.
    :param hyperparams: words ``KEY=VALUE``, like `env_kwargs` and `eval_env_kwargs`.
    :param run: settings given as flags: those of the run (`zoo.settings.record.RunSettings`) and of the machine.
    """

    algo: str = flag("algorithm id, e.g. qam", default=MISSING, required=True, section="run")
    env: str = flag(
        "environment, e.g. cube-double-play-singletask-task2-v0",
        default="",
        either="where",
        required=True,
    )
    no_env: bool = flag(
        "train and evaluate on --dataset alone (docs/no_env.md)", default=False, either="where"
    )
    seeds: tuple[int, ...] | None = None
    profile: str = flag(
        "profile of settings; `zoo agents show ALGO` lists all profiles", default=DEFAULT_PROFILE
    )
    quick: bool = flag("use the algorithm's small settings, for a laptop", default=False)
    hyperparams: Sequence[str] = flag(
        "settings of the algorithm or run, by name; repeatable",
        "-params",
        default=(),
        metavar="KEY=VALUE",
        action="extend",
    )
    conf_file: Path | None = flag("YAML file that overrides the shipped settings", "-conf")
    trained_agent: Path | None = flag(
        "model (.zip) or run folder to start from", "-i", either="start"
    )
    pretrained_actor: Path | None = flag(
        "model (.zip) or run folder with the behaviour flow to start from", either="start"
    )
    behaviour: str | None = flag(
        "function that returns the behaviour flow, an agents.PretrainedFlow of your network (docs/pretrained.md)",
        metavar="FILE.py:FUNCTION",
    )
    resume: bool = flag(
        "continue the newest run with the same settings; report it if it has finished; start a new one if there is "
        "none",
        default=False,
    )
    run: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = flag(
        "source of the data: auto, download, generate, the path of a file or folder, or minari:ID",
        default="auto",
        section="data",
    )
    dataset_dir: str | None = flag(
        "folder of datasets (default: the benchmark's own, e.g. ~/.ogbench/data)"
    )
    storage: Literal["auto", "device", "host"] = flag(
        "location of the replay buffer: auto (on the device if it fits), device or host",
        default="auto",
    )
    n_envs: int | None = flag(
        "number of training environments (default: one per seed); each takes train_freq steps between updates",
        section="environments",
    )
    vec_env: Literal["dummy", "subproc"] = flag(
        "SB3's DummyVecEnv or SubprocVecEnv for training", default="dummy"
    )
    env_kwargs: Sequence[str] = flag(
        "arguments of the environment", default=(), metavar="KEY=VALUE", action="extend"
    )
    eval_env_kwargs: Sequence[str] = flag(
        "arguments of evaluation environments (default: --env-kwargs)",
        default=(),
        metavar="KEY=VALUE",
        action="extend",
    )
    gym_packages: Sequence[str] = flag(
        "packages to import, which register environments", default=(), action="extend"
    )
    n_eval_envs: int | None = flag(
        "number of evaluation environments (default: max(8, 2 x cores), in mazes 64; at most one per episode)",
        section="evaluation and saving",
    )
    eval_seed: int = flag("seed of initial states and noise in evaluations", default=0, type=SEED)
    device: str = flag("auto, cpu, cuda, cuda:1, ...", default="auto", section="speed")
    num_threads: int | None = flag("CPU threads of PyTorch (default: chosen by network size)")
    log_folder: Path = flag(
        "parent folder of the run folders", "-f", default=Path("logs"), section="output"
    )
    verbose: int = 1
    label: str | None = flag("name of this run's row in a comparison (default: the algorithm)")


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """A study as requested by the flags of ``zoo tune``.

    :param run: request for the study's training runs, without the settings of a trial.
    """

    run: TrainRequest
    search: Sequence[str] = flag(
        "settings to search, each NAME, NAME=low:high, NAME=low:high:log or NAME=[a,b,c] (default: those "
        "declared by the algorithm; see `zoo agents show ALGO`)",
        default=(),
        action="extend",
        metavar="NAME",
        section="study",
    )
    n_trials: int = flag("total number of trials, over all processes of the study", default=100)
    study_name: str | None = flag(
        "name of the study; an existing study is continued (default: ALGO_ENV)"
    )
    study_storage: str | None = flag(
        "URL of the study's database (default: a SQLite file in LOG-FOLDER/studies/NAME)",
        metavar="URL",
    )


def add_training(
    parser: Parser,
    seed: int = -1,
    names: Collection[str] | None = None,
) -> None:
    """Add the flags of a training request: its fields, seeds, and settings that override the YAML files.

    :param seed: default seed; -1 to sample one.
    :param names: fields and settings that get a flag; None for all.
    """
    groups = add_flags(parser, TrainRequest, names)
    if names is None:
        add_settings(groups["speed"], {"compile": MACHINE["compile"]})
    add_verbose(groups["output"])
    seed_help = "seed of all random numbers in training"
    kind = SEED
    if seed < 0:
        kind = SEED_OR_ANY
        seed_help += "; -1 samples a seed"
    seeds = groups["run"].add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=kind, default=seed, help=seed_help)
    seeds.add_argument("--seeds", nargs="+", help="several seeds in one process: 0-11 or 3 7 9")
    title = "steps, data, evaluations and checkpoints (default: from YAML)"
    flags = {
        name: declared
        for name, declared in RunSettings.declared().items()
        if name not in RARELY_GIVEN and (names is None or name in names)
    }
    add_settings(parser.add_argument_group(title), flags)


def add_settings(group: argparse._ArgumentGroup, settings: Mapping[str, Setting]) -> None:
    """Add a flag for each setting; without the flag, the value comes from the YAML files."""
    for name, declared in settings.items():
        options = options_of(declared.type, declared.bounds.get("at_least", 1))
        if "nargs" in options:
            options["type"] = lambda text: load_yaml(text, "a wrapper")
            options["metavar"] = "WRAPPER"
        group.add_argument(f"--{name.replace('_', '-')}", **options, help=declared.doc)


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that are set by flags."""
    names = (*RunSettings.declared(), *MACHINE)
    values = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def read_request(args: argparse.Namespace) -> TrainRequest:
    """Return the request of a command line; fields for which the command has no flag keep their defaults.

    :raises UsageError: if flags contradict each other.
    """
    entries = given_flags(args, TrainRequest)
    if args.seeds is not None:
        entries["seeds"] = tuple(parse_seeds(args.seeds, "--seeds"))
    elif args.seed >= 0:
        entries["seeds"] = (args.seed,)
    entries["run"] = given_settings(args)
    # these values may be paths, so they are made absolute like other paths
    for name in ("dataset", "dataset_dir"):
        path = os.path.expanduser(entries.get(name, ""))
        is_path = name == "dataset_dir" or (path not in SOURCES and os.path.exists(path))
        if path and is_path:
            entries[name] = os.path.abspath(path)
    return TrainRequest(**entries)
