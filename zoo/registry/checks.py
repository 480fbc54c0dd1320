"""Scores checked by playing policies again, or by training runs again; what came of it is kept beside the scores."""

from __future__ import annotations

import datetime
import math
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from agents.common.files import atomic_path
from zoo.baselines import algorithm_ids
from zoo.errors import UsageError
from zoo.models.agent import Agent, agent_of_file
from zoo.models.hub import download_policy
from zoo.models.play import play, with_protocol
from zoo.models.score import interval_of_successes
from zoo.models.trained import find_trained, list_trained
from zoo.registry.verify import CONFIG, POLICIES
from zoo.report.published_scores import CHECKS, PublishedSet, load_runs, published_names
from zoo.runs.read import read_runs
from zoo.runs.versions import git_commit, processor
from zoo.settings import plain_yaml
from zoo.settings.config import RunSettings
from zoo.settings.layers import read_yaml
from zoo.terminal.messages import log

REPLAYED, RETRAINED = "replayed", "retrained"
LEVEL = 0.95
SANDBOX = "bwrap"
ROOT = Path(__file__).parents[2]
_KEY = ["method", "environment", "seed"]


def last_counts(found: PublishedSet) -> pd.DataFrame:
    """Return the last evaluation of each run of a set.

    :raises UsageError: if it has means alone.
    """
    runs = load_runs(found)
    if runs is None:
        raise UsageError(f"{found.name} has means alone, so no run of it can be checked; ask its authors for the runs")
    return runs.sort_values("step").drop_duplicates(_KEY, keep="last").sort_values(_KEY, ignore_index=True)


def replay(found: PublishedSet) -> dict[str, Any]:
    """Play the policies behind scores again, under our starts, and return the entry for `CHECKS`.

    A policy reaches its score again if the number of successes lies in the stated one's 95% interval (Wilson's).
    """
    counts = last_counts(found).set_index(_KEY)
    rows = []
    for key, agent in _policies(found):
        if key not in counts.index:
            continue  # a packaged agent of a method that the set lacks
        stated, episodes = int(counts.loc[key, "successes"]), int(counts.loc[key, "episodes"])
        results, _ = play(with_protocol(agent, episodes, None))
        won = 0 if results.successes is None else int(results.successes[0].sum())
        low, high = interval_of_successes(stated, episodes)
        rows.append(_row(key, episodes, stated, won, episodes * low, episodes * high))
    if not rows:
        raise UsageError(f"expected policies of {found.name} in {POLICIES}, or among the packaged agents, got none")
    return _entry(REPLAYED, rows)


def retrain(found: PublishedSet, number: int, seed: int, work: Path, code: Path | None) -> dict[str, Any]:
    """Train runs that are drawn at random again, and return the entry for `CHECKS`.

    A new run is as the others if its successes are the stated ones, or lie in the 95% interval in which one more seed
    of them is expected (Student's, and no narrower than that of the episodes).

    :param number: of runs.
    :param seed: of the draw.
    :param work: folder of the new runs and their data.
    :param code: checkout of the code of a stranger's method, which then trains in a sandbox; None for the zoo's own.
    """
    counts = last_counts(found)
    drawn = np.random.default_rng(seed).permutation(len(counts))[:number]
    rows = []
    for index in drawn:
        run = counts.loc[index]
        others = counts[(counts["method"] == run["method"]) & (counts["environment"] == run["environment"])]
        command = train_command(found, run, work, logs := work / "logs" / str(index))
        log.info("training %s on %s, seed %d", run["method"], run["environment"], run["seed"])
        _train(command if code is None else sandboxed(command, code, work), code)
        won = int(read_runs([logs]).counted().sort_values("step")["successes"].iloc[-1])
        rows.append(_row(tuple(run[_KEY]), int(run["episodes"]), int(run["successes"]), won, *expected_range(others)))
    return _entry(RETRAINED, rows)


def expected_range(runs: pd.DataFrame) -> tuple[float, float]:
    """Return the interval of successes in which one more seed of some runs is expected."""
    share, episodes, n = runs["successes"] / runs["episodes"], int(runs["episodes"].iloc[0]), len(runs)
    mean = float(share.mean())
    spread = max(float(share.var()) if n > 1 else 0.0, (mean * (1 - mean) + 1 / episodes) / episodes)
    reach = float(stats.t.ppf(0.5 + LEVEL / 2, max(n - 1, 1))) * math.sqrt(spread * (1 + 1 / n))
    return episodes * max(0.0, mean - reach), episodes * min(1.0, mean + reach)


