"""Programs that work on the same folders at the same time."""

from __future__ import annotations

from benchmarks.fault_suite.kind import kind
from benchmarks.fault_suite.lab import DONE, NAMES, REFUSED, Broken, Lab, require, require_named

ONE_SEED = tuple(name for name in NAMES if "two" not in name)


@kind(
    "race-resume",
    "two processes resume one run",
    "one trains and ends equal; the other says so and ends with exit 2, or finds the run finished",
    8,
)
def resume_twice(lab: Lab) -> None:
    """Resume a run in two processes, the second a moment after the first."""
    name = lab.configuration()
    logs = lab.interrupted(name)
    first = lab.start(name, logs)
    first.has_ended(lab.draw.choice([0.0, 0.0, 0.3, 1.0]))
    second = lab.start(name, logs)
    ended = [require(running.wait(), DONE, REFUSED) for running in (first, second)]
    refused = [each for each in ended if each.code == REFUSED]
    if len(refused) == 2:
        raise Broken(f"neither trained: {[each.err[-300:] for each in ended]}")
    for each in refused:
        require_named(each.err, "another process is training")
    if not refused and not any(each.result.get("already_done") for each in ended):
        raise Broken("both trained")
    lab.require_same(name, logs)


@kind("race-new", "two new runs begin at once", "each gets a folder of its own, and both end equal", 6)
def begin_twice(lab: Lab) -> None:
    """Begin two runs with the same settings."""
    name, logs = lab.configuration(ONE_SEED), lab.folder / "logs"
    both = [lab.start(name, logs, resume=False) for _ in range(2)]
    for running in both:
        require(running.wait(), DONE)
    for number in (1, 2):
        lab.require_same(name, logs, (number,))


@kind("race-compare", "runs compared while one of them writes", "it is skipped, or counted when done; it ends equal", 6)
def compare_meanwhile(lab: Lab) -> None:
    """Compare runs again and again while one is training."""
    name, logs = lab.configuration(), lab.folder / "logs"
    logs.mkdir()
    running = lab.start(name, logs)
    while not running.has_ended(lab.draw.uniform(0, 0.2)):
        ended, _ = lab.compare(logs)
        require(ended, DONE, REFUSED)
    require(running.wait(), DONE)
    ended, _ = lab.compare(logs)
    require(ended, DONE)
    lab.require_same(name, logs)
