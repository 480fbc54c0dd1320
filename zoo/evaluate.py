"""Play a model under the report's protocol, and print its score with an interval.

``python zoo/evaluate.py --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from zoo.envs.rendering import prepare_pictures
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.errors import FAILED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, REAL, SEED, Parser

if TYPE_CHECKING:
    from zoo.models.agent import Agent
    from zoo.models.score import Score

PURPOSE = """Play a model under the report's protocol: the environment, episodes and start states of its run's
evaluations. Print its success (or return) with a 95% interval over the episodes.

A score that somebody states, with --interval or in the file of a trained agent, is called reproduced only if the score
found here lies in the stated interval. Otherwise the exit code is 1."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("evaluate", description=PURPOSE)
    add_agent(parser.add_argument_group("which agent"))
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--episodes", type=COUNT, help="episodes (default: those of the run, else 50)"
    )
    protocol.add_argument(
        "--seed", type=SEED, help="decides starts and noise (default: the run's, else 0)"
    )
    protocol.add_argument(
        "--interval",
        type=REAL,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the interval of the score to reproduce: success as a fraction, or a return",
    )
    protocol.add_argument(
        "--n-eval-envs", type=COUNT, help="environments (default: as in training)"
    )
    add_machine(parser.add_argument_group("machine and messages"))
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Play, say what came of it, and return it."""
    check_agent(args)
    prepare_pictures(args.env, args.model)
    with signals_deferred():
        from zoo.models.agent import describe, find_agent, play, with_protocol

    agent = find_agent(args)
    playing = with_protocol(agent, args.episodes, args.seed)
    # a flag that repeats the protocol changes nothing
    differs = (playing.episodes, playing.seed) != (agent.episodes, agent.seed)
    if args.interval is not None and differs:  # before hours of playing
        raise UsageError(
            f"`--interval` belongs to a score under the protocol, {agent.episodes} episodes with the starts of seed "
            f"{agent.seed}; leave out --episodes and --seed"
        )
    results, score = play(playing, args.n_eval_envs)
    log.info("%s in %s: %s over %d episodes", agent.algo, agent.env, score.text, score.episodes)
    result = describe(playing, results, score)
    result["normalised return"] = agent.scoring.normalised(result["return"])
    return result | _compare(args, agent, score, differs)


def _compare(args: argparse.Namespace, agent: Agent, score: Score, differs: bool) -> dict[str, Any]:
    """Return whether a stated score is reproduced, if one is stated, and note the exit code."""
    from zoo.models.score import interval_text
    from zoo.runs.scores import SCORE_KINDS

    if args.interval is not None:
        kind = score.kind
        low, high = args.interval
        lowest, highest = SCORE_KINDS[kind].limits
        if not lowest <= low <= high <= highest:
            limits = f"from {lowest:g} to {highest:g}, the lower first"
            raise UsageError(f"`--interval` must be two numbers {limits}, got {low:g} {high:g}")
    elif agent.stated is not None:
        kind = agent.stated.kind
        low = agent.stated.low
        high = agent.stated.high
    else:
        return {}
    stated = interval_text(kind, low, high)
    if differs:
        log.info("stated: %s; not compared, because this is not its protocol", stated)
        return {}
    # the point estimate decides: two intervals that overlap would call too much reproduced
    reproduced = kind == score.kind and low <= score.mean <= high
    args.exit_code = 0 if reproduced else FAILED
    verdict = (
        "reproduced" if reproduced else "not reproduced: the score is outside the stated interval"
    )
    log.info("stated: %s; %s", stated, verdict)
    return {"stated": [low, high], "reproduced": reproduced}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
