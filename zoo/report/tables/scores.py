"""Tables of a comparison, in words for readers and in numbers for programs: scores, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from zoo.report.comparison import Cell, Comparison, Phase, Tally, baseline_of, ranking
from zoo.report.cost import COST_NUMBERS, Costs, cost_numbers
from zoo.report.reproduction import Reproduction
from zoo.report.significance import Family, compared_methods, family_of
from zoo.report.statistics.estimates import Improvement
from zoo.report.statistics.seeds_needed import MOST_SEEDS, plan_seeds
from zoo.report.tables.entries import (
    CONTRADICTION,
    LEAST_BEST,
    SHOWN_METRICS,
    Entry,
    Table,
    best_point,
    cell_data,
    digits_of,
    estimate_data,
    number_entry,
    score_entry,
    seeds_text,
    unsure_note,
    with_minus,
)
from zoo.runs.protocol import PROTOCOL, count, shortened, show, what_differs
from zoo.runs.read import RunTables, short_name, split_environment
from zoo.runs.scores import METRICS, RETURN, SUCCESS, Kind

_INTERVALS = {
    "t": "t-interval for the mean, bootstrap for the others",
    "none": "none where no number is given",
}


def aggregates_table(comparison: Comparison, phase: Phase, suite: str | None = None) -> Table:
    """Return the aggregates of methods in one phase; without rows where nothing can be averaged.

    :param suite: a suite of `Phase.suite_aggregates`; None takes the tasks that all methods have.
    """
    kind = comparison.kind
    found = phase.aggregates if suite is None else phase.suite_aggregates[suite]
    label = suite or phase.suite
    cells = {name: found[name] for name in ranking(comparison, phase) if name in found}
    has_own = any(cell.tally is not None for cell in cells.values())
    header = ["method", *(METRICS[metric] for metric in SHOWN_METRICS)]
    if suite is not None:  # the ranking is that of the common tasks
        cells = dict(sorted(cells.items(), key=lambda item: -item[1].estimates["mean"].point))
    shown = {metric: [cell.estimates.get(metric) for cell in cells.values()] for metric in SHOWN_METRICS}
    best = {metric: best_point(estimates) for metric, estimates in shown.items()}
    digits = digits_of(kind, (estimate for estimates in shown.values() for estimate in estimates))
    rows, data, counts = [], [], []
    for name, cell in cells.items():
        step = phase.steps[name]
        scores = [
            score_entry(cell.estimates.get(metric), kind, digits, best[metric], is_complete(cell))
            for metric in SHOWN_METRICS
        ]
        rows.append([Entry(comparison.methods[name].title), *scores])
        counts.append({"seeds": seeds_text(cell.seeds)})
        if has_own:
            counts[-1]["finished"] = "-" if cell.tally is None else str(cell.tally)
        counts[-1]["steps"] = steps_text(phase.step_ranges[name])
        data += cell_data({"method": name, "suite": label, "step": step}, cell)
    alike = []
    for key in counts[0] if counts else ():
        texts = [found[key] for found in counts]
        if len({*texts}) == 1 and key != "finished":
            alike.append(count(texts[0], key.removesuffix("s")))
            continue
        header.append(key)
        for row, text in zip(rows, texts, strict=True):
            row.append(Entry(text))
    used = {cell.estimates["mean"].kind for cell in cells.values()}
    intervals = "; ".join(text for name, text in _INTERVALS.items() if name in used)
    caption = (
        f"{kind.caption} on {_averaged_tasks(phase, kind, suite)}, {''.join(f'{text}, ' for text in alike)}"
        f"with 95% intervals over seeds ({intervals}). "
        f"{_bold_rule(kind)}.{unsure_note(estimate for estimates in shown.values() for estimate in estimates)}"
        f"{scoring_note(comparison, cells)}{finished_note(comparison, cells)}"
    )
    table = _table("aggregates", "Aggregates", phase, kind, caption, header, rows, data)
    if suite is None:
        return replace(table, title=", ".join((table.title, phase.tasks_label, *alike)))
    tasks = count(next(iter(cells.values())).tasks, "task")
    title = ", ".join((table.title, f"{tasks} of {suite}", *alike))
    return replace(table, name=f"{table.name}_{suite}", title=title)


def improvement_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how each method compares with the baseline; without rows where that has no single runs."""
    kind, baseline = comparison.kind, baseline_of(comparison)
    found = {name: phase.improvements.get((name, baseline)) for name in ranking(comparison, phase)}
    pairs = {name: pair for name, pair in found.items() if pair is not None}
    digits = digits_of(kind, (pair.difference for pair in pairs.values()))
    rows, data = [], []
    for name, pair in pairs.items():
        rows.append([Entry(comparison.methods[name].title), number_entry(pair.probability, 1, 2)])
        data.append({"method": name, "baseline": baseline} | estimate_data("probability", pair.probability))
        if pair.difference is not None:
            rows[-1].append(number_entry(pair.difference, kind.scale, digits))
            data[-1] |= estimate_data("difference", pair.difference)
    has_difference = any(pair.difference is not None for pair in pairs.values())
    header = ["method", "probability of improvement", *(["difference of means"] if has_difference else [])]
    caption = _improvement_caption(kind, baseline, len(rows), has_difference)
    caption += _opposite_note(comparison, pairs) + unsure_note(pair.probability for pair in pairs.values())
    caption += finished_note(comparison, [*pairs, baseline])
    return _table("improvement", f"Improvement over {baseline}", phase, kind, caption, header, rows, data)


