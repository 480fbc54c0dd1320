"""What a training run is asked to be, and the command line that asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zoo.settings.layers import DEFAULT_PROFILE


@dataclass(frozen=True)
class TrialSettings:
    """Settings that a tuning study has chosen.

    :param source: the study, the trial and its score, in words.
    :param shared: what all trials of the study have in common, with dotted names.
    """

    settings: Mapping[str, Any]
    source: str
    shared: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """A run as the flags of ``zoo train`` ask for it; each field is the flag of its name.

    :param env: with `no_env` empty, until the data are known that name what stands for it.
    :param seeds: one for each replica; None takes any.
    :param hyperparams: words ``KEY=VALUE``, as are `env_kwargs` and `eval_env_kwargs`.
    :param run: settings of the run (`zoo.settings.record.RunSettings`) that were given by flags.
    :param trial: settings of the trial that `study` and `trial_id` name, or of the trial that is being trained.
    """

    algo: str
    env: str = ""
    no_env: bool = False
    spaces: Path | None = None
    seeds: tuple[int, ...] | None = None
    profile: str = DEFAULT_PROFILE
    quick: bool = False
    hyperparams: Sequence[str] = ()
    conf_file: Path | None = None
    study: str | None = None
    trial_id: str | None = None
    trial: TrialSettings | None = None
    trained_agent: Path | None = None
    pretrained_actor: Path | None = None
    behaviour: str | None = None
    resume: bool = False
    run: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "auto"
    dataset_dir: str | None = None
    storage: str = "auto"
    n_envs: int | None = None
    vec_env: str = "dummy"
    env_kwargs: Sequence[str] = ()
    eval_env_kwargs: Sequence[str] = ()
    gym_packages: Sequence[str] = ()
    n_eval_envs: int | None = None
    eval_seed: int = 0
    on_divergence: str = "stop"
    save_replay_buffer: bool = False
    device: str = "auto"
    precision: str | None = None
    compile: str | None = None
    num_threads: int = -1
    log_folder: Path = Path("logs")
    verbose: int = 1
    tensorboard_log: Path | None = None
    progress: bool | None = None
    label: str | None = None
    track: str | None = None
    wandb_project_name: str | None = None
    wandb_group: str | None = None
    wandb_entity: str | None = None
    wandb_tags: Sequence[str] = ()

    def arguments(self) -> dict[str, Any]:
        """Return all fields as plain values by the names of their flags, as ``args.yml`` keeps them."""
        values = {flag.name: getattr(self, flag.name) for flag in fields(self)}
        if self.trial is not None:
            values["trial"] = {"source": self.trial.source, **self.trial.settings}
        values |= values.pop("run")
        # JSON has neither paths nor tuples, as the safe subset of YAML has none.
        return dict(json.loads(json.dumps(values, default=str)))

    def command_line(self) -> list[str]:
        """Return the words after ``zoo train`` that ask for this run, e.g. for a process on another machine."""
        words: list[str] = []
        derived = {"run", "trial"}
        if self.no_env:  # `env` is made from the data's name, and argparse takes one of the two
            derived.add("env")
        for flag in fields(self):
            value = getattr(self, flag.name)
            if flag.name not in derived and value != flag.default:
                words += _flag(flag.name, value)
        for name, value in self.run.items():
            is_pair = isinstance(value, list | tuple) and isinstance(value[0], int | float)
            words += _flag(name, ",".join(map(str, value)) if is_pair else value)
        return words


def _flag(name: str, value: Any) -> Iterator[str]:
    """Yield the words of a flag."""
    flag = f"--{name.replace('_', '-')}"
    if value is True:
        yield flag
    elif value is False:
        yield flag.replace("--", "--no-", 1)
    elif isinstance(value, list | tuple):
        yield flag
        for item in value:
            yield json.dumps(item) if isinstance(item, Mapping) else str(item)
    else:
        yield f"{flag}={value}"  # in one word, since a value may begin with a dash
