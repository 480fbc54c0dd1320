"""Play a model under the report's protocol, and print its score with an interval.

``python zoo/evaluate.py --algo fql --env pointmaze-medium-navigate-singletask-task1-v0 --trained``
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file: let `import agents` and `import zoo` find the packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.common.validation import count
from zoo.envs.rendering import prepare_pictures
from zoo.models.agent_flags import add_agent, add_machine, check_agent
from zoo.terminal.cli import as_program, signals_deferred
from zoo.terminal.errors import FAILED, UsageError
from zoo.terminal.messages import log
from zoo.terminal.parser import COUNT, REAL, SEED, Parser

if TYPE_CHECKING:
    from zoo.models.agent import Agent
    from zoo.models.score import Score

MAX_STEPS = 20_000
PURPOSE = """Play a model under the report's protocol: the environment, episodes and start states of its run's
evaluations. Print its success (or return) with a 95% interval over the episodes.

A score that somebody states, with --interval or in the file of a trained agent, is called reproduced only if the score
found here lies in the stated interval. Otherwise the exit code is 1.

With --fitted-q nothing is played: critics learn from a dataset what the policy of a run is worth."""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser("evaluate", description=PURPOSE)
    add_agent(parser)
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
    fitted = parser.add_argument_group("without playing")
    fitted.add_argument(
        "--fitted-q",
        action="store_true",
        help="estimate the discounted value by fitted Q evaluation (docs/no_env.md)",
    )
    fitted.add_argument(
        "--dataset",
        help="what it is fitted to: auto, download, generate, the path of a file or folder, or minari:ID (default: "
        "that of the run)",
    )
    fitted.add_argument("--dataset-dir", help="where datasets live (default: as in training)")
    fitted.add_argument(
        "--steps", type=COUNT, help=f"most updates of the critics (default: {MAX_STEPS:,})"
    )
    add_machine(parser, "n_eval_envs")
    return parser


def _run(args: argparse.Namespace) -> dict[str, Any]:
    """Play, say what came of it, and return it."""
    check_agent(args)
    _check_fitted_q(args)
    prepare_pictures(args.env, args.model)
    with signals_deferred():
        from zoo.models.agent import describe, find_agent, play, with_protocol

    agent = find_agent(args)
    if args.fitted_q:
        return _fit_q(args, agent)
    playing = with_protocol(agent, args.episodes, args.seed)
    # a flag that repeats the protocol changes nothing
    differs = (playing.episodes, playing.seed) != (agent.episodes, agent.seed)
    if args.interval is not None and differs:  # before hours of playing
        raise UsageError(
            f"`--interval` belongs to a score under the protocol, {agent.episodes} episodes with the starts of seed "
            f"{agent.seed}; leave out --episodes and --seed"
        )
    results, score = play(playing, args.n_eval_envs)
    episodes = count(score.episodes, "episode")
    log.info("%s in %s: %s over %s", agent.algo, agent.env, score.text, episodes)
    result = describe(playing, results, score)
    result["normalised return"] = agent.scoring.normalised(result["return"])
    return result | _compare(args, agent, score, differs)


def _check_fitted_q(args: argparse.Namespace) -> None:
    """Refuse flags of playing beside --fitted-q, and flags of that one without it."""
    names = ("dataset", "dataset_dir", "steps")
    message = "`--{}` belongs to --fitted-q; add it, or leave the flag out"
    if args.fitted_q:
        names = ("interval", "episodes", "n_eval_envs")
        message = "`--fitted-q` plays no episodes, got --{}; leave one of them out"
    for name in names:
        if getattr(args, name) is not None:
            raise UsageError(message.format(name.replace("_", "-")))


def _fit_q(args: argparse.Namespace, agent: Agent) -> dict[str, Any]:
    """Estimate the value of a run's policy from data, write it to the run folder and return it."""
    from agents.common.sb3.policy import FlowPolicy
    from zoo.envs.dataset_only import DatasetOnlyEnv
    from zoo.envs.make import make_env
    from zoo.evaluation.from_data import fitted_value
    from zoo.runs.folder import RunFolder, check_log_folder
    from zoo.runs.scores import WITHOUT_ENV
    from zoo.training.plan import load_data_of_run

    if agent.run is None:
        raise UsageError(
            f"`--fitted-q` needs the folder of a run, whose settings say how data are read, got {agent.source}; give "
            "MODEL as that folder, without another --env"
        )
    policy = agent.policy
    if not isinstance(policy, FlowPolicy):
        raise UsageError(
            f"`--fitted-q` evaluates policies of this zoo's algorithms, got {agent.algo} of Stable-Baselines3; play it"
        )
    check_log_folder(agent.run, "run folder", "MODEL")
    folder = RunFolder(agent.run)
    config = folder.read_config()
    # the folder of the run's datasets need not have another dataset
    trained_on = folder.read_arguments() if args.dataset is None else {}
    dataset = args.dataset or trained_on.get("dataset", "auto")
    dataset_dir = args.dataset_dir or trained_on.get("dataset_dir")
    if config.run.score in WITHOUT_ENV:
        env: Any = DatasetOnlyEnv(policy.observation_space, policy.action_space)  # type: ignore[arg-type]
    else:
        env = make_env(agent.env_id, **agent.env_kwargs)
        agent.check_spaces((env.observation_space, env.action_space))
    with contextlib.closing(env):
        data = load_data_of_run(config, dataset, dataset_dir, env)
    seed = agent.seed if args.seed is None else args.seed
    fitted = fitted_value(policy, data.transitions, steps=args.steps or MAX_STEPS, seed=seed)
    result = {
        "algo": agent.algo,
        "env": agent.env,
        "model": str(agent.source),
        "dataset": str(dataset),
        "fingerprint": data.fingerprint,
        "gamma": policy.method.gamma,
        "seed": seed,
        **dataclasses.asdict(fitted),
    }
    folder.write_fitted_q(result)
    for name, estimate in (("policy", fitted.policy), ("behaviour", fitted.behaviour)):
        low, high = estimate.interval
        log.info("discounted value of the %s: %.4g [%.4g, %.4g]", name, estimate.value, low, high)
    if not fitted.settled:
        log.warning(
            "not settled after %d updates: these are no 95%% intervals, though wider by how far the values moved last; "
            "give more --steps",
            fitted.updates,
        )
    return result


