"""Save and load models, parameters and replay buffers as code-free files."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import stable_baselines3
import torch
from stable_baselines3.common.save_util import open_path, recursive_getattr, recursive_setattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import (
    check_for_correct_spaces,
    get_device,
    get_system_info,
)
from stable_baselines3.common.vec_env import VecEnv

from agents.common.data.buffer import read_buffer, write_buffer
from agents.common.files import atomic_path, safe
from agents.common.model_file import (
    ATTRIBUTES,
    ModelFile,
    Source,
    read_model_file,
    tensor_members,
    write_archive,
)
from agents.common.normalization import normalized_as_saved
from agents.common.sb3.constructor import POLICY_SETTINGS, with_named_classes
from agents.common.sb3.environments import TrainedModel, bounded_like
from agents.common.sb3.transfer import check_saved_flow, require_fit
from agents.common.settings import Configurable
from agents.common.validation import path_of, suggestion


class StoredModel(TrainedModel):
    """The part of a model that saves and loads it, with SB3's methods but as code-free files."""

    unsaved: ClassVar[tuple[str, ...]] = ("lr_schedule", "n_steps", "action_spaces")
    """Attributes that are not saved: they are derived from other attributes, or stored in checkpoints."""

    def save(
        self,
        path: Source,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save the model as a zip archive with a checksum: attributes as JSON, parameters and optimiser state.

        The file contains no code. A learning-rate function is replaced by its current value, and custom attributes that
        cannot be written as JSON are omitted, in each case with a warning.

        :param path: file, with or without ``.zip``, or an open binary file.
        :param exclude: names of attributes to omit besides the defaults.
        :param include: names of attributes to save that are omitted by default.
        :raises TypeError: if `policy_kwargs` contains values that cannot be written without code.
        """
        names, variables = self._get_torch_save_params()
        left_out = {*(exclude or ()), *self._excluded_save_params(), *self.unsaved}
        left_out -= {*(include or ())}
        left_out |= {name.partition(".")[0] for name in (*names, *variables)}
        attributes = {**vars(self), **self._saved_settings()}
        described, problems = safe.to_json_by_name(
            {name: value for name, value in attributes.items() if name not in left_out}
        )
        for name, problem in problems.items():
            if name == "policy_kwargs":
                raise TypeError(f"saved models contain no code, got `{name}`: {problem}")
            warnings.warn(
                f"saved models contain no code, so `{name}` is omitted: {problem}", stacklevel=2
            )
        # no setting is called `class`, because `class` is a keyword
        content = {"class": path_of(type(self)), **described}
        members = {
            ATTRIBUTES: json.dumps(content, indent=1).encode(),
            "_stable_baselines3_version": stable_baselines3.__version__.encode(),
            "system_info.txt": get_system_info(print_info=False)[1].encode(),
            **tensor_members(
                self.get_parameters(),
                {name: recursive_getattr(self, name) for name in variables},
            ),
        }
        archive = write_archive(members)
        with _opened(path, "w", "zip") as file:
            file.write(archive)

    def _saved_settings(self) -> dict[str, Any]:
        """Return values to save in addition to attributes, or instead of them: the statistics of `VecNormalize`."""
        normalization = self.normalization
        if normalization is None:
            return {}
        return {"_saved_normalization": vars(normalization)}

    @classmethod
    def load(
        cls,
        path: Source | ModelFile,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Load a model.

        :param path: a saved model of this algorithm, the folder of a run, or a :class:`ModelFile`.
        :param env: environment for further training. If the model was trained in a `VecNormalize`, the environment is
            normalised with the saved statistics, unless it already has a `VecNormalize` with statistics.
        :param device: device of the model; as in SB3, the CPU is used if this device is not available.
        :param custom_objects: values that replace saved attributes, which are then not read.
        :param print_system_info: whether to print package versions, both saved and current.
        :param force_reset: whether training starts with a reset.
        :param kwargs: values that override saved attributes.
        :return: the model.
        :raises FileNotFoundError: if there is no model.
        :raises TypeError: for an unknown attribute; the message names the closest ones.
        :raises ValueError: if the file is damaged or contains a model of another algorithm, or if `policy_kwargs` or
            the environment's spaces differ from the saved ones.
        """
        if isinstance(path, ModelFile):  # the caller chose the class by the file's algorithm
            saved = path
        else:
            saved = read_model_file(path)
            saved.require_algorithm(cls)
        attributes = cls._read_attributes(saved, custom_objects or {}, kwargs)
        device = get_device(device)
        if print_system_info:
            print(saved.members["system_info.txt"].decode())
            get_system_info()
        if env is not None:
            env = cls._environment_for(env, attributes)
            if force_reset:  # the saved observation is not from this environment
                attributes["_last_obs"] = None
        # settings, which only the constructor sets, like the custom flow; SB3's algorithms have neither
        declared = getattr(cls, "method_class", Configurable).declared().keys()
        for name in sorted(declared - attributes.keys()):
            warnings.warn(
                f"{saved.name} has no value of the setting `{name}`, e.g. because it had another name; the default is "
                "used",
                stacklevel=2,
            )
        of_constructor = (declared | {"behaviour"}) & attributes.keys()
        model = cls(
            attributes.pop("policy_class"),
            env,  # type: ignore[arg-type]  # None is allowed
            device=device,
            _init_setup_model=False,  # type: ignore[call-arg]  # only SB3's subclasses declare it
            **{name: attributes.pop(name) for name in of_constructor},
        )
        vars(model).update(attributes)
        model._setup_model()
        model.read_parameters(saved)
        return model

    @classmethod
    def _read_attributes(
        cls, saved: ModelFile, custom_objects: Mapping[str, Any], replacements: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the attributes of a saved model, including the caller's replacements; see :meth:`load`."""
        if "policy_kwargs" in replacements:
            policy_kwargs = with_named_classes("policy_kwargs", replacements.pop("policy_kwargs"))
            _require_same_policy_kwargs(policy_kwargs, saved)
        for name in replacements:
            if name not in saved.described and not hasattr(cls, name):
                raise TypeError(
                    f"{cls.__name__}.load() got an unknown attribute '{name}'; {suggestion(name, saved.described)}"
                )
        # as in SB3, custom objects without a saved attribute are ignored
        names = saved.described.keys() & custom_objects
        replaced = {name: custom_objects[name] for name in names} | replacements
        if "seed" in replaced:
            replaced = {"seeds": None, **replaced}
        attributes = saved.attributes(replaced) | replaced
        if saved.described.get("behaviour") is not None:
            check_saved_flow(saved, attributes["behaviour"])
        return attributes

    @classmethod
    def _environment_for(cls, env: GymEnv, attributes: dict[str, Any]) -> VecEnv:
        """Wrap an environment for a model with saved attributes; raise if their spaces differ."""
        wrapped = cls._wrap_env(env)
        if "_saved_normalization" in attributes:
            wrapped = normalized_as_saved(wrapped, attributes["_saved_normalization"])
        observations = bounded_like(wrapped, attributes["observation_space"])
        check_for_correct_spaces(wrapped, observations, attributes["action_space"])
        # the replay buffer is built with one ring per environment
        attributes["n_envs"] = wrapped.num_envs
        # `learn` copies the noise of a single environment for each of the new ones
        noise = attributes.get("action_noise")
        attributes["action_noise"] = getattr(noise, "base_noise", noise)
        return wrapped

    def read_parameters(self, saved: ModelFile) -> None:
        """Load parameters and SB3's variables, such as an entropy coefficient, from a saved model.

        :param saved: the saved model.
        :raises ValueError: if shapes or optimiser differ.
        """
        parameters, variables = saved.parameters()
        try:
            self.set_parameters(parameters, device=self.device)
        except (RuntimeError, ValueError):
            # PyTorch's message lists all tensors, ours only the first that differ
            require_fit(f"the model {saved.name}", self.policy.state_dict(), parameters["policy"])
            raise
        for name, value in variables.items():
            recursive_setattr(self, f"{name}.data", value.to(self.device))

    def save_replay_buffer(self, path: Source) -> None:
        """Save the replay buffer, that is, dataset and online transitions, as arrays.

        :param path: file, with or without ``.npz``, or an open binary file.
        :raises ValueError: if the dataset has several parts, of which the buffer contains only one at a time.
        """
        if self.replay_buffer.loader is not None:
            raise ValueError(
                "a replay buffer with a dataset of several files cannot be saved, since the "
                "buffer contains only one of the files at a time; load the dataset again"
            )
        with _opened(path, "w", "npz", self.verbose) as file:
            write_buffer(self.replay_buffer, file)

    def load_replay_buffer(self, path: Source, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer with dataset and online transitions.

        :param path: file written by :meth:`save_replay_buffer`, with or without ``.npz``.
        :param truncate_last_traj: ignored; SB3 uses it for hindsight replay.
        :raises ValueError: if the file is damaged or not a buffer (e.g. a pickle), or if its spaces, number of
            environments or replicas, stacked frames or `sparse` differ from the model's; the model's buffer is then
            unchanged.
        """
        with _opened(path, "r", "npz", self.verbose) as file:
            read_buffer(file, self.replay_buffer)


@contextlib.contextmanager
def _opened(path: Source, mode: str, suffix: str, verbose: int = 0) -> Iterator[Any]:
    """Open a file as SB3 does, and close it at the end; a file object passed by the caller stays open."""
    if mode == "w" and isinstance(path, str | Path):
        target = Path(path)
        if not target.suffix:
            target = Path(f"{target}.{suffix}")
        # SB3 opens other paths: it creates missing folders, and can write to devices
        if target.is_file() or (target.parent.is_dir() and not target.exists()):
            # written under a temporary name, so that a full disk or a kill leaves no incomplete file
            with atomic_path(target) as temporary, temporary.open("wb") as replacement:
                yield replacement
            return
    file = open_path(path, mode, verbose, suffix)  # type: ignore[arg-type]  # SB3 declares fewer types
    try:
        yield file
    finally:
        if file is not path:
            file.close()


def _require_same_policy_kwargs(policy_kwargs: Mapping[str, Any], saved: ModelFile) -> None:
    """Raise if `policy_kwargs`, which SB3's users pass again on loading, differ from the saved ones."""
    written = {name: saved.described.get(setting) for name, setting in POLICY_SETTINGS.items()}
    written |= saved.described.get("policy_kwargs") or {}
    for name, value in policy_kwargs.items():
        if safe.to_json(value) != written.get(name):
            raise ValueError(
                f"`policy_kwargs.{name}` of a saved model cannot be changed from {written.get(name)} to {value}; "
                "create a new model"
            )
