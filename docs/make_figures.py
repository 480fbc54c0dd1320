"""Draw the figures of published scores that pages show, from these scores.

``python docs/make_figures.py`` writes them; a test fails where one is not what its scores draw.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: let `import zoo` find the package
    sys.path[0] = str(ROOT)

from zoo.report.compute import compare_kinds  # noqa: E402
from zoo.report.figures.files import file_of  # noqa: E402
from zoo.report.figures.plots import all_figures  # noqa: E402
from zoo.report.inputs import Request, collect  # noqa: E402
from zoo.report.significance import decide  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
SHOWN = {"qam2026": "verdict_*", "mini": "heat_map_offline"}
"""Published set -> the figures of its report that pages show; none of them needs a bootstrap."""


def drawn(published: str) -> dict[str, bytes]:
    """Return the figures of a published set: name of the file -> SVG."""
    inputs = collect(Request(published=[published]))
    (comparison,) = compare_kinds(inputs.methods, inputs.evaluations, inputs.means, reps=1, curves=False)
    comparison = decide(comparison, baseline=inputs.default_baseline())
    found = all_figures(comparison, inputs.evaluations, only=SHOWN[published])
    return {
        f"{published}_{name}.svg": file_of(each.figure, "svg", each.title, f"Methods: {', '.join(each.methods)}.")
        for name, each in found.items()
    }


if __name__ == "__main__":
    for published in SHOWN:
        for name, picture in drawn(published).items():
            (FIGURES / name).write_bytes(picture)
