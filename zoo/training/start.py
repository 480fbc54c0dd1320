"""The training program: from a command line to the result of its run."""

from __future__ import annotations

import argparse
import contextlib
import functools
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Env
from gymnasium.spaces import Box, Space
from matplotlib.figure import Figure
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from agents.common.engine.checkpoint import set_aside
from agents.common.files import atomic_path, may_be_sound
from agents.common.model_file import find_checkpoints, find_model
from agents.common.sb3.encoders import POLICIES, make_policy
from agents.common.sb3.first_update import AgentError, check_first_update
from agents.common.sb3.model import FlowQLearning
from zoo.baselines import find_algorithm
from zoo.datasets.benchmarks import find_data
from zoo.datasets.load import SOURCES, Dataset, load_dataset
from zoo.datasets.own import load_own
from zoo.datasets.shards import ShardedDataset
from zoo.envs.lasting import find_lasting_state, find_running_statistics
from zoo.envs.make import RepeatableEnv, make_env
from zoo.envs.observations import policy_name
from zoo.envs.snapshot import ResumableEnv
from zoo.envs.tasks import D4RL, TASKS
from zoo.errors import STOP_SIGNALS, Abandoned, CannotResume, UsageError, as_usage_error
from zoo.models.score import interval_of_mean, interval_of_successes
from zoo.playing.episodes import Scoring
from zoo.playing.evaluate import Evaluator
from zoo.playing.held_out import HeldOutEvaluator, hold_out
from zoo.playing.pool import count_environments
from zoo.processes.serving import WorkerError, start_server
from zoo.report.figures.styles import algorithm_styles, spare_styles
from zoo.runs.folder import check_log_folder, describe_error, ending_recorded
from zoo.runs.history import OFFLINE, ONLINE, EvaluationHistory
from zoo.runs.read import short_name
from zoo.runs.resume import find_run, joint_result, result_of, result_of_done, result_of_failed
from zoo.runs.versions import command_line
from zoo.settings.record import RunRecord
from zoo.terminal.messages import FILE_ONLY, keep_in, log
from zoo.training.callbacks import (
    EvaluationCallback,
    Observer,
    ProgressCallback,
    SaveCallback,
    StopSignal,
    save_model,
)
from zoo.training.logs import BEGINNING, ReplicaLogger, tracked
from zoo.training.options import Request, describe_run, make_folders, read_request
from zoo.training.replicas import Replicas


def train(args: argparse.Namespace, observe: Observer | None = None) -> dict[str, Any]:
    """Do what the command line asks for, and return the result to print.

    :param observe: called with the evaluations so far after each of them; what it raises ends the run.
    """
    begin = time.perf_counter()
    log.log(FILE_ONLY, "%s", command_line())
    request = read_request(args)
    config = request.config
    log.info("%s in %s, profile %s", config.algo, config.env, config.profile)
    if config.departures:
        log.info("settings differ from protocol `%s`: %s", config.profile, "; ".join(config.departures))
    online_steps, first = config.run.online_steps, config.settings["learning_starts"]
    if 0 < online_steps <= first:
        log.warning(
            "the online phase will make no update: `learning_starts` is %d and --online-steps %d; make "
            "`learning_starts` smaller or --online-steps larger, or leave the online phase out (--online-steps 0)",
            *(first, online_steps),
        )
    check_log_folder(args.log_folder)
    with contextlib.ExitStack() as stack:
        result = _train(request, stack, observe)
    return {**result, "wall_s": round(time.perf_counter() - begin, 1)}


