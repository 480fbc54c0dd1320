"""What a run records about where it was made."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.runs import versions

CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: the large one\n\nmodel name\t: other\n"


@pytest.mark.parametrize(
    ("text", "name"), [(CPUINFO, "Xeon: the large one"), ("Hardware\t: BCM2835\n", "arm64"), (None, "arm64")]
)
def test_processor_has_the_name_that_the_system_gives_it(
    monkeypatch: pytest.MonkeyPatch, text: str | None, name: str
) -> None:
    def read_text(*_: object, **__: object) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(versions.platform, "processor", lambda: "arm64")
    assert versions.processor() == name


def test_processor_is_recorded() -> None:
    assert versions.describe_versions("cpu", None)["processor"] == versions.processor()
