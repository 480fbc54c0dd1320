"""What the audit says of the answers that it gets."""

from __future__ import annotations

import pytest

from tools.audit import report

GOOD = {"name": "numpy", "version": "2.4.6", "vulns": []}
BAD = {"name": "lxml", "version": "6.0", "vulns": [{"id": "CVE-1", "fix_versions": ["6.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "not found"}


@pytest.mark.parametrize("packages", [None, [], [UNKNOWN]])
def test_without_a_database_nothing_is_called_safe(packages: list | None) -> None:
    text, code = report(packages)
    assert text.startswith("NOT AUDITED")
    assert code == 0


def test_a_vulnerability_is_named_with_its_remedy_and_fails() -> None:
    text, code = report([GOOD, BAD, UNKNOWN])
    assert "lxml 6.0: CVE-1, fixed in 6.1" in text
    assert "2 of 3 locked packages audited, 1 known vulnerabilities; not in the database: torch" in text
    assert code == 1
