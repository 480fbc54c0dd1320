"""Search for inputs that a reader does not expect, guided by the code that they reach.

``python -m tests.fuzz`` gives each reader of `tests/fuzz/readers.py` ten minutes, and prints a table. The first input
of each finding is left in ``--folder``; put it into ``tests/fuzz/found/<reader>/``, where a plain test run tries it.
It needs atheris, which has wheels for Linux on x86-64.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import traceback
from pathlib import Path

NAMES = (
    "runs", "datasets", "folders", "parquet", "hdf5", "minari", "robomimic", "ocbench", "settings", "suites", "models",
    "policies",
)  # fmt: skip
KNOWN = Path(__file__).parent / "found"
MEMORY_GIB = 1
SECONDS_PER_INPUT = 20
OWN_PACKAGES = ["agents.common", "zoo", "yaml", "zipfile"]
"""Where what is reached counts."""


def explore(name: str, folder: Path, seconds: int) -> None:
    """Try inputs on one reader until the time is over; one that hangs ends the process before."""
    import atheris

    with atheris.instrument_imports(include=OWN_PACKAGES):
        from tests.fuzz import readers

    reader = readers.READERS[name]
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for k, seed in enumerate(reader.seeds()):
        reader.try_input(seed)  # what is imported on first use is no cost of an input
        (corpus / f"seed{k}").write_bytes(seed)
    seen: set[str] = set()

    def try_one(data: bytes) -> None:
        try:
            reader.try_input(data)
        except Exception as error:  # whatever it is, it is what we look for
            place = traceback.extract_tb(error.__traceback__)[-1]
            finding = f"{type(error).__name__} in {place.name} of {Path(place.filename).name}:{place.lineno}"
            if finding not in seen:
                seen.add(finding)
                file = folder / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
                file.write_bytes(data)
                file.with_suffix(".txt").write_text(traceback.format_exc())
                print(f"found: {finding}: {file}", flush=True)

    known = [str(path) for path in [KNOWN / name] if path.is_dir()]
    options = (
        f"-max_total_time={seconds}", f"-timeout={SECONDS_PER_INPUT}", "-rss_limit_mb=8192", "-max_len=20000",
        f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
    )  # fmt: skip
    atheris.Setup([name, str(corpus), *known, *options], try_one)
    with readers.memory_limited(MEMORY_GIB << 30):
        atheris.Fuzz()


def run(name: str, folder: Path, seconds: int) -> bool:
    """Explore in a process of its own, and print a row of the table; return whether anything was found."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--explore", "--seconds", str(seconds)]
    command += ["--folder", str(folder)]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout
    tries = re.search(r"number_of_executed_units: (\d+)", output)
    found = re.findall(r"^found: (.*)$|Test unit written to (\S+)", output, flags=re.MULTILINE)
    print(f"{name:<9} | {tries[1] if tries else '?':>7} | {len(found)}", flush=True)
    for finding in found:
        print("   ", *filter(None, finding))
    if process.returncode or tries is None:
        print(output[-2000:], file=sys.stderr)
    return bool(found or process.returncode or tries is None)


def main() -> int:
    """Give each reader its time, one after the other, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"{', '.join(NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=600, help="for each reader (default: 600)")
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="for inputs (default: fuzz)")
    parser.add_argument("--explore", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name in given.readers:
        if name not in NAMES:
            parser.error(f"unknown reader {name!r}; there are {', '.join(NAMES)}")
    if given.explore:
        explore(given.readers[0], given.folder / given.readers[0], given.seconds)
    print("reader    |  inputs | found")
    return int(any([run(name, given.folder, given.seconds) for name in given.readers or NAMES]))


if __name__ == "__main__":
    sys.exit(main())
