"""Bad habits of an algorithm's hooks: what runs, and yet trains something else than its author means.

Each is found on one small made-up batch and told with the line, loss or network that it concerns.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from agents.common.batch import Batch
from agents.common.method import Method, Noise
from agents.common.nets.networks import Networks
from agents.common.sb3.first_update import Trial, calling, check_first_update

LIBRARY = (Path(__file__).parents[1] / "common", Path(__file__).parent)
SYNCHRONISING_OPS = {
    "item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__float__", "__int__", "__index__", "is_nonzero",
    "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "equal", "allclose",
}  # fmt: skip
"""Functions of tensors that wait for the device."""
MOST_FINDINGS = 20
NEARLY = 0.85
"""How much a name looks like a hook's that is meant, as :mod:`difflib` measures it."""

Losses = Mapping[str, Tensor]


class Finding(NamedTuple):
    """One bad habit.

    :param kind: ``device``, ``noise``, ``pure``, ``masks``, ``gradients``, ``networks`` or ``settings``.
    :param text: where it is, what it is and what to do.
    """

    kind: str
    text: str


def find_habits(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> list[Finding]:
    """Try an algorithm's hooks as an update and a plan will use them.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :return: its bad habits.
    :raises AgentError: if a hook is missing, fails, or returns another type, name or shape than promised.
    """
    trial = check_first_update(type(method)(**method.settings()), observation_space, action_space)
    tiny = trial.method
    nets = trial.nets
    changes = tiny.changes
    watch, losses = _watched_update(trial)
    findings = [*watch.findings, *find_misled_gradients(tiny, nets, losses)]
    second_losses = _losses(trial, *trial.copies())
    findings += find_unread_settings(type(method))
    findings += find_undeclared_networks(tiny, nets, losses, second_losses)
    if tiny.changes != changes:
        findings.append(
            Finding(
                "pure",
                "an update changes a setting, which is the user's; keep state in a network's buffer",
            )
        )
    # losses that draw or keep something of their own differ with every call: nothing is told from how they change
    if not {finding.kind for finding in watch.findings} & {"noise", "pure"}:
        findings += list(find_hidden_state(losses, second_losses)) or list(
            find_unmasked(trial, losses)
        )
    for hook, inputs in (("after_update", (nets, trial.info)), ("before_online", (nets,))):
        old_state = {name: repr(value) for name, value in vars(tiny).items()}
        with calling(tiny, hook):
            getattr(tiny, hook)(*inputs)
        findings += find_lost_state(tiny, hook, old_state)
    return findings


def _losses(trial: Trial, batch: Batch, noise: Noise) -> Losses:
    """Return the losses of a batch, with their graphs."""
    with torch.no_grad():
        targets = trial.method.targets(batch, noise, trial.nets, {})
    return trial.method.losses(batch, targets, noise, trial.nets, {})


def _watched_update(trial: Trial) -> tuple[Watch, Losses]:
    """Return what was seen during an update, and its losses."""
    method = trial.method
    nets = trial.nets
    batch, noise = trial.copies()
    # what `targets` and `losses` must leave as it is, by the name that their author knows
    inputs = {f"batch.{name}": tensor for name, tensor in batch.tensors().items()}
    inputs |= {f'noise["{name}"]': tensor for name, tensor in noise.items()}
    for tensors in (nets.named_parameters(), nets.named_buffers()):
        inputs |= {f"nets.{name}": tensor for name, tensor in tensors}
    with Watch(inputs) as watch:
        with torch.no_grad():
            targets = method.targets(batch, noise, nets, {})
        watch.add({f'targets["{name}"]': value for name, value in targets.items()})
        losses = method.losses(batch, targets, noise, nets, {})
    return watch, losses


class Watch(TorchFunctionMode):
    """Notes, while a ``with`` block runs, what waits for the device, draws random numbers or changes its inputs.

    :param inputs: tensors that must not be changed, by name; more can be added inside the block.
    """

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.findings: list[Finding] = []
        self._inputs: dict[
            str, tuple[Tensor, Tensor, int]
        ] = {}  # the tensor; its values and version when it was added
        self.add(inputs)

    def add(self, inputs: Mapping[str, Any]) -> None:
        """Watch further tensors.

        :param inputs: by name; what is not a tensor is left out.
        """
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        self._inputs |= {
            name: (value, value.detach().clone(), value._version) for name, value in tensors.items()
        }

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        for name, (tensor, value, version) in self._inputs.items():
            if tensor._version == version and not torch.equal(tensor, value):
                self.findings.append(
                    Finding("pure", f"an update changes `{name}` by its `.data`; make a new tensor")
                )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        state = torch.get_rng_state()
        versions = {name: tensor._version for name, (tensor, *_) in self._inputs.items()}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        index = args[1] if name == "__getitem__" else ()
        parts = index if isinstance(index, tuple) else (index,)
        # how many entries a mask selects is known on the device
        if name in SYNCHRONISING_OPS or any(
            isinstance(part, Tensor) and part.dtype == torch.bool for part in parts
        ):
            self._note(
                "device",
                "waits for the device (`.item()`, `float(...)`, `if` on a tensor, a mask as index); stay with tensors",
            )
        if kwargs.get("generator") is not None or not torch.equal(state, torch.get_rng_state()):
            self._note(
                "noise",
                "draws random numbers of its own; declare the draw in `noise` and take it from there",
            )
        written = [
            name for name, version in versions.items() if self._inputs[name][0]._version != version
        ]
        if written:  # views of one tensor change together: the first is the original
            self._note(
                "pure",
                f"changes `{written[0]}` in place; make a new tensor (`x = x + 1`, not `x += 1`)",
            )
        return result

    def _note(self, kind: str, problem: str) -> None:
        """Note a finding at the line that is being run, once."""
        finding = Finding(kind, f"{_place()} {problem}")
        if finding not in self.findings and len(self.findings) < MOST_FINDINGS:
            self.findings.append(finding)


def _place() -> str:
    """Return the innermost line of the algorithm that is being run, and the method that it is in."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if not {*LIBRARY} & {*path.parents} and not frame.f_globals.get("__name__", "").startswith(
            "torch"
        ):
            return f"`{frame.f_code.co_name}`: {path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an update"


# -- what the losses depend on ----------------------------------------------------------------------------------------


def find_misled_gradients(method: Method, nets: Networks, losses: Losses) -> Iterator[Finding]:
    """Yield a finding for each loss that trains other networks than it says.

    A loss trains one network, or those that :attr:`Method.trains` names.

    :param method: the algorithm.
    :param nets: its networks.
    :param losses: name -> (S,), with their graphs.
    :yields: a finding for each.
    """
    owners = [(name, p) for name, net in nets.items() for p in net.parameters() if p.requires_grad]
    for name, loss in losses.items():
        if not loss.requires_grad:
            continue
        grads = torch.autograd.grad(
            loss.sum(), [p for _, p in owners], allow_unused=True, retain_graph=True
        )
        trained = {net for (net, _), grad in zip(owners, grads, strict=True) if grad is not None}
        declared = method.trains.get(name)
        shown = ", ".join(f"`{net}`" for net in sorted(trained)) or "no network"
        if declared is not None and trained != set(declared):
            meant = ", ".join(f"`{net}`" for net in sorted(declared))
            yield Finding(
                "gradients",
                f"`losses`: loss `{name}` trains {shown}, but `trains` declares {meant}",
            )
        elif declared is None and len(trained) > 1:
            yield Finding(
                "gradients",
                f"`losses`: loss `{name}` trains {shown} at once; take networks that only give a signal from "
                f"`nets.frozen`, e.g. `nets.frozen.critic(...)`, or name all of them in `trains` if that is meant",
            )


def find_undeclared_networks(
    method: Method, nets: Networks, losses: Losses, second_losses: Losses
) -> Iterator[Finding]:
    """Yield a finding for each module or parameter that `networks` does not know of.

    :param method: the algorithm.
    :param nets: its networks.
    :param losses: name -> (S,), with their graphs.
    :param second_losses: the same losses, computed once more. A tensor that both depend on outlives an update; one
        that an update makes itself, e.g. to take a gradient of the critic by its actions, is no parameter.
    :yields: a finding for each.
    """
    consequence = (
        "it is neither trained nor saved, nor moved to the device; declare it in `networks`"
    )
    # what holds no tensor, e.g. `nn.MSELoss()`, has nothing to lose
    held = {
        name: m for name, m in vars(method).items() if isinstance(m, nn.Module) and m.state_dict()
    }
    for name, module in held.items():
        yield Finding(
            "networks",
            f"`self.{name}` is a {type(module).__name__} that is not in `networks`: {consequence}",
        )
    declared = {id(p) for p in nets.parameters()} | {
        id(p) for module in held.values() for p in module.parameters()
    }
    for leaf in {*_leaves(losses)} & {*_leaves(second_losses)}:
        if id(leaf) not in declared:
            yield Finding(
                "networks",
                f"`losses`: the losses depend on a parameter of shape {tuple(leaf.shape)} of no network in `networks`: "
                f"{consequence}",
            )


def _leaves(losses: Losses) -> Iterator[Tensor]:
    """Give every tensor that the losses send gradient to, once."""
    waiting = [loss.grad_fn for loss in losses.values() if loss.grad_fn is not None]
    visited = set(waiting)
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            yield node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in visited:
                visited.add(following)
                waiting.append(following)


# -- what the losses change with --------------------------------------------------------------------------------------


def find_hidden_state(losses: Losses, second_losses: Losses) -> Iterator[Finding]:
    """Yield a finding for each loss that is another one when it is computed again.

    :param losses: name -> (S,).
    :param second_losses: computed once more from the same input.
    :yields: a finding for each.
    """
    for name, loss in losses.items():
        if name not in second_losses or not torch.allclose(
            second_losses[name], loss, rtol=0, atol=0, equal_nan=True
        ):
            yield Finding(
                "pure",
                f"`losses`: loss `{name}` is another number when it is computed again from the same input; let it "
                "depend on nothing but settings, batch, noise, targets and networks",
            )


def find_lost_state(method: Method, hook: str, old_state: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for each attribute that a hook has changed and that no file of a model holds.

    :param method: the algorithm, after the hook was called.
    :param hook: its name.
    :param old_state: what the attributes looked like before, by name.
    :yields: a finding for each.
    """
    for name, value in vars(method).items():
        is_derived = isinstance(
            inspect.getattr_static(type(method), name, None), functools.cached_property
        )
        if (
            not is_derived
            and name not in {*method.declared(), "changes"}
            and old_state.get(name) != repr(value)
        ):
            yield Finding(
                "pure",
                f"`{hook}` keeps state in `self.{name}`, which is lost when a model is saved or resumed; keep it in a "
                "network's buffer (docs/register.md#state-of-your-own)",
            )


def find_unmasked(trial: Trial, losses: Losses) -> Iterator[Finding]:
    """Yield a finding for each loss that counts sequences across a trajectory's end.

    :param trial: the algorithm, its batch and its noise.
    :param losses: name -> (S,).
    :yields: a finding for each.
    """
    method = trial.method
    batch, noise = trial.copies()
    if method.horizon_length == 1:
        return
    nothing = {name: torch.zeros_like(getattr(batch, name)) for name in ("valid", "steps_valid")}
    nowhere = {**vars(batch), **nothing}
    changed = {"rewards": batch.rewards.flip(1) + 1, "discounts": batch.discounts * 0.5}
    if method.action_chunking:
        changed["actions"] = -batch.actions
    unmasked_losses = [
        _losses(trial, Batch(**values), noise) for values in (nowhere, nowhere | changed)
    ]
    for name in losses:
        if name not in method.unmasked_losses and not torch.equal(
            unmasked_losses[0][name], unmasked_losses[1][name]
        ):
            yield Finding(
                "masks",
                f"`losses`: loss `{name}` counts sequences that cross a trajectory's end, whose `batch.valid` is 0; "
                f"multiply its weight by `batch.valid`, or name it in `unmasked_losses` if that is meant",
            )


# -- settings ---------------------------------------------------------------------------------------------------------


def find_unread_settings(method: type[Method]) -> Iterator[Finding]:
    """Yield a finding for each setting of the algorithm's own, or misspelt hook, that its code does not name.

    :param method: the algorithm; its code is its class, its bases, and the functions of their files.
    :yields: a finding for each.
    """
    code = [value for base in method.__mro__ for value in vars(base).values()]
    files = [
        sys.modules.get(base.__module__) for base in method.__mro__ if issubclass(base, Method)
    ]
    code += [
        value
        for file in files
        for value in vars(file).values()
        if inspect.isfunction(value)
        and value.__module__.partition(".")[0] not in ("agents", "torch")
    ]
    named = {name for member in code for name in _names_in(member)}
    hooks = [name for name in dir(Method) if name[0] != "_"]
    for name in sorted({*dir(method)} - {*dir(Method)} - method.declared().keys() - named):
        for hook in difflib.get_close_matches(name, hooks, 1, NEARLY):
            yield Finding(
                "settings",
                f"nothing reads `{name}`, which is nearly `{hook}`; rename it if that is meant",
            )
    for name in method.declared():
        if name not in Method.declared() and name not in named:
            yield Finding(
                "settings",
                f"nothing reads the setting `{name}`, so it changes nothing; use `self.{name}` in a hook, or remove it",
            )


def _names_in(attribute: Any) -> Iterator[str]:
    """Give every name that the code of a function, method or property mentions."""
    waiting = [
        attribute,
        *(
            getattr(attribute, holder, None)
            for holder in ("fget", "__func__", "func", "__wrapped__")
        ),
    ]
    while waiting:
        code = waiting.pop()
        code = getattr(code, "__code__", code)
        if isinstance(code, CodeType):
            yield from code.co_names
            yield from (
                value for value in code.co_consts if isinstance(value, str)
            )  # as `getattr` takes them
            waiting += code.co_consts  # functions inside of it are among its constants
