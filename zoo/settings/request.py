"""What training runs and studies are asked to be: flags, the requests that they are read into, and the command line."""

# ruff: noqa: RUF009  # `flag` declares a field

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
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
"""Settings of all algorithms that are flags too."""

SOURCES = ("auto", "download", "generate")
"""Where a benchmark's own dataset comes from; what else `--dataset` says names data."""
TUNING_SEED = 1_000_000
"""First seed of training and seed of evaluations in tuning: apart from those of a report, which begin at 0."""
RARELY_GIVEN = (
    "eval_at_start", "log_interval", "dataset_replace_interval", "success_at", "normalize", "noise_type", "noise_std",
)  # fmt: skip
"""Settings of a run without a flag; `-params` and settings files give them."""


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A run as the flags of ``zoo train`` ask for it; each field is the flag of its name.

    :param env: with `no_env` empty, until the data are known that name what stands for it.
    :param seeds: one for each replica; None takes any.
    :param hyperparams: words ``KEY=VALUE``, as are `env_kwargs` and `eval_env_kwargs`.
    :param run: settings of the run (`zoo.settings.record.RunSettings`), and of its machine, that flags gave.
    """

    algo: str = flag(
        "algorithm id, e.g. qam", default=MISSING, required=True, section="what to train"
    )
    env: str = flag(
        "e.g. cube-double-play-singletask-task2-v0", default="", either="where", required=True
    )
    no_env: bool = flag(
        "train and judge by --dataset alone (docs/no_env.md)", default=False, either="where"
    )
    seeds: tuple[int, ...] | None = None
    profile: str = flag(
        "protocol of the settings; `zoo agents show ALGO` lists them", default=DEFAULT_PROFILE
    )
    quick: bool = flag("the algorithm's small settings, for a laptop", default=False)
    hyperparams: Sequence[str] = flag(
        "settings, repeatable", "-params", default=(), metavar="KEY=VALUE", action="extend"
    )
    conf_file: Path | None = flag("YAML file that overrides the shipped settings", "-conf")
    trained_agent: Path | None = flag(
        "model (.zip), or folder of a run, to start from", "-i", either="start"
    )
    pretrained_actor: Path | None = flag(
        "model (.zip), or folder of a run, whose behaviour flow to start from", either="start"
    )
    behaviour: str | None = flag(
        "makes the behaviour flow, an agents.PretrainedFlow of a network of your own (docs/pretrained.md)",
        metavar="FILE.py:FUNCTION",
    )
    resume: bool = flag(
        "continue the newest unfinished run with the same settings; report it if it has finished; otherwise start a "
        "new one",
        default=False,
    )
    run: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = flag(
        "auto, download, generate, the path of a file or folder, or minari:ID",
        default="auto",
        section="data",
    )
    dataset_dir: str | None = flag(
        "where datasets live (default: where each benchmark keeps its own)"
    )
    storage: Literal["auto", "device", "host"] = flag(
        "where the replay buffer is kept: on the device if it fits, always, or never",
        default="auto",
    )
    n_envs: int | None = flag(
        "training environments (default: one per seed); one update per step of all environments",
        section="environments",
    )
    vec_env: Literal["dummy", "subproc"] = flag(
        "how training environments are stepped", default="dummy"
    )
    env_kwargs: Sequence[str] = flag(
        "arguments of the environment", default=(), metavar="KEY=VALUE", action="extend"
    )
    eval_env_kwargs: Sequence[str] = flag(
        "those of evaluation environments (default: --env-kwargs)",
        default=(),
        metavar="KEY=VALUE",
        action="extend",
    )
    gym_packages: Sequence[str] = flag("packages to import, for their environments", default=())
    n_eval_envs: int | None = flag(
        "evaluation environments (default: two per core or eight, mazes one per episode)",
        section="evaluation and saving",
    )
    eval_seed: int = flag("decides the evaluation's starts and noise", default=0, type=SEED)
    device: str = flag("auto, cpu, cuda, cuda:1, ...", default="auto", section="speed")
    num_threads: int | None = flag(
        "CPU threads of PyTorch (default: as many as the networks' size repays)"
    )
    log_folder: Path = flag(
        "where run folders are made", "-f", default=Path("logs"), section="output"
    )
    verbose: int = 1
    label: str | None = flag("name of this run's row in a comparison (default: the algorithm)")

    def command_line(self) -> list[str]:
        """Return the words after ``zoo train`` that ask for this run, e.g. for a process on another machine."""
        words: list[str] = []
        derived = {"run"}
        if self.no_env:  # `env` is made from the data's name, and argparse takes one of the two
            derived.add("env")
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in derived and value != entry.default:
                words += _flag(entry.name, value)
        for name, value in self.run.items():
            # two numbers are one word, e.g. `--action-range=-1,1`; other lists are one word for each item
            is_pair = isinstance(value, list | tuple) and isinstance(value[0], int | float)
            words += _flag(name, ",".join(map(str, value)) if is_pair else value)
        return words


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """A study as the flags of ``zoo tune`` ask for it.

    :param run: its training runs, without the settings of a trial.
    """

    run: TrainRequest
    search: Sequence[str] = flag(
        "settings to search, each NAME, NAME=low:high, NAME=low:high:log or NAME=[a,b,c] (default: those that the "
        "algorithm declares; `zoo agents show ALGO` lists them)",
        default=(),
        action="extend",
        metavar="NAME",
        section="study",
    )
    n_trials: int = flag("trials of the whole study, whichever calls begin them", default=100)
    study_name: str | None = flag(
        "name of the study, which is continued if it exists (default: ALGO_ENV)"
    )
    study_storage: str | None = flag(
        "URL of the study's database (default: a SQLite file in LOG-FOLDER/studies/NAME)",
        metavar="URL",
    )


def _flag(name: str, value: Any) -> Iterator[str]:
    """Yield the words of a flag."""
    word = f"--{name.replace('_', '-')}"
    if value is True:
        yield word
    elif value is False:
        yield word.replace("--", "--no-", 1)
    elif isinstance(value, list | tuple):
        yield word
        for item in value:
            yield json.dumps(item) if isinstance(item, Mapping) else str(item)
    else:
        yield f"{word}={value}"  # in one word, since a value may begin with a dash


def add_training(
    parser: Parser,
    seed: int = -1,
    names: Collection[str] | None = None,
) -> None:
    """Add the flags of a training request, its seeds, and the settings of a run, which override the YAML files.

    :param seed: the default; -1 draws one.
    :param names: of the fields and settings; None takes all.
    """
    groups = add_flags(parser, TrainRequest, names)
    if names is None:
        add_settings(groups["speed"], {"compile": MACHINE["compile"]})
    add_verbose(groups["output"])
    seed_help = "seed of everything random"
    kind = SEED
    if seed < 0:
        kind = SEED_OR_ANY
        seed_help += "; -1 draws one"
    seeds = groups["what to train"].add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=kind, default=seed, help=seed_help)
    seeds.add_argument("--seeds", nargs="+", help="several seeds at once, e.g. 0-11 or 3 7 9")
    title = "steps, data, evaluations and checkpoints (default: from YAML)"
    flags = {
        name: declared
        for name, declared in RunSettings.declared().items()
        if name not in RARELY_GIVEN and (names is None or name in names)
    }
    add_settings(parser.add_argument_group(title), flags)


def add_settings(group: argparse._ArgumentGroup, settings: Mapping[str, Setting]) -> None:
    """Add a flag for each of some settings; one that is left out leaves the value to the YAML files."""
    for name, declared in settings.items():
        options = options_of(declared.type, declared.bounds.get("at_least", 1))
        if "action" in options:  # with `--no-...`, to override a YAML file's `true`
            options["action"] = argparse.BooleanOptionalAction
        elif "nargs" in options:
            options["type"] = lambda text: load_yaml(text, "a wrapper")
            options["metavar"] = "WRAPPER"
        group.add_argument(f"--{name.replace('_', '-')}", **options, help=declared.doc)


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings whose flags are on a command line."""
    names = (*RunSettings.declared(), *MACHINE)
    values = {name: getattr(args, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def read_request(args: argparse.Namespace) -> TrainRequest:
    """Return the run that a command line asks for; flags that a program does not have keep their defaults.

    :raises UsageError: if flags contradict each other.
    """
    entries = given_flags(args, TrainRequest)
    if args.seeds is not None:
        entries["seeds"] = tuple(parse_seeds(args.seeds, "--seeds"))
    elif args.seed >= 0:
        entries["seeds"] = (args.seed,)
    entries["run"] = given_settings(args)
    # texts that may be paths, absolute as those of the other flags
    for name in ("dataset", "dataset_dir"):
        text = entries.get(name)
        if text is not None and text not in SOURCES and os.path.exists(text):
            entries[name] = os.path.abspath(text)
    return TrainRequest(**entries)
