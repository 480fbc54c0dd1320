"""The whole state of an environment during an episode, to continue from it in another process, bit for bit.

`_states` walks through the attributes, and saves of each what an equal construction would not give::

    env                      wrapper            plain: _elapsed_steps, np_random, ...
    |-- action_space         space              spaces: its random generator
    `-- env                  OGBench's maze     plain: goal, colours, ...
        |-- model            MjModel            models: small arrays, e.g. colours that a task changes
        |-- data             MjData             data: all that the next physics step reads
        |-- mujoco_renderer  AS_BUILT           nothing: it is the same after every construction
        `-- helper           any object         its attributes, as those of a wrapper

`_DataPickler` decides by pickling whether a value is plain data. It stops at an object that is as built (`_AsBuilt`:
walk into its attributes), and at one that its attributes do not describe (`NotRestorableError`: there is no snapshot).
"""

import enum
import io
import pickle
import random
import types
from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import gymnasium
import mujoco
import numpy as np
import torch
from gymnasium.utils import EzPickle

from agents.common.files import safe
from agents.common.validation import path_of

# Objects of these packages are the same after every construction: models, meshes, cameras, windows.
AS_BUILT = (
    "mujoco.",
    "dm_control.",
    "gymnasium.envs.mujoco.mujoco_rendering",
    "pygame",
    "glfw",
    "OpenGL",
)
NOT_DATA = (
    gymnasium.Env,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.ModuleType,
    type,
)
LEAVES = (
    tuple,
    enum.Enum,
    random.Random,
    PurePath,
    torch.Tensor,
    torch.dtype,
    torch.device,
    torch.Size,
)
_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__")
INTEGRATION = mujoco.mjtState.mjSTATE_INTEGRATION
"""Everything that the next physics step depends on."""
SMALL = 65_536
"""Bytes; a larger array of a physics model is a mesh or a texture, which no step changes."""


class NotRestorableError(Exception):
    """An environment holds something that cannot be saved; the message names it."""


class ResumableEnv(gymnasium.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray]):
    """Environment that can save and restore its state.

    What is saved: of every wrapper and of the environment itself all attributes that are data, random generators
    included; of spaces their random generator; of MuJoCo's data everything that a step reads, and of its model what
    tasks change, such as colours, goals and locks. Restore into an environment that was made in the same way.
    """

    obstacle: str | None = None
    """Why the last :meth:`snapshot` was not possible."""

    def snapshot(self) -> bytes | None:
        """Return the state.

        :return: what :meth:`restore` takes; None if an attribute is neither data nor the same
            after every construction, or cannot be told to be: ``obstacle`` names it. (An exception would end the
            process of a worker.)
        """
        innermost = self.env
        while "env" in vars(innermost):
            innermost = vars(innermost)["env"]
        try:
            file = io.BytesIO()
            safe.save(dict(_states("env", self.env, innermost)), file, _DataPickler)
        except NotRestorableError as error:
            self.obstacle = str(error)
            return None
        return file.getvalue()

    def restore(self, state: bytes) -> str | None:
        """Restore what :meth:`snapshot` returned in an environment that was made in the same way.

        :param state: the state. Of the classes that it names, only those are used that this environment has objects of.
        :return: None; or what cannot be restored, and the environment is as after a reset.
        """
        self.env.reset()  # some environments are complete only then; what this draws is put back below
        classes: set[type] = set()
        _find_classes(self.env, classes, set())
        try:
            saved_owners = safe.load(state, classes)
            owners = {}
            for path in saved_owners:
                owner: Any = self
                for name in path.split("."):
                    owner = vars(owner)[name]
                owners[path] = owner
        except (ValueError, KeyError, TypeError) as error:
            return f"the environment is built in another way now: {error}"
        for path, saved in saved_owners.items():
            owner = owners[path]
            for name, attributes in saved["spaces"].items():
                vars(vars(owner)[name]).update(attributes)
            for name, arrays in saved["models"].items():
                _fill(vars(owner)[name], arrays)
            for name, (integration, arrays) in saved["data"].items():
                data = vars(owner)[name]
                mujoco.mj_setState(data.model, data, integration, INTEGRATION)
                # Find the contacts again, whose arrays have no fixed size.
                mujoco.mj_forward(data.model, data)
                _fill(data, arrays)  # what was derived from an earlier state
                mujoco.mj_setState(data.model, data, integration, INTEGRATION)
            vars(owner).update(saved["plain"])
        return None


class _AsBuilt(Exception):
    """Raised on the way through a value that holds something that needs no saving."""


