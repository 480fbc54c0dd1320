"""Writing a submission from run folders."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from agents.common.files import atomic_folder
from zoo.errors import UsageError
from zoo.hub.upload import command_of, without_folders
from zoo.registry.verify import COMMAND, CONFIG, SCORES, means_of, verify
from zoo.report.inputs import nothing_counts
from zoo.report.published_scores import SUBMISSION, load_submission, suite_names, suite_tasks
from zoo.runs.folder import RunFolder, UnreadableRun
from zoo.runs.read import read_runs, read_times
from zoo.runs.resume import comparable
from zoo.runs.scores import SUCCESS
from zoo.settings import plain_yaml
from zoo.settings.layers import read_yaml
from zoo.suites.jobs import digest_of
from zoo.suites.scores import score_table, score_text

ABOUT = {
    "title": "Q-learning with My Idea",
    "authors": "A. Author, B. Author",
    "team": "my-lab",
    "reference": "arXiv 2611.00001",
    "code": {"url": "https://github.com/my-lab/my-idea", "commit": "0123abc"},
    "licence": "CC-BY-4.0",
    "source": "Five seeds of each task, trained with Flow RL Zoo.",
    "tuning": "inverse_temperature on task 2 of each domain: five values, two seeds each",
}
"""What only its authors know of a submission, as an example."""
FIELDS = (
    "profile", "offline_steps", "online_steps", "eval_episodes", "sparse", "dataset_size", "net_arch",
    "pretraining_steps",
)  # fmt: skip
"""What a submission states of `zoo.runs.protocol.PROTOCOL`."""


def submit(paths: Sequence[Path], about: Path, target: Path) -> Path:
    """Write the submission of a method's finished runs, and return its folder.

    :param paths: folders to search for run folders.
    :param about: YAML file with what `ABOUT` has, and ``notes`` if there are any.
    :param target: the registry; the submission becomes ``<method>/<date>-<team>`` in it.
    :raises UsageError: if there are no such runs, a submission of that name is there, or `verify` finds a problem; then
        nothing is written.
    """
    given = read_yaml(about, "--about")
    if not isinstance(given, dict):
        raise UsageError(f"--about must be a YAML file like that of `zoo submit --example`, got {about}")
    own = read_runs(paths)
    counted = own.counted()
    if counted.empty:
        raise UsageError(nothing_counts(own, paths))
    methods = sorted(set(counted["method"]))
    if len(methods) > 1 or set(counted["kind"]) != {SUCCESS.name}:
        raise UsageError(
            f"expected runs of one method that are scored by success, got {', '.join(methods)}; name the folders of one"
        )
    runs = own.runs[own.runs["problem"].isna()]
    folders = [RunFolder(Path(path)) for path in runs["run"]]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    entry = {"format": 1, "method": methods[0], "date": today, **given}
    entry |= {"suite": _suite_of(set(runs["environment"])), **_protocols(runs), **_machine(folders)}
    folder = target / methods[0] / f"{entry['date']}-{entry.get('team', 'TEAM')}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_folder(folder) as temporary:
            digests = {str(run.path): digest_of(comparable(run.read_config())) for run in folders}  # without the seed
            _write(temporary, entry, score_table(counted, digests), folders)
            if problems := verify(temporary, folder):
                raise UsageError("nothing was written:\n" + "\n".join(problems))
    except FileExistsError as error:
        raise UsageError(f"expected {folder} not to exist yet; remove it, or move it away") from error
    finally:
        with contextlib.suppress(OSError):  # it holds other submissions
            folder.parent.rmdir()
    return folder


def _write(folder: Path, entry: dict[str, Any], scores: pd.DataFrame, runs: Sequence[RunFolder]) -> None:
    """Fill the folder of a submission."""
    configs = {}
    for run in runs:
        config = without_folders(run.read_config())
        configs[config["env"]] = {name: value for name, value in config.items() if name not in ("seed", "seeds")}
    commands = filter(None, (command_of(run) for run in runs))
    (folder / SCORES).write_text(score_text(scores), encoding="utf-8")
    (folder / CONFIG).write_text(plain_yaml.write(configs), encoding="utf-8")
    (folder / COMMAND).write_text("".join(f"{line}\n" for line in dict.fromkeys(commands)), encoding="utf-8")
    (folder / SUBMISSION).write_text(plain_yaml.write(entry), encoding="utf-8")
    entry["stated"] = means_of(load_submission(folder, folder.name))
    (folder / SUBMISSION).write_text(plain_yaml.write(entry), encoding="utf-8")


def _suite_of(environments: set[str]) -> str:
    """Return the smallest suite that has some tasks."""
    found = [name for name in suite_names() if environments <= set(suite_tasks(name))]
    if not found:
        raise UsageError(
            f"expected runs on tasks of one suite ({', '.join(suite_names())}), got {', '.join(sorted(environments))}; "
            "name the folders of one suite, or add a suite to results/published/sets.yml"
        )
    return min(found, key=lambda name: len(suite_tasks(name)))


def _protocols(runs: pd.DataFrame) -> dict[str, Any]:
    """Return what runs have in common on most domains, and on which ones they differ."""
    parts = {str(domain): {name: _plain(part[name]) for name in FIELDS} for domain, part in runs.groupby("domain")}
    usual = {name: Counter(map(str, (part[name] for part in parts.values()))).most_common(1)[0][0] for name in FIELDS}
    protocol = {name: next(p[name] for p in parts.values() if str(p[name]) == text) for name, text in usual.items()}
    others = {
        domain: {name: value for name, value in part.items() if value != protocol[name]}
        for domain, part in parts.items()
    }
    found = {"protocol": {name: value for name, value in protocol.items() if value is not None}}
    return found | ({"domains": kept} if (kept := {domain: part for domain, part in others.items() if part}) else {})


def _plain(values: pd.Series) -> Any:
    """Return the first value as YAML takes it; runs of one method on one domain agree."""
    value = values.iloc[0]
    return value.item() if hasattr(value, "item") else value


def _machine(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return what trained the runs, how long that took, and the version of OGBench."""
    versions, hours = [run.read_versions() for run in runs], []
    for run in runs:
        with contextlib.suppress(UnreadableRun):  # it logged no time
            hours.append(read_times(run).hours_per_seed)
    machines = {f"{each.get('device')}: {each.get('processor')}" for each in versions}
    packages = {str((each.get("packages") or {}).get("ogbench")) for each in versions}
    if len(packages) > 1:
        raise UsageError(
            f"expected runs with one version of OGBench, got {', '.join(sorted(packages))}; submit them apart"
        )
    found: dict[str, Any] = {"hardware": "; ".join(sorted(machines)), "ogbench": packages.pop()}
    return found | ({"hours": round(sum(hours) / len(hours), 3)} if hours else {})