def domains_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each domain."""
    kind = comparison.kind
    domains = {name: phase.domains[name] for name in sorted(phase.domains)}
    header = ["method", *(f"{name} ({len(phase.domain_tasks[name])})" for name in domains)]
    caption = (
        "Success in %, mean over the tasks of a domain (their number in brackets). "
        f"{_bold_rule(kind, ' in the column')}; -: not all tasks of the domain were run."
    )
    names = [name for name in ranking(comparison, phase) if any(name in cells for cells in domains.values())]
    caption += scoring_note(comparison, names) + finished_note(comparison, names)
    rows = [[Entry(comparison.methods[name].title)] for name in names]
    for cells in domains.values():
        for row, entry in zip(rows, _scores(cells, names, kind), strict=True):
            row.append(entry)
    data = _means_data("domain", domains, names)
    return Table(f"domains_{phase.name}", f"Domains, {phase.name}", caption, header, rows, data)


def tasks_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the mean of each method on each task; the intervals of success rates are in the CSV file only."""
    kind = comparison.kind
    names = [name for name in ranking(comparison, phase) if any(name in cells for cells in phase.per_task.values())]
    rows: list[list[Entry]] = []
    full_rows: list[list[Entry]] = []
    for task, cells in phase.per_task.items():
        is_uneven = len({cell.seeds for cell in cells.values()}) > 1
        for found in (rows, full_rows):
            found.append([Entry(short_name(task))])
        for name, entry in zip(names, _scores(cells, names, kind), strict=True):
            seeds = count(seeds_text(cells[name].seeds), "seed") if is_uneven and name in cells else ""
            if name in cells and not is_complete(cells[name]):
                seeds = f"{cells[name].tally} finished"
            full_rows[-1].append(Entry(entry.text, f"{entry.detail} {seeds}".strip(), entry.is_bold))
            # the page has too many columns for intervals of success rates, which its heat map tells
            rows[-1].append(Entry(entry.text, seeds, entry.is_bold) if kind is SUCCESS else full_rows[-1][-1])
    intervals = "in files with" if kind is SUCCESS else "with"
    small = " The number of seeds is shown where it differs within a row." if phase.uneven_seeds else ""
    caption = (
        f"{kind.caption}, mean over seeds, {intervals} 95% intervals. {_bold_rule(kind, ' in the row')}.{small}"
        + scoring_note(comparison, names)
        + finished_note(comparison, names)
    )
    data = _means_data("environment", phase.per_task, names)
    header = ["environment", *(comparison.methods[name].title for name in names)]
    return _table("tasks", "Tasks", phase, kind, caption, header, rows, data, full_rows)


def reproduction_table(found: Sequence[Reproduction], tolerance: float) -> Table:
    """Return own scores beside published ones; the tolerance is a fraction."""
    header = ["phase", "where", "method", "published", "own", "difference", "verdict", "protocol"]
    rows = [
        [
            Entry(r.phase),
            Entry(short_name(r.where)),
            Entry(r.method),
            Entry(f"{100 * r.published_mean:.1f}", f"{r.source}, {count(r.published_seeds, 'seed')}"),
            Entry(f"{100 * r.own:.1f}", count(seeds_text(r.own_seeds), "seed") + finished_text(r.tally)),
            number_entry(r.difference, 100, 1),
            Entry(r.verdict, is_bold=r.verdict == "differs"),
            Entry("; ".join(shortened(r.protocol)) or "same"),
        ]
        for r in found
    ]
    data = [
        {"phase": r.phase, "where": r.where, "method": r.method, "source": r.source}
        | {"published_method": r.published, "published_mean": r.published_mean, "own_mean": r.own}
        | {"published_seeds": r.published_seeds, "own_seeds": r.own_seeds[0]}
        | estimate_data("difference", r.difference)
        | {"verdict": r.verdict, "protocol": "; ".join(r.protocol)}
        for r in found
    ]
    caption = (
        f"Own minus published mean in points, with its 95% t-interval. It agrees if the whole interval is within "
        f"{100 * tolerance:g} points, differs if all of it is outside, and is open in between. Where the protocol is "
        "not the same, the verdict is about that difference, not about an error."
    )
    return Table("reproduction", "Reproduction", caption, header, rows, data)


