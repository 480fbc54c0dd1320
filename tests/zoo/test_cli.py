"""The command line: features of all programs, completion, the list of algorithms, and missing packages."""

import argparse
import importlib
import json
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from tests import ROOT
from tests.zoo.outcomes import refuses
from zoo import list_agents
from zoo.algorithms.catalogue import algorithm_ids, find_algorithm, settings_of
from zoo.algorithms.packages import import_environments
from zoo.terminal.cli import PROGRAMS, main, run_program
from zoo.terminal.errors import BAD_INPUT, FAILED, UsageError
from zoo.terminal.parser import Number, module_of


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


REQUIRED = dict.fromkeys(("train", "tune"), "--algo fql --env Pendulum-v1")
REQUIRED |= dict.fromkeys(("dataset", "agents"), "list")
REQUIRED |= {
    "benchmark": "mini",
    "monitor": "logs",
    "export": "-o a.onnx",
    "push-to-hub": "--repo me/a",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_names_the_closest_flag(name, capsys):
    program = importlib.import_module(f"zoo.{module_of(name)}")
    with pytest.raises(SystemExit, match=str(BAD_INPUT)):
        program.main([*REQUIRED.get(name, "").split(), "--hepl"])
    assert "unknown flag --hepl; closest: --help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "answer"),
    {
        "-n 100": "closest: --offline-steps, --online-steps;",
        "--offline-step 1": "unknown flag --offline-step; closest: --offline-steps",
        "--batch-size 64": "`-params gamma=0.99`",
        "--use-sde": "there is none: ",
        "--n-steps": "there is none: set `horizon_length=N",
        "--env-wrapper {a:B": "a wrapper must be valid YAML",
        "-params inv_temp=3": "closest: inverse_temperature",
        "--env cube-double-singletask-task2-v0": "closest: cube-double-play-singletask-task2",
        "-params target_update_interval=3": "there is none: target networks are updated at every gradient step",
    }.items(),
)
def test_a_name_of_other_programs_is_answered_with_ours(words, answer, capsys):
    with suppress(SystemExit):
        main(["train", *REQUIRED["train"].replace("fql", "qam").split(), *words.split()])
    assert answer in capsys.readouterr().err


def test_a_misspelt_program_is_answered(capsys):
    assert main(["traim"]) == BAD_INPUT
    assert "closest: train; see zoo --help" in capsys.readouterr().err


def test_help_and_the_list_of_algorithms_need_no_pytorch():
    code = """
import importlib, sys
from contextlib import suppress
from zoo import list_agents
from zoo.terminal.cli import PROGRAMS
from zoo.terminal.parser import module_of
for name in PROGRAMS:
    with suppress(SystemExit):
        importlib.import_module(f"zoo.{module_of(name)}").main(["-h"])
list_agents.main(["list"])
print({"torch", "mujoco", "optuna", "pandas", "stable_baselines3"} & {*sys.modules})
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    output, listed, modules = ran.stdout.rstrip().rsplit("\n", 2)
    assert "used (default: logs)" in output
    assert output.count("usage: ") == len(PROGRAMS)
    assert json.loads(listed)["algorithms"] == list(algorithm_ids())
    assert modules == "set()"
    for id in algorithm_ids():
        assert re.search(rf"^ *{id} ", ran.stderr, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("kind", "text"),
    [*((Number(), text) for text in ("1.5", "ten", "", "nan", "inf")), (Number(-1, 2000), "2001")],
)
def test_what_is_not_a_whole_number_within_bounds_is_refused(kind, text):
    assert [kind(number) for number in ("7", "-1", "1e3", "1_000")] == [7, -1, 1000, 1000]
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a whole number.* got "):
        kind(text)


@pytest.mark.parametrize(
    "words", [["push-to-hub", "--repo", " "], ["dataset", "list", "--dataset-dir", ""]]
)
def test_a_text_that_says_nothing_is_refused(words, capsys):
    with pytest.raises(SystemExit, match=str(BAD_INPUT)):
        main(words)
    assert "expected a non-empty text, got '" in capsys.readouterr().err


def failing(error):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    ("verbose", "kind"), [(0, ArithmeticError), (1, SystemExit), (2, ArithmeticError)]
)
def test_why_a_program_ends_is_said_at_every_level(capsys, verbose, kind):
    assert run_program(failing(UsageError("a bad word")), verbose) == BAD_INPUT
    refusal = capsys.readouterr().err
    assert run_program(failing(kind("broke")), verbose) == FAILED
    failure = capsys.readouterr().err
    if verbose == 2:
        for text in (refusal, failure):
            assert text.startswith("Traceback (most recent call last):")
    else:
        assert refusal == "a bad word\n"
        assert failure == f"{kind.__name__}: broke (run with --verbose 2 for the traceback)\n"


@pytest.mark.parametrize("algo", algorithm_ids())
def test_every_setting_has_a_meaning(algo, call):
    result, messages = call(list_agents.main, "show", algo)
    assert "\\" not in messages  # no LaTeX in messages
    settings = settings_of(find_algorithm(algo))
    assert set(result["settings"]) == set(settings)
    assert all(setting.meaning for setting in settings.values())


def test_a_package_of_environments_that_is_not_found_is_named():
    with refuses("`--gym-packages`"):
        import_environments(["no_such_envs"])
