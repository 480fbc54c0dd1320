"""What ends a program before its work is done."""

from __future__ import annotations

import pytest

from zoo.errors import UsageError, as_usage_error


@pytest.mark.parametrize(("kinds", "raised"), [((), ValueError), ((), TypeError), ((OSError,), FileNotFoundError)])
def test_an_exception_of_the_named_kinds_becomes_a_usage_error(
    kinds: tuple[type[Exception], ...], raised: type[Exception]
) -> None:
    with pytest.raises(UsageError, match="wrong") as error, as_usage_error(*kinds):
        raise raised("wrong")
    assert isinstance(error.value.__cause__, raised)


def test_other_exceptions_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="wrong"), as_usage_error(OSError):
        raise ValueError("wrong")
