"""The command line: exit codes, JSON, and bad input refused before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.parity.__main__ import main
from agents.parity.adapter import REQUIRED

Capture = pytest.CaptureFixture[str]


def check(*words: str) -> int:
    return main(["check", "--fixtures", "fixtures", *words])


def test_the_exit_code_says_whether_all_holds(
    recorded: Path, broken: Callable[[str, str], str], capsys: Capture
) -> None:
    assert check("--agent", "my_port") == 0
    assert "my_agent holds" in capsys.readouterr().out
    assert check("--agent", broken("actor = -evaluate", "actor = evaluate")) == 1
    printed = capsys.readouterr().out
    assert "my_agent fails: 8 of 16 quantities" in printed
    assert "look: its sign" in printed


def test_json_has_every_quantity(recorded: Path, broken: Callable[[str, str], str], capsys: Capture) -> None:
    name = broken('noise["action"])', 'noise["action"][1:])')  # an error
    assert check("--agent", name, "--json", "--tolerance", "loss=0", "gradient=1") == 1
    found = json.loads(capsys.readouterr().out)
    rows = {row["quantity"]: row for row in found["fixtures"]["my_agent"]["quantities"]}
    assert not found["holds"]
    assert not rows["loss td"]["holds"]
    assert rows["loss td"]["look"]
    assert rows["gradient of actor"]["tolerance"] == 1
    assert rows["gradient of actor"]["holds"]
    assert rows["actions"]["error"] is None


def test_fixtures_of_other_agents_are_skipped_by_name(
    recorded: Path, broken: Callable[[str, str], str], capsys: Capture
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
    ("words", "named"),
    [
        (["--agent", "my_prt"], "`my_prt`"),
        (["--agent", "my_port:adaptr"], "`my_port:adaptr`"),
        (["--agent", "faulty"], r"faulty\.py:2"),
        (["--agent", "partly"], "`partly` has no function `sample`"),
        (["--agent", "my_port", "--only", "my_agnt"], "`my_agnt`; closest: my_agent"),
        (["--agent", "my_port", "--tolerance", "los=1"], "`los`; closest: loss"),
        (["--agent", "my_port", "--tolerance", "loss=small"], "`loss` must be a number"),
        (["--agent", "my_port", "--fixtures", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_refused(words: list[str], named: str, recorded: Path, folder: Path, capsys: Capture) -> None:
    (folder / "faulty.py").write_text("\n1 / 0\n")
    (folder / "partly.py").write_text("from my_port import create, losses, gradients, update")
    assert check(*words) == 2
    printed = capsys.readouterr()
    assert re.search(named, printed.err)
    assert printed.err.count("\n") == 1
    assert not printed.out


CHANGES = {
    "loss/total": None,
    "sample/actions": np.zeros((5, 2), np.float32),
    "batch/rewards": np.zeros((), np.float32),
    "params_after_3/actor/k": None,
    "loss/td": np.array("low"),
    "params_before/critic/w": np.full(5, np.nan),
    "params_before/target_critic/w": np.zeros(4, np.float32),
    "loss_total/step_2": np.zeros(2),
    "odd": np.array([object()]),
}
DESCRIPTIONS = {
    "config": '{"id": "my_agent"}',
    "format": '{"id": "my_agent", "config": {}, "format": 2}',
    "JSON": "{",
    "lr": '{"id": "my_agent", "config": {}, "adam": {}}',
    "los": '{"id": "a", "config": {}, "tolerances": {"los": 1}}',
    "tolerances": '{"id": "my_agent", "config": {}, "tolerances": 1}',
}


@pytest.mark.parametrize("named", [*CHANGES, *DESCRIPTIONS])
def test_a_damaged_fixture_is_refused_by_name(named: str, recorded: Path, capsys: Capture) -> None:
    with np.load(recorded) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if named in CHANGES:
        arrays |= {named: CHANGES[named]}
    else:
        arrays["meta"] = np.array(DESCRIPTIONS[named])
    np.savez(recorded, **{name: array for name, array in arrays.items() if array is not None})
    assert check("--agent", "my_port") == 2
    printed = capsys.readouterr().err
    assert any(part in printed for part in (named, named.partition("/")[2] or named))
    assert str(recorded.relative_to(Path.cwd())) in printed


def test_a_file_that_is_cut_off_is_refused_by_name(recorded: Path, capsys: Capture) -> None:
    recorded.write_bytes(recorded.read_bytes()[:500])
    assert check("--agent", "my_port") == 2
    assert "fixtures/my_agent.npz cannot be read: " in capsys.readouterr().err


def test_other_files_may_lie_beside_fixtures(recorded: Path) -> None:
    np.savez(recorded.parent / "data.npz", observations=np.zeros(3))
    np.savez(recorded.parent / "described.npz", meta=np.array('{"size": 3}'))
    assert check("--agent", "my_port") == 0


def test_show_lists_what_an_adapter_has_to_know(recorded: Path, capsys: Capture) -> None:
    assert main(["show", "--fixtures", "fixtures", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["meta"]["config"]["tau"] == 0.01
    assert found["arrays"]["params_before/actor/k"] == [3, 2]
    assert found["arrays"]["noise/step_1/td_action"] == [16, 2]
    assert not any(key.startswith(("grad/", "params_after", "noise/step_2")) for key in found["arrays"])