def _compare(args: argparse.Namespace, agent: Agent, score: Score, differs: bool) -> dict[str, Any]:
    """Return whether a stated score is reproduced, if one is stated, and note the exit code."""
    from zoo.runs.scores import SCORE_KINDS

    stated = agent.stated
    if args.interval is not None:
        low, high = args.interval
        lowest, highest = SCORE_KINDS[score.kind].limits
        if not lowest <= low <= high <= highest:
            limits = f"from {lowest:g} to {highest:g}, the lower first"
            raise UsageError(f"`--interval` must be two numbers {limits}, got {low:g} {high:g}")
        stated = dataclasses.replace(score, low=low, high=high)
    if stated is None:
        return {}
    if differs:
        message = "stated: %s; not compared, because this is not its protocol"
        log.info(message, stated.interval_text)
        return {}
    # the point estimate decides: two intervals that overlap would call too much reproduced
    reproduced = stated.kind == score.kind and stated.low <= score.mean <= stated.high
    args.exit_code = 0 if reproduced else FAILED
    verdict = (
        "reproduced" if reproduced else "not reproduced: the score is outside the stated interval"
    )
    log.info("stated: %s; %s", stated.interval_text, verdict)
    return {"stated": [stated.low, stated.high], "reproduced": reproduced}


main = as_program(make_parser, _run)

if __name__ == "__main__":
    sys.exit(main())