def protocol_table(comparison: Comparison) -> Table:
    """Return how each score was made, one row for each protocol; fields that nobody states are left out."""
    places: dict[tuple[Any, ...], dict[str, list[str]]] = {}  # (source, protocol) -> method -> where
    for name, method in comparison.methods.items():
        for where, protocol in method.protocols.items():
            key = (method.source, *(protocol.get(key) for key in PROTOCOL))
            places.setdefault(key, {}).setdefault(name, []).append(where)
    merged: dict[tuple[Any, ...], list[str]] = {}  # (source, where, protocol) -> methods
    for (source, *values), found in places.items():
        for name, everywhere in found.items():
            merged.setdefault((source, _places(everywhere), *values), []).append(name)
    stated = [k for k in range(len(PROTOCOL)) if any(key[2 + k] is not None for key in merged)]
    alike = [k for k in stated if len(merged) > 1 and len({key[2 + k] for key in merged}) == 1]
    shared = ", ".join(f"{PROTOCOL[k].replace('_', ' ')} {show(next(iter(merged))[2 + k])}" for k in alike)
    stated = [k for k in stated if k not in alike]
    rows, data = [], []
    for (source, where, *values), names in sorted(merged.items(), key=lambda item: (item[0][:2], item[1])):
        texts = ["not stated" if values[k] is None else show(values[k]) for k in stated]
        rows.append([Entry(text) for text in (source, _methods_text(comparison, source, names), where, *texts)])
        data.append({"source": source, "methods": ", ".join(names), "where": where})
        data[-1] |= {PROTOCOL[k]: values[k] for k in sorted([*stated, *alike])}
    header = ["source", "methods", "where", *(PROTOCOL[k].replace("_", " ") for k in stated)]
    caption = f"How each score was made.{f' All: {shared}.' if shared else ''}"
    caption += scoring_note(comparison, comparison.methods)
    return Table("protocol", "Protocol", caption, header, rows, data)


def steps_text(steps: tuple[int, int]) -> str:
    """Return the steps of scores as text, e.g. ``"1,000,000"``; tasks may have their own."""
    return show(steps[0]) if steps[0] == steps[1] else f"{show(steps[0])} to {show(steps[1])}"


def scoring_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, how methods were scored whose scores may not be those of the last evaluation."""
    sentences = []
    for scoring, found in scored_otherwise(comparison).items():
        shown = [name for name in found if name in names]
        if shown:
            sentences.append(f" Scoring of {', '.join(shown)}: {scoring}.")
    return "".join(sentences)


def scored_otherwise(comparison: Comparison) -> dict[str, list[str]]:
    """Return way of scoring -> methods, for scores that may not be those of the last evaluation."""
    result: dict[str, list[str]] = {}
    for name, method in comparison.methods.items():
        if method.scoring is not None:
            result.setdefault(method.scoring, []).append(name)
    return result


def finished_note(comparison: Comparison, names: Collection[str]) -> str:
    """Return, after a space, which methods have runs that did not finish, and what the mark means."""
    found = {}
    for name in names:
        method = comparison.methods[name]
        tally = method.tally(method.tallies)
        if tally is not None and not tally.is_complete:
            found[method.title] = tally
    if not found:
        return ""
    counts = "; ".join(
        f"{name} {tally}" + (f" ({tally.failed} failed)" if tally.failed else "") for name, tally in found.items()
    )
    mark = "‡: runs failed. " if any(tally.failed for tally in found.values()) else ""
    return f" {mark}Finished runs: {counts}; a method is not bold where runs are missing."


def is_complete(cell: Cell) -> bool:
    """Return whether all runs behind a cell finished, as far as that is known."""
    return cell.tally is None or cell.tally.is_complete


def by_domain(environments: Iterable[str]) -> dict[str, list[str]]:
    """Return domain -> its environments, both sorted by the environments' names."""
    domains: dict[str, list[str]] = {}
    for name in sorted(environments):
        domains.setdefault(split_environment(name)[1], []).append(name)
    return domains


def _opposite_note(comparison: Comparison, pairs: Mapping[str, Improvement]) -> str:
    """Return, after a space, for which methods both intervals exclude no difference, in opposite directions."""
    names = [comparison.methods[name].title for name, pair in pairs.items() if pair.is_contradictory]
    return f" {', '.join(names)}: {CONTRADICTION}." if names else ""


def finished_text(tally: Tally | None) -> str:
    """Return, after a comma, how many runs finished where some did not."""
    return "" if tally is None or tally.is_complete else f", {tally} runs finished"


