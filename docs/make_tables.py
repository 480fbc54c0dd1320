"""Write the table of all algorithms, the mini benchmark's tables of scores, and the type stub of `agents`.

``python docs/make_tables.py`` rewrites them in place; a test fails if one is out of date.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "algorithms"
if not __package__:  # run as a file: let `import agents` find the package
    sys.path[0] = str(ROOT)

import pandas as pd  # noqa: E402

import agents  # noqa: E402
from agents.registry import BUILT_IN  # noqa: E402
from tools.tables import to_markdown  # noqa: E402
from zoo.algorithms.catalogue import (  # noqa: E402
    NUMBERS,
    SCORES,
    cells_of,
    describe_algorithms,
    in_order,
    start_text,
)
from zoo.datasets.names import NUM_TASKS  # noqa: E402
from zoo.report.compute import PhaseScores  # noqa: E402
from zoo.report.inputs import Inputs, collect  # noqa: E402
from zoo.report.request import CompareRequest  # noqa: E402
from zoo.report.scores import (  # noqa: E402
    FOLDER,
    last_evaluations,
    load_set,
    published_names,
    set_names,
    suite_tasks,
)
from zoo.report.statistics import Estimate  # noqa: E402
from zoo.report.tables import number_entry  # noqa: E402
from zoo.runs.folder import PHASES  # noqa: E402
from zoo.runs.scores import SUCCESS  # noqa: E402

MINI_COLUMNS = {
    "mean of the 8 tasks": "*",
    "of the 6 mazes": "pointmaze-*",
    "medium 1": "*-medium-*task1-*",
    "medium 2": "*-medium-*task2-*",
    "large 1": "*-large-*task1-*",
    "large 3": "*-large-*task3-*",
    "teleport 1": "*-teleport-*task1-*",
    "teleport 3": "*-teleport-*task3-*",
    "cube-single 1": "cube-*",
    "scene 1": "scene-*",
}
"""Column of the mini benchmark's table -> pattern of its tasks."""
MINI = ROOT / "results" / "mini.md"
STUB = ROOT / "agents" / "__init__.pyi"
EARLY = (50_000, 100_000, 200_000, 500_000)  # updates
RANKED = {
    "mean of the 8 tasks": "*",
    "mazes (6)": "pointmaze-*",
    "cube-single": "cube-*",
    "scene": "scene-*",
    "cube-single and scene": "[cs]*",
}
"""Tasks of the mini benchmark whose ranking is compared with the published ranking: name -> pattern."""
SIX = ["QAM-E", "QAM", "FQL", "IFQL", "FBRAC", "FAWAC"]
"""Methods for a first test of a benchmark, because their published means differ most."""
MINI_TABLE = re.compile(r"(?<=\n\n)\| method \| mean of .*\n(?:\|.*\n)+")
MINI_RANKS = re.compile(r"(?<=\n\n)\| scores \| rank correlation .*\n(?:\|.*\n)+")
MINI_RANK = re.compile(r"(?<=rank correlation of )-?\d\.\d\d")
CHOOSING = re.compile(
    r"(?<=<!-- written by docs/make_tables.py -->\n\n)Start with (?:.+\n)+\n(?:\|.*\n)+"
)
COMPARED = [name for name in set_names() if name != "mini"]
"""Sets whose means the table of all algorithms shows."""


def overview() -> str:
    """Return the table that `zoo agents list` reads: each algorithm's mean success in percent.

    The success is from the first set of `COMPARED` that contains the algorithm, and from the mini benchmark.
    """
    scores = {name: _final_means(name) for name in (*COMPARED, "mini")}
    rows = []
    for id, name in published_names().items():
        source = next((set_name for set_name in COMPARED if name in scores[set_name].index), "")
        published = scores[source].loc[name] if source else pd.Series()
        mini = []
        if name in scores["mini"].index:
            mini = list(scores["mini"].loc[name].dropna())[-1:]  # of its last phase
        rows.append([id, source, *map(published.get, PHASES), *mini])
    table = pd.DataFrame(rows, columns=["algorithm", "source", *SCORES]).sort_values("algorithm")
    return str(table.to_csv(index=False, float_format="%.2f", lineterminator="\n"))


