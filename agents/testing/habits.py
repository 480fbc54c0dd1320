"""Bad habits of an algorithm's hooks: code that runs, and yet trains something else than its author means.

They show on one small made-up batch, by calling the losses more than once.
"""

from __future__ import annotations

import functools
import inspect
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.common.method import Losses, Method
from agents.common.sb3.first_update import Trial, calling, check_first_update


def find_habits(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> dict[str, list[str]]:
    """Try an algorithm's hooks as an update and a plan will use them.

    :param method: the algorithm; it stays as it is.
    :param observation_space: what its networks see, a Box of one axis.
    :param action_space: of its environment.
    :return: its bad habits by kind: ``noise``, ``purity``, ``masks``, ``gradients`` or ``networks``.
    :raises AgentError: if a hook is missing, fails, or returns another type, name, shape or NaN.
    """
    # a copy, since hooks may spoil the method
    trial = check_first_update(type(method)(**method.settings()), observation_space, action_space)
    tiny = trial.policy.method
    settings = tiny.settings()
    findings: dict[str, list[str]] = defaultdict(list)
    drawn = _global_generators()
    losses, changed = evaluate(trial)
    if _global_generators() != drawn:
        findings["noise"].append(
            "an update draws random numbers of its own; declare the draw in `noise` and take it from there"
        )
    for name in changed:
        findings["purity"].append(
            f"an update changes `{name}` in place; make a new tensor (`x = x + 1`, not `x += 1`)"
        )
    if tiny.settings() != settings:
        findings["purity"].append(
            "an update changes a setting, which is the user's; keep state in a network's buffer"
        )
    findings["gradients"] += find_misled_gradients(trial, losses)
    findings["networks"] += find_undeclared_networks(tiny)
    # losses with random numbers or state of their own differ at every call: comparing calls would blame the masks
    if not (findings["noise"] or findings["purity"]):
        findings["purity"] += find_hidden_state(losses, evaluate(trial)[0])
        if not findings["purity"]:
            findings["masks"] += find_unmasked(trial, losses)
    for hook, inputs in (
        ("after_update", (trial.policy.nets, trial.info)),
        ("before_online", (trial.policy.nets,)),
    ):
        old_state = {name: repr(value) for name, value in vars(tiny).items()}
        with calling(tiny, hook):
            getattr(tiny, hook)(*inputs)
        findings["purity"] += find_lost_state(tiny, hook, old_state)
    return findings


def _global_generators() -> tuple[Any, ...]:
    """Return the states of all global random generators."""
    numpy_state: Any = np.random.get_state()
    return (
        random.getstate(),
        numpy_state[1].tolist(),
        numpy_state[2],
        torch.get_rng_state().tolist(),
    )


def evaluate(trial: Trial, **changes: Tensor) -> tuple[Losses, list[str]]:
    """Compute the losses once.

    :param trial: the algorithm, its batch and its noise.
    :param changes: tensors of the batch in place of its own.
    :return: the losses with their graphs; and the inputs that targets or losses have changed, as their author writes
        them.
    """
    method, nets = trial.policy.method, trial.policy.nets
    # every call sees the same input, whatever the one before did to its own
    batch, noise = trial.copies()
    batch = replace(batch, **changes)
    inputs = {f"batch.{name}": tensor for name, tensor in batch.tensors().items()}
    inputs |= {f'noise["{name}"]': tensor for name, tensor in noise.items()}
    inputs |= {f"nets.{name}": tensor for name, tensor in nets.state_dict(keep_vars=True).items()}
    values = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
    for name, target in targets.items():
        inputs[f'targets["{name}"]'] = target
        values[f'targets["{name}"]'] = target.clone()
    losses = method.losses(batch, targets, noise, nets, {})
    return losses, [name for name, value in values.items() if not torch.equal(inputs[name], value)]


# -- gradients and networks -------------------------------------------------------------------------------------------


def find_misled_gradients(trial: Trial, losses: Losses) -> Iterator[str]:
    """Yield a finding for each loss that trains other networks than it says.

    A loss trains one network, or those that :attr:`Method.trains` names.

    :param trial: the algorithm, with its networks.
    :param losses: name -> (S,), with their graphs.
    :yields: a finding for each.
    """
    parameters = {}
    for path, parameter in trial.policy.nets.named_parameters(remove_duplicate=False):
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
        declared = trial.policy.method.trains.get(name)
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


def find_undeclared_networks(method: Method) -> Iterator[str]:
    """Yield a finding for each module that `networks` does not know of."""
    for name, module in vars(method).items():
        # what holds no tensor, e.g. `nn.MSELoss()`, has nothing to lose
        if isinstance(module, nn.Module) and module.state_dict():
            yield (
                f"`self.{name}` is a {type(module).__name__} that is not in `networks`: it is neither trained nor "
                "saved, nor moved to the device; declare it in `networks`"
            )


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
    method = trial.policy.method
    batch = trial.batch
    if method.horizon_length == 1:
        return
    invalid = {name: torch.zeros_like(getattr(batch, name)) for name in ("valid", "steps_valid")}
    changes = {"rewards": batch.rewards.flip(1) + 1, "discounts": batch.discounts * 0.5}
    if method.action_chunking:
        changes["actions"] = -batch.actions
    # all sequences cross an end here: only their first state may change a loss
    expected, _ = evaluate(trial, **invalid)
    changed_losses, _ = evaluate(trial, **invalid, **changes)
    for name in losses:
        is_masked = torch.equal(changed_losses[name], expected[name])
        if not is_masked and name not in method.unmasked_losses:
            yield (
                f"`losses`: loss `{name}` counts sequences that cross a trajectory's end, whose `batch.valid` is 0; "
                f"multiply its weight by `batch.valid`, or name it in `unmasked_losses` if that is meant"
            )
