"""Check submissions to the registry, and scores by playing or training them again.

``python zoo/verify.py my_method/2026-11-30-my-lab``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.cli import as_program
from zoo.errors import FAILED, UsageError
from zoo.terminal.arguments import COUNT, SEED, Parser, a_path, add_verbose
from zoo.terminal.messages import log

PURPOSE = """Check submissions to the registry: their format, seeds, counts, protocol and statistics. Nothing of them is
run. --replay and --retrain are for maintainers: they play the policies or train runs again, and keep what came of it
beside the scores. The exit code is 1 if a check fails."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("verify", description=PURPOSE)
    parser.add_argument(
        "submissions", nargs="+", metavar="SUBMISSION", help="folders, or with --replay and --retrain sets such as mini"
    )
    again = parser.add_argument_group("score again")
    again.add_argument("--replay", action="store_true", help="play the policies under our starts")
    again.add_argument("--retrain", type=COUNT, metavar="N", help="train so many runs again, drawn at random")
    again.add_argument("--seed", type=SEED, default=0, help="of the draw (default: 0)")
    again.add_argument(
        "--code", type=a_path, metavar="DIR", help="checkout of a stranger's method; it is trained in a sandbox"
    )
    again.add_argument("--work", type=a_path, metavar="DIR", help="where to train (default: a temporary folder)")
    add_verbose(parser)
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.registry.verify import verify
    from zoo.report.published_scores import COMMUNITY, FOLDER, load_set, load_submission, set_names

    result = []
    for name in args.submissions:
        is_set = name in set_names() and not Path(name).is_dir()
        folder = (COMMUNITY / name if "/" in name else FOLDER) if is_set else Path(name)
        problems = verify(folder) if "/" in name or not is_set else []
        for problem in problems:
            log.warning("%s", problem)
        entry: dict[str, Any] = {"submission": name, "problems": problems}
        if not problems:
            found = load_set(name) if is_set else load_submission(folder, "/".join(folder.resolve().parts[-2:]))
            entry |= {"level": found.level} | _score_again(args, found, folder)
            log.info("%s: %s", name, entry["level"])
        result.append(entry)
    if any(entry["problems"] or not entry.get("holds", True) for entry in result):
        args.exit_code = FAILED
    return {"submissions": result}


def _score_again(args: argparse.Namespace, found: Any, folder: Path) -> dict[str, Any]:
    """Play or train scores again where that is asked for, and keep what came of it."""
    if not (args.replay or args.retrain):
        return {}
    from zoo.registry.checks import checks_file, record, replay, retrain

    if args.code is not None and not args.code.is_dir():
        raise UsageError(f"`--code` must be a checkout of the method's code, got {args.code}")
    if args.replay:
        check = replay(found)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            work = (args.work or Path(temporary)).resolve()
            work.mkdir(parents=True, exist_ok=True)
            check = retrain(found, args.retrain, args.seed, work, args.code and args.code.resolve())
    for row in check["runs"]:
        log.info("{method} on {environment}, seed {seed}: stated {stated}, found {found} [{low}, {high}]".format(**row))
    record(check, checks_file(found, folder))
    return {"holds": check["holds"], "level": check["level"] if check["holds"] else found.level, "runs": check["runs"]}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