def _final_means(set_name: str) -> pd.DataFrame:
    """Return mean success in percent, (methods, phases), at the end of each phase; domains have equal weights."""
    table = domain_means(set_name)
    means = table.pivot_table(index="method", columns="phase", values="score")
    return 100 * means.reindex(columns=PHASES)


def domain_means(set_name: str) -> pd.DataFrame:
    """Return the means of a set's domains, or of its tasks if it has no complete domain."""
    scores = load_set(set_name).scores
    if scores.evaluations.empty:
        return scores.table[scores.table["environment"] == scores.table["domain"]]
    key = ["method", "phase", "domain"]
    runs = last_evaluations(scores.evaluations)
    tasks = runs.groupby([*key, "environment"], as_index=False)["score"].mean()
    # pandas' built-in "mean" sums in another order
    domains = tasks.groupby(key, as_index=False).agg(
        score=("score", pd.Series.mean), tasks=("score", "size")
    )
    domains = domains.rename(columns={"domain": "environment"})
    whole = domains[domains["tasks"] == NUM_TASKS]
    return tasks if whole.empty else whole


def choosing() -> str:
    """Return the advice on which algorithm to start with, and the table of all algorithms."""
    algorithms = describe_algorithms()
    rows = []
    for id in in_order(algorithms):
        row = algorithms[id]
        name = row["published_name"]
        if (DOCS / f"{id}.md").exists():
            name = f"[{name}]({id}.md)"
        rows.append([row["source"] or "", name, *cells_of(row), row["when"]])
    head = ["source", "algorithm", *NUMBERS, "when to use it"]
    table = to_markdown(pd.DataFrame(rows, columns=head))
    text = textwrap.fill(start_text(algorithms, "[{name}]({id}.md)"), 120)
    return f"{text}\n\n{table}\n"


def updated_choosing() -> str:
    """Return the text of the page on all algorithms, with the table made from the current scores."""
    return CHOOSING.sub(lambda _: choosing(), (DOCS / "README.md").read_text("utf-8"))


def mini_table() -> str:
    """Return the table of the mini benchmark: success in percent, with intervals over seeds, the best mean first.

    The success of online methods is taken after their online steps. A cell is "to do" if runs are missing.
    """
    methods = sorted(_mini().methods)
    means = {name: _mini_means(pattern) for name, pattern in MINI_COLUMNS.items()}
    estimates = pd.DataFrame(means, index=pd.Index(methods, name="method"))
    points = estimates.map(lambda estimate: estimate.point, na_action="ignore").astype(float)
    # the first two columns are the means of several tasks
    order = points.sort_values(list(MINI_COLUMNS)[:2], ascending=False).index
    texts = estimates.map(
        lambda estimate: number_entry(estimate, SUCCESS.scale, 0).plain, na_action="ignore"
    )
    return to_markdown(texts.loc[order].fillna("to do").reset_index()) + "\n"