def _table(name: str, title: str, phase: Phase, kind: Kind, *content: Any) -> Table:
    """Return a table whose name and title say which phase and kind of scores it is about."""
    return Table(f"{name}_{phase.name}{kind.suffix}", f"{title}, {phase.name}{kind.title}", *content)


def _scores(cells: Mapping[str, Cell], names: Sequence[str], kind: Kind) -> list[Entry]:
    """Return the means of methods at one place, those that are compared with one another."""
    means = {name: cell.estimates["mean"] for name, cell in cells.items()}
    best, digits = best_point(means.values()), digits_of(kind, means.values())
    return [
        score_entry(means.get(name), kind, digits, best, name not in cells or is_complete(cells[name]))
        for name in names
    ]


def _means_data(label: str, places: Mapping[str, Mapping[str, Cell]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the numbers of all cells, place by place."""
    return [
        row
        for place, cells in places.items()
        for name in names
        if name in cells
        for row in cell_data({label: place, "method": name}, cells[name])
    ]


def _methods_text(comparison: Comparison, source: str, names: Sequence[str]) -> str:
    """Return the names of methods of one source, or "all" where there are many and few others."""
    others = [name for name, method in comparison.methods.items() if method.source == source and name not in names]
    if len(names) <= 3 or len(others) >= 3:
        return ", ".join(names)
    return "all" + (f" but {', '.join(others)}" if others else "")


def _places(environments: Sequence[str]) -> str:
    """Return environments as text, several tasks of a domain together."""
    return ", ".join(
        short_name(names[0]) if len(names) == 1 else f"{domain} ({len(names)} tasks)"
        for domain, names in by_domain(environments).items()
    )


def _bold_rule(kind: Kind, where: str = "") -> str:
    """Return when an entry is bold, in words."""
    least = f"{LEAST_BEST:.0%}" if kind is SUCCESS else f"{LEAST_BEST:g}"
    least = "" if kind is RETURN else f", where that is at least {least}"
    return f"Bold: the best{where}{least}; †: its interval reaches the best. Neither is a test"


def _averaged_tasks(phase: Phase, kind: Kind, suite: str | None) -> str:
    """Return the tasks of aggregates, in words."""
    if suite is not None:
        return f"all tasks of {suite}, for the methods that have them all"
    if kind is not SUCCESS and len(phase.tasks) == 1:
        return short_name(phase.tasks[0])
    if phase.suite is not None:
        return f"the {phase.tasks_label}, which all methods have"
    return f"the {count(len(phase.tasks), 'task')} that all methods have ({_places(phase.tasks)})"


def _improvement_caption(kind: Kind, baseline: str, pairs: int, has_difference: bool) -> str:
    """Return what a table of improvements shows and how to read it."""
    difference = ""
    if has_difference:
        difference = (
            f", and the difference of means{' in points' if kind is SUCCESS else ''}, each with its 95% interval"
        )
    return (
        f"Probability that a run scores above one of {baseline} on the same task (ties count half){difference}. "
        f"{count(pairs, 'comparison')}, not adjusted: about one in twenty intervals misses the truth."
    )


# -- what follows from the scores and from the runs: all pairs, seeds needed, cost, and what differs ------------------


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


def seeds_needed_table(comparison: Comparison, phase: Phase) -> Table:
    """Return how many seeds each method and the focus, or else the baseline, need.

    It has no rows where scores share no scale.
    """
    kind = comparison.kind
    baseline = comparison.focus if comparison.focus and comparison.focus in phase.spreads else baseline_of(comparison)
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
        f"The least number of seeds of each of two methods on each task for which half the width of the 95% t-interval "
        f"of the difference of means from {against} is below {points:g} {unit}, if runs go on to vary as they do. In "
        "brackets: the same at the ends of the 95% interval of that variance. Half width: that of today."
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
        "Median over the finished own runs, and their range, by the runs' own logs. Seeds trained at once share their "
        "time. Rows of different machines, or numbers of seeds at once, do not compare methods."
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
    difference = "" if pair.difference is None else with_minus(f"{kind.scale * pair.difference.point:+z,.{digits}f}")
    return Entry(f"{pair.probability.point:.2f}", difference, is_clear)


def _pairs_caption(phase: Phase, kind: Kind, family: Family) -> str:
    has_difference = any(pair.difference is not None for pair in phase.improvements.values())
    unit = " in points" if kind is SUCCESS else ""
    difference = f" Second number: mean of the row minus mean of the column{unit}." if has_difference else ""
    return (
        "Probability that a run of the row's method scores above one of the column's on the same task (ties count "
        f"half).{difference} Bold: clearly different, by {family.describe()}"
        f"{'' if family.focus is None else '; other pairs are not tested'}."
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
