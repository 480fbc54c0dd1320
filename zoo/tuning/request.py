"""What a tuning study is asked to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zoo.settings.request import TrainRequest
from zoo.terminal.parser import AMOUNT, ZERO_OR_MORE, flag

TUNING_SEED = 1_000_000
"""First seed of training and seed of evaluations in tuning: apart from those of a report, which begin at 0."""


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
    n_trials: int = flag("trials that this call begins", default=100)
    max_total_trials: int | None = flag(
        "trials of the whole study, whichever calls begin them; takes the place of --n-trials"
    )
    timeout: float | None = flag("begin no trial after this time", type=AMOUNT, metavar="SECONDS")
    sampler: Literal["tpe", "random", "qmc"] = flag("how settings are proposed", default="tpe")
    pruner: Literal["median", "halving", "none"] = flag(
        "which trials are ended early", default="median"
    )
    n_startup_trials: int = flag(
        "trials before tpe and the median pruner begin", default=10, type=ZERO_OR_MORE
    )
    n_evaluations: int | None = flag(
        "evaluations of each trial, phase ends included (default: by --eval-freq)"
    )
    study_name: str | None = flag(
        "name of the study, which is continued if it exists (default: ALGO_ENV)"
    )
    study_storage: str | None = flag(
        "SQLite file of the study, or the URL of another database (default: LOG-FOLDER/studies/NAME/study.db)",
        metavar="DATABASE",
    )
