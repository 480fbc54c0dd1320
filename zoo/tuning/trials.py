"""One trial of a study, to train with its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zoo.config import find_entry
from zoo.errors import UsageError
from zoo.tuning.journal import JOURNAL, STUDIES, open_journal, study_folder, study_names

SETTINGS, DEFINITION = "settings", "definition"
"""Names of the attribute of a trial with its settings, and of that of a study with what all of its trials share."""


def read_trial(study: str, trial_id: str, log_folder: Path, algo: str) -> dict[str, Any]:
    """Return the settings of a trial, and where they are from.

    :param study: name of a study below the log folder, its journal file, or ``FILE:NAME``.
    :param trial_id: its number, or ``"best"``.
    :param algo: which algorithm the settings are for.
    :return: ``settings`` and ``source``.
    :raises UsageError: if there is no such study or trial, or it is another algorithm's; says what there is.
    """
    path, name = _find_study(study, log_folder)
    found = optuna.load_study(study_name=name, storage=open_journal(path))
    if DEFINITION not in found.user_attrs:
        raise UsageError(f"study `{name}` in {path} is not one of `zoo tune`; give one that is")
    tuned = found.user_attrs[DEFINITION]["algo"]
    if tuned != find_entry(algo).id:
        raise UsageError(f"study `{name}` has tuned {tuned}, got --algo {algo}; choose a study of that algorithm")
    trial = _find_trial(found, name, trial_id)
    score = f"score {trial.value:.4g}" if trial.state == TrialState.COMPLETE else "pruned"
    return {"settings": trial.user_attrs[SETTINGS], "source": f"study {name}, trial {trial.number} ({score})"}


def _find_study(study: str, log_folder: Path) -> tuple[Path, str]:
    """Return the journal file and the name of a study."""
    before, _, after = study.rpartition(":")
    if Path(study).is_file():
        path, name = Path(study), ""
    elif before and Path(before).is_file():
        path, name = Path(before), after
    else:
        path, name = study_folder(log_folder, study) / JOURNAL, study
    names = study_names(open_journal(path)) if path.is_file() else []
    if not name and len(names) == 1:
        return path, names[0]
    if not name:
        raise UsageError(
            f"`--study {study}` expects a journal of one study, got {', '.join(names) or 'none'}; add its name, e.g. "
            f"--study {study}:NAME"
        )
    if name in names:
        return path, name
    known = sorted(file.parent.name for file in (log_folder / STUDIES).glob(f"*/{JOURNAL}"))
    raise UsageError(
        f"there is no study `{study}`; expected a journal file, or the name of a study in {log_folder / STUDIES}, "
        f"which has: {', '.join(known) or 'none'}"
    )


def _find_trial(study: optuna.Study, name: str, trial_id: str) -> FrozenTrial:
    """Return a trial that has been trained, by its number or as the best."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if trial_id == "best" and complete:
        return best_first(complete)[0]
    for trial in trials:
        if str(trial.number) == trial_id:
            return trial
    numbers = ", ".join(str(trial.number) for trial in trials) or "none yet"
    raise UsageError(
        f"study `{name}` has no finished trial `{trial_id}`; expected the number of one of these: {numbers}"
        + ("; or best" if complete else "")
    )


def best_first(complete: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return complete trials by their score, the earlier one first where scores are equal."""
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
