"""Published means of methods without single runs, which join a comparison as points without intervals."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from zoo.datasets.names import NUM_TASKS
from zoo.report.comparison import Cell
from zoo.report.published_scores import tasks_of
from zoo.report.statistics.estimates import Estimate


class PublishedMeans:
    """The published means of one phase, a table with the columns `zoo.report.comparison.MEAN_COLUMNS`."""

    def __init__(self, means: pd.DataFrame) -> None:
        self._rows: dict[str, dict[str, tuple[float, int]]] = {}
        self.domain_of: dict[str, str] = {}
        for row in means.itertuples():
            self._rows.setdefault(row.method, {})[row.environment] = (float(row.mean), int(row.seeds))
            if row.environment != row.domain:
                self.domain_of[row.environment] = row.domain
        self.single_tasks = dict(self.domain_of)
        """Task -> its domain, for tasks that have a mean of their own."""
        self.whole_domains = sorted(set(means["domain"]) & {name for rows in self._rows.values() for name in rows})
        """Domains of which a method has a mean over all tasks."""
        for domain in set(means["domain"]) - set(self.domain_of.values()):
            self.domain_of |= {task: domain for task in tasks_of(domain)}
        self._domain_of_any = {task: domain for domain in self.whole_domains for task in tasks_of(domain)}

    def tasks(self, known: Collection[str] = ()) -> dict[str, list[str]]:
        """Return the tasks of each method.

        A domain's mean stands for those of its tasks that others have, or for all of them if nobody has a single one.

        :param known: tasks of methods with single runs.
        """
        single = {task for rows in self._rows.values() for task in rows} | set(known)
        divided = {self.domain_of[task] for task in single & self.domain_of.keys()}
        result = {}
        for method, rows in self._rows.items():
            wholes = {
                task
                for task, domain in self.domain_of.items()
                if domain in rows and (task in single or domain not in divided)
            }
            result[method] = sorted(wholes | (rows.keys() & self.domain_of.keys()))
        return result

    def aggregates(self, tasks: Sequence[str]) -> dict[str, Cell]:
        """Return the mean over some tasks of each method that has them all, task by task or in whole domains."""
        domains = sorted({self._domain_of_any.get(task, "") for task in tasks})
        are_whole = len(tasks) == NUM_TASKS * len(domains)
        result = {}
        for method, rows in self._rows.items() if tasks else ():
            if all(task in rows for task in tasks):
                parts = [rows[task] for task in tasks]
            elif are_whole and all(domain in rows for domain in domains):
                parts = [rows[domain] for domain in domains]
            else:
                continue
            values, seeds = zip(*parts, strict=True)
            estimate = Estimate(float(np.mean(values)))
            result[method] = Cell({"mean": estimate}, len(tasks), (min(seeds), max(seeds)))
        return result

    def per_task(self) -> dict[str, dict[str, Cell]]:
        """Return task -> method -> its mean."""
        result: dict[str, dict[str, Cell]] = {}
        for method, rows in self._rows.items():
            for task in rows.keys() & self.domain_of.keys():
                value, seeds = rows[task]
                result.setdefault(task, {})[method] = Cell({"mean": Estimate(value)}, 1, (seeds, seeds))
        return result