@cache
def rank_correlations() -> pd.DataFrame:
    """Return rank correlations of scores with the QAM paper's published means after 1,000,000 updates offline.

    Coefficients are Spearman's. Rows are the scores, averaged over tasks, whose ranking is compared. Columns are the
    correlation over 16 methods, over six of them, and the highest correlation over 16 methods on any single domain.
    """
    published, mini = (_offline_runs(name) for name in ("qam2026", "mini"))
    means = _mean_by_method(published)
    final = means[1_000_000]
    scores = {f"published, after {step:,} updates": means[step] for step in EARLY}
    by_domain = {}
    for domain, runs in published.groupby(published["environment"].str.partition("-singletask")[0]):
        domain_means = _mean_by_method(runs)
        ranked = domain_means.loc[:, domain_means.nunique() > 1]
        by_domain[domain] = ranked.corrwith(final, method="spearman")
    best = pd.DataFrame(by_domain).max(axis=1)
    # The last score of each run, at whichever step.
    last = mini.sort_values("step").groupby(["method", "environment", "seed"]).tail(1)
    last = last.assign(step=0)
    for name, pattern in RANKED.items():
        is_ranked = last["environment"].map(partial(fnmatchcase, pat=pattern))
        scores[f"mini, {name}"] = _mean_by_method(last[is_ranked])[0]
    table = pd.DataFrame(scores).reindex(final.index)
    correlations = {}
    for name, methods in {"16 methods": final.index, "six methods": SIX}.items():
        correlations[name] = table.loc[methods].corrwith(final, method="spearman")
    correlations["the best domain"] = best[list(EARLY)].set_axis(table.columns[: len(EARLY)])
    return pd.DataFrame(correlations, index=table.columns)


def _offline_runs(set_name: str) -> pd.DataFrame:
    runs = load_set(set_name).scores.evaluations
    return runs[runs["phase"] == "offline"]


def _mean_by_method(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over tasks of each method (rows) at each step (columns)."""
    by_task = scores.groupby(["method", "step", "environment"])["score"].mean()
    return by_task.groupby(["method", "step"]).mean().unstack("step")


def ranks_table() -> str:
    """Return the table of rank correlations."""
    texts = rank_correlations().map("{:.2f}".format).replace("nan", "").add_prefix("of ")
    heading = {texts.columns[0]: f"rank correlation {texts.columns[0]}"}
    return to_markdown(texts.rename_axis("scores").rename(columns=heading).reset_index()) + "\n"


@cache
def _mini() -> Inputs:
    return collect(CompareRequest(published=["mini"]))


@cache
def _mini_means(pattern: str) -> Mapping[str, Estimate]:
    """Return method -> its mean over the tasks of a pattern, for methods with scores on all these tasks."""
    tasks = [task for task in sorted(suite_tasks("mini")) if fnmatchcase(task, pattern)]
    scores = _mini().evaluations
    scores = scores[scores["environment"].isin(tasks)]
    means = {}
    for phase in PHASES:
        runs = scores[scores["phase"] == phase]
        part = PhaseScores(phase, runs, {}, SUCCESS, reps=0)
        for name, by_task in part.having(tasks).items():
            means[name] = part.mean_of(name, by_task).curve(SUCCESS.limits).estimate()
    return means


def stub() -> str:
    """Return the stub of the package `agents` for type checkers, since its names are imported only on first use."""
    lines = [
        "# ruff: noqa: I001",
        "# Written by docs/make_tables.py, since model classes are made from methods at run time.",
    ]
    lines += [
        f"from {module} import {name} as {name}" for name, module in agents._LOCATIONS.items()
    ]
    names = {id: entry.class_name for id, entry in BUILT_IN.items()}
    lines += [f"from agents.{id} import {name} as _{name}" for id, name in names.items()]
    lines += ["", "__version__: str"]
    for name in names.values():
        lines += ["", f"class {name}(FlowAlgorithm):", f"    method: _{name}"]
    return "\n".join(lines) + "\n"


def updated_mini() -> str:
    """Return the text of the mini benchmark's page, with tables made from the current scores."""
    text = MINI_TABLE.sub(lambda _: mini_table(), MINI.read_text("utf-8"))
    text = MINI_RANKS.sub(lambda _: ranks_table(), text)
    return MINI_RANK.sub(
        f"{rank_correlations().loc['mini, mean of the 8 tasks', '16 methods']:.2f}", text
    )


if __name__ == "__main__":
    (FOLDER / "overview.csv").write_text(overview(), encoding="utf-8")
    (DOCS / "README.md").write_text(updated_choosing(), encoding="utf-8")
    MINI.write_text(updated_mini(), encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")
