"""Add generated sections to each algorithm's page: recording, scores and ranks, settings and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pandas as pd
from sphinx.application import Sphinx

import agents
from docs.directives import ROOT, code, described, escaped, table
from docs.make_tables import domain_means
from zoo.report.scores import load_set, published_names, set_names
from zoo.runs.folder import PHASES

REPORTS = ("qam2026", "mini")
"""Sets whose report is on the site."""
SUITES = {"qam2026": "ogbench50_qam", "trqam2026": "trqam", "mini": "mini"}
"""Set -> the suite that repeats its runs."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Let Sphinx call `add_data` when it reads a page."""
    app.connect("source-read", add_data)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_data(_: Sphinx, docname: str, content: list[str]) -> None:
    """Insert scores before the objective of an algorithm's page, and a table into its section on settings."""
    folder, _, id = docname.rpartition("/")
    if folder == "docs/algorithms" and id in agents.algorithm_ids():
        text = content[0].replace(
            "## Objective\n", f"## Scores\n\n{_block(at_a_glance(id))}## Objective\n", 1
        )
        content[0] = text.replace("## Settings\n\n", f"## Settings\n\n{_block(settings(id))}", 1)


def _block(lines: Iterator[str]) -> str:
    return "\n".join(("```{eval-rst}", *lines, "```", "", ""))


def at_a_glance(id: str) -> Iterator[str]:
    """Yield when to use an algorithm, a recording, its scores in each published set, and a link to its settings."""
    yield f"**When to use it.** {escaped(described()[id]['when'])}\n"
    name = published_names()[id]
    for path in sorted((ROOT / "docs/figures/play").glob(f"{id}_on_*.gif")):
        caption = f"A :doc:`trained agent </docs/mini>`: {path.stem.replace('_', ' ')}."
        yield f".. figure:: /{path.relative_to(ROOT)}\n   :width: 480\n\n   {caption}\n"
    sets = [set_name for set_name in set_names() if name in means(set_name).index.unique("method")]
    if sets:
        yield "Mean success in percent.\n"
    else:
        yield "No published set and no run of :doc:`/docs/mini` has scores of this algorithm yet.\n"
    for set_name in sets:
        yield from scores(set_name, name, id)
    yield f":doc:`All settings and profiles of this algorithm </docs/reference/settings/{id}>`.\n"


def settings(id: str) -> Iterator[str]:
    """Yield the table of the settings that an algorithm declares itself."""
    method, shared = agents.get(id).method, agents.Method.declared()
    assert method is not None
    names = [
        name for name, declared in method.declared().items() if shared.get(name) is not declared
    ]
    described_settings = described()[id]["settings"]
    rows = [("setting", "default", "meaning")]
    for name in names:
        row = described_settings[name]
        rows.append((code(name), code(row["default"]), escaped(row["meaning"])))
    if names:
        yield from table(rows)


def scores(set_name: str, name: str, id: str) -> Iterator[str]:
    """Yield a method's success on each domain of a set, the method's rank, and the command that repeats the runs."""
    published, scores = load_set(set_name), means(set_name)
    phases = {phase: scores.loc[phase] for phase in PHASES if (phase, name) in scores.index}
    rows = [(", ".join((published.reference, str(published.date)[:4])), *phases)]
    for column in scores:
        successes = (f"{100 * of_phase[column][name]:.0f}" for of_phase in phases.values())
        rows.append((column, *successes))
    ranks = []
    for phase, of_phase in phases.items():
        rank = of_phase["mean"].rank(ascending=False)[name]
        ranks.append(f"{rank:.0f} of {len(of_phase)} {phase}")
    yield f".. rubric:: {published.title}\n"
    yield from table(rows)
    if len(scores) > 1:
        yield f"Rank by the mean: {', '.join(ranks)}.\n"
    if set_name in REPORTS:
        yield f"`Every method, with intervals <../../reports/{set_name}/report.html>`__.\n"
    if set_name in SUITES:
        yield f"To train these runs again: ``zoo benchmark {SUITES[set_name]} --algos {id}``\n"


@cache
def means(set_name: str) -> pd.DataFrame:
    """Return mean success in a set, over all tasks and on each domain (on each task if no domain is complete).

    :return: table indexed by phase and method.
    """
    scores = domain_means(set_name).pivot(
        index=["phase", "method"], columns="environment", values="score"
    )
    scores.columns = [
        re.sub("-navigate|-play|-v0$", "", name).replace("-singletask-task", ", task ")
        for name in scores
    ]
    scores.insert(0, "mean", scores.mean(axis=1))
    return scores
