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
    command.set_defaults(command=_list)
    for command in commands.choices.values():
        add_verbose(command)
    return parser


def _list(args: argparse.Namespace) -> dict[str, Any]:
    from zoo.report.published_scores import load_means, load_set, set_names
    from zoo.terminal.tables import print_table, result_for_terminal

    result = []
    rows = []
    for name in set_names():
        published = load_set(name)
        suite = published.suite
        methods = load_means(published)["method"].nunique()
        runs = "none published" if published.runs is None else "included"
        about = f"{published.title} ({published.reference})"
        rows.append((name, suite, str(methods), runs, about))
        result.append({"set": name, "suite": suite, "methods": methods, "runs": runs})
    print_table(
        "",
        ("set", "suite", "methods", "single runs", "from"),
        rows,
        wrapped=("single runs", "from"),
    )
    return result_for_terminal(
        {"sets": result}, f"zoo compare --published {result[0]['set']} -o report/"
    )


main = as_program(make_parser, lambda args: args.command(args))

if __name__ == "__main__":
    sys.exit(main())
