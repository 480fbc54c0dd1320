"""Saved scores: small tables of the scores of a suite's runs, to commit and publish.

A job with saved scores counts as done even where its run folders are missing, e.g. on another machine.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from agents.common.files import atomic_path
from zoo.processes.locks import Lock
from zoo.report.published_scores import COLUMNS, finished_runs, read_rows, refuse
from zoo.runs.folder import RunFolder
from zoo.runs.protocol import phase_ends
from zoo.runs.read import read_runs, split_environment
from zoo.suites.jobs import Job, JobStatus
from zoo.terminal.errors import UsageError

_RUN = ["method", "environment", "seed"]
_REMEDY = "restore the file, or name another folder"


def find_saved(jobs: Sequence[Job], folder: Path) -> frozenset[str]:
    """Return the names of the jobs whose scores, of every seed up to the end of each phase, are in a folder.

    :param folder: of files that `write_scores` made; it need not exist.
    :raises UsageError: if a file is damaged, or has runs of these methods on these tasks with other settings.
    """
    table = _read(list(folder.glob("*.csv")))
    # rows of other methods and tasks may stay, but a file must not mix two settings of one method and task
    allowed: dict[tuple[str, str], set[str]] = {}
    ends = {}
    for job in jobs:
        ends[_pair(job)] = phase_ends(job.config.run.settings())
        allowed.setdefault(_pair(job), set()).add(job.settings_hash)
    runs = table[[*_RUN, "settings"]].drop_duplicates()
    for method, environment, seed, digest in runs.itertuples(index=False):
        if digest not in allowed.get((method, environment), {digest}):
            raise UsageError(
                f"expected the scores in `{folder}` to be of the settings that runs have now, got other ones of "
                f"{method} on {environment}, seed {seed} ({digest}); move the file away, or name another folder"
            )
    finished = finished_runs(table.astype({"step": int}), lambda *pair: ends.get(pair, {}))
    seeds = finished.groupby(["method", "environment", "settings"])["seed"].agg(set).to_dict()
    names = set()
    for job in jobs:
        if set(map(str, job.run.seeds)) <= seeds.get((*_pair(job), job.settings_hash), set()):
            names.add(job.name)
    return frozenset(names)


def write_scores(statuses: Sequence[JobStatus], folder: Path) -> list[Path]:
    """Write one CSV file for each method, with a row for each evaluation of its finished runs; return the files.

    :param folder: rows of other runs stay there.
    """
    stamps = {}
    for status in statuses:
        if status.run is not None and status.state.is_final:
            for run_folder in status.run.folders:
                stamps[str(run_folder.path)] = _stamps(run_folder, status.job.settings_hash)
    if not stamps:
        return []
    tables = read_runs(list(map(Path, stamps)))
    # under the suite's names of methods, since the hash of the settings separates protocols
    labels = tables.runs.set_index("run")["label"]
    evaluations = tables.counted()
    evaluations["method"] = evaluations["run"].map(labels)
    table = evaluations.join(pd.DataFrame.from_dict(stamps, orient="index"), on="run")[
        list(COLUMNS)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / ".lock"):  # another start may add rows at the same time
        return [_write(str(method), rows, folder) for method, rows in table.groupby("method")]


def _write(method: str, rows: pd.DataFrame, folder: Path) -> Path:
    """Write the evaluations of a method beside those of its other runs; return the file."""
    path = folder / f"{method.replace('/', '_').replace(' ', '_')}.csv"
    # as text, so that stored rows keep every character: pandas would write some numbers differently
    text = io.StringIO(rows.to_csv(index=False, float_format="%.6g"))
    new_rows = pd.read_csv(text, dtype=str, keep_default_na=False)
    files = [path] if path.exists() else []
    stored = _read(files)
    is_replaced = pd.MultiIndex.from_frame(stored[_RUN]).isin(
        pd.MultiIndex.from_frame(new_rows[_RUN])
    )
    table = pd.concat([stored[~is_replaced], new_rows], ignore_index=True)
    numbers = table.astype({"seed": int, "step": int})
    order = numbers.sort_values(["environment", "seed", "phase", "step"]).index
    with atomic_path(path) as temporary:
        table.loc[order].to_csv(temporary, index=False)
    return path


def _read(files: Sequence[Path]) -> pd.DataFrame:
    """Return the rows of files, every cell as the text that stands there."""
    if not files:
        return pd.DataFrame(columns=list(COLUMNS), dtype=str)
    table = read_rows(sorted(files), COLUMNS, remedy=_REMEDY)
    refuse(table, {"a whole line": table[["method", "settings"]].eq("").any(axis=1)}, _REMEDY)
    rows = table[list(COLUMNS)].reset_index(drop=True)
    # older releases wrote the module that registers an environment before its name
    return rows.assign(environment=[split_environment(name)[0] for name in rows["environment"]])


def _pair(job: Job) -> tuple[str, str]:
    """Return the method and the environment under which a job's scores are kept."""
    return job.method, split_environment(job.run.env)[0]


def _stamps(folder: RunFolder, settings: str) -> dict[str, str]:
    """Return the settings, code and data of a run, by the last five of `COLUMNS`."""
    versions = folder.read_versions()
    commit, *dirty = str(versions.get("git_commit") or "unknown").split("-")
    packages = versions["packages"]
    return {
        "settings": settings,
        "commit": "-".join([commit[:12], *dirty]),
        "ogbench": str(packages.get("ogbench") or ""),
        "mujoco": str(packages.get("mujoco") or ""),
        "dataset": str(versions.get("dataset_fingerprint") or ""),
    }
