"""Tables of what follows from the scores and from the runs: all pairs, seeds needed, cost, and what differs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from zoo.report.comparison import Comparison, Phase, label_of, ranking
from zoo.report.cost import COST_NUMBERS, Costs, cost_numbers
from zoo.report.significance import Family, compared_methods, family_of
from zoo.report.statistics.estimates import Improvement
from zoo.report.statistics.seeds_needed import MOST_SEEDS, plan_seeds
from zoo.report.tables.entries import Entry, Table, digits_of, estimate_data, seeds_text
from zoo.report.tables.scores import finished_note
from zoo.runs.naming import what_differs
from zoo.runs.protocol import count, shortened
from zoo.runs.read import RunTables
from zoo.runs.scores import RETURN, SUCCESS, Kind


def pairs_table(comparison: Comparison, phase: Phase) -> Table:
    """Return P(row > column) and the difference of means of every pair; without rows below three methods."""
    kind, names, family = comparison.kind, compared_methods(comparison, phase), family_of(comparison, phase)
    digits = digits_of(kind, (pair.difference for pair in phase.improvements.values()))
    titles = {name: comparison.methods[name].title for name in names}
    rows, data = [], []
    for x in names:
        rows.append([Entry(titles[x])])
        for y in names:
            if x == y:
                rows[-1].append(Entry("-"))
                continue
            pair = phase.improvements[x, y]
            rows[-1].append(_pair_entry(pair, family.is_clear(x, y), kind, digits))
            data.append({"method": x, "other": y} | estimate_data("probability", pair.probability))
            if pair.difference is not None:
                data[-1] |= estimate_data("difference", pair.difference)
            data[-1] |= {"p_value": pair.p_value, "p_holm": family.p_values.get((x, y))}
    caption = _pairs_caption(phase, kind, family) + finished_note(comparison, names)
    name, title = f"pairs_{phase.name}{kind.suffix}", f"All pairs, {phase.name}{kind.title}"
    return Table(name, title, caption, ["method", *titles.values()], rows, data)


def seeds_needed_table(comparison: Comparison, phase: Phase, baseline: str) -> Table:
    """Return how many seeds each method and the focus, or else the baseline, need.

    It has no rows where scores share no scale.
    """
    kind = comparison.kind
    baseline = comparison.focus if comparison.focus in phase.spreads else baseline
    name, title = f"seeds_needed_{phase.name}{kind.suffix}", f"Seeds needed, {phase.name}{kind.title}"
    names = [method for method in ranking(comparison, phase) if method in phase.spreads and method != baseline]
    if kind is RETURN or not names or baseline not in phase.spreads:
        return Table(name, title, "", [], [])
    found = plan_seeds(phase.spreads, [(method, baseline) for method in names], comparison.resolve)
    points = 100 * comparison.resolve
    rows, data = [], []
    for method in names:
        plan, spread = found[method, baseline], phase.spreads[method]
        seeds = (int(spread.seeds.min()), int(spread.seeds.max()))
        row = [comparison.methods[method].title, seeds_text(seeds)]
        about = {"method": method, "baseline": baseline, "resolve": comparison.resolve}
        about |= {"fewest_seeds": seeds[0], "most_seeds": seeds[1]}
        if plan is None:
            rows.append([*map(Entry, row), Entry("-"), Entry("unknown")])
            data.append(about | dict.fromkeys(("half_width", "seeds_needed", "seeds_low", "seeds_high")))
            continue
        low, high = (_count_text(bound) for bound in plan.interval)
        rows.append(
            [
                *map(Entry, row),
                Entry(f"{100 * plan.half_width:.1f}"),
                Entry(_count_text(plan.seeds), f"[{low}, {high}]"),
            ]
        )
        data.append(about | {"half_width": plan.half_width, "seeds_needed": plan.seeds})
        data[-1] |= {"seeds_low": plan.interval[0], "seeds_high": plan.interval[1]}
    header = ["method", "seeds", "half width (points)", f"seeds to resolve {points:g} points"]
    against = comparison.methods[baseline].title
    unit = "points" if kind is SUCCESS else "points (hundredths)"
    caption = (
        "The least number of seeds of each of the two methods on each of the "
        f"{label_of(phase.tasks, phase.suite)} for which half the width of the 95% t-interval "
        f"(Welch-Satterthwaite) of the difference of means from {against} at the end of the {phase.name} phase is "
        f"below {points:g} {unit}, if runs go on to vary as those that there are. In brackets: the same at the ends of "
        "the 95% interval of that variance (chi-squared), which is wide where seeds are few. Beside it: the seeds of "
        "the method and half the width today. Unknown where a task has one seed. A true difference as large as half "
        "the width is found in about half of all such experiments."
    )
    return Table(name, title, caption + finished_note(comparison, [*names, baseline]), header, rows, data)


def cost_table(comparisons: Sequence[Comparison], costs: Costs) -> Table:
    """Return updates per second and hours of own methods, a row for each machine and number of seeds at once."""
    order = list(dict.fromkeys(name for comparison in comparisons for name in ranking(comparison)))
    titles = {name: comparisons[0].methods[name].title for name in order}
    found = sorted(costs.groups.items(), key=lambda item: (order.index(item[0][0]), *item[0][1:]))
    rows, data = [], []
    for (method, machine, replicas), runs in found:
        measured = cost_numbers(runs)
        texts = titles[method], machine, str(replicas), f"{len(runs):,}"
        rows.append([*map(Entry, texts), *(_range_entry(measured[name]) for name in COST_NUMBERS)])
        data.append({"method": method, "machine": machine, "seeds_at_once": replicas, "runs": len(runs)})
        for name in COST_NUMBERS:
            values = measured[name] or dict.fromkeys(("median", "min", "max"))
            data[-1] |= {f"{name}_{which}": value for which, value in values.items()}
        data[-1]["total_hours"] = sum(times.hours_per_seed for times in runs)
    header = ["method", "machine", "seeds at once", "runs", "updates/s", "hours per run", "hours per seed"]
    caption = (
        "Median over the finished own runs, and their range. Updates per second are those of each seed, while as many "
        "seeds as stated trained at once. Hours are the wall-clock time of training by the run's own log, with "
        "evaluation and checkpoints where training waits for them, without loading, work lost in interruptions and "
        "what follows the last row of the log. Seeds trained at once share their time: hours per seed are the hours of "
        "the run divided by their number. Rows of different machines, or numbers of seeds at once, do not compare "
        "methods; the machine is the one that began the run. Published runs have no times."
    )
    if costs.unknown:
        examples = shortened([f"{run} ({why})" for run, why in costs.unknown.items()], 2)
        caption += f" The time of {count(len(costs.unknown), 'run')} is not known: {'; '.join(examples)}."
    return Table("cost", "Cost", caption, header, rows, data)


def differences_table(own: RunTables, methods: Collection[str]) -> Table:
    """Return where methods of one label differ, a row each; without rows where every label is one method."""
    found = what_differs(own.runs, methods)
    rows = [
        [Entry(name), Entry("; ".join(shortened(f"{field} {value}" for field, value in fields.items())))]
        for name, fields in found.items()
    ]
    data = [
        {"method": name, "field": field, "value": value}
        for name, fields in found.items()
        for field, value in fields.items()
    ]
    caption = (
        "What differs between methods of one label, on the environments that they share; several values, which differ "
        "between environments, are divided by a slash."
    )
    return Table("differences", "What differs", caption, ["method", "settings"], rows, data)


def _pair_entry(pair: Improvement, is_clear: bool, kind: Kind, digits: int) -> Entry:
    difference = "" if pair.difference is None else f"{kind.scale * pair.difference.point:+z,.{digits}f}"
    return Entry(f"{pair.probability.point:.2f}", difference, is_clear)


def _pairs_caption(phase: Phase, kind: Kind, family: Family) -> str:
    has_difference = any(pair.difference is not None for pair in phase.improvements.values())
    unit = " in points" if kind is SUCCESS else ""
    difference = f" Second number: mean of the row minus mean of the column{unit}." if has_difference else ""
    return (
        "Probability of improvement: that a run of the method in the row scores above a run of the method in the "
        f"column on the same task (ties count half), at the end of the {phase.name} phase{kind.title}, "
        f"{label_of(phase.tasks, phase.suite)}.{difference} Bold: clearly different, that is by {family.describe()}"
        f"{'' if family.focus is None else '; other pairs are not tested'}. The intervals in the CSV file are not "
        "adjusted."
    )


def _range_entry(values: Mapping[str, float] | None) -> Entry:
    """Return a median with the range that it is from."""
    if values is None:
        return Entry("-")
    low, high = _three_digits(values["min"]), _three_digits(values["max"])
    return Entry(_three_digits(values["median"]), "" if low == high else f"[{low}, {high}]")


def _three_digits(value: float) -> str:
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def _count_text(seeds: int | None) -> str:
    return f"more than {MOST_SEEDS:,}" if seeds is None else f"{seeds:,}"
