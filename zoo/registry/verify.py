"""Whether a submission keeps the format and the protocol: every problem in a sentence that says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd

from agents.common.files import DamagedFile, regular_file
from agents.common.files.bounded import read_text
from zoo.errors import UsageError
from zoo.report.included_runs import finished_runs, read_included_runs
from zoo.report.published_scores import (
    CHECKS,
    MEANS,
    SUBMISSION,
    PublishedSet,
    load_means,
    load_submission,
    suite_names,
    suite_tasks,
    tasks_of,
)
from zoo.runs.contents import find_bad_config
from zoo.runs.folder import CONFIG_KEYS, UnreadableRun
from zoo.runs.history import PHASES
from zoo.runs.protocol import count, protocol_differences, shortened
from zoo.runs.read import describe_config, split_environment
from zoo.settings import plain_yaml
from zoo.settings.layers import read_yaml

SCORES, CONFIG, COMMAND, POLICIES = "scores.csv", "config.yml", "command.txt", "policies.yml"
FILES = (SUBMISSION, SCORES, MEANS, CONFIG, COMMAND, POLICIES, CHECKS)
MEAN_COLUMNS = ("method", "phase", "step", "environment", "mean", "sd", "seeds")
TOLERANCE = 0.06
"""Points that a stated mean may differ from the one computed again: it is rounded to one decimal."""
_MOST_BYTES = 20_000_000


def verify(folder: Path, target: Path | None = None) -> list[str]:
    """Return everything that is wrong with a submission; nothing of it is run.

    :param folder: where it is.
    :param target: the folder ``.../<method>/<date>-<team>`` that it is to become; None where it is there.
    :return: sentences, each with the file, where in it, and what to do.
    """
    problems = list(_check_files(folder))
    if problems:
        return problems
    entry, problems = _read_checked(folder / SUBMISSION, "submission")
    if problems:
        return problems
    problems = list(_check_entry(folder / SUBMISSION, entry, target or folder.resolve()))
    if entry["suite"] not in suite_names():
        return problems
    found = load_submission(folder, f"{entry['method']}/{entry['date']}-{entry['team']}")
    try:
        if found.runs is None:
            return [*problems, *_check_means(folder / MEANS, found, entry)]
        table = read_included_runs(folder, suite_tasks(found.suite))
    except UsageError as error:
        return [*problems, str(error)]
    problems += _check_scores(folder / SCORES, table, found, entry)
    problems += _check_config(folder / CONFIG, table, found, entry)
    for name in (POLICIES, CHECKS):
        if (folder / name).exists():
            content, bad = _read_checked(folder / name, name.removesuffix(".yml"))
            problems += bad or _check_runs_named(folder / name, content, table)
    return problems or list(_check_stated(folder / SUBMISSION, found, entry))


def _check_entry(path: Path, entry: Mapping[str, Any], place: Path) -> Iterator[str]:
    """Yield where a submission does not fit its folder, or the suites that there are."""
    wanted, got = f"{entry['method']}/{entry['date']}-{entry['team']}", "/".join(place.parts[-2:])
    if wanted != got:
        yield f"{path}: its folder must be {wanted} by `method`, `date` and `team`, got {got}; rename the folder"
    if entry["suite"] not in suite_names():
        yield f"{path}: `suite` must be one of {', '.join(suite_names())}, got {entry['suite']}; choose one"
        return
    known = {split_environment(task)[1] for task in suite_tasks(entry["suite"])}
    for domain in sorted(entry.get("domains", {}).keys() - known):
        yield f"{path}: `domains` must be domains of {entry['suite']}, got {domain}; remove it"


def _check_files(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files before one is read."""
    if not folder.is_dir():
        yield f"expected the folder of a submission, got `{folder}`; zoo submit makes one"
        return
    present = {path.name for path in folder.iterdir()}
    for name in sorted(present - {*FILES}):
        yield f"{folder / name}: expected only {', '.join(FILES)}; remove it"
    if SUBMISSION not in present or (SCORES in present) == (MEANS in present):
        wanted = f"{SUBMISSION} and either {SCORES} (each run's counts) or {MEANS}"
        yield f"{folder}: expected {wanted}, got {', '.join(sorted(present))}; zoo submit writes them"
    for name in sorted(present & {*FILES}):
        try:
            size = regular_file(folder / name).stat().st_size
        except (OSError, DamagedFile) as error:
            yield f"{folder / name}: {error}"
        else:
            if (folder / name).is_symlink() or size > _MOST_BYTES:
                most = f"{_MOST_BYTES:,} bytes, no link"
                yield f"{folder / name}: expected a file of at most {most}, got {size:,} bytes; copy it"


