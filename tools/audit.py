"""Compare the locked packages with the published advisories (``make audit``), where their database can be reached.

Exit code 0: no known vulnerability, or the database could not be reached, which the last line says; 1: some were found.
Every lock file is looked at as a whole, without installing anything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import tools` find the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.locks import FOLDER

LOCKS = ("build", "dev", "torch-cuda")


def ask(locks: Sequence[Path]) -> list[Mapping[str, Any]] | None:
    """Return what pip-audit says of each package, or None if it got no answer."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format=json"]
    files = [word for lock in locks for word in ("--requirement", str(lock))]
    ran = subprocess.run([*command, "--progress-spinner=off", *files], capture_output=True, text=True)
    try:
        return list(json.loads(ran.stdout)["dependencies"])
    except (ValueError, KeyError):
        print(ran.stderr[-2000:], file=sys.stderr)
        return None


def report(packages: Sequence[Mapping[str, Any]] | None) -> tuple[str, int]:
    """Return what to print about the answers, and the exit code."""
    known = [package for package in packages or () if "skip_reason" not in package]
    if packages is None or not known:
        return "NOT AUDITED: the database of advisories could not be reached; run `make audit` where it can", 0
    lines = [
        f"{package['name']} {package['version']}: {advisory['id']}, fixed in "
        f"{', '.join(advisory.get('fix_versions', ())) or 'no version yet'}"
        for package in known
        for advisory in package.get("vulns", ())
    ]
    left = [package["name"] for package in packages if "skip_reason" in package]
    unknown = f"; not in the database: {', '.join(left)}" if left else ""
    text = f"{len(known)} of {len(packages)} locked packages audited, {len(lines)} known vulnerabilities{unknown}"
    return "\n".join([*lines, text]), int(bool(lines))


if __name__ == "__main__":
    message, code = report(ask([FOLDER / f"{name}.lock" for name in LOCKS]))
    print(message)
    sys.exit(code)