class _DataPickler(safe.Pickler):
    """Writes data; stops at what is the same after every construction, and at what its attributes do not describe."""

    def reducer_override(self, obj: Any) -> Any:
        """Return what to call with what to get a value back."""
        reduced = super().reducer_override(obj)
        # Classes, and functions by which others are made again, are parts of a pickle.
        makers = ("_codecs", "torch._utils", safe.__name__)
        is_part = isinstance(obj, type) or getattr(obj, "__module__", None) in makers
        if reduced is not NotImplemented or is_part:
            return reduced
        if isinstance(obj, NOT_DATA) or type(obj).__module__.startswith(AS_BUILT):
            raise _AsBuilt
        if isinstance(obj, EzPickle):
            raise NotRestorableError(
                f"a {type(obj).__name__}, which pickles its constructor's arguments only"
            )
        if not isinstance(obj, LEAVES) and not _is_simple(obj):
            raise NotRestorableError(
                f"a {path_of(type(obj))}, which is neither a plain value nor an array"
            )
        return reduced


def _is_simple(value: Any) -> bool:
    """Return whether an object is nothing but its attributes: it has no content in C, no slots, and no own pickling."""
    kind = type(value)
    pickles_itself = any(getattr(kind, name) is not getattr(object, name) for name in _PICKLING)
    has_slots = any(vars(base).get("__slots__") for base in kind.__mro__)
    if pickles_itself or has_slots or not hasattr(value, "__dict__"):
        return False
    try:
        object.__new__(kind)
    except TypeError:  # a class in C
        return False
    return True


def _find_classes(value: Any, classes: set[type], visited: set[int]) -> None:
    """Collect the classes of all objects, and all classes, that can be reached from a value."""
    if id(value) in visited or isinstance(
        value, types.ModuleType | types.FunctionType | np.ndarray
    ):
        return
    visited.add(id(value))
    if isinstance(value, type):
        classes.add(value)
        return
    classes.add(type(value))
    children = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, dict):
        children = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        children = list(value)
    for child in children:
        _find_classes(child, classes, visited)


def _states(
    path: str, owner: Any, innermost: Any
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield what is saved of an owner's attributes, and of those that are wrappers, environments or hold physics."""
    saved: dict[str, dict[str, Any]] = {"plain": {}, "spaces": {}, "models": {}, "data": {}}
    yield path, saved
    for name, value in vars(owner).items():
        where = f"{path}.{name}"
        if name == "env":
            yield from _states(where, value, innermost)
        elif isinstance(value, gymnasium.Env) and value.unwrapped is not innermost:
            raise NotRestorableError(f"`{where}` is a second environment")
        elif isinstance(value, gymnasium.Space):
            saved["spaces"][name] = dict(vars(value))
        elif isinstance(value, mujoco.MjModel):
            saved["models"][name] = _arrays(value)
        elif isinstance(value, mujoco.MjData):
            saved["data"][name] = (physics_state(value.model, value), _arrays(value))
        elif isinstance(value, NOT_DATA) or type(value).__module__.startswith(AS_BUILT):
            continue
        elif _is_data(where, value):
            saved["plain"][name] = value
        elif hasattr(value, "__dict__"):
            yield from _states(where, value, innermost)


def physics_state(model: Any, data: Any) -> np.ndarray:
    """Return everything that MuJoCo's next step depends on, as ``mj_setState`` takes it with `INTEGRATION`."""
    state = np.empty(mujoco.mj_stateSize(model, INTEGRATION))
    mujoco.mj_getState(model, data, state, INTEGRATION)
    return state


def _is_data(path: str, value: Any) -> bool:
    """Return whether an attribute is saved as it is; if not, it holds what is the same after every construction."""
    try:
        _DataPickler(io.BytesIO(), protocol=2).dump(value)
    except _AsBuilt:
        return False
    except (NotRestorableError, pickle.PicklingError, TypeError, RecursionError) as error:
        raise NotRestorableError(f"`{path}` cannot be saved: {error}") from error
    return True


def _arrays(physics: Any) -> dict[str, np.ndarray]:
    """Return copies of the small arrays of a MuJoCo model or its data."""
    arrays = {}
    for name in dir(physics):
        value = None if name.startswith("_") else getattr(physics, name)
        if isinstance(value, np.ndarray) and value.nbytes < SMALL:
            arrays[name] = value.copy()  # MuJoCo writes into its arrays
    return arrays


def _fill(physics: Any, arrays: dict[str, np.ndarray]) -> None:
    """Copy arrays into those of the same name and shape."""
    for name, array in arrays.items():
        target = getattr(physics, name)
        if target.shape == array.shape:
            target[...] = array
