"""Watch an agent in the environment and under the protocol of its run.

`zoo enjoy --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained --video fql.gif`

By default, initial states and policy noise are those of the first episodes in the run's evaluations.

--video records the episodes, rendered with EGL, OSMesa or a screen, whichever works. Without --video the environment
opens a window if there is a screen. Without a screen, zoo enjoy only runs the episodes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import count
from zoo.envs.rendering import choose_platform, prepare_pictures, why_no_window
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, SEED, Parser, a_path

DEFAULT_EPISODES = 5


def make_parser() -> Parser:
    """Return the command-line parser."""
    parser = Parser("enjoy", description=__doc__)
    add_agent(parser)
    episodes = parser.add_argument_group("episodes")
    episodes.add_argument(
        "--episodes", type=COUNT, default=DEFAULT_EPISODES, help="number of episodes"
    )
    episodes.add_argument(
        "--seed",
        type=SEED,
        help="seed of initial states and policy noise (default: the run's, or 0 if unknown)",
    )
    episodes.add_argument(
        "--video", type=a_path, metavar="FILE", help="record the episodes to a file, .mp4 or .gif"
    )
    add_machine(parser, "behaviour", "device")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Run, record or show the episodes; return their results and the score."""
    check_agent(args)
    # MuJoCo chooses its renderer when it is imported, so no import of MuJoCo may precede this block
    if args.video is not None:
        from zoo.evaluation.video import check_video

        check_video(args.video)
        can_draw = choose_platform() is not None
    else:
        why_not_shown = why_no_window()
    prepare_pictures(args.env, args.model)
    from zoo.evaluation.play import describe, describe_episodes, play, record, show
    from zoo.models.agent import find_agent
    from zoo.models.score import Score

    agent = find_agent(args).with_protocol(args.episodes, args.seed)
    log.info("%s in %s, from %s", agent.algo, agent.env, agent.source)
    if args.video is not None:
        results = record(agent, args.video, can_draw)
    elif why_not_shown is None:
        results = show(agent)
    else:
        log.info("nothing is shown: %s; to see the agent, add --video FILE", why_not_shown)
        results = play(agent)
    for line in describe_episodes(results):
        log.info(line)
    score = Score.of(results)
    log.info("%s over %s", score.text, count(score.episodes, "episode"))
    return describe(agent, results, score) | {
        "video": None if args.video is None else str(args.video)
    }


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
