"""One training run from configuration to result: data, model, run folders, the two phases, the final files."""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import torch
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from agents.common.check import AgentError, check_first_update
from agents.common.data.buffer import SequenceReplayBuffer
from agents.common.engine.checkpoint import find_checkpoints
from agents.common.replicas import Diverged
from agents.common.saved import find_model, read_attributes, require_algorithm
from agents.common.sb3.model import FlowQLearning
from agents.common.sb3.spaces import available_device
from zoo.baselines import find_algorithm
from zoo.config import Config
from zoo.datasets.files import file_sha256
from zoo.datasets.load import Dataset, load_dataset
from zoo.datasets.shards import ShardedDataset
from zoo.envs.make import make_env
from zoo.envs.snapshot import ResumableEnv
from zoo.errors import Interrupted, UsageError
from zoo.messages import keep_in, log
from zoo.playing.background import BackgroundEvaluator
from zoo.playing.evaluate import Evaluator
from zoo.playing.pool import count_environments
from zoo.runs.folder import RunFolder, command_line, describe_versions
from zoo.runs.history import ONLINE
from zoo.runs.results import LEARNING_CURVE, joint_result, result_of, result_of_failed
from zoo.training import logs
from zoo.training.callbacks import (
    EvaluationCallback,
    ProgressCallback,
    SaveCallback,
    StopSignal,
    save_model,
)
from zoo.training.curve import plot_learning_curve
from zoo.training.replicas import DivergenceCallback, Replicas

WANDB_PROJECT = "flow-rl-zoo"


