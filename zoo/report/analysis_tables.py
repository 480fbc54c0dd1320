"""Tables of what follows from the scores: all pairs, seeds needed, steps to half of the best, and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zoo.report.comparison import Comparison, HalfBest, PairTest, Phase, label_of, ranking
from zoo.report.cost import COST_NUMBERS, Costs, cost_numbers
from zoo.report.entries import LEAST_BEST, Entry, Table, digits_of, estimate_data, number_entry, seeds_text
from zoo.report.estimates import Improvement
from zoo.report.pairs import compared_methods, is_clear
from zoo.report.seeds_needed import MOST_SEEDS, SeedPlan, plan_seeds
from zoo.report.tables import finished_note
from zoo.runs.history import PHASES
from zoo.runs.protocol import count, shortened
from zoo.runs.read import short_name
from zoo.runs.scores import RETURN, SUCCESS, Kind


def pairs_table(comparison: Comparison, phase: Phase) -> Table:
    """Return P(row > column) and the difference of means of every pair; without rows below three methods."""
    kind, names = comparison.kind, compared_methods(comparison, phase)
    digits = digits_of(kind, (pair.difference for pair in phase.improvements.values()))
    titles = {name: comparison.methods[name].title for name in names}
    rows, data = [], []
    for x in names:
        rows.append([Entry(titles[x])])
        for y in names:
            if x == y:
                rows[-1].append(Entry("-"))
                continue
            pair, test = phase.improvements[x, y], phase.tests[x, y]
            rows[-1].append(_pair_entry(pair, test, kind, digits))
            data.append({"method": x, "other": y} | estimate_data("probability", pair.probability))
            data[-1]["probability_p_holm"] = test.probability
            if pair.difference is not None:
                data[-1] |= estimate_data("difference", pair.difference) | {"difference_p_holm": test.difference}
    caption = _pairs_caption(phase, kind, names, any("difference" in row for row in data)) + finished_note(
        comparison, names
    )
    name, title = f"pairs_{phase.name}{kind.suffix}", f"All pairs, {phase.name}{kind.title}"
    return Table(name, title, caption, ["method", *titles.values()], rows, data)


def seeds_needed_table(comparison: Comparison, phase: Phase, baseline: str) -> Table:
    """Return how many seeds each method and the focus, or else the baseline, need.

    It has no rows where scores share no scale.
    """
    kind = comparison.kind
    baseline = comparison.focus if comparison.focus in phase.spreads else baseline
    name, title = f"seeds_needed_{phase.name}{kind.suffix}", f"Seeds needed, {phase.name}{kind.title}"
    names = [method for method in ranking(comparison) if method in phase.spreads and method != baseline]
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
        f"{_plan_sentence(comparison, found, names, baseline)} That is the least number of seeds of each of the two "
        f"methods on each of the {label_of(phase.tasks, phase.suite)} for which half the width of the 95% t-interval "
        f"(Welch-Satterthwaite) of the difference of means from {against} at the end of the {phase.name} phase is "
        f"below {points:g} {unit}, if runs go on to vary as those that there are. In brackets: the same at the ends of "
        "the 95% interval of that variance (chi-squared), which is wide where seeds are few. Beside it: the seeds of "
        "the method and half the width today. Unknown where a task has one seed. A true difference as large as half "
        "the width is found in about half of all such experiments."
    )
    return Table(name, title, caption + finished_note(comparison, [*names, baseline]), header, rows, data)


def half_best_table(comparison: Comparison, phase: Phase) -> Table:
    """Return the steps to half of the best score and the fraction of runs that get there."""
    name, title = f"half_best_{phase.name}{comparison.kind.suffix}", f"Steps to half of the best, {phase.name}"
    found = phase.half_best
    if found is None:
        return Table(name, title, "", [], [])
    names = [method for method in ranking(comparison) if method in found.steps]
    longest = max(found.budgets.values())
    digits = min(3, max(0, 5 - math.floor(math.log10(max(longest, 1)))))
    rows, data = [], []
    for method in names:
        steps, reached = found.steps[method], found.reached[method]
        entry = number_entry(steps, 1e-3, digits) if reached.point else Entry("never")
        sizes = [len(phase.scores[method][task]) for task in found.thresholds]
        seeds = (min(sizes), max(sizes))
        texts = Entry(comparison.methods[method].title), entry, number_entry(reached, 100, 0), Entry(seeds_text(seeds))
        rows.append(list(texts))
        data.append({"method": method, "phase": phase.name, "tasks": len(found.thresholds)})
        data[-1] |= estimate_data("steps", steps) | estimate_data("reached", reached)
        data[-1] |= {"fewest_seeds": seeds[0], "most_seeds": seeds[1]}
    header = ["method", "thousand steps", "runs that get there (%)", "seeds"]
    caption = _half_best_caption(comparison, phase, found) + finished_note(comparison, names)
    return Table(name, title + comparison.kind.title, caption, header, rows, data)


def cost_table(comparisons: Sequence[Comparison], costs: Costs) -> Table:
    """Return updates per second and hours of own methods, a row for each machine and number of seeds at once."""
    order = list(dict.fromkeys(name for comparison in comparisons for name in ranking(comparison)))
    titles = {name: comparisons[0].methods[name].title for name in order}
    found = sorted(costs.groups().items(), key=lambda item: (order.index(item[0][0]), *item[0][1:]))
    rows, data = [], []
    for (method, machine, replicas), runs in found:
        measured = cost_numbers(runs)
        texts = titles[method], machine, str(replicas), f"{len(runs):,}"
        rows.append([*map(Entry, texts), *(_range_entry(measured[name]) for name in COST_NUMBERS)])
        data.append({"method": method, "machine": machine, "seeds_at_once": replicas, "runs": len(runs)})
        for name in COST_NUMBERS:
            values = measured[name] or dict.fromkeys(("median", "min", "max"))
            data[-1] |= {f"{name}_{which}": value for which, value in values.items()}
        data[-1]["total_hours"] = sum(cost.times.hours_per_seed for cost in runs)
    header = ["method", "machine", "seeds at once", "runs", "updates/s", "hours per run", "hours per seed"]
    caption = (
        "Median over the finished own runs, and their range. Updates per second are those of each seed, while as many "
        "seeds as stated trained at once. Hours are the wall-clock time of training by the run's own log, with "
        "evaluation and checkpoints where training waits for them, without loading, work lost in interruptions and "
        "what follows the last row of the log. Seeds trained at once share their time: hours per seed are the hours of "
        "the run divided by their number. Rows of different machines, or numbers of seeds at once, do not compare "
        "methods; the machine is the one that began the run. Published runs have no times."
    )
    mixed = sorted({method for (method, *_), _ in found if sum(key[0] == method for key, _ in found) > 1})
    if mixed:
        caption += f" Not in the figure, because of several rows: {', '.join(titles[name] for name in mixed)}."
    if costs.unknown:
        examples = shortened([f"{run} ({why})" for run, why in costs.unknown.items()], 2)
        caption += f" The time of {count(len(costs.unknown), 'run')} is not known: {'; '.join(examples)}."
    return Table("cost", "Cost", caption, header, rows, data)


def _pair_entry(pair: Improvement, test: PairTest, kind: Kind, digits: int) -> Entry:
    detail = ""
    if pair.difference is not None:
        star = "*" if is_clear(test.difference) else ""
        detail = f"{kind.scale * pair.difference.point:+z,.{digits}f}{star}"
    return Entry(f"{pair.probability.point:.2f}", detail, is_clear(test.probability))


def _pairs_caption(phase: Phase, kind: Kind, names: Sequence[str], has_difference: bool) -> str:
    pairs = count(len(names) * (len(names) - 1) // 2, "pair")
    text = (
        "Probability that a run of the method in the row scores above a run of the method in the column on the same "
        f"task (ties count half), at the end of the {phase.name} phase{kind.title}, "
        f"{label_of(phase.tasks, phase.suite)}. Bold: clearly different from 0.5, that is at 5% by the "
        "Wilcoxon-Mann-Whitney test over tasks (normal approximation)"
    )
    if not has_difference:
        return f"{text}, Holm-adjusted for the {pairs}."
    unit = " in points" if kind is SUCCESS else ""
    return (
        f"{text}. Second number: mean of the row minus mean of the column{unit}; *: clearly different from 0, that is "
        f"at 5% by Welch's t-test. Both are Holm-adjusted for the {pairs}; the intervals in the CSV file are not "
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


def _plan_sentence(
    comparison: Comparison, found: Mapping[tuple[str, str], SeedPlan | None], names: Sequence[str], baseline: str
) -> str:
    """Return the seeds that resolve a difference, in one sentence."""
    plans = {method: found[method, baseline] for method in names}
    needed = {
        method: MOST_SEEDS + 1 if plan.seeds is None else plan.seeds
        for method, plan in plans.items()
        if plan is not None
    }
    begin = f"To resolve {100 * comparison.resolve:g} points against {comparison.methods[baseline].title}"
    if not needed:
        return f"{begin}: unknown, because a task has one seed."
    fewest, most = min(needed.values()), max(needed.values())
    if fewest == most:
        return f"{begin}: {_count_seeds(most)}."
    worst = ", ".join(shortened([comparison.methods[method].title for method, n in needed.items() if n == most]))
    return f"{begin}: {fewest} to {_count_seeds(most)}, the most for {worst}."


def _count_seeds(number: int) -> str:
    return f"{_count_text(None if number > MOST_SEEDS else number)} seeds"


def _count_text(seeds: int | None) -> str:
    return f"more than {MOST_SEEDS:,}" if seeds is None else f"{seeds:,}"


def _half_best_caption(comparison: Comparison, phase: Phase, found: HalfBest) -> str:
    tasks, left_out = list(found.thresholds), [task for task in phase.tasks if task not in found.thresholds]
    over = label_of(phase.tasks, phase.suite)
    if left_out:
        names = ", ".join(shortened([short_name(task) for task in left_out]))
        over = (
            f"{len(tasks)} of the {over}; left out where the best mean is below "
            f"{LEAST_BEST:.0%}, that is all methods fail: {names}"
        )
    low, high = min(found.budgets.values()), max(found.budgets.values())
    budget = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    what, start = ("Gradient steps", "") if phase.name == PHASES[0] else ("Environment steps", " since going online")
    return (
        f"{what}{start} until the first evaluation at which a run has at least half of the best method's mean on that "
        f"task at the end of the {phase.name} phase; mean over the runs of each task and over tasks ({over}). A run "
        f"that never gets there counts as if it did at the last step that all methods make ({budget}), so the mean is "
        "too small where few do: read both columns. 95% t-intervals over seeds on the same tasks; the variance over "
        "runs is at least that of a step between two evaluations. No interval where no run gets there."
    )
