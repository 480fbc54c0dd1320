"""Watch an agent play: in a window or a video, and its success in each episode.

``python zoo/enjoy.py --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained --video fql.gif``
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import count
from zoo.envs.rendering import WHAT_TO_INSTALL, choose_platform, prepare_pictures, why_no_window
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.errors import UsageError, as_usage_error
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, SEED, Parser, a_path

if TYPE_CHECKING:
    from zoo.models.agent import Agent
    from zoo.runs.episodes import EpisodeResults

PURPOSE = """Watch an agent play in the environment of its run, with the chunks and the protocol of its run. The first
episodes are those of the run's evaluations.

Where there is a screen, a window shows it, until Esc, q or its last episode; --video records instead. A video needs
EGL, OSMesa or a screen: the program takes what works, and says what. Mazes are drawn as maps where nothing works."""
DEFAULT_EPISODES = 5


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("enjoy", description=PURPOSE)
    add_agent(parser)
    show = parser.add_argument_group("what to play and to show")
    show.add_argument(
        "--episodes",
        type=COUNT,
        help=f"how many (default: {DEFAULT_EPISODES}, or one for each place of the grid)",
    )
    show.add_argument(
        "--seed", type=SEED, help="decides starts and noise (default: the run's, else 0)"
    )
    show.add_argument("--video", type=a_path, metavar="FILE", help="record to this .mp4 or .gif")
    show.add_argument("--no-render", action="store_true", help="show no window")
    show.add_argument(
        "--grid", type=_grid, metavar="ROWSxCOLUMNS", help="episodes side by side, e.g. 3x3"
    )
    show.add_argument(
        "--explain",
        action="store_true",
        help="show what the policy thinks: its flow from noise to action, sampled chunks, their Q, planned paths",
    )
    show.add_argument("--every", type=COUNT, help="steps between pictures (default: 1, in a GIF 2)")
    add_machine(parser)
    return parser


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9])x([1-9])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLUMNS, each from 1 to 9, got {text!r}")
    return int(match[1]), int(match[2])


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Play, record if that is asked for, and return the score."""
    check_agent(args)
    if args.explain and args.grid:
        raise UsageError("`--explain` shows one episode at a time; leave out --grid")
    if args.video is not None:
        from zoo.watching.video import check_video

        check_video(args.video)
    has_window = _has_window(args)  # before MuJoCo is imported
    prepare_pictures(args.env, args.model)
    platform = None
    if has_window:
        platform = "glfw"  # a window draws through GLFW
    elif args.video is not None:
        platform = choose_platform()  # EGL or OSMesa, before MuJoCo is imported
    with signals_deferred():
        from zoo.models.agent import describe, episode_text, find_agent, play, with_protocol
        from zoo.models.score import Score

    rows, columns = args.grid or (1, 1)
    # a grid is filled once
    default = rows * columns if args.grid else DEFAULT_EPISODES
    agent = with_protocol(
        find_agent(args), default if args.episodes is None else args.episodes, args.seed
    )
    log.info("%s in %s, from %s", agent.algo, agent.env, agent.source)
    if args.video is None and not has_window:  # several processes play faster than one that draws
        results, _ = play(agent)
        for episode, length in enumerate(results.lengths[0]):
            success = None if results.successes is None else int(results.successes[0, episode])
            log.info(
                episode_text(episode + 1, success, int(length), float(results.returns[0, episode]))
            )
    else:
        results = _show(args, agent, platform)
    score = Score.of(results.returns[0], results.successes_of(0), agent.scoring)
    log.info("%s over %s", score.text, count(score.episodes, "episode"))
    return describe(agent, results, score) | {
        "video": None if args.video is None else str(args.video)
    }


def _has_window(args: argparse.Namespace) -> bool:
    """Return whether a window is to show the agent; refuse flags about pictures where there will be none."""
    if args.video is not None:
        return False
    reason = "--no-render is given" if args.no_render else why_no_window()
    if reason is None:
        return True
    for name in ("grid", "explain", "every"):
        if getattr(args, name):
            raise UsageError(
                f"`--{name}` says what is shown, but no window is opened: {reason}; add --video FILE"
            )
    log.info("no window is opened: %s; to see the agent, add --video FILE", reason)
    return False


def _show(args: argparse.Namespace, agent: Agent, platform: str | None) -> EpisodeResults:
    """Play step by step, in a window or into a video."""
    from gymnasium.error import DependencyNotInstalled

    from zoo.watching.film import Film, draws_with_mujoco, find_maze
    from zoo.watching.video import STEPS_BETWEEN, open_video

    with contextlib.closing(
        Film(agent, args.grid or (1, 1), args.explain, platform is not None)
    ) as film:
        env = film.stage.envs[0]
        is_maze = find_maze(env) is not None
        if platform is None and is_maze:
            log.info(
                "MuJoCo can draw nothing here, so the maze is shown as a map; for pictures, %s",
                WHAT_TO_INSTALL,
            )
        elif platform is None and draws_with_mujoco(env):
            raise UsageError(
                f"MuJoCo can draw nothing here, and {agent.env} is no maze; {WHAT_TO_INSTALL}"
            )
        if args.video is None:
            from zoo.watching.window import open_window

            target = open_window(f"{agent.algo} in {agent.env}")
            interval = 1
        else:
            target = open_video(args.video)
            interval = STEPS_BETWEEN[args.video.suffix]
        with as_usage_error(DependencyNotInstalled), target as add:
            for picture, is_last in film.pictures(args.every or interval):
                add(picture, is_last)
        return film.stage.results()


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
