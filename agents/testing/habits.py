"""Mistakes in an algorithm's hooks that do not raise an error: the code runs, but does not train as intended.

Most finders call the hooks on a small random batch, some of them repeatedly. Every finder yields pairs: the name of a
failed check of the kit, and a message.
"""

from __future__ import annotations

import copy
import functools
import inspect
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from agents.common.method import Method
from agents.common.sb3.first_update import (
    TINY,
    Trial,
    calling,
    check_first_update,
    require_all,
)
from agents.common.validation import suggestion

Findings = Iterator[tuple[str, str]]


def find_habits(
    method: Method, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> dict[str, list[str]]:
    """Call an algorithm's hooks as training and acting would, and look for mistakes.

    :param method: the algorithm; it is not changed.
    :param observation_space: space of the networks' observations, a Box with one axis.
    :param action_space: action space of the environment.
    :return: failed check of the kit, e.g. ``noise`` or ``purity`` -> messages.
    :raises AgentError: if a hook is missing, fails, or returns a wrong type, name or shape, or NaN.
    """
    trial = check_first_update(method, observation_space, action_space)
    findings: dict[str, list[str]] = defaultdict(list)
    for find in FINDERS:
        # losses that use random numbers or hidden state differ at every call, so comparing them would
        # be misleading
        if find not in COMPARING or not (findings["noise"] or findings["purity"]):
            for check, text in find(trial):
                findings[check].append(text)
    for check, text in find_lost_state(trial, type(method)(**{**method.settings(), **TINY})):
        findings[check].append(text)
    return findings


def evaluate(trial: Trial, **changes: Tensor) -> dict[str, Tensor]:
    """Return the losses by name, with their autograd graphs, and the actions as ``act()``.

    The parentheses distinguish the actions from a loss named ``act``.

    :param trial: the algorithm, its batch and its noise.
    :param changes: tensors that replace the batch's tensors of the same names.
    :return: name -> losses (S,), and the actions.
    """
    method, nets = trial.policy.method, trial.policy.nets
    # copies, so that every call receives the same input
    batch, noise, action_noise = copy.deepcopy((trial.batch, trial.noise, trial.action_noise))
    batch = replace(batch, **changes)
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
        actions = method.act(batch.observations, action_noise, nets)
    return {**method.losses(batch, targets, noise, nets, {}), "act()": actions}


def _differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are not equal bitwise."""
    return [name for name, value in first.items() if not torch.equal(second[name], value)]


@contextmanager
def _other_weights(module: nn.Module, replicas: slice) -> Iterator[None]:
    """Inside the block, change the weights of the given replicas of a network."""
    state = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter[replicas] += 0.1
    yield
    module.load_state_dict(state)


# -- hooks alone ----------------------------------------------------------------------------------------------


def find_uncalled(trial: Trial) -> Findings:
    """Find methods that are never called, with names similar to those of a base class's methods."""
    bases = type(trial.policy.method).__mro__
    sources = ""
    for base in bases[:-1]:
        with suppress(OSError, TypeError):  # a class defined interactively has no file
            sources += inspect.getsource(inspect.getmodule(base))  # type: ignore[arg-type]
    for base in bases[: bases.index(Method)]:
        inherited = {name for parent in base.__bases__ for name in dir(parent) if name[0] != "_"}
        for name in sorted(vars(base).keys() - inherited):
            advice = suggestion(name, inherited)
            if f".{name}" not in sources and name[0] != "_" and advice.startswith("closest"):
                yield "hooks", f"`{name}` is never used; {advice}"


def find_other_start(trial: Trial) -> Findings:
    """Find parameters of seed 1 that are initialised differently in a run of seed 1 alone."""
    policy = trial.policy
    start = policy._get_constructor_parameters()
    together, alone = [
        type(policy)(**start | {"seeds": seeds}).nets.state_dict() for seeds in ([0, 1], [1])
    ]
    for name in _differing(alone, {name: value[1:] for name, value in together.items()}):
        yield (
            "replicas",
            f"`{name}` of seed 1 is not initialised as in a run of that seed alone; give every"
            " parameter the leading "
            "axis S and sample it in `initialise(replica, generator)`",
        )


def find_unbounded(trial: Trial) -> Findings:
    """Find actions outside [-1, 1]."""
    # larger inputs, since actions may be within bounds by chance
    actions = evaluate(trial, observations=10 * trial.batch.observations)["act()"]
    if not actions.abs().max() <= 1 + 1e-5:
        yield (
            "bounds",
            f"`act` returns actions up to {actions.abs().max():.3g}, expected [-1, 1]; end it with `.clamp(-1, 1)`",
        )


def find_misled_gradients(trial: Trial) -> Findings:
    """Find losses that train no network, or networks not declared in `trains`, and networks that no loss trains."""
    parameters = {
        name: [p for p in module.parameters() if p.requires_grad]
        for name, module in trial.policy.nets.items()
    }
    untrained = {name for name, tensors in parameters.items() if tensors}
    losses = evaluate(trial)
    del losses["act()"]
    for name, loss in losses.items():
        trained = frozenset(net for net, tensors in parameters.items() if _reaches(loss, tensors))
        untrained -= trained
        declared = trial.policy.method.trains.get(name)
        if trained == declared or (declared is None and len(trained) == 1):
            continue
        if trained:
            shown = " and ".join(f"`{network}`" for network in sorted(trained))
            text = (
                f"{shown}; use `nets.frozen` for networks that this loss must not train, e.g. "
                "`nets.frozen.critic(...)`, or name all trained networks in `trains` if this is intended"
            )
        else:
            text = "no network; remove it, or call the network that it should train without `frozen` or `detach`"
        yield "gradients", f"`losses`: loss `{name}` trains {text}"
    for network in sorted(untrained):
        yield (
            "gradients",
            f"`losses`: no loss trains `{network}`; remove it from `networks`, or call it in a loss without `frozen`",
        )


def _reaches(loss: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Return whether the loss has a gradient for one of the parameters."""
    if not loss.requires_grad or not parameters:
        return False
    gradients = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
    return any(gradient is not None for gradient in gradients)


# -- one update -------------------------------------------------------------------------------------------------------


def find_side_effects(trial: Trial) -> Findings:
    """Find hooks that sample random numbers themselves, and input tensors that an update changes in place."""
    method, nets = trial.policy.method, trial.policy.nets
    batch, noise, action_noise = copy.deepcopy((trial.batch, trial.noise, trial.action_noise))
    weights = copy.deepcopy(nets.state_dict())
    drawn = [_global_generators()]
    with torch.no_grad():
        targets = method.targets(batch, noise, nets, {})
        drawn.append(_global_generators())
        method.act(batch.observations, action_noise, nets)
        drawn.append(_global_generators())
    old_targets = {name: target.clone() for name, target in targets.items()}
    method.losses(batch, targets, noise, nets, {})
    drawn.append(_global_generators())
    for hook, start, end in zip(("targets", "act", "losses"), drawn, drawn[1:], strict=False):
        if start != end:
            code = inspect.unwrap(getattr(type(method), hook)).__code__
            yield (
                "noise",
                f"`{hook}`, or a method that it calls, samples random numbers itself; declare them in `noise` and "
                f"take them from there ({Path(code.co_filename).name}:{code.co_firstlineno})",
            )
    for shown, old, new in (
        ("batch.{}", vars(trial.batch), vars(batch)),
        ('noise["{}"]', trial.noise, noise),
        ('targets["{}"]', old_targets, targets),
        ("nets.{}", weights, nets.state_dict()),
    ):
        for name in _differing(old, new):
            yield (
                "purity",
                f"an update changes `{shown.format(name)}` in place; make a new tensor (`x = x + 1`, not `x += 1`)",
            )


def _global_generators() -> str:
    """Return the states of all global random generators."""
    return repr((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))


def find_lost_state(trial: Trial, untouched: Method) -> Findings:
    """Find unsaved attributes that hooks have changed, by comparison with an instance whose hooks were not called."""
    method, nets = trial.policy.method, trial.policy.nets
    with calling(method, "after_update"):
        method.after_update(nets, trial.info)
        require_all("`info[{!r}]`", trial.info)
    with calling(method, "before_online"):
        method.before_online(nets)
    for name, value in vars(method).items():
        # a cached property depends only on settings; modules such as `nn.MSELoss()` have no state
        is_derived = isinstance(getattr(type(method), name, None), functools.cached_property)
        is_stateless = isinstance(value, nn.Module) and not value.state_dict()
        is_internal = hasattr(Method, name) and name not in method.declared()
        is_changed = repr(value) != repr(vars(untouched).get(name))
        if is_changed and not (is_derived or is_stateless or is_internal):
            yield (
                "networks" if isinstance(value, nn.Module) else "purity",
                f"a hook changes `self.{name}`, a {type(value).__name__} that is neither trained nor saved; declare "
                "networks in `networks`, leave settings to the user, and keep state in a network's buffer "
                "(docs/register.md#state)",
            )


# -- several updates --------------------------------------------------------------------------------------------------


def find_hidden_state(trial: Trial) -> Findings:
    """Find losses that differ when they are computed again from the same input."""
    for name in _differing(evaluate(trial), evaluate(trial)):
        yield (
            "purity",
            f"`losses` or `act`: `{name}` differs when it is computed again from the same input; "
            "let it depend only on settings, batch, noise, targets and networks",
        )


def find_unmasked(trial: Trial) -> Findings:
    """Find losses that include sequences that cross a trajectory's end."""
    method, batch = trial.policy.method, trial.batch
    if method.horizon_length == 1:
        return
    invalid = {name: torch.zeros_like(getattr(batch, name)) for name in ("valid", "steps_valid")}
    changes = {"rewards": batch.rewards.flip(1) + 1, "discounts": batch.discounts * 0.5}
    if method.action_chunking:
        changes["actions"] = -batch.actions
    # all sequences now cross a trajectory's end, so no loss may depend on the changed tensors
    differing = _differing(evaluate(trial, **invalid), evaluate(trial, **invalid, **changes))
    for name in sorted({*differing} - method.unmasked_losses):
        yield (
            "masks",
            f"`losses`: loss `{name}` includes sequences that cross a trajectory's end, whose "
            "`batch.valid` is 0, or is NaN if all do; multiply the errors by `batch.valid` before the mean over all "
            "rows, or name the loss in `unmasked_losses` if this is intended",
        )


def find_mixed_replicas(trial: Trial) -> Findings:
    """Find losses, actions and state of one replica that depend on values of another replica."""

    def changed_others(values: Tensor) -> Tensor:
        # not the other replica's own values in another order, which would leave a mean over both replicas as it is;
        # detached, because a loss may have called `requires_grad_` on them
        return torch.cat([values[:1], values[:1].roll(1)]).detach()

    noise, action_noise = tree_map(changed_others, (trial.noise, trial.action_noise))
    changed = trial._replace(
        batch=trial.batch.map(changed_others), noise=noise, action_noise=action_noise
    )
    outputs = [evaluate(trial)]
    with _other_weights(trial.policy.nets, slice(1, None)):
        outputs.append(evaluate(changed))
    infos = dict(trial.info), tree_map(changed_others, trial.info)
    for values, info in zip(outputs, infos, strict=True):
        nets = copy.deepcopy(trial.policy.nets)
        with calling(trial.policy.method, "after_update"):
            trial.policy.method.after_update(nets, info)
        values |= nets.state_dict()
    firsts = [{name: value[0] for name, value in values.items()} for values in outputs]
    for name in _differing(*firsts):
        yield (
            "replicas",
            f"`{name}` of one seed depends on another's batch, noise, weights or logged values; reduce every axis but "
            "the first",
        )


def find_unused_targets(trial: Trial) -> Findings:
    """Find target networks on which neither losses nor actions depend."""
    outputs = evaluate(trial)
    for name in trial.policy.nets.with_target:
        with _other_weights(trial.policy.nets[f"{name}_target"], slice(None)):
            is_used = _differing(outputs, evaluate(trial))
        if not is_used:
            yield (
                "networks",
                f"nothing depends on `nets.{name}_target`; use it, e.g. in the TD target, instead of `nets.{name}`, "
                "or declare the network with `target=False`",
            )


COMPARING = (find_hidden_state, find_unmasked, find_mixed_replicas, find_unused_targets)
FINDERS = (
    find_uncalled,
    find_other_start,
    find_unbounded,
    find_misled_gradients,
    find_side_effects,
    *COMPARING,
)
"""Finders that need only a trial, in the order in which they run."""