def _train(request: Request, stack: contextlib.ExitStack, observe: Observer | None) -> dict[str, Any]:
    """Train, or find that this was done already; the stack closes what is opened."""
    args, config = request.args, request.config
    # a finished run needs none
    evaluator = None if args.resume or args.no_env else stack.enter_context(contextlib.closing(make_evaluator(request)))
    try_hooks(request)
    data, held_out = load_data(request), None
    if args.no_env:
        assert isinstance(data, Dataset)
        data, held_out = hold_out(data)
    record = describe_run(config, data, args)
    found = find_run(args.log_folder, record, request.seeds) if args.resume else None
    if found is not None and found.is_done:
        return result_of_done(found)
    evaluator = evaluator or stack.enter_context(contextlib.closing(make_evaluator(request, held_out)))
    folders = found.folders if found else []
    seeds = request.seeds or (found.seeds if found else [secrets.randbelow(100_000)])
    stack.enter_context(ending_recorded(folders, seeds))
    if found:
        keep_in(folder.path for folder in folders)
    model = make_model(request, seeds, data)
    assert model.replay_buffer is not None
    log.info("%s", model.replay_buffer.placement.text)
    if data is not None:
        log.info("%s", model.replay_buffer.dataset_description)
    if isinstance(model, FlowQLearning):  # SB3's own algorithms come here too
        log.info("updates: %s", model.trainer.mode)
        if config.run.online_steps:
            with as_usage_error(ValueError):
                model.require_statistics()
    if not found:
        make_folders(folders, record, seeds, model, data, args)
    replicas = Replicas(folders, seeds, stops=args.on_divergence == "stop")
    bar = args.progress if args.verbose else bool(args.progress)
    training = Training(record, model, evaluator, replicas, Scoring.of_run(record), bar, observe)
    position = training.restore() if found else None
    stack.enter_context(tracked(args, config, replicas))
    below = args.tensorboard_log
    events = [Path(below) / f"{config.algo}_{folder.path.name}" if below else folder.path for folder in folders]
    model.set_logger(stack.enter_context(contextlib.closing(ReplicaLogger(replicas, events, position))))
    result = training.run()
    if args.save_replay_buffer:
        with atomic_path(folders[0].replay_buffer) as temporary, temporary.open("wb") as file:
            model.save_replay_buffer(file)
    replicas.write_status(model, "done")
    return result


def make_evaluator(request: Request, held_out: Dataset | None = None) -> Evaluator | HeldOutEvaluator:
    """Start the environments of the evaluation, which build while data are read.

    :param held_out: the trajectories that take their place.
    """
    if held_out is not None:
        return HeldOutEvaluator(held_out, gamma=request.config.settings["gamma"], seed=request.args.eval_seed)
    args, env_id, env_kwargs = request.args, request.env_id, request.eval_env_kwargs
    episodes = request.config.run.eval_episodes
    count = args.n_eval_envs or count_environments(env_id, env_kwargs, episodes)
    return Evaluator(env_id, episodes=episodes, n_envs=count, seed=args.eval_seed, env_kwargs=env_kwargs)


def try_hooks(request: Request) -> None:
    """Try the hooks of the algorithm before data are loaded and a folder is made.

    One that does not take the environment's observations, or not with these settings, is refused too.
    """
    config, method = request.config, request.config.method
    with contextlib.closing(make_env(request.env_id, **request.env_kwargs)) as env:
        _check_training_environment(request, env)
        policy = policy_name(env.observation_space)
        if method is None:  # SB3's own
            if policy != "MlpPolicy":
                raise UsageError(
                    f"`{config.algo}` is one of Stable-Baselines3's, which take vectors here, got "
                    f"{env.observation_space} in {request.env_id}; use an algorithm of this zoo, e.g. --algo qam"
                )
            return
        with as_usage_error(AgentError, NotImplementedError, TypeError, ValueError):
            seen: Space[Any] = env.observation_space
            if policy != "MlpPolicy" or not isinstance(seen, Box) or method.encoder is not None or method.random_crop:
                wrapped, seeds = FlowQLearning._wrap_env(env), request.seeds or [0]
                spaces = wrapped.observation_space, wrapped.action_space
                tried = make_policy(
                    POLICIES[policy], *spaces, lambda _: 0.0, method, seeds, config.settings.get("policy_kwargs")
                )
                seen = tried.features_space
            check_first_update(method, seen, env.action_space)


def _check_training_environment(request: Request, env: RepeatableEnv) -> None:
    """Refuse running statistics, which no evaluation has, and warn of a curriculum, where evaluations have others."""
    if not request.config.run.online_steps or request.env_kwargs == request.eval_env_kwargs:
        return
    if found := find_lasting_state(env, functools.partial(make_env, request.env_id, **request.env_kwargs)):
        if find_running_statistics(env):
            raise UsageError(found)
        log.warning("in training, %s", found)