def holds(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether no more runs lie outside their intervals than chance explains (at the 5% level)."""
    return bool(len(rows) - count_inside(rows) <= stats.binom.ppf(LEVEL, len(rows), 1 - LEVEL))


def count_inside(rows: Sequence[Mapping[str, Any]]) -> int:
    """Return how many runs have the stated successes, or lie in their intervals."""
    return sum(row["found"] == row["stated"] or row["low"] <= row["found"] <= row["high"] for row in rows)


def record(entry: Mapping[str, Any], path: Path) -> None:
    """Add what came of a check to the file beside the scores, with what is there by now."""
    kept = read_yaml(path, CHECKS)["checks"] if path.exists() else []
    with atomic_path(path) as temporary:
        temporary.write_text(plain_yaml.write({"checks": [*kept, dict(entry)]}), encoding="utf-8")


def train_command(found: PublishedSet, run: Mapping[str, Any], work: Path, logs: Path) -> list[str]:
    """Return the command that trains a run again, with the settings that the submission states.

    :param run: a row of `last_counts`.
    :param work: folder of data and settings.
    :param logs: folder of the new run.
    :raises UsageError: if neither the zoo nor the submission knows the settings.
    """
    ids = {name: id for id, name in published_names().items()}
    algo, profile = ids.get(run["method"], run["method"]), found.protocol.get("profile")
    words = ["--env", run["environment"], "--seed", str(run["seed"]), "-f", str(logs)]
    words += ["--dataset", "generate", "--dataset-dir", str(work / "data"), "--num-threads", "1"]
    path = None if found.runs is None else found.runs / CONFIG
    if path is not None and path.exists():
        config = read_yaml(path, CONFIG)[run["environment"]]
        own = {name: config[name] for name in RunSettings.declared() if name in config}
        conf = work / f"{run['environment']}.yml"
        conf.write_text(plain_yaml.write({run["environment"]: own | config["settings"]}), encoding="utf-8")
        algo, profile = config["algo"], config.get("profile", profile)
        words += ["-conf", str(conf), "--eval-seed", str(config.get("eval_seed") or 0)]
        words += [f"--env-kwargs={word}" for word in config.get("env_kwargs") or ()]
        words += [f"--eval-env-kwargs={word}" for word in config.get("eval_env_kwargs") or ()]
    elif algo not in algorithm_ids():
        raise UsageError(f"expected {CONFIG} with the settings of {run['method']}, got none; ask the authors for it")
    return [sys.executable, "-m", "zoo.train", "--algo", algo, "--profile", str(profile), *words]


def sandboxed(command: Sequence[str], code: Path, work: Path) -> list[str]:
    """Return a command that runs a stranger's code: it sees the system read-only, writes below `work`, has no network.

    :raises UsageError: if bubblewrap is not installed.
    """
    if shutil.which(SANDBOX) is None:
        raise UsageError(
            f"`--code` is a stranger's and needs a sandbox, got no `{SANDBOX}`; install bubblewrap, or run this "
            "command in a container without a network"
        )
    hidden = (Path("/tmp"), Path.home().resolve())
    words = ["--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/", "--dev", "/dev"]
    words += ["--proc", "/proc", *(word for path in hidden for word in ("--tmpfs", str(path)))]
    for path in (*(Path(place).resolve() for place in (sys.prefix, sys.base_prefix, ROOT)), code):
        if any(path.is_relative_to(place) for place in hidden):
            words += ["--ro-bind", str(path), str(path)]
    return [SANDBOX, *words, "--bind", str(work), str(work), "--chdir", str(code), *command]


def _policies(found: PublishedSet) -> Iterable[tuple[tuple[str, str, int], Agent]]:
    """Yield the policies that a submission names, or the packaged agents that a set of our own has."""
    path = None if found.runs is None else found.runs / POLICIES
    if path is not None and path.exists():
        for named in read_yaml(path, POLICIES)["policies"]:
            agent = agent_of_file(download_policy(named["hub"]), None)
            method = published_names().get(found.name.partition("/")[0], found.name.partition("/")[0])
            yield (method, named["environment"], named["seed"]), agent
        return
    for algo, environments in list_trained().items():
        for environment in environments:
            agent = agent_of_file(find_trained(algo, environment), None)
            yield (published_names()[algo], environment, agent.replica), agent


def _train(command: Sequence[str], folder: Path | None) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise UsageError(f"training ended with exit code {done.returncode}; its messages are above")


def _row(key: tuple[Any, ...], episodes: int, stated: int, found: int, low: float, high: float) -> dict[str, Any]:
    method, environment, seed = key
    counts = {
        "episodes": episodes,
        "stated": stated,
        "found": found,
        "low": round(float(low), 2),
        "high": round(float(high), 2),
    }
    return {"method": str(method), "environment": str(environment), "seed": int(seed), **counts}


def _entry(level: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = {"date": today, "commit": git_commit(), "processor": processor()}
    return {"level": level, "holds": holds(rows), **made, "runs": list(rows)}


def checks_file(found: PublishedSet, folder: Path) -> Path:
    """Return where the checks of a set are kept: beside its scores."""
    return folder / CHECKS if "/" in found.name else folder / f"{found.name}.{CHECKS}"
