"""How the house is built: imports point down and never in a circle, and nothing grows too large to read."""

import ast
import re
from functools import cache

import pytest

from tests import ROOT, code_blocks

MAX_LINES = {ast.Module: 720, ast.FunctionDef: 70, ast.AsyncFunctionDef: 70}

DRAWING = code_blocks("docs/architecture.md", "text")[0]
LAYERS = [re.split(r"\s{2,}", line)[0] for line in reversed(DRAWING.splitlines())]
"""Modules and packages, lowest first. A module belongs where its longest prefix stands; ``agents.*`` are the algorithm
files, which do not import what trains them.
"""


@cache
def modules():
    """Return every module of the two packages by its name: all nodes of its syntax tree."""
    trees = {}
    for path in sorted([*ROOT.glob("agents/**/*.py"), *ROOT.glob("zoo/**/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        trees[name.removesuffix(".__init__")] = list(ast.walk(ast.parse(path.read_text())))
    return trees


@cache
def imported_by(module):
    """Return the modules of the two packages that a module imports anywhere: in functions and for types too."""
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
    # itself, its package, ...
    names = [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]
    if module.startswith("agents.") and module.count(".") == 1 and module not in heights:
        return heights["agents.*"]
    return next(heights[name] for name in names if name in heights)


def is_program(module):
    return module.count(".") == 1 and layer_of(module) == len(LAYERS) - 1


def test_no_modules_import_each_other_in_a_circle():
    left = {name: imported_by(name) for name in modules()}
    size = None
    # drop what imports nothing that is left, and what nothing left imports
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
    assert not arrows


GENERATORS = {"SeedSequence", "default_rng", "RandomState", "manual_seed"}
"""What makes or seeds a generator."""
OWN_STREAMS = (
    "agents.common.streams",
    "agents.common.files.safe",  # states in files
    "agents.testing",  # fixed numbers to try algorithms on
    "agents.common.nets.modules",  # a module draws its weights from a generator that its replica's gives
    "agents.common.sb3.policy",  # seeds a generator that exists
    "zoo.envs",  # NumPy's generators, of streams
    "zoo.datasets",  # the same
    "zoo.report",  # resampling is that of the published method, the same for equal data
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


def large_parts():
    for name, nodes in modules().items():
        for node in nodes:
            if type(node) in MAX_LINES and node.body:
                lines = node.body[-1].end_lineno - getattr(node, "lineno", 1) + 1
                if lines > MAX_LINES[type(node)]:
                    yield f"{name}.{getattr(node, 'name', '')} has {lines} lines"


def test_nothing_is_too_large_to_read():
    assert not list(large_parts())


SLOW_PACKAGES = ("rliable", "arch", "statsmodels", "seaborn")
"""What reports need; their imports take seconds."""


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


def test_only_programs_import_inside_functions():
    imports = {
        (name, ast.unparse(node).split()[1])
        for name, nodes in modules().items()
        if name.startswith("zoo.") and not is_program(name)
        for function in nodes
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not imports
