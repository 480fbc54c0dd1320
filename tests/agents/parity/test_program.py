"""The command line: exit codes, JSON, and bad input refused in one sentence before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.parity.__main__ import main
from agents.parity.adapter import REQUIRED


def check(*words: str) -> int:
    return main(["check", "--fixtures", "fixtures", *words])


def test_the_exit_code_says_whether_all_holds(
    recorded: Path, broken: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--agent", "my_port") == 0
    assert "my_agent holds" in capsys.readouterr().out
    assert check("--agent", broken("actor = -evaluate", "actor = evaluate")) == 1
    printed = capsys.readouterr().out
    assert "my_agent fails: 8 of 16 quantities" in printed
    assert "look: first mend loss actor" in printed


def test_json_has_every_quantity(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--agent", "my_port", "--json", "--tolerance", "loss=0", "gradient=1") == 1
    found = json.loads(capsys.readouterr().out)
    rows = {row["quantity"]: row for row in found["fixtures"]["my_agent"]["quantities"]}
    assert not found["holds"]
    assert not rows["loss td"]["holds"]
    assert rows["loss td"]["look"]
    assert rows["gradient of actor"] == {
        "quantity": "gradient of actor", "error": pytest.approx(0, abs=1e-6), "tolerance": 1.0, "holds": True,
        "found": "", "look": "",
    }  # fmt: skip


def test_what_could_not_be_compared_is_null_in_json(
    recorded: Path, broken: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--agent", broken('"actor": actor', '"policy": actor'), "--json") == 1
    rows = json.loads(capsys.readouterr().out)["fixtures"]["my_agent"]["quantities"]
    assert [row["error"] for row in rows if row["quantity"] == "loss actor"] == [None]


def test_fixtures_of_other_algorithms_are_skipped_by_name(
    recorded: Path, broken: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = recorded.parent / "deeper" / "other.npz"
    other.parent.mkdir()
    other.write_bytes(recorded.read_bytes())
    declined = '    if fixture.path.stem == "other":\n        raise NotImplementedError("not mine")\n'
    name = broken("    parameters = {path", f"{declined}    parameters = {{path")
    assert check("--agent", name) == 0
    printed = capsys.readouterr().out
    assert "deeper/other: skipped, not mine" in printed
    assert "1 of 2 fixtures compared; failing: none" in printed
    assert check("--agent", name, "--only", "deeper/other") == 2
    assert "implements none of the fixtures: deeper/other" in capsys.readouterr().err


def test_classes_and_objects_are_adapters_too(recorded: Path, folder: Path) -> None:
    members = "".join(f"    {name} = staticmethod(my_port.{name})\n" for name in REQUIRED)
    (folder / "objects.py").write_text(f"import my_port\n\n\nclass Port:\n{members}\n\nport = Port()\n")
    assert check("--agent", "objects:Port") == 0
    assert check("--agent", "objects:port") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--agent", "my_prt"], "there is no module `my_prt` in"),
        (["--agent", ".relative"], "there is no module `.relative` in"),
        (["--agent", "my_port:adaptr"], "unknown adapter in `my_port` `adaptr`; closest:"),
        (["--agent", "my_port", "--only", "my_agnt"], "unknown fixture `my_agnt`; closest: my_agent"),
        (["--agent", "my_port", "--tolerance", "los=1"], "unknown tolerance `los`; closest: loss"),
        (["--agent", "my_port", "--tolerance", "loss=small"], "tolerance `loss` must be a number, got 'small'"),
        (["--agent", "my_port", "--fixtures", "nowhere"], "there is no folder nowhere"),
        (["--agent", "my_port", "--fixtures", "empty"], "there is no fixture in empty"),
    ],
)
def test_bad_input_is_refused(
    words: list[str], message: str, recorded: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    assert check(*words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_a_missing_function_is_named(
    recorded: Path, broken: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--agent", broken("def sample(", "def _sample(")) == 2
    assert "adapter `broken` has no function `sample(agent, observations, noise)`" in capsys.readouterr().err


def test_a_function_with_other_arguments_is_named(
    recorded: Path, broken: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--agent", broken("def sample(agent, observations, noise)", "def sample(agent)")) == 2
    assert "must be callable as `sample(agent, observations, noise)`, and takes (agent)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import not_installed\n", r"No module named 'not_installed' \(.*faulty\.py:1\)"),
        ("\n1 / 0\n", r"ZeroDivisionError: division by zero \(.*faulty\.py:2\)"),
        ("def create(:\n", r"SyntaxError: .*faulty\.py, line 1"),
    ],
)
def test_an_adapter_that_cannot_be_imported_is_refused_with_its_line(
    code: str, message: str, recorded: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "faulty.py").write_text(code)
    assert check("--agent", "faulty") == 2
    assert re.search(f"`faulty` cannot be imported: {message}", capsys.readouterr().err)


CHANGES = {
    "loss/total": (None, "lacks `loss/total`"),
    "sample/actions": (np.zeros((5, 2), np.float32), "must have the same number of rows"),
    "batch/rewards": (np.zeros((), np.float32), "must have the same number of rows"),
    "grad/actor/k": (np.zeros((2, 3), np.float32), "must have the shape of `params_before/actor/k`"),
    "params_after_3/actor/k": (None, "`actor/k` in .* is in only one of"),
    "loss/td": (np.array("low"), "`loss/td` in .* must hold finite numbers, got dtype"),
    "params_before/critic/w": (np.full(5, np.nan), "`params_before/critic/w` in .* must hold finite numbers, got nan"),
    "params_before/target_x/w": (np.zeros(2), "is in only one of"),
    "meta": (np.array('{"id": "my_agent"}'), "must have `config`"),
    "meta ": (np.array('{"id": "my_agent", "config": {}, "format": 2}'), "has format 2, and this version reads 1"),
    "meta  ": (np.array('{"id": "my_agent", "config": {"tau": "small"}}'), "must have numbers as `tau`"),
    "meta   ": (np.array("{"), "must be JSON"),
    "meta    ": (np.array('{"id": "my_agent", "config": {}, "adam": {}}'), "must have numbers as .* `lr` in `adam`"),
    "meta     ": (np.array('{"id": "a", "config": {}, "tolerances": {"los": 1}}'), "tolerance `los`; closest: loss"),
    "meta      ": (
        np.array('{"id": "my_agent", "config": {}, "tolerances": 1}'),
        "`tolerances` in `meta` of .* by name",
    ),
    "params_before/target_critic/w": (np.zeros(4, np.float32), "must have the shape of"),
    "noise/step_2/actor": (None, "update 2 in .* must draw what update 1 draws"),
    "odd": (np.array([object()]), "fixtures/my_agent.npz cannot be read: .*(object|pickle)"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_a_damaged_fixture_is_refused_by_name(key: str, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(recorded) as archive:
        arrays = {name: archive[name] for name in archive.files}
    value, message = CHANGES[key]
    arrays.pop(key.strip(), None)
    if value is not None:
        arrays[key.strip()] = value
    np.savez(recorded, **arrays)
    assert check("--agent", "my_port") == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed)
    assert str(recorded.relative_to(Path.cwd())) in printed
    assert printed.count("\n") == 1


def test_a_file_that_is_cut_off_is_refused_by_name(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded.write_bytes(recorded.read_bytes()[:500])
    assert check("--agent", "my_port") == 2
    assert "fixtures/my_agent.npz cannot be read: " in capsys.readouterr().err


def test_other_files_may_lie_beside_fixtures(recorded: Path) -> None:
    np.savez(recorded.parent / "data.npz", observations=np.zeros(3))
    np.savez(recorded.parent / "described.npz", meta=np.array('{"size": 3}'))
    assert check("--agent", "my_port") == 0


def test_show_lists_what_an_adapter_has_to_know(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--fixtures", "fixtures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["meta"]["config"]["tau"] == 0.01
    assert found["arrays"]["params_before/actor/k"] == [3, 2]
    assert found["arrays"]["noise/step_1/td_action"] == [16, 2]
    assert not any(key.startswith(("grad/", "params_after", "noise/step_2")) for key in found["arrays"])