def load_data(request: Request) -> Dataset | ShardedDataset | None:
    """Return the dataset, made first if need be; None for a run that needs none, or whose environment has none."""
    config, args = request.config, request.args
    how = config.run.offline_data
    steps = config.run.pretraining_steps + config.run.offline_steps
    needed = steps or config.settings["balanced_sampling"] if how is None else how != "none"
    if not needed and how is None and args.dataset not in SOURCES:
        raise UsageError(
            f"`--dataset` {args.dataset} would not be used: there are no offline steps, and `{config.algo}` takes no "
            "data online; give `--offline-data preload` or `balanced`, or leave out the dataset"
        )
    if not needed or not (request.has_dataset or request.has_own_data):
        return None
    if request.has_own_data:
        if config.settings.get("sparse"):
            raise UsageError("`sparse` belongs to OGBench's rewards, and --dataset has its own; set it to false")
        source = _find_own(request)
        own = load_own(
            source,
            request.env_id,
            {name: value for name, value in request.env_kwargs.items() if name != "frame_stack"},
            size=config.run.dataset_size,
            action_range=config.run.action_range,
            reward_from=config.run.reward_from,
            arrays=request.arrays,
        )
        if config.env in D4RL and config.run.score and not (own.reference_scores or config.run.reference_scores):
            log.warning(
                "%s has no `ref_min_score` and `ref_max_score`, so returns stay as they are; give `--reference-scores` "
                "to compare them on D4RL's scale",
                source,
            )
        return own
    return load_dataset(
        config.env,
        dataset_dir=args.dataset_dir,
        dataset=args.dataset,
        dataset_size=config.run.dataset_size,
        sparse=config.settings["sparse"],
        replace_interval=config.run.dataset_replace_interval,
    )


def _find_own(request: Request) -> str:
    """Return where data with rewards are: what the user gave, or the data of a benchmark's task."""
    args = request.args
    if args.dataset not in SOURCES:
        return str(args.dataset)
    return find_data(TASKS[request.config.env], args.dataset_dir, args.dataset)


def make_model(request: Request, seeds: list[int], data: Dataset | ShardedDataset | None) -> FlowQLearning:
    """Return the run's model, with its environments and data loaded."""
    config, args = request.config, request.args
    settings = config.settings
    if config.method is not None:
        settings = {"method": config.method, "policy_kwargs": settings.get("policy_kwargs")}
    if args.num_threads > 0:
        torch.set_num_threads(args.num_threads)
    env = _make_environments(request, seeds)
    with as_usage_error(NotImplementedError, TypeError, ValueError, OSError):
        model = find_algorithm(config.algo).algorithm(
            policy_name(env.observation_space),
            env,
            **settings,
            replay_buffer_kwargs={"storage": args.storage},
            seeds=seeds,
            device=args.device,
            verbose=max(args.verbose - 1, 0),
        )
        if config.run.online_steps:
            model.replay_buffer.require_room()  # now, and not after the offline phase
        if data is not None:
            model.load_dataset(data.content)
        if args.trained_agent:  # after the dataset: it has observation statistics of its own
            model.set_parameters(find_model(args.trained_agent), device=args.device)
        if args.pretrained_actor:  # after the dataset, which gives the observation statistics
            model.load_pretrained_actor(args.pretrained_actor)
    return model