class Training:
    """The run itself: offline phase, online phase, evaluations, checkpoints, and how it ended.

    :param config: what to do.
    :param model: the algorithm, its data loaded.
    :param evaluator: plays the evaluation's episodes.
    :param replicas: the run folders and seeds.
    :param progress_bar: True draws a bar, False prints lines, None decides by the terminal.
    """

    def __init__(
        self,
        config: Config,
        model: FlowQLearning,
        evaluator: Evaluator | BackgroundEvaluator,
        replicas: Replicas,
        progress_bar: bool | None = None,
    ) -> None:
        self.config, self.model, self.replicas = config, model, replicas
        self.stop = StopSignal()
        self.evaluation = EvaluationCallback(evaluator, replicas, config.run.eval_freq)
        self.saving = SaveCallback(replicas, config.run.save_freq, self.evaluation, self.stop)
        for callback in (self.evaluation, self.saving):
            callback.init_callback(model)  # both act outside of `learn` too
        self.progress = ProgressCallback(self.evaluation, progress_bar)
        self.updates_per_second: float | None = None

    def restore(self) -> dict[str, Any]:
        """Go on from the newest checkpoint, or from the beginning if the run was stopped before its first.

        :return: the position of the log.
        :raises UsageError: if no checkpoint can be read.
        """
        checkpoints = find_checkpoints(self.saving.checkpoints)
        for checkpoint in checkpoints:
            try:
                position = self.saving.restore(checkpoint)
                self.replicas.write_status(self.model, "running")
                return position
            except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
                warnings.warn(f"{checkpoint} cannot be read ({error}); trying the one before it", stacklevel=2)
        if checkpoints:
            raise UsageError(
                f"no checkpoint in {self.saving.checkpoints} can be read; leave out --resume to start again"
            )
        self.evaluation.restore(None)
        return logs.BEGINNING

    def run(self) -> dict[str, Any]:
        """Train to the end; whatever happens, the run folders say how it ended.

        :return: what to print.
        :raises Interrupted: when a signal stopped the run, after its checkpoint was written.
        """
        try:
            with self.stop:
                self._learn()
                self.saving.save("running")
            return self._finish()
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, Interrupted))
            state = "interrupted" if stopped else "failed"
            self.replicas.write_status(self.model, state, reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.progress.close()

    def _learn(self) -> None:
        """Run what is left of the phases, each with an evaluation at its end."""
        self.evaluation.repeat_unfinished()
        try:
            self._learn_in_phases()
        except Diverged:
            self.evaluation.collect()  # it began when all was well
            raise

    def _learn_in_phases(self) -> None:
        run, model = self.config.run, self.model
        divergence = DivergenceCallback(self.replicas, run.log_interval)
        callbacks = [divergence, self.evaluation, self.saving, self.progress]
        for steps, end in ((run.pretrain_steps, run.pretrain_steps), (run.offline_steps, self._gradient_steps)):
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
        """All steps on the dataset."""
        return self.config.run.pretrain_steps + self.config.run.offline_steps

    def _finish(self) -> dict[str, Any]:
        """Write the final files and return one result, or one per seed."""
        results = [
            self._describe_failed(replica) if replica in self.replicas.failed else self._finish_replica(replica)
            for replica in range(len(self.replicas))
        ]
        self.replicas.write_status(self.model, "done")
        return joint_result(self.config.algo, self.config.env, self.updates_per_second, results)

    def _finish_replica(self, replica: int) -> dict[str, Any]:
        """Write the final model and the learning curve of a replica, and return its result."""
        folder, history = self.replicas.folders[replica], self.evaluation.histories[replica]
        save_model(self.model.replica(replica), folder.model_path)
        plot_learning_curve(history, folder.path / LEARNING_CURVE, f"{self.config.algo} on {self.config.env}")
        return result_of(folder.path, self.replicas.seeds[replica], history)

    def _describe_failed(self, replica: int) -> dict[str, Any]:
        """Return the result of a replica that has failed."""
        folder, seed = self.replicas.folders[replica], self.replicas.seeds[replica]
        return result_of_failed(folder.path, seed, self.replicas.failed[replica])


def make_evaluator(
    config: Config, env_id: str, env_kwargs: dict[str, Any], args: argparse.Namespace
) -> Evaluator | BackgroundEvaluator:
    """Start the environments of the evaluation; they are built while data is read.

    :param config: gives the number of episodes.
    :param env_id: Gymnasium id.
    :param env_kwargs: passed to the environments.
    :param args: number of environments, seed, mode and device.
    :return: the evaluator: beside training on CUDA, where it leaves the training's CPU core alone, else in its place.
    """
    count = args.n_eval_envs or count_environments(env_id, env_kwargs, config.run.eval_episodes)
    beside = available_device(args.device).type == "cuda" if args.eval_mode == "auto" else args.eval_mode == "async"
    kind = BackgroundEvaluator if beside else Evaluator
    return kind(env_id, episodes=config.run.eval_episodes, n_envs=count, seed=args.eval_seed, env_kwargs=env_kwargs)


def load_data(config: Config, dataset: str, dataset_dir: str | None) -> Dataset | ShardedDataset | None:
    """Return the dataset, made first if need be; None for a run that needs none, or whose environment has none.

    :param config: gives environment, size and rewards.
    :param dataset: ``auto``, ``download``, ``generate`` or the path of a file or folder.
    :param dataset_dir: where datasets live.
    :return: the dataset.
    """
    how = config.run.offline_data
    steps = config.run.pretrain_steps + config.run.offline_steps
    needed = steps or config.settings["balanced_sampling"] if how is None else how != "none"
    if not needed or config.env in gymnasium.registry:
        return None
    return load_dataset(
        config.env,
        dataset_dir=dataset_dir,
        dataset=dataset,
        dataset_size=config.run.dataset_size,
        sparse=config.settings["sparse"],
        replace_interval=config.run.dataset_replace_interval,
    )


def make_model(
    config: Config,
    env_id: str,
    seeds: list[int],
    data: Dataset | ShardedDataset | None,
    args: argparse.Namespace,
    env_kwargs: dict[str, Any],
) -> FlowQLearning:
    """Return the algorithm with its environments and its data loaded.

    :param config: algorithm and settings.
    :param env_id: Gymnasium id.
    :param seeds: one per replica.
    :param data: the dataset, or None.
    :param args: device, threads, environments, model or behaviour flow to start from.
    :param env_kwargs: passed to the environments.
    :return: the model.
    :raises UsageError: if settings, spaces or device do not fit.
    """
    if args.num_threads > 0:
        torch.set_num_threads(args.num_threads)
    if config.run.online_steps and args.n_envs and args.n_envs % len(seeds):
        raise UsageError(
            f"`--n-envs` must be a multiple of the {len(seeds)} stacked seeds, got {args.n_envs}; each seed trains "
            "online with environments of its own"
        )
    env = make_vec_env(
        lambda: make_env(env_id, **env_kwargs),
        n_envs=args.n_envs or (len(seeds) if config.run.online_steps else 1),
        seed=seeds[0],
        wrapper_class=ResumableEnv,
        vec_env_cls=SubprocVecEnv if args.vec_env == "subproc" else DummyVecEnv,
    )
    try:
        algorithm = find_algorithm(config.algo).algorithm
        model = algorithm(
            "MlpPolicy",
            env,
            **config.settings,
            replay_buffer_kwargs={"storage": args.storage},
            seeds=seeds,
            device=args.device,
            verbose=max(args.verbose - 1, 0),
        )
        if args.trained_agent:
            model.set_parameters(find_model(args.trained_agent), device=args.device)  # type: ignore[arg-type]
        if data is not None:
            model.load_dataset(data.content)
        if args.pretrained_actor:  # behind the dataset, which gives the observation statistics
            model.load_pretrained_actor(args.pretrained_actor)
    except (NotImplementedError, TypeError, ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    log.info("%s", storage_of(model))
    if data is not None:
        log.info("%s", model.replay_buffer.dataset_description)
    if isinstance(model, FlowQLearning):  # SB3's own algorithms come here too
        log.info("updates: %s", model.update_mode)
    return model


def storage_of(model: FlowQLearning) -> str:
    """Return where a model's data live, in words.

    :param model: the model, its data loaded.
    :return: one line.
    """
    assert isinstance(model.replay_buffer, SequenceReplayBuffer)
    return model.replay_buffer.placement.text


def describe_run(config: Config, data: Dataset | ShardedDataset | None, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that decides a run's outcome besides its seeds; runs that agree in it are the same run.

    :param config: the configuration.
    :param data: the dataset, or None.
    :param args: further arguments that matter.
    :return: plain values for ``config.yml``.
    """
    record = config.record() | {"eval_seed": args.eval_seed}
    for name in ("label", "n_envs", "env_kwargs", "eval_env_kwargs", "trained_agent"):
        if getattr(args, name):
            record[name] = getattr(args, name)
    if args.pretrained_actor:
        record["pretrained_actor"] = describe_model(args.pretrained_actor)
    if data is not None:
        record["dataset"] = {"name": data.path.stem, "size": data.num_transitions, "fingerprint": data.fingerprint}
    return record


def describe_model(path: Path) -> dict[str, Any]:
    """Return what a run records of a saved model that it begins with.

    :param path: its ``.zip``, or the folder of the run that saved it.
    :return: path, number of updates and sha256.
    :raises UsageError: if it is not a saved model.
    """
    try:
        file = find_model(path)
        updates = int(read_attributes(file)["_n_updates"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    return {"path": str(file.resolve()), "updates": updates, "fingerprint": file_sha256(file)}


def check_trained_agent(path: Path, config: Config) -> None:
    """Refuse a model to start from that is not there, or that another algorithm has saved.

    :param path: its ``.zip``, or the folder of a run.
    :param config: names the algorithm.
    :raises UsageError: if it cannot be started from.
    """
    try:
        require_algorithm(find_model(path), find_algorithm(config.algo).algorithm)
    except (OSError, ValueError) as error:
        raise UsageError(f"`--trained-agent`: {error}") from error


def check_algorithm(config: Config, env_id: str, env_kwargs: dict[str, Any]) -> None:
    """Try an algorithm's hooks on an environment's spaces, before data are loaded and a folder is made.

    :param config: names the algorithm and its settings.
    :param env_id: Gymnasium id.
    :param env_kwargs: passed to the environment.
    :raises UsageError: if a hook does not keep its contract.
    """
    algorithm = find_algorithm(config.algo).algorithm
    if not issubclass(algorithm, FlowQLearning):
        return  # SB3's own
    bare = algorithm("MlpPolicy", None, **config.settings, _init_setup_model=False)
    with contextlib.closing(make_env(env_id, **env_kwargs)) as env:
        try:
            check_first_update(bare.method, env.observation_space, env.action_space)
        except AgentError as error:
            raise UsageError(str(error)) from error


def make_folders(
    record: dict[str, Any],
    seeds: list[int],
    model: FlowQLearning,
    data: Dataset | ShardedDataset | None,
    args: argparse.Namespace,
    folders: list[RunFolder],
) -> None:
    """Make one run folder per replica, claimed for this process, and write what is known before training.

    :param record: from :func:`describe_run`.
    :param seeds: the replicas' seeds.
    :param model: where the run trains, and where its data live.
    :param data: the dataset, or None.
    :param args: arguments to record.
    :param folders: where the folders go, each as soon as it is there, so that a failure finds those to end.
    """
    device = model.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = describe_versions(device_name, None if data is None else data.fingerprint)
    versions["storage"] = storage_of(model)
    for seed in seeds:
        folders.append(RunFolder.create(args.log_folder, record["algo"], record["env"]))
        folders[-1].write_status("running", seed, 0, 0)
        folders[-1].enter_in_index(seed, args.label or record["algo"])
    keep_in(folder.path for folder in folders)
    stack = {"seeds": seeds, "folders": [folder.path.name for folder in folders]} if len(seeds) > 1 else {}
    for seed, folder in zip(seeds, folders, strict=True):
        folder.write_yaml("args.yml", {name: _printable(value) for name, value in vars(args).items()})
        folder.write_text("command.txt", command_line() + "\n")
        folder.write_text("versions.json", json.dumps(versions, indent=1) + "\n")
        folder.write_yaml("config.yml", record | {"seed": seed} | stack)
    log.info("%s", yaml.safe_dump(record, sort_keys=False).rstrip())
    log.info("run folder: %s", ", ".join(str(folder.path) for folder in folders))


def make_logger(
    config: Config,
    model: FlowQLearning,
    replicas: Replicas,
    args: argparse.Namespace,
    position: dict[str, Any] | None = None,
) -> None:
    """Let every replica log to its run folder: CSV and TensorBoard, and Weights & Biases on demand.

    :param config: recorded by Weights & Biases.
    :param model: the model.
    :param replicas: the run folders.
    :param args: where to log.
    :param position: where the log goes on; None begins a new one.
    """
    paths = [folder.path for folder in replicas.folders]
    below = Path(args.tensorboard_log) if args.tensorboard_log else None
    events = [path if below is None else below / f"{config.algo}_{path.name}" for path in paths]
    model.set_logger(logs.ReplicaLogger(replicas, events, position))
    if args.track:
        import wandb

        wandb.init(
            project=args.wandb_project_name or WANDB_PROJECT,
            entity=args.wandb_entity,
            group=args.wandb_group,
            tags=args.wandb_tags,
            name=paths[0].name,
            config=config.record(),
            sync_tensorboard=True,
        )


def _printable(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
