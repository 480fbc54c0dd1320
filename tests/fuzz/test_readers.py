"""Readers accept an intact file, and refuse a damaged one as they document; what fuzzing found is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import READERS, Reader, memory_limited

EACH_READER = pytest.mark.parametrize("name", READERS)
FOUND = sorted(path for path in (Path(__file__).parent / "found").rglob("*") if path.is_file())
FEWER = settings(max_examples=settings().max_examples // 3)


@EACH_READER
def test_intact_files_are_accepted(name: str) -> None:
    seeds = READERS[name].seeds()  # writing the example is no cost of reading it
    with memory_limited():
        assert all(READERS[name].try_input(seed) for seed in seeds)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_before_is_accepted_or_refused_as_documented(path: Path) -> None:
    with memory_limited():
        READERS[path.parent.name].try_input(path.read_bytes())


@st.composite
def damaged(draw: st.DrawFn, reader: Reader) -> bytes:
    """Draw an intact input of which some bytes are changed, cut out or put in."""
    seed = draw(st.sampled_from(reader.seeds()))
    part, content = seed[:1], bytearray(seed[1:])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return part + bytes(content[: draw(st.one_of(st.none(), st.integers(0, len(content))))])


@EACH_READER
def test_damaged_files_are_accepted_or_refused_as_documented(name: str) -> None:
    @FEWER
    @given(damaged(READERS[name]))
    def check(data: bytes) -> None:
        READERS[name].try_input(data)

    with memory_limited():
        check()
