"""Search for inputs that a reader does not expect, guided by the code that they reach.

``python -m tests.fuzz`` gives each reader of `tests/fuzz/readers.py` ten minutes, and prints a table. What it finds is
left in ``--folder``; put it into ``tests/fuzz/found/<reader>/``, where a plain test run tries it. It needs atheris,
which has wheels for Linux on x86-64.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

NAMES = ("runs", "datasets", "settings", "suites", "models")
FOUND = Path(__file__).parent / "found"
MEMORY_GIB = 1
SECONDS_PER_INPUT = 20


def explore(name: str, folder: Path, seconds: int) -> None:
    """Try inputs on one reader until the time is over or one is a finding; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["agents.common", "zoo", "yaml", "zipfile"]):
        from tests.fuzz import readers

    reader = readers.READERS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for k, seed in enumerate(reader.seeds()):
        reader.try_input(seed)  # what is imported on first use is no cost of an input
        (corpus / f"seed{k}").write_bytes(seed)

    def try_one(data: bytes) -> None:
        reader.try_input(data)

    options = (
        f"-max_total_time={seconds}", f"-timeout={SECONDS_PER_INPUT}", "-rss_limit_mb=8192", "-max_len=20000",
        f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
    )  # fmt: skip
    atheris.Setup([name, str(corpus), *map(str, filter(Path.is_dir, [FOUND / name])), *options], try_one)
    with readers.memory_limited(MEMORY_GIB << 30):
        atheris.Fuzz()


def main() -> int:
    """Give each reader its time, one after the other, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("readers", nargs="*", default=NAMES, choices=[*NAMES, NAMES], metavar="READER")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader (default: 600)")
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="for inputs (default: fuzz)")
    parser.add_argument("--explore", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.explore:
        explore(given.readers[0], given.folder / given.readers[0], given.seconds)
    print("reader    | inputs | found")
    found_any = False
    for name in given.readers:
        command = [sys.executable, "-m", "tests.fuzz", name, "--explore", "--seconds", str(given.seconds)]
        ended = subprocess.run([*command, "--folder", str(given.folder)], stderr=subprocess.PIPE, text=True)
        tries = re.search(r"number_of_executed_units: (\d+)", ended.stderr)
        found = re.findall(r"written to (\S+)", ended.stderr)
        found_any |= ended.returncode != 0
        print(f"{name:<9} | {tries[1] if tries else '?':>6} | {found[0] if found else '-'}", flush=True)
        if ended.returncode:
            print(ended.stderr[-3000:], file=sys.stderr)
    return int(found_any)


if __name__ == "__main__":
    sys.exit(main())
