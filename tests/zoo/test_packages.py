"""A package that is missing is named with the command that installs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.packages import import_environments, import_optional


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError) as refusal:
        import_optional("no_such.module", "Nothing", "`--nothing`", "flow-rl-zoo[no]", ", or do without")
    assert str(refusal.value) == (
        "`--nothing` needs Nothing; install it with `pip install 'flow-rl-zoo[no]'`, or do without"
    )


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a package that is there, and imports one that is not."""
    (tmp_path / "broken_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    return "broken_package"


def test_a_package_that_misses_another_one_is_not_called_missing(broken: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_optional(broken, "Broken", "this test", "broken")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        import_environments([broken])


def test_a_package_of_environments_that_is_not_found_is_named() -> None:
    with pytest.raises(UsageError, match="`--gym-packages` must name packages that Python finds, got 'no_such_envs'"):
        import_environments(["json", "no_such_envs"])
