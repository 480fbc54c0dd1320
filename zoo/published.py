"""Published scores that come with the zoo: ``python zoo/published.py list``."""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.terminal.cli import as_program
from zoo.terminal.parser import Parser, add_verbose


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("published", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "list", help="which sets there are, and whether they have single runs"
    )
    add_verbose(command)
    return parser


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.report.published_scores import load_means, load_set, set_names
    from zoo.terminal.tables import print_table, result_for_terminal

    sets = []
    rows = []
    for name in set_names():
        published = load_set(name)
        methods = load_means(published)["method"].nunique()
        runs = "none published" if published.runs is None else "included"
        sets.append({"set": name, "suite": published.suite, "methods": methods, "runs": runs})
        texts = map(str, sets[-1].values())
        rows.append([*texts, f"{published.title} ({published.reference})"])
    header = ("set", "suite", "methods", "single runs", "from")
    print_table("", header, rows, wrapped=header[-2:])
    hint = f"zoo compare --published {sets[0]['set']} -o report/"
    return result_for_terminal({"sets": sets}, hint)


main = as_program(make_parser, _list)

if __name__ == "__main__":
    sys.exit(main())