@cache
def _schemas() -> dict[str, Any]:
    return {
        path.name.partition(".")[0]: json.loads(path.read_text("utf-8"))
        for path in Path(__file__).parent.glob("*.json")
    }


def _read_checked(path: Path, schema: str) -> tuple[dict[str, Any], list[str]]:
    """Return what a YAML file says, and where it breaks its schema."""
    try:
        content = read_yaml(path, path.name)
    except UsageError as error:
        return {}, [f"{error}; write it again"]
    errors = sorted(
        jsonschema.Draft202012Validator(_schemas()[schema]).iter_errors(content), key=lambda e: list(e.path)
    )
    return content if isinstance(content, dict) else {}, [f"{path}: {_explain(error)}" for error in errors]


def _explain(error: jsonschema.ValidationError) -> str:
    """Return a breach of a schema in the words of this project."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.path).lstrip(".")
    properties = error.schema.get("properties", {})
    if error.validator == "required":
        name = next(name for name in error.validator_value if name not in error.instance)
        return f"`{f'{place}.{name}'.lstrip('.')}` is missing; add it: {properties[name]['description']}"
    if error.validator == "additionalProperties":
        names = ", ".join(sorted(map(str, error.instance.keys() - properties.keys())))
        return f"expected only {', '.join(properties)}, got {names}{f' in `{place}`' if place else ''}; remove it"
    expected = error.schema.get("description") or error.message
    return f"`{place}` must be {expected}, got {str(error.instance)[:80]!r}; correct it"


def _check_scores(path: Path, table: pd.DataFrame, found: PublishedSet, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield which rows are not of this method, protocol and software, and which runs are not whole."""
    places = [(str(name), str(phase)) for name, phase in zip(table["environment"], table["phase"], strict=True)]
    ends = {place: found.last_steps(entry["method"], place[0]).get(place[1], 0) for place in set(places)}
    protocols = {name: found.protocol_of(entry["method"], split_environment(name)[1]) for name, _ in ends}
    episodes = [protocols[name].get("eval_episodes") for name, _ in places]
    rules = [
        ("method", entry["method"], table["method"] == entry["method"]),
        ("episodes", f"{episodes[0]} as in the protocol", table["episodes"] == pd.Series(episodes)),
        ("step", "at most the end of its phase", table["step"] <= pd.Series([ends[place] for place in places])),
        ("settings", "a hash of the settings", table["settings"] != ""),
        ("commit", "that of the code", table["commit"] != ""),
        ("ogbench", f"{entry['ogbench']} as in {SUBMISSION}", table["ogbench"] == entry["ogbench"]),
        ("mujoco", "the version of MuJoCo", table["mujoco"] != ""),
        ("dataset", "the SHA-256 of the data", table["dataset"].str.fullmatch(r"[0-9a-f]{64}")),
    ]
    yield from _broken(path, table, rules)
    unfinished = table.drop(finished_runs(table, found.last_steps).index)[["environment", "seed"]].drop_duplicates()
    for environment, seed in unfinished.itertuples(index=False):
        last = found.last_steps(entry["method"], environment)
        wanted = " and ".join(f"{phase} at {step:,}" for phase, step in last.items())
        yield f"{path}: {environment}, seed {seed}: expected an evaluation {wanted}, got none; finish the run"
    seeds = {task: tuple(sorted(part["seed"].unique())) for task, part in table.groupby("environment")}
    usual = max(seeds.values(), key=list(seeds.values()).count)
    for task, has in seeds.items():
        if has != usual:
            got = f"the seeds {_listed(usual)} as on the other tasks, got {_listed(has)}"
            yield f"{path}: {task}: expected {got}; add or remove runs"


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(shortened(map(str, seeds)))


