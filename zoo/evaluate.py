"""Evaluate a model under its run's protocol, and print the score with a 95% interval over the episodes.

`zoo evaluate --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained`

The environment, the number of episodes, initial states and scoring are those of its run. A policy file may state a
score with an interval, as the files of trained agents do. The exit code is 1 if the new score is outside that interval.
With a different --episodes or --seed, the scores are not compared.

With --fitted-q no episode is run: critics learn the value of the policy from a dataset.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import count
from zoo.envs.rendering import prepare_pictures
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.runs.versions import warn_of_simulator
from zoo.terminal.cli import as_program
from zoo.terminal.errors import FAILED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, SEED, Parser


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("evaluate", description=__doc__)
    add_agent(parser)
    protocol = parser.add_argument_group("protocol")
    protocol.add_argument(
        "--episodes", type=COUNT, help="number of episodes (default: the run's, or 50 if unknown)"
    )
    protocol.add_argument(
        "--seed",
        type=SEED,
        help="seed of initial states and policy noise (default: the run's, or 0 if unknown)",
    )
    fitted = parser.add_argument_group("without episodes")
    fitted.add_argument(
        "--fitted-q",
        action="store_true",
        help="estimate the discounted value by fitted Q evaluation (docs/no_env.md)",
    )
    fitted.add_argument(
        "--dataset",
        help="dataset for the critics: auto, download, generate, a file, a folder, or minari:ID (default: the run's)",
    )
    add_machine(parser, "behaviour", "device")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the agent, or estimate its value; log the score and return it."""
    check_agent(args)
    if args.dataset is not None and not args.fitted_q:
        raise UsageError("`--dataset` needs --fitted-q; add --fitted-q, or omit --dataset")
    if args.episodes is not None and args.fitted_q:
        raise UsageError("`--fitted-q` runs no episodes, got --episodes; omit one of them")
    prepare_pictures(args.env, args.model)
    from zoo.evaluation.play import describe, play
    from zoo.models.agent import find_agent
    from zoo.models.score import Score

    agent = find_agent(args)
    warn_of_simulator(agent.env, "this agent and its scores", agent.versions.get("mujoco"))
    if args.fitted_q:
        from zoo.training.fitted_q import fit_value

        return fit_value(agent, args.dataset, args.seed)
    player = agent.with_protocol(args.episodes, args.seed)
    results = play(player)
    score = Score.of(results)
    episodes = count(score.episodes, "episode")
    log.info("%s in %s: %s over %s", agent.algo, agent.env, score.text, episodes)
    result = describe(player, results, score)
    result["normalised_return"] = agent.scoring.normalised(result["return"])
    stated = agent.stated
    if stated is None or stated.interval is None:  # a single return has no interval
        return result
    # compare values: --episodes and --seed may be given with the run's own values
    if (player.episodes, player.seed) != (agent.episodes, agent.seed):
        message = "stated: %s; not compared, because the number of episodes or the seed differs"
        log.info(message, stated.interval_text)
        return result
    # test whether the new mean is in the stated interval; intervals overlap even at larger differences
    reproduced = stated.kind == score.kind and stated.low <= score.mean <= stated.high
    args.exit_code = 0 if reproduced else FAILED
    log.info("stated: %s; %sreproduced", stated.interval_text, "" if reproduced else "not ")
    return result | {"stated": stated.interval, "reproduced": reproduced}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
