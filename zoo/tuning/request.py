"""What a tuning study is asked to be."""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.settings.request import TrainRequest
from zoo.terminal.parser import flag

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
    n_trials: int = flag("trials of the whole study, whichever calls begin them", default=100)
    study_name: str | None = flag(
        "name of the study, which is continued if it exists (default: ALGO_ENV)"
    )
    study_storage: str | None = flag(
        "URL of the study's database (default: a SQLite file in LOG-FOLDER/studies/NAME)",
        metavar="URL",
    )
