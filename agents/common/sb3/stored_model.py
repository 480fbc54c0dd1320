"""Saving and loading of models, parts of them and replay buffers, in files that run nothing when they are read."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
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
from agents.common.files import safe
from agents.common.model_file import (
    ATTRIBUTES,
    ModelFile,
    Source,
    read_model_file,
    tensor_members,
    write_archive,
)
from agents.common.normalization import normalized_as_saved
from agents.common.sb3.constructor import SETTINGS_OF_POLICY
from agents.common.sb3.environments import TrainedModel
from agents.common.sb3.transfer import check_saved_flow, require_fit
from agents.common.settings import Configurable
from agents.common.validation import path_of, suggestion


class StoredModel(TrainedModel):
    """The part of a model that saves and loads it; SB3's programs read what it writes."""

    unsaved: ClassVar[tuple[str, ...]] = ("lr_schedule", "n_steps", "_other_action_spaces")
    """Attributes that are not saved: they follow from others, or checkpoints keep them."""

    def save(
        self,
        path: Source,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Save the model as a zip archive in SB3's layout, with its checksum.

        Nothing of it is code. A function as the learning rate is replaced by its present value, and an attribute of the
        user's own that JSON cannot hold is left out, both with a warning.

        :param path: file, with or without ``.zip``, or an open binary file.
        :param exclude: names of attributes to leave out besides those that are always left out.
        :param include: names of attributes to keep that are left out otherwise.
        :raises TypeError: if `policy_kwargs` holds what can only be written as code.
        """
        names, variables = self._get_torch_save_params()
        left_out = {*(exclude or ()), *self._excluded_save_params(), *self.unsaved}
        left_out -= {*(include or ())}
        left_out |= {name.partition(".")[0] for name in (*names, *variables)}
        attributes = {**vars(self), **self._saved_settings()}
        described: dict[str, Any] = {"class": path_of(type(self))}  # no setting can have that name
        for name in sorted(attributes.keys() - left_out):
            try:
                described[name] = safe.to_json(attributes[name])
            except TypeError as error:
                if name == "policy_kwargs":
                    raise TypeError(
                        f"a saved model holds no code, got `{name}`: {error}"
                    ) from error
                warnings.warn(
                    f"a saved model holds no code, so `{name}` is left out: {error}", stacklevel=2
                )
        members = {
            ATTRIBUTES: json.dumps(described, indent=1).encode(),
            "_stable_baselines3_version": stable_baselines3.__version__.encode(),
            "system_info.txt": get_system_info(print_info=False)[1].encode(),
            **tensor_members(
                self.get_parameters(),
                {name: recursive_getattr(self, name) for name in variables},
            ),
        }
        content = write_archive(members)
        with _opened(path, "w", "zip") as file:
            file.write(content)

    def _saved_settings(self) -> dict[str, Any]:
        """Return what a file holds besides the attributes, or in place of them: the statistics of `VecNormalize`."""
        if self.normalization is None:
            return {}
        return {"_saved_normalization": vars(self.normalization)}

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
        """Load a model; as in SB3, a device that is not there stands for the CPU.

        :param path: what :meth:`save` wrote, the folder of a run, or a file that was read, of this algorithm.
        :param env: environment to go on with. Where the model was trained in a `VecNormalize`, it is normalised by the
            saved statistics, unless it is in a `VecNormalize` that has statistics of its own.
        :param device: where to.
        :param custom_objects: stands for saved attributes.
        :param print_system_info: whether to print versions, of then and now.
        :param force_reset: whether training begins with a reset.
        :param kwargs: attributes that stand for saved ones.
        :return: the model.
        :raises FileNotFoundError: if there is no model.
        :raises TypeError: for an attribute that the model has not; the closest are named.
        :raises ValueError: if it is damaged, or the model of another algorithm.
        """
        if isinstance(path, ModelFile):  # its algorithm has led to this class
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
            env = cls._environment_to_go_on_with(env, attributes)
            if force_reset:  # another environment would not be in that state
                attributes["_last_obs"] = None
        # the method's, which only the constructor can set; SB3's algorithms have none
        settings = getattr(cls, "method_class", Configurable).declared().keys() & attributes
        model = cls(
            attributes.pop("policy_class"),
            env,  # type: ignore[arg-type]  # the model may do without
            device=device,
            _init_setup_model=False,  # type: ignore[call-arg]  # of SB3's algorithms, not of their base class
            **{name: attributes.pop(name) for name in settings},
        )
        vars(model).update(attributes)
        model._setup_model()
        try:
            model.read_parameters(saved)
        except RuntimeError:
            # PyTorch names every tensor
            parameters, _ = saved.parameters()
            require_fit(f"the model {saved.name}", model.policy.state_dict(), parameters["policy"])
            raise
        return model

    @classmethod
    def _read_attributes(
        cls, saved: ModelFile, custom_objects: Mapping[str, Any], replacements: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the attributes of a saved model and what stands for them; the arguments are those of :meth:`load`."""
        if "policy_kwargs" in replacements:
            _require_same_policy_kwargs(replacements.pop("policy_kwargs"), saved)
        for name in replacements:
            if name not in saved.described and not hasattr(cls, name):
                raise TypeError(
                    f"{cls.__name__}.load() got '{name}', which no such model has; {suggestion(name, saved.described)}"
                )
        # as in SB3, an attribute that the file has not is not added
        names = saved.described.keys() & custom_objects
        replaced = {name: custom_objects[name] for name in names} | replacements
        attributes = saved.attributes(replaced.keys()) | replaced
        if saved.described.get("behaviour") is not None:
            check_saved_flow(saved, attributes["behaviour"])
        return attributes

    @classmethod
    def _environment_to_go_on_with(cls, env: GymEnv, attributes: dict[str, Any]) -> VecEnv:
        """Return the environment for a model of these attributes; refuse one of other spaces."""
        wrapped = cls._wrap_env(env)
        if "_saved_normalization" in attributes:
            wrapped = normalized_as_saved(wrapped, attributes["_saved_normalization"])
        check_for_correct_spaces(
            wrapped, attributes["observation_space"], attributes["action_space"]
        )
        # the buffer has a ring for each environment
        attributes["n_envs"] = wrapped.num_envs
        return wrapped

    def read_parameters(self, saved: ModelFile) -> None:
        """Load the parameters of a saved model, and SB3's variables, such as an entropy coefficient.

        :param saved: the model.
        """
        parameters, variables = saved.parameters()
        self.set_parameters(parameters, device=self.device)
        for name, value in variables.items():
            if value is not None:  # e.g. an entropy coefficient that is not tuned
                recursive_setattr(self, f"{name}.data", value.to(self.device))

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto"
    ) -> None:
        """Load parameters and optimiser state; see Stable-Baselines3.

        :param load_path_or_dict: a saved model, which is checked before anything changes, or state dicts by name.
        :param exact_match: whether nothing may be missing.
        :param device: where to.
        :raises ValueError: if the file is damaged.
        """
        parameters = load_path_or_dict
        if not isinstance(parameters, dict):
            parameters, _ = read_model_file(parameters).parameters()
        super().set_parameters(parameters, exact_match, device)

    def save_replay_buffer(self, path: Source) -> None:
        """Save the replay buffer, dataset and online transitions, as arrays.

        :param path: file, with or without ``.npz``, or an open binary file.
        """
        with _opened(path, "w", "npz", self.verbose) as file:
            write_buffer(self.replay_buffer, file)

    def load_replay_buffer(self, path: Source, truncate_last_traj: bool = True) -> None:
        """Load a replay buffer, dataset and online transitions, to the model's device.

        :param path: what :meth:`save_replay_buffer` wrote.
        :param truncate_last_traj: of hindsight replay, which there is none of here.
        :raises ValueError: if it is damaged or something else such as a pickle, or of a buffer of other spaces, number
            of environments or replicas, frames or kind of rewards; the model's buffer is then as it was.
        """
        with _opened(path, "r", "npz", self.verbose) as file:
            read_buffer(file, self.replay_buffer, str(getattr(file, "name", "the file")))
        self.replay_buffer.device = self.device  # batches go there, as in SB3


@contextlib.contextmanager
def _opened(path: Source, mode: str, suffix: str, verbose: int = 0) -> Iterator[Any]:
    """Open a file as SB3 does, and close it again; one that the caller has opened stays open."""
    file = open_path(path, mode, verbose, suffix)  # type: ignore[arg-type]  # SB3 names fewer files
    try:
        yield file
    finally:
        if file is not path:
            file.close()


def _require_same_policy_kwargs(policy_kwargs: Mapping[str, Any], saved: ModelFile) -> None:
    """Refuse other arguments of the policy than those of a saved model, which SB3's users give again on loading."""
    written = {name: saved.described.get(setting) for name, setting in SETTINGS_OF_POLICY.items()}
    written |= saved.described.get("policy_kwargs") or {}
    for name, value in policy_kwargs.items():
        if safe.to_json(value) != written.get(name):
            raise ValueError(
                f"`policy_kwargs.{name}` of a saved model cannot be changed from {written.get(name)} to {value}; make "
                "a new model with it"
            )
