"""Bad habits of an algorithm's hooks: code that runs, and yet trains something else than its author means.

They show on one small made-up batch. A finding names the line, loss or network that it concerns.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agents.common.method import Losses, Method
from agents.common.sb3.first_update import Trial, calling, check_first_update

LIBRARY = {Path(__file__).parents[1] / "common", Path(__file__).parent}
SYNCHRONISING_OPS = {
    "item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__", "__index__", "is_nonzero",
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "equal", "allclose",
}  # fmt: skip
"""Functions of tensors that wait for the device."""
MAX_FINDINGS = 20
SIMILARITY = 0.85
"""From which a name counts as a misspelt hook's, as :mod:`difflib` measures it."""


def find_habits(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> dict[str, list[str]]:
    """Try an algorithm's hooks as an update and a plan will use them.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :return: its bad habits by kind: ``device``, ``noise``, ``purity``, ``masks``, ``gradients``, ``networks`` or
        ``settings``; each says where it is, what it is and what to do.
    :raises AgentError: if a hook is missing, fails, or returns another type, name or shape than promised.
    """
    # a copy, since hooks may spoil the method
    trial = check_first_update(type(method)(**method.settings()), observation_space, action_space)
    tiny = trial.method
    changes = tiny.changes
    watch = Watch()
    with watch:
        losses = _losses(trial, {}, watch)
    second_losses = _losses(trial, {})
    findings = watch.findings
    # losses with random numbers or state of their own differ at every call: comparing calls would blame the masks
    is_repeatable = not (findings["noise"] or findings["purity"])
    findings["gradients"] += find_misled_gradients(trial, losses)
    findings["settings"] += find_unread_settings(type(method))
    findings["networks"] += find_undeclared_networks(trial, losses, second_losses)
    if tiny.changes != changes:
        findings["purity"].append(
            "an update changes a setting, which is the user's; keep state in a network's buffer"
        )
    if is_repeatable:
        hidden_state = [*find_hidden_state(losses, second_losses)]
        findings["purity"] += hidden_state
        if not hidden_state:
            findings["masks"] += find_unmasked(trial, losses)
    for hook, inputs in (
        ("after_update", (trial.nets, trial.info)),
        ("before_online", (trial.nets,)),
    ):
        old_state = {name: repr(value) for name, value in vars(tiny).items()}
        with calling(tiny, hook):
            getattr(tiny, hook)(*inputs)
        findings["purity"] += find_lost_state(tiny, hook, old_state)
    return findings


def _losses(trial: Trial, changes: Mapping[str, Any], watch: Watch | None = None) -> Losses:
    """Return the losses, with their graphs, of the batch with some tensors replaced; ``watch`` watches all inputs."""
    method = trial.method
    nets = trial.nets
    # every call sees the same input, whatever the one before did to its own
    batch, noise = trial.copies()
    batch = replace(batch, **changes)
    if watch:
        watch.add("batch.{}", batch.tensors())
        watch.add('noise["{}"]', noise)
        watch.add("nets.{}", {**dict(nets.named_parameters()), **dict(nets.named_buffers())})
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
    if watch:
        watch.add('targets["{}"]', targets)
    return method.losses(batch, targets, noise, nets, {})


class Watch(TorchFunctionMode):
    """Notes each operation in a ``with`` block that waits for the device, draws random numbers or changes an input."""

    def __init__(self) -> None:
        super().__init__()
        self.findings: defaultdict[str, list[str]] = defaultdict(list)
        # name -> the tensor; its values and version when it was added
        self._inputs: dict[str, tuple[Tensor, Tensor, int]] = {}

    def add(self, label: str, inputs: Mapping[str, Any]) -> None:
        """Watch tensors that must not be changed.

        :param label: how their author writes them, with ``{}`` for the name.
        :param inputs: tensors by name; other values are left out.
        """
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                self._inputs[label.format(name)] = value, value.detach().clone(), value._version

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        for name, (tensor, value, version) in self._inputs.items():
            # `.data` changes numbers and not the version; what changes both is noted while it runs
            if tensor._version == version and not torch.equal(tensor, value):
                self.findings["purity"].append(
                    f"an update changes `{name}` by its `.data`; make a new tensor"
                )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # a draw without `generator=` advances the global generator
        state = torch.get_rng_state()
        versions = {name: tensor._version for name, (tensor, *_) in self._inputs.items()}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        waits = name in SYNCHRONISING_OPS
        if name == "__getitem__":  # how many entries a mask selects is known on the device
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            waits = any(isinstance(part, Tensor) and part.dtype == torch.bool for part in index)
        if waits:
            self._note(
                "device",
                "waits for the device (`.item()`, `float(...)`, `if` on a tensor, a mask as index); stay with tensors",
            )
        if kwargs.get("generator") is not None or not torch.equal(state, torch.get_rng_state()):
            self._note(
                "noise",
                "draws random numbers of its own; declare the draw in `noise` and take it from there",
            )
        for name, version in versions.items():
            if self._inputs[name][0]._version != version:
                self._note(
                    "purity",
                    f"changes `{name}` in place; make a new tensor (`x = x + 1`, not `x += 1`)",
                )
                break  # views of one tensor change together: the first is the original
        return result

    def _note(self, kind: str, problem: str) -> None:
        """Note a finding at the line that is being run, once."""
        finding = f"{_place()} {problem}"
        texts = self.findings[kind]
        if finding not in texts and len(texts) < MAX_FINDINGS:
            texts.append(finding)


def _place() -> str:
    """Return the innermost line of the algorithm that is being run, and the method that it is in."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        is_torch = frame.f_globals.get("__name__", "").startswith("torch")
        if not is_torch and LIBRARY.isdisjoint(path.parents):
            return f"`{frame.f_code.co_name}`: {path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an update"


# -- gradients and networks -------------------------------------------------------------------------------------------


def find_misled_gradients(trial: Trial, losses: Losses) -> Iterator[str]:
    """Yield a finding for each loss that trains other networks than it says.

    A loss trains one network, or those that :attr:`Method.trains` names.

    :param trial: the algorithm, with its networks.
    :param losses: name -> (S,), with their graphs.
    :yields: a finding for each.
    """
    parameters = {}
    for path, parameter in trial.nets.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            parameters[path] = parameter
    for name, loss in losses.items():
        if not loss.requires_grad:
            continue
        grads = torch.autograd.grad(
            loss.sum(), [*parameters.values()], allow_unused=True, retain_graph=True
        )
        trained = set()
        for path, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                trained.add(path.partition(".")[0])
        declared = trial.method.trains.get(name)
        shown = _quoted(trained) or "no network"
        if declared is not None and trained != set(declared):
            yield f"`losses`: loss `{name}` trains {shown}, but `trains` declares {_quoted(declared)}"
        elif declared is None and len(trained) > 1:
            yield (
                f"`losses`: loss `{name}` trains {shown} at once; take networks that only give a signal from "
                f"`nets.frozen`, e.g. `nets.frozen.critic(...)`, or name all of them in `trains` if that is meant"
            )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def find_undeclared_networks(trial: Trial, losses: Losses, second_losses: Losses) -> Iterator[str]:
    """Yield a finding for each module or parameter that `networks` does not know of.

    :param trial: the algorithm, with its networks.
    :param losses: name -> (S,), with their graphs.
    :param second_losses: the same losses, computed once more. A tensor that both depend on outlives an update; one
        that an update makes itself, e.g. to take a gradient of the critic by its actions, is no parameter.
    :yields: a finding for each.
    """
    consequence = (
        "it is neither trained nor saved, nor moved to the device; declare it in `networks`"
    )
    reported = {*trial.nets.parameters()}
    for name, module in vars(trial.method).items():
        # what holds no tensor, e.g. `nn.MSELoss()`, has nothing to lose
        if isinstance(module, nn.Module) and module.state_dict():
            reported |= {*module.parameters()}
            yield (
                f"`self.{name}` is a {type(module).__name__} that is not in `networks`: {consequence}"
            )
    for leaf in {*_leaves(losses)} & {*_leaves(second_losses)}:
        if leaf not in reported:
            yield (
                f"`losses`: the losses depend on a parameter of shape {tuple(leaf.shape)} of no network in `networks`: "
                f"{consequence}"
            )


def _leaves(losses: Losses) -> Iterator[Tensor]:
    """Yield every tensor that the losses send gradient to, once."""
    waiting: list[Any] = [loss.grad_fn for loss in losses.values()]
    visited = {None}
    while waiting:
        node = waiting.pop()
        if node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


# -- state and masks --------------------------------------------------------------------------------------------------


def find_hidden_state(losses: Losses, second_losses: Losses) -> Iterator[str]:
    """Yield a finding for each loss that differs when it is computed again from the same input.

    :param losses: name -> (S,).
    :param second_losses: computed once more from the same input.
    :yields: a finding for each.
    """
    for name, loss in losses.items():
        if name not in second_losses or not torch.allclose(
            second_losses[name], loss, rtol=0, atol=0, equal_nan=True
        ):
            yield (
                f"`losses`: loss `{name}` differs when it is computed again from the same input; let it depend on "
                "nothing but settings, batch, noise, targets and networks"
            )


def find_lost_state(method: Method, hook: str, old_state: Mapping[str, str]) -> Iterator[str]:
    """Yield a finding for each attribute that a hook has changed and that no file of a model holds.

    :param method: the algorithm, after the hook was called.
    :param hook: its name.
    :param old_state: attribute name -> its `repr` before the call.
    :yields: a finding for each.
    """
    for name, value in vars(method).items():
        attribute = inspect.getattr_static(type(method), name, None)
        is_derived = isinstance(attribute, functools.cached_property)
        is_setting = name in {*method.declared(), "changes"}
        if not is_derived and not is_setting and old_state.get(name) != repr(value):
            yield (
                f"`{hook}` keeps state in `self.{name}`, which is lost when a model is saved or resumed; keep it in a "
                "network's buffer (docs/register.md#state-of-your-own)"
            )


def find_unmasked(trial: Trial, losses: Losses) -> Iterator[str]:
    """Yield a finding for each loss that counts sequences across a trajectory's end.

    :param trial: the algorithm, its batch and its noise.
    :param losses: name -> (S,).
    :yields: a finding for each.
    """
    method = trial.method
    batch = trial.batch
    if method.horizon_length == 1:
        return
    invalid = {name: torch.zeros_like(getattr(batch, name)) for name in ("valid", "steps_valid")}
    changes = {"rewards": batch.rewards.flip(1) + 1, "discounts": batch.discounts * 0.5}
    if method.action_chunking:
        changes["actions"] = -batch.actions
    # all sequences cross an end here: only their first state may change a loss
    expected = _losses(trial, invalid)
    changed_losses = _losses(trial, invalid | changes)
    for name in losses:
        is_masked = torch.equal(changed_losses[name], expected[name])
        if not is_masked and name not in method.unmasked_losses:
            yield (
                f"`losses`: loss `{name}` counts sequences that cross a trajectory's end, whose `batch.valid` is 0; "
                f"multiply its weight by `batch.valid`, or name it in `unmasked_losses` if that is meant"
            )


# -- settings ---------------------------------------------------------------------------------------------------------


def find_unread_settings(method: type[Method]) -> Iterator[str]:
    """Yield a finding for each setting of the algorithm's own, or misspelt hook, that its code does not name.

    :param method: the algorithm; its code is its class, its bases, and the functions of their files.
    :yields: a finding for each.
    """
    members: list[Any] = []
    for base in method.__mro__:
        members += vars(base).values()
        if issubclass(base, Method):
            file = sys.modules.get(base.__module__)
            members += [value for value in vars(file).values() if _is_helper(value)]
    named: set[str] = set()
    for member in members:
        named.update(_names_in(member))
    hooks = [name for name in dir(Method) if name[0] != "_"]
    for name in sorted({*dir(method)} - {*dir(Method)} - method.declared().keys() - named):
        for hook in difflib.get_close_matches(name, hooks, 1, SIMILARITY):
            yield f"nothing reads `{name}`, which is nearly `{hook}`; rename it if that is meant"
    for name in method.declared():
        if name not in Method.declared() and name not in named:
            yield (
                f"nothing reads the setting `{name}`, so it changes nothing; use `self.{name}` in a hook, or remove it"
            )


def _is_helper(value: Any) -> bool:
    """Return whether a value is a function of the author's, not one that is imported from the library."""
    is_function = inspect.isfunction(value)
    return is_function and value.__module__.partition(".")[0] not in ("agents", "torch")


def _names_in(member: Any) -> Iterator[str]:
    """Yield every name and text in the code of a function, method or property."""
    holders = ("fget", "__func__", "func", "__wrapped__")  # of decorated ones
    functions = [member, *(getattr(member, holder, None) for holder in holders)]
    waiting = [getattr(function, "__code__", None) for function in functions]
    while waiting:
        code = waiting.pop()
        if isinstance(code, str):
            yield code
        elif isinstance(code, CodeType):
            yield from code.co_names
            # functions inside of it are among its constants, and names as `getattr` takes them
            waiting += code.co_consts
