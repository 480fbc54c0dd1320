"""Registry of algorithms: built-in ones and plug-ins, which are imported on use, and registered classes."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from agents.common.validation import path_of, unknown_name_message

if TYPE_CHECKING:
    from agents.common.method import Method


@dataclass(frozen=True)
class BuiltIn:
    """Metadata of a built-in algorithm, available without importing it.

    :param class_name: name of its method class in ``agents.<id>`` and of its model class in ``agents``.
    :param published_name: name in the papers' tables.
    :param paper: source of the algorithm.
    :param when: when to use it, in one sentence.
    """

    class_name: str
    published_name: str
    paper: str
    when: str


BUILT_IN = {
    "qam": BuiltIn(
        "QAM",
        "QAM",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
        "Offline, with one weight tuned for each domain; the reference of its family.",
    ),
    "qam_f": BuiltIn(
        "QAMF",
        "QAM-F",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
        "QAM for policies that must act with one network evaluation.",
    ),
    "qam_e": BuiltIn(
        "QAME",
        "QAM-E",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
        "Offline, then online, with compute to spare: the highest mean scores in QAM's paper.",
    ),
    "trqam": BuiltIn(
        "TRQAM",
        "TRQAM",
        "Trust Region Q Adjoint Matching (arXiv 2605.27079)",
        "When a bound on the change of the policy is easier to choose than a weight of Q.",
    ),
    "sqam": BuiltIn(
        "SQAM",
        "SQAM",
        "Scalar Q Adjoint Matching (arXiv 2610.10437)",
        "A first choice offline: the best method offline in its paper and in the mini benchmark.",
    ),
    "bam": BuiltIn(
        "BAM",
        "BAM",
        "ablation of Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234)",
        "An ablation that measures the contribution of QAM's adjoint regression.",
    ),
    "fbrac": BuiltIn(
        "FBRAC",
        "FBRAC",
        "baseline of Flow Q-Learning (Park, Li and Levine, arXiv 2502.02538)",
        "A baseline that backpropagates through all steps of the flow.",
    ),
    "fql": BuiltIn(
        "FQL",
        "FQL",
        "Flow Q-Learning (Park, Li and Levine, arXiv 2502.02538)",
        "Simple, acts with one network evaluation, and improves a lot online.",
    ),
    "fawac": BuiltIn(
        "FAWAC",
        "FAWAC",
        "baseline of Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), "
        "after AWAC (2006.09359)",
        "A baseline that never differentiates a critic.",
    ),
    "ifql": BuiltIn(
        "IFQL",
        "IFQL",
        "Flow Q-Learning (Park, Li and Levine, arXiv 2502.02538), after IDQL (Hansen-Estruch "
        "et al., 2304.10573)",
        "Simple, and stays within the data's support; each action costs 32 flow samples.",
    ),
    "cgql": BuiltIn(
        "CGQL",
        "CGQL",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), classifier-guidance baseline",
        "To study guidance without training a policy.",
    ),
    "cgql_mse": BuiltIn(
        "CGQLMSE",
        "CGQL-M",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), classifier-guidance baseline",
        "To study guidance by a critic trained on noisy actions.",
    ),
    "cgql_linex": BuiltIn(
        "CGQLLinex",
        "CGQL-L",
        "Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), classifier-guidance baseline",
        "To study guidance that is exact in theory.",
    ),
    "qsm": BuiltIn(
        "QSM",
        "QSM",
        "Learning a Diffusion Model Policy from Rewards via Q-Score Matching (Psenka et al., "
        "arXiv 2312.11752)",
        "Locomotion with a diffusion policy.",
    ),
    "dac": BuiltIn(
        "DAC",
        "DAC",
        "Diffusion Actor-Critic (Fang et al., arXiv 2405.20555)",
        "A diffusion policy, strong on antmaze-large and humanoidmaze-medium.",
    ),
    "dsrl": BuiltIn(
        "DSRL",
        "DSRL",
        "Steering Your Diffusion Policy with Latent Space RL (Wagenmaker et al., arXiv 2506.15799)",
        "To steer a cloned flow by learning only its input noise.",
    ),
    "fedit": BuiltIn(
        "FEDIT",
        "FEdit",
        "baseline of Q-learning with Adjoint Matching (Li and Levine, arXiv 2601.14234), "
        "after EXPO (2507.07986)",
        "To fine-tune a cloned flow online.",
    ),
    "rebrac": BuiltIn(
        "ReBRAC",
        "ReBRAC",
        "Revisiting the Minimalist Approach to Offline Reinforcement Learning (Tarasov et "
        "al., arXiv 2305.09836)",
        "A fast baseline without a flow.",
    ),
    "rlpd": BuiltIn(
        "RLPD",
        "RLPD",
        "Efficient Online Reinforcement Learning with Offline Data (Ball et al., arXiv 2302.02948)",
        "Online learning from the first step, with a dataset available.",
    ),
    "rql": BuiltIn(
        "RQL",
        "RQL",
        "Reversal Q-Learning (Oberai, Park and Levine, arXiv 2606.17551)",
        "One flow as both behaviour model and policy.",
    ),
    "qgf": BuiltIn(
        "QGF",
        "QGF",
        "Test-Time Gradient Guidance of Flow Policies in Reinforcement Learning (Zhou et al., "
        "arXiv 2606.11087)",
        "To choose the strength of guidance after training.",
    ),
    "meanflowql": BuiltIn(
        "MeanFlowQL",
        "MeanFlowQL",
        "One-Step Generative Policies with Q-Learning: A Reformulation of MeanFlow (Wang et "
        "al., arXiv 2511.13035)",
        "One training stage, and few network evaluations per action.",
    ),
    "fan": BuiltIn(
        "FAN",
        "FAN",
        "Towards Efficient and Expressive Offline RL via Flow-Anchored Noise-conditioned "
        "Q-Learning (Lee et al., arXiv 2605.01663)",
        "When FQL's update is too expensive.",
    ),
    "value_flows": BuiltIn(
        "ValueFlows",
        "Value Flows",
        "Value Flows (Dong et al., arXiv 2510.07650)",
        "When the whole distribution of returns matters.",
    ),
    "gfp": BuiltIn(
        "GFP",
        "GFP",
        "Guided Flow Policy: Learning from High-Value Actions in Offline Reinforcement "
        "Learning (Tiofack et al., arXiv 2512.03973)",
        "When the data contain both good and bad actions.",
    ),
    "driftql": BuiltIn(
        "DriftQL",
        "DriftQL",
        "Drift Q-Learning (arXiv 2606.00350)",
        "One policy network and one training stage, without the time input of a flow.",
    ),
    "iql": BuiltIn(
        "IQL",
        "IQL",
        "Offline Reinforcement Learning with Implicit Q-Learning (Kostrikov, Nair and Levine, "
        "arXiv 2110.06169)",
        "Standard baseline with a Gaussian policy; its values use only dataset actions.",
    ),
    "idql": BuiltIn(
        "IDQL",
        "IDQL",
        "IDQL: Implicit Q-Learning as an Actor-Critic Method with Diffusion Policies "
        "(Hansen-Estruch et al., arXiv 2304.10573)",
        "IFQL's ancestor: the same value functions, with a diffusion policy instead of the flow.",
    ),
    "bc": BuiltIn(
        "BC",
        "BC",
        "Flow Matching for Generative Modeling (Lipman et al., arXiv 2210.02747), on actions",
        "Behaviour-cloning baseline; its flow can also pretrain other algorithms.",
    ),
}
ALIASES: dict[str, str] = {"bptt": "fbrac", "guidance": "cgql"}
ENTRY_POINT_GROUP = "flow_rl_zoo.agents"

MethodT = TypeVar("MethodT", bound="type[Method]")


@dataclass(frozen=True)
class Entry:
    """An algorithm; see :func:`register`.

    :param id: name on the command line and of the YAML file.
    :param method: subclass of ``agents.Method``; None for algorithms of Stable-Baselines3.
    :param paper: source of the algorithm.
    :param published_name: name in the papers' tables.
    :param when: when to use it, in one sentence.
    :param algorithm: model class, set by :func:`agents.get`.

    >>> agents.get("fql").paper
    'Flow Q-Learning (Park, Li and Levine, arXiv 2502.02538)'
    """

    id: str
    method: Any
    paper: str
    published_name: str
    when: str = ""
    algorithm: Any = None


_entries: dict[str, Entry] = {}


def register(
    id: str, *, paper: str, published_name: str, when: str = ""
) -> Callable[[MethodT], MethodT]:
    """Return a class decorator that registers a method as an algorithm.

    :param id: name on the command line and of the YAML file, lower case with underscores.
    :param paper: title, authors and arXiv id.
    :param published_name: name in published tables, e.g. ``"QAM-E"``.
    :param when: when to use it, in one sentence.
    :return: the decorator.
    :raises TypeError: if the class is not a method.
    :raises ValueError: if the id belongs to another class, or is an alias.

    >>> @register("my_iql", paper="My paper", published_name="MyIQL")
    ... class MyIQL(agents.IQL.method_class):
    ...     pass
    >>> "my_iql" in agents.algorithm_ids()
    True
    """

    def decorate(method: MethodT) -> MethodT:
        # checked by attributes, because importing `Method` for `issubclass` would import PyTorch
        if not hasattr(method, "losses") or hasattr(method, "learn"):
            raise TypeError(
                f"{method.__name__} must be a subclass of `agents.Method`, not of a model class; write e.g. "
                "`agents.FQL.method_class` (docs/register.md)"
            )
        owner = ""
        built_in = BUILT_IN.get(ALIASES.get(id, id))
        if built_in is not None:
            owner = f"agents.{built_in.class_name}"
        elif id in _entries:
            owner = path_of(_entries[id].method)
        # the same class may be registered again, e.g. when its module is reloaded
        if owner not in ("", path_of(method)):
            raise ValueError(
                f"algorithm id `{id}` is taken by {owner}; register {path_of(method)} with another id, e.g. `my_{id}`"
            )
        _entries[id] = Entry(id, method, paper, published_name, when)
        return method

    return decorate


def name_of(method: type[Any]) -> str:
    """Return the name of a class for :func:`find`: its id, or ``"package.module:Class"``."""
    path = path_of(method)
    built_in = {f"agents.{id}:{entry.class_name}": id for id, entry in BUILT_IN.items()}
    return built_in.get(path) or _installed().get(path, path)


def origin_of(method: type[Any]) -> dict[str, str]:
    """Return the path, code hash and package of a plug-in class, which identify the class in a run's records.

    :param method: the class.
    :return: ``class`` (``"package.module:Class"``); ``code`` (a hash of its file) if it has a file; ``package``
        (``"name==version"``) if an installed package provides it.
    """
    path = path_of(method)
    origin = {"class": path}
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    if file is not None:  # None for interactive code
        # a hash of the whole file, since the class may use other parts of it
        origin["code"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]
    if path in _installed():
        distribution = _plugins()[_installed()[path]].dist
        origin["package"] = f"{distribution.name}=={distribution.version}"
    return origin


def algorithm_ids() -> list[str]:
    """Return the sorted ids of all algorithms: built-in, from installed packages, and registered in this process.

    >>> algorithm_ids()[:3]
    ['bam', 'bc', 'cgql']
    """
    return sorted({*BUILT_IN, *_plugins(), *_entries})


def find(id: str) -> Entry:
    """Return the entry of an algorithm, importing it if needed.

    :param id: an id, an alias, or ``"package.module:Class"`` for a custom registered class.
    :return: the entry of the algorithm.
    :raises KeyError: if there is no such algorithm.
    :raises ImportError: if its module or package cannot be imported.
    """
    if ":" in id:
        return _by_path(id)
    id = ALIASES.get(id, id)
    if id in BUILT_IN:
        entry = BUILT_IN[id]
        method = getattr(importlib.import_module(f"agents.{id}"), entry.class_name)
        return Entry(id, method, entry.paper, entry.published_name, entry.when)
    if id not in _entries and id in _plugins():
        point = _plugins()[id]
        try:
            point.load()  # the decorator in the module registers the class
        except Exception as error:  # custom modules may raise anything
            raise ImportError(
                f"package {point.dist.name} provides `{id}`, but {point.value} cannot be imported; update or uninstall "
                f"it ({type(error).__name__}: {error})"
            ) from error
        if id not in _entries:
            raise ImportError(
                f"{point.value} of package {point.dist.name} must register `{id}`, its entry point's name"
            )
    if id not in _entries:
        raise KeyError(unknown_name_message("algorithm", id, algorithm_ids()))
    return _entries[id]


def find_named_by_file(
    name: str, file: object, package: str | None = None, *, trust: bool = False
) -> Entry:
    """Return the entry of an algorithm named in a file; the file's modules are imported only with ``trust``.

    :param name: a name from :func:`name_of`.
    :param file: the file, for messages.
    :param package: package of the algorithm according to the file.
    :param trust: whether to import the module named in the file.
    :return: the entry of the algorithm.
    :raises ValueError: if there is no such algorithm or, without ``trust``, if the algorithm is neither built-in, nor
        from an installed package, nor already imported.
    """
    if name in BUILT_IN:
        return find(name)
    # these classes are already imported, so the file cannot make other code run
    for entry in _entries.values():
        if name == path_of(entry.method):
            return entry
    name = _installed().get(name, name)
    if ":" not in name or trust:
        try:
            return find(name)
        except (KeyError, ImportError) as error:
            raise ValueError(f"{file} needs `{name}`: {error.args[0]}") from error
    module = name.partition(":")[0]
    install = f"install {package}, or " if package else ""
    raise ValueError(
        f"{file} needs `{name}`, whose module is not imported automatically: {install}run in the folder of "
        f"{module.partition('.')[0]}, with --algo {name}; in Python, import {module} first; or, if you trust the "
        "file's author, add --trust (`trust=True`)"
    )


def import_named(module: str) -> ModuleType:
    """Import a module by name, also from the current folder.

    :param module: name of the module.
    :return: the module.
    :raises ImportError: if the module does not exist or raises an error.
    """
    # the import path of installed commands such as `zoo` lacks the current folder
    if not {"", os.getcwd()} & set(sys.path):
        # last, so that local files do not hide installed packages
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ImportError:
        raise
    except Exception as error:  # custom modules may raise anything
        raise ImportError(f"{module} failed: {type(error).__name__}: {error}") from error


def _by_path(path: str) -> Entry:
    """Import a module and return the entry of one of its classes."""
    module_name, _, name = path.partition(":")
    module = import_named(module_name.removesuffix(".py"))
    method = getattr(module, name, None)
    for entry in _entries.values():
        if entry.method is method:
            return entry
    raise KeyError(
        f"`{path}` is not a registered algorithm of {module}; correct its name, change to its folder, or add "
        "`@agents.register`"
    )


def _installed() -> dict[str, str]:
    """Return ``"package.module:Class"`` -> id, for algorithms from installed packages."""
    return {point.value: id for id, point in _plugins().items()}


# cached, since it reads the metadata of all installed packages
@cache
def _plugins() -> dict[str, Any]:
    """Return the entry points of algorithms from installed packages, by id."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
