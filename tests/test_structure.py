"""The structure of the code: imports only point downwards and are never circular, and nothing is too long to read."""

import ast
import re
from functools import cache

import pytest

from tests import ROOT, code_blocks

MAX_LINES = {ast.Module: 720, ast.FunctionDef: 70, ast.AsyncFunctionDef: 70}

DRAWING = code_blocks("docs/architecture.md", "text")[0]
LAYERS = [re.split(r"\s{2,}", line)[0] for line in reversed(DRAWING.splitlines())]
"""Modules and packages, lowest first.

A module belongs to the layer with its longest prefix; ``agents.*`` are the algorithm files, which do not import the
trainer.
"""


@cache
def modules():
    """Return module name -> all nodes of its syntax tree, for both packages."""
    trees = {}
    for path in sorted([*ROOT.glob("agents/**/*.py"), *ROOT.glob("zoo/**/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        trees[name.removesuffix(".__init__")] = list(ast.walk(ast.parse(path.read_text())))
    return trees


@cache
def imported_by(module):
    """Return the modules of both packages that a module imports, including imports in functions and for types."""
    names = set()
    for node in modules()[module]:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in modules() else str(node.module))
    return {name for name in names if name in modules()}


def layer_of(module):
    heights = {prefix: height for height, names in enumerate(LAYERS) for prefix in names.split()}
    # the module itself, its package, ...
    names = [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]
    if module.startswith("agents.") and module.count(".") == 1 and module not in heights:
        return heights["agents.*"]
    return next(heights[name] for name in names if name in heights)


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported_by(name) for name in modules()}
    size = None
    # drop modules that import no remaining module, and modules that no remaining module imports
    while size != (size := len(left)):
        needed = set().union(*left.values())
        left = {
            name: imports & left.keys()
            for name, imports in left.items()
            if imports & left.keys() and name in needed
        }
    assert not left, f"in a circle, or between two: {sorted(left)}"


def test_layers_name_only_modules_that_exist():
    names = set(" ".join(LAYERS).split()) - {"agents.*"}
    assert names <= modules().keys()


def test_imports_point_down():
    arrows = [
        f"{name} -> {target}"
        for name in modules()
        for target in sorted(imported_by(name))
        if layer_of(target) > layer_of(name)
    ]
    assert not arrows, "modules without a line in docs/architecture.md have their package's layer"


GENERATORS = {"SeedSequence", "default_rng", "RandomState", "manual_seed"}
"""Functions and classes that create or seed a generator."""
OWN_STREAMS = (
    "agents.common.streams",
    "agents.common.files.safe",  # restores generator states from files
    "agents.testing",  # tries algorithms on fixed numbers
    "agents.common.nets.modules",  # seeded from the replica's generator
    "agents.common.sb3.policy",  # seeds an existing generator
    "zoo.envs",  # seeds NumPy's generators from streams
    "zoo.datasets",  # seeds NumPy's generators from streams
    "zoo.report",  # resamples as in the published method, so that equal data give equal results
)


def test_random_streams_have_one_source():
    foreign = {
        f"{name}: {node.attr}"
        for name, nodes in modules().items()
        if not name.startswith(OWN_STREAMS)
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in GENERATORS
    }
    assert not foreign, f"take a seed from agents.common.streams: {sorted(foreign)}"


def test_nothing_is_too_large_to_read():
    for name, nodes in modules().items():
        for node in nodes:
            if type(node) in MAX_LINES and node.body:
                lines = node.body[-1].end_lineno - getattr(node, "lineno", 1) + 1
                assert lines <= MAX_LINES[type(node)], f"{name}.{getattr(node, 'name', '')}"


SLOW_PACKAGES = ("rliable", "arch", "statsmodels", "seaborn")
"""Packages that only reports need; importing them takes seconds."""


@pytest.mark.parametrize("program", ["zoo.train", "zoo.evaluate"])
def test_training_and_evaluation_import_no_package_of_reports(program):
    reached, waiting = set(), {program}
    while waiting:
        reached |= waiting
        waiting = set().union(*map(imported_by, waiting)) - reached
    imports = {
        ast.unparse(node)
        for name in reached
        for node in modules()[name]
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not [text for text in imports if text.split()[1].split(".")[0] in SLOW_PACKAGES]
