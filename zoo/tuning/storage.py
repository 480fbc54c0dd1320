"""Where a study is kept: in a database that any number of starts of ``zoo tune`` share, through Optuna."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import SQLAlchemyError

from zoo.errors import UsageError

STUDIES = "studies"
"""Folder of studies in a log folder."""
DATABASE = "study.db"
HEARTBEAT_SECONDS, GRACE_SECONDS = 10, 60
"""How often a running trial says that it is alive, and after how long a silence it counts as killed."""
MOST_RETRIES = 5
"""How often a killed trial is tried again: its settings may be what kills it."""


def study_folder(log_folder: Path, name: str) -> Path:
    """Return the folder of a study's trials and results."""
    return log_folder / STUDIES / name


def is_url(storage: str | Path) -> bool:
    """Return whether a storage is the URL of a database rather than the path of a SQLite file."""
    return "://" in str(storage)


def open_storage(storage: str | Path) -> RDBStorage:
    """Open a study's database: the path of a SQLite file, made if it is missing, or a URL that SQLAlchemy knows.

    :raises UsageError: if it cannot be read, or is something else.
    """
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats
    path = Path(storage)
    if not is_url(storage) and path.exists() and not path.is_file():
        raise UsageError(
            f"expected `{storage}` to be the database of a study, got what is not a regular file; choose another"
        )
    try:
        return RDBStorage(
            str(storage) if is_url(storage) else f"sqlite:///{path.resolve()}",
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MOST_RETRIES),
        )
    except (SQLAlchemyError, ImportError, RuntimeError, AssertionError) as error:
        raise UsageError(
            f"the study's database {storage} cannot be opened: {error}; choose another with --storage"
        ) from error


def study_names(storage: RDBStorage) -> list[str]:
    """Return the names of the studies in a database."""
    return sorted(optuna.get_all_study_names(storage))
