import pytest

from zoo.runs.scores import KINDS, NORMALISED_RETURN, RETURN, SUCCESS


def test_names_of_success_have_no_ending_and_those_of_other_kinds_say_the_kind():
    assert [kind.suffix for kind in KINDS.values()] == ["", "_success_by_return", "_return", "_normalised_return"]
    assert [kind.title for kind in KINDS.values()] == ["", ", success by return", ", return", ", normalised return"]


@pytest.mark.parametrize(
    ("returns", "digits"),
    [([-1483.2, 12.0], 0), ([123.4], 1), ([12.34, -0.1], 2), ([0.0123], 5), ([0.0], 1), ([], 1), ([25_000_000.0], 0)],
)
def test_returns_are_shown_with_four_significant_digits_of_the_largest(returns, digits):
    assert RETURN.digits(returns) == digits


def test_other_scores_have_a_fixed_number_of_decimals():
    assert SUCCESS.digits([0.001, 0.9]) == 1
    assert NORMALISED_RETURN.digits([0.001, 25.0]) == 3


def test_returns_of_different_environments_are_not_comparable_but_for_normalised_ones():
    assert [kind.is_comparable for kind in KINDS.values()] == [True, True, False, True]