def _make_environments(request: Request, seeds: list[int]) -> VecEnv:
    """Return the training environments, the same number for each replica."""
    args, is_online = request.args, request.config.run.online_steps > 0
    have_processes = args.vec_env == "subproc"
    if is_online and args.n_envs and args.n_envs % len(seeds):
        raise UsageError(
            f"`--n-envs` must be a multiple of the {len(seeds)} seeds, got {args.n_envs}; each seed trains online with "
            "environments of its own"
        )

    def make() -> Env[Any, Any]:
        if have_processes:
            for number in {*STOP_SIGNALS} - {signal.SIGTERM}:  # by which Python ends them with the program
                signal.signal(number, signal.SIG_IGN)
        return make_env(request.env_id, **request.env_kwargs)

    if have_processes:
        start_server()  # SB3 forks from it too
    env = make_vec_env(
        make,
        n_envs=args.n_envs or (len(seeds) if is_online else 1),
        wrapper_class=ResumableEnv,
        vec_env_cls=SubprocVecEnv if have_processes else DummyVecEnv,
    )
    for index in range(env.num_envs):
        env.env_method("be_called", f"training environment {index}", indices=[index])
    return env


# -- one run: its phases, evaluations and checkpoints, and how it ended ---------------------------------------------


class Training:
    """The run itself: offline phase, online phase, evaluations, checkpoints, and how it ended."""

    def __init__(
        self,
        config: RunRecord,
        model: FlowQLearning,
        evaluator: Evaluator | HeldOutEvaluator,
        replicas: Replicas,
        scoring: Scoring,
        progress_bar: bool | None = None,
        observe: Observer | None = None,
    ) -> None:
        self.config, self.model, self.replicas = config, model, replicas
        self.stop = StopSignal()
        self.evaluation = EvaluationCallback(evaluator, replicas, config.run.eval_freq, observe, self.stop, scoring)
        self.saving = SaveCallback(replicas, config, self.evaluation, self.stop)
        for callback in (self.evaluation, self.saving):
            callback.init_callback(model)  # both act outside of `learn` too
        self.progress = ProgressCallback(self.evaluation, progress_bar)
        self.updates_per_second: float | None = None

    def restore(self) -> dict[str, Any]:
        """Continue from the newest checkpoint, or from the start if the run was stopped before its first.

        :return: the position of the log, for `zoo.training.logs.ReplicaLogger`.
        """
        problems: list[tuple[Path, Exception]] = []
        for checkpoint in find_checkpoints(self.replicas.checkpoints):
            try:
                position = self.saving.restore(checkpoint)
            except Exception as error:  # whatever it is, the checkpoint before may still be whole
                if may_be_sound(error):
                    raise CannotResume(
                        f"--resume: {checkpoint} cannot be read just now ({describe_error(error)}), and may be whole; "
                        "start the same command again, or move it away to go on from the one before it"
                    ) from error
                log.warning("%s cannot be used (%s); trying the one before it", checkpoint, describe_error(error))
                problems.append((checkpoint, error))
            else:
                for damaged, _ in problems:
                    log.warning("%s is set aside as %s", damaged, set_aside(damaged).name)
                self.replicas.write_status(self.model, "running")
                return position
        if problems:
            told = "; ".join(f"{checkpoint.name}: {describe_error(error)}" for checkpoint, error in problems)
            raise CannotResume(
                f"--resume: none of the checkpoints in {self.replicas.checkpoints} can be used ({told}); put back a "
                "copy of one, or train again from the start: without --resume, or after moving away the folders "
                f"{', '.join(str(folder.path) for folder in self.replicas.folders)}"
            )
        return BEGINNING

    def run(self) -> dict[str, Any]:
        """Train to the end and return what to print; whatever happens, the run folders say how far it came.

        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with self.stop:
                self._learn()
                self.saving.save("running")
            return self._finish()
        except BaseException:
            with contextlib.suppress(OSError):  # often for the same reason
                self.replicas.write_status(self.model, "running")  # `ending_recorded` says how it ended
            raise
        finally:
            self.progress.close()

    def _learn(self) -> None:
        """Run what is left of the phases, each with an evaluation at its end."""
        try:
            self.evaluation.repeat_unfinished()
            self._learn_in_phases()
        except Abandoned:  # where a phase begins or ends
            self.saving.stop_run()
        except (EOFError, ConnectionError) as error:  # of the pipes of SB3's environments
            raise WorkerError(
                "the process of a training environment has ended, and says why above; --resume continues from the last "
                "checkpoint"
            ) from error

    def _learn_in_phases(self) -> None:
        run, model = self.config.run, self.model
        if run.eval_at_start and not run.pretraining_steps:
            self.evaluation.begin_phase(OFFLINE if run.offline_steps else ONLINE)
        callbacks = [self.evaluation, self.saving, self.progress]
        for steps, end in ((run.pretraining_steps, run.pretraining_steps), (run.offline_steps, self._gradient_steps)):
            if end > model.offline_steps:
                model.learn_offline(end - model.offline_steps, callbacks, log_interval=run.log_interval)
                self.updates_per_second = self.progress.steps_per_second
            if steps and model.num_timesteps == end:
                self.evaluation.finish_phase()
        left = self._gradient_steps + run.online_steps - model.num_timesteps
        self.evaluation.phase = ONLINE
        if left > 0:
            model.learn(left, callbacks, reset_num_timesteps=False)
        if run.online_steps:
            self.evaluation.finish_phase()

    @property
    def _gradient_steps(self) -> int:
        return self.config.run.pretraining_steps + self.config.run.offline_steps

    def _finish(self) -> dict[str, Any]:
        """Write the final files and return one result, or one per seed."""
        results = [self._finish_replica(replica) for replica in range(len(self.replicas))]
        return joint_result(self.config.algo, self.config.env, self.updates_per_second, results)

    def _finish_replica(self, replica: int) -> dict[str, Any]:
        """Write the final model and the learning curve of a replica that has not failed; return its result."""
        folder, seed = self.replicas.folders[replica], self.replicas.seeds[replica]
        if replica in self.replicas.failed:
            return result_of_failed(folder, seed, self.replicas.failed[replica])
        history = self.evaluation.histories[replica]
        save_model(self.model.replica(replica), folder.model)
        method, task = find_algorithm(self.config.algo).published_name, short_name(self.config.env)
        plot_learning_curve(history, folder.learning_curve, method, f"{method} in {task}, seed {seed}")
        return result_of(folder, seed, history, self.evaluation.scoring)


def plot_learning_curve(history: EvaluationHistory, path: Path, method: str, title: str) -> None:
    """Write a PNG of success (or the return, where there is no success) against steps, the online phase shaded.

    :param method: whose colour the curve has in reports.
    """
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_axes((0.14, 0.13, 0.82, 0.78))  # finding a layout would draw it twice
    arrays = history.arrays()
    steps, wins = arrays["timesteps"], arrays.get("successes")
    episodes = arrays["results"].shape[1]
    behaviour = arrays.get("behaviour")
    if behaviour is not None:
        values, band = arrays["results"].mean(axis=1), np.stack([arrays["low"], arrays["high"]], axis=1)
        axes.plot(steps, behaviour, color="0.4", linestyle="--", label="behaviour of the data")
        axes.legend()
    elif wins is None:
        values, band = arrays["results"].mean(axis=1), np.array([interval_of_mean(row) for row in arrays["results"]])
    else:
        values = 100 * wins.mean(axis=1)
        band = 100 * np.array([interval_of_successes(int(row.sum()), episodes) for row in wins])
        axes.set_ylim(0, 100)
    (colour, _), _ = algorithm_styles().get(method, spare_styles()[0])
    axes.plot(steps, values, marker="o", color=colour, clip_on=False, zorder=3)
    axes.fill_between(steps, *np.where(np.isfinite(band), band, np.nan).T, color=colour, alpha=0.2, linewidth=0)
    offline = arrays["phase"] == OFFLINE
    if offline.any() and not offline.all():
        begin = steps[offline][-1]
        axes.axvspan(begin, steps[-1], color="0.93", zorder=0)
        axes.text(begin, axes.get_ylim()[1], " online", va="top", color="0.4")
    units = ["gradient steps"] * bool(offline.any()) + ["environment steps"] * (not offline.all())
    axes.set(title=title, xlabel=", then ".join(units), xlim=(0, None))
    what, of = ("mean return" if wins is None else "success (%)"), "episodes"
    if behaviour is not None:
        what, of = "value estimate (fitted Q evaluation)", "held-out trajectories"
    axes.set_ylabel(f"{what}, 95% interval of {episodes} {of}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