def _check_config(path: Path, table: pd.DataFrame, found: PublishedSet, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the settings of runs depart from the protocol; scores of other code bases may come without them."""
    if not path.exists():
        return
    try:
        content = plain_yaml.read(read_text(path, plain_yaml.MOST_CHARACTERS))
        configs = {str(name): _protocol_in(path, config) for name, config in dict(content).items()}
    except (OSError, DamagedFile, plain_yaml.InvalidYaml, UnreadableRun, TypeError, ValueError) as error:
        yield f"{path}: expected the settings of runs by environment, got something else ({error}); write it again"
        return
    for environment in sorted({*table["environment"]} - {*configs}):
        yield f"{path}: {environment} is missing; add the settings of its runs"
    for environment, config in configs.items():
        stated = found.protocol_of(entry["method"], split_environment(environment)[1])
        differences = protocol_differences(PHASES[-1], config, stated)
        if differences:
            yield f"{path}: {environment}: {'; '.join(differences)} of {SUBMISSION}; state what was run"


def _protocol_in(path: Path, config: Any) -> dict[str, Any]:
    """Return the fields of the protocol that a run's settings state."""
    config = {"seed": 0, **config}  # all seeds share it
    missing = [key for key in CONFIG_KEYS if config.get(key) is None]
    problem = f"lacks {', '.join(missing)}" if missing else find_bad_config(config)
    if problem:
        raise UnreadableRun(path, problem)
    return describe_config(config, {})


def _check_means(path: Path, found: PublishedSet, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield which rows of a table of means are not of this method and suite."""
    try:
        table = load_means(found)
    except (OSError, ValueError) as error:
        yield f"{path} cannot be read ({error}); write it again"
        return
    if set(table) != {*MEAN_COLUMNS}:
        yield f"{path}: expected the columns {', '.join(MEAN_COLUMNS)}, got {', '.join(table)}; write it again"
        return
    tasks = set(suite_tasks(found.suite))
    domains = {domain for task in tasks if set(tasks_of(domain := split_environment(task)[1])) <= tasks}
    numbers = table[["step", "mean", "sd", "seeds"]].apply(pd.to_numeric, errors="coerce")
    whole = (numbers % 1 == 0) & (numbers >= 0)
    rules = [
        ("method", entry["method"], table["method"] == entry["method"]),
        ("phase", " or ".join(PHASES), table["phase"].isin(PHASES)),
        ("environment", f"a task or a whole domain of {found.suite}", table["environment"].isin(tasks | domains)),
        ("environment", "in one row of each phase", ~table.duplicated(["phase", "environment"])),
        ("step", "a whole number", whole["step"]),
        ("mean", "a fraction from 0 to 1", numbers["mean"].between(0, 1)),
        ("sd", "a number >= 0, or empty", (numbers["sd"] >= 0) | table["sd"].isna()),
        ("seeds", "a whole number >= 1", whole["seeds"] & (numbers["seeds"] >= 1)),
    ]
    yield from _broken(path, table, rules)


def _broken(path: Path, table: pd.DataFrame, rules: Iterable[tuple[str, str, pd.Series]]) -> Iterator[str]:
    """Yield the first row that breaks each rule; a rule is a column, what it must be, and in which rows it is."""
    for name, expected, is_kept in rules:
        if not is_kept.all():
            row = int((~is_kept).to_numpy().argmax())
            got, rows = str(table[name].iloc[row]) or "none", count(int((~is_kept).sum()), "row")
            yield f"{path}, line {row + 2}: `{name}` must be {expected}, got {got}; correct {rows}"


def means_of(found: PublishedSet) -> dict[str, float]:
    """Return the mean over tasks of each phase, in percent to one decimal."""
    table = load_means(found)
    table = table[table["environment"].isin(suite_tasks(found.suite))]
    return {phase: round(100 * float(part["mean"].mean()), 1) for phase, part in table.groupby("phase")}


def _check_stated(path: Path, found: PublishedSet, entry: Mapping[str, Any]) -> Iterator[str]:
    computed = means_of(found)
    for phase, stated in entry.get("stated", {}).items():
        if abs(computed.get(phase, -1) - stated) > TOLERANCE:
            got = f"{computed[phase]}" if phase in computed else "no runs"
            yield f"{path}: `stated.{phase}` is {stated}, but the scores give {got}; correct it"


def _check_runs_named(path: Path, content: Mapping[str, Any], table: pd.DataFrame) -> Iterator[str]:
    """Yield which runs of policies or checks have no scores, or other ones than the scores say."""
    last = table.sort_values("step").drop_duplicates(["method", "environment", "seed"], keep="last")
    scores = last.set_index(["environment", "seed"])["successes"]
    lists = [content["policies"]] if "policies" in content else [check["runs"] for check in content["checks"]]
    for named in (named for runs in lists for named in runs):
        key = (named["environment"], named["seed"])
        if key not in scores.index:
            yield f"{path}: {key[0]}, seed {key[1]} has no scores; remove it, or add them"
        elif "stated" in named and int(scores[key]) != named["stated"]:
            got = f"{named['stated']} successes, the scores {scores[key]}"
            yield f"{path}: {key[0]}, seed {key[1]} states {got}; check it again"
