import pytest

from zoo.runs.scores import RETURN


@pytest.mark.parametrize(
    ("returns", "digits"),
    [([-1483.2, 12.0], 0), ([123.4], 1), ([12.34, -0.1], 2), ([0.0123], 5), ([0.0], 1), ([], 1), ([25_000_000.0], 0)],
)
def test_returns_are_shown_with_four_significant_digits_of_the_largest(returns, digits):
    assert RETURN.digits(returns) == digits
