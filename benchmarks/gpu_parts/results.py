"""What the parts found: the file that it is kept in, what of it is wrong, and the page that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.common.files import atomic_path

Results = dict[str, Any]
"""``device_name``, ``small``, ``environment`` and ``parts``: name -> outcome."""
REFERENCE_GPU = "H200"
FLOORS = {("qam", 1, "tf32"): 450, ("qam", 1, "bf16"): 600, ("qam", 12, "tf32"): 1_350, ("qam", 12, "bf16"): 1_800}
"""Updates a second of all seeds together, on the GPU where the reference was measured."""
GOALS = {("qam", 1): 1_000, ("qam", 12): 3_200}
REFERENCE = {"qam": (319, 444), "fql": (384, 635), "fawac": (357, 663), "qam_e": (227, 355)}
"""The authors' JAX on an NVIDIA H200, one seed: in its own loop, and 200 updates in one `scan`."""
RECORDED = "compiled and captured"
KERNELS_SHOWN = {("qam", 1, "tf32"), ("qam", 12, "bf16")}
TEXT = """# {device_name}

What `python benchmarks/gpu.py` found on this device. {sizes}
"""
FULL_SIZES = """Speeds are at the papers' sizes (cube-double, 512 x 4, 10 critics, 10 flow steps,
chunks of 5, batches of 256); checks of equal numbers use tiny networks."""
SMALL_SIZES = """All sizes are tiny (`--small`), so its
speeds say nothing."""


def results_path(folder: Path, device_name: str, small: bool) -> Path:
    """Return the path of the JSON file of a device; the page is beside it.

    :param folder: of results.
    :param device_name: as PyTorch gives it.
    :param small: whether sizes are tiny; such results have a file of their own.
    """
    name = re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")
    return folder / f"{name}{'-small' if small else ''}.json"


def read(path: Path) -> Results:
    """Return the results that a file holds.

    :param path: of the JSON file.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, results: Results) -> None:
    """Write the JSON file whole or not at all, and the page beside it.

    :param path: of the JSON file.
    :param results: what was found so far.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    with atomic_path(path.with_suffix(".md")) as temporary:
        temporary.write_text(page(results), encoding="utf-8")


# -- what is wrong ----------------------------------------------------------------------------------------------------


def are_floors_judged(results: Results) -> bool:
    """Return whether speeds are those of the GPU and the sizes that the floors are for.

    :param results: what was found.
    """
    return REFERENCE_GPU in results["device_name"] and not results["small"]


def problems(results: Results) -> list[str]:
    """Return what is not as it should be, in words.

    :param results: what was found.
    """
    found = []
    for name, outcome in results["parts"].items():
        if outcome["state"] in ("differs", "failed"):
            found.append(f"{name}: {outcome['detail']}")
        row = outcome.get("speed")
        if row is not None and row["device"] == "cuda" and not row["mode"].startswith(RECORDED):
            found.append(f"{name}: updates are {row['mode']}, expected {RECORDED} ones")
        if row is not None and are_floors_judged(results):
            floor = FLOORS.get((row["algo"], row["seeds"], row["precision"]))
            if floor is not None and row["seed_updates_per_s"] < floor:
                found.append(f"{name}: {row['seed_updates_per_s']:,.0f} updates/s of all seeds, the floor is {floor:,}")
    return found


# -- the page ---------------------------------------------------------------------------------------------------------


def page(results: Results) -> str:
    """Return the Markdown page.

    :param results: what was found.
    """
    parts = results["parts"]
    checks = {name: outcome for name, outcome in parts.items() if "speed" not in outcome}
    rows = [outcome["speed"] for outcome in parts.values() if "speed" in outcome]
    sizes = SMALL_SIZES if results["small"] else FULL_SIZES
    sections = [TEXT.format(device_name=results["device_name"], sizes=sizes), environment_text(results)]
    wrong = problems(results)
    if wrong:
        sections.append("## Not as it should be\n\n" + "\n".join(f"- {text}" for text in wrong) + "\n")
    if checks:
        lines = [[name, each["state"], each["detail"], f"{each['seconds']:.0f}"] for name, each in checks.items()]
        sections.append("## Checks\n\n" + table(["check", "outcome", "found", "seconds"], lines))
    if rows:
        sections.append("## Speed\n\n" + speed_text(results, rows))
    for row in rows:
        if row["kernels"] and (row["algo"], row["seeds"], row["precision"]) in KERNELS_SHOWN:
            sections.append(kernel_text(row))
    return "\n".join(sections)


def environment_text(results: Results) -> str:
    """Return where it was measured, as a list.

    :param results: what was found.
    """
    lines = []
    for name, value in results["environment"].items():
        shown = ", ".join(f"{key} {each}" for key, each in _short(value).items()) if isinstance(value, dict) else value
        lines.append(f"- {name.replace('_', ' ')}: {shown}")
    commits = sorted({str(outcome["commit"]) for outcome in results["parts"].values() if outcome.get("commit")})
    others = [commit for commit in commits if commit != results["environment"].get("git_commit")]
    if others:
        lines.append(f"- some parts are of other commits: {', '.join(others)}")
    return "\n".join(lines) + "\n"


def _short(values: dict[str, Any]) -> dict[str, Any]:
    return {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}


def speed_text(results: Results, rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of speeds, and what the floors are.

    :param results: what was found.
    :param rows: what the throughput benchmark measured.
    """
    floors, goals = ({}, {}) if results["small"] else (FLOORS, GOALS)
    head = ["algorithm", "seeds", "precision", "updates/s", "of all seeds", "range", "floor", "goal"]
    head += ["JAX, loop / scan", "kernels", "memory, GiB", "share of peak", "mode"]
    lines = []
    for row in rows:
        key = row["algo"], row["seeds"], row["precision"]
        low, high = row["updates_per_s_range"]
        peak, kernels = row["peak_memory_bytes"], row["kernels_per_update"]
        lines.append(
            [
                *map(str, key),
                f"{row['updates_per_s']:,.0f}",
                f"{row['seed_updates_per_s']:,.0f}",
                f"{low:,.0f} to {high:,.0f}",
                f"{floors[key]:,}" if key in floors else "",
                f"{goals[key[:2]]:,}" if key[:2] in goals else "",
                " / ".join(map(str, REFERENCE.get(row["algo"], ()))),
                "" if kernels is None else f"{kernels:,}",
                "" if peak is None else f"{peak / 2**30:.1f}",
                f"{row['fraction_of_peak']:.0%}",
                row["mode"].partition(" (")[0],
            ]
        )
    judged = "they are judged here" if are_floors_judged(results) else "they are not judged here"
    about = (
        f"Floors and goals are updates a second of all seeds on an NVIDIA {REFERENCE_GPU}, where the authors' JAX was "
        f"measured with one seed; {judged}.\n\n"
    )
    return about + table(head, lines)


def kernel_text(row: dict[str, Any]) -> str:
    """Return the table of the longest kernels of an update.

    :param row: what the throughput benchmark measured.
    """
    seeds = "one seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
    lines = [
        [f"`{kernel['name'][:90].replace('|', '/')}`", str(kernel["count"]), f"{kernel['microseconds']:,.0f}"]
        for kernel in row["kernels"]
    ]
    return f"## Longest kernels of an update: {row['algo']}, {seeds}, {row['precision']}\n\n" + table(
        ["kernel", "launches", "us in all"], lines
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    :param head: names of the columns.
    :param rows: texts; line breaks and bars in them are replaced.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
