"""Statistics against printed tables of Student's t."""

import pytest

from alexnet_lit.report.significance import Difference, Spread, difference, holm, spread


def test_mean_and_sample_standard_deviation() -> None:
    found = spread([2, 4, 4, 4, 5, 5, 7, 9])
    assert (found.n, found.mean) == (8, 5)
    assert found.std == pytest.approx((32 / 7) ** 0.5)
    assert spread([3]) == Spread(1, 3, None)
    assert spread([]) == Spread(0, None, None)


def test_equal_spreads() -> None:
    # Standard error sqrt(1/3 + 1/3), 4 degrees of freedom: the table has t(0.975) = 2.776, and |t| = 3.674.
    found = difference([1, 2, 3], [4, 5, 6])
    assert found is not None
    half = 2.776 * (2 / 3) ** 0.5
    assert found[:3] == pytest.approx((-3, -3 - half, -3 + half), rel=1e-3)
    assert found.p == pytest.approx(0.0213, abs=1e-4)


def test_unequal_spreads_are_not_pooled() -> None:
    # One has no spread: standard error sqrt(1/3), 2 degrees of freedom, t(0.975) = 4.303.
    found = difference([1, 2, 3], [5, 5])
    assert found is not None
    half = 4.303 * (1 / 3) ** 0.5
    assert found[:3] == pytest.approx((-3, -3 - half, -3 + half), rel=1e-3)


def test_where_n_does_not_allow_it_there_is_no_interval() -> None:
    assert difference([0.5], [0.25, 0.5]) == Difference(0.125)
    assert difference([0.5, 0.5], [0.25, 0.25]) == Difference(0.25)
    assert difference([], [1, 2]) is None
    assert difference([1, 2], []) is None


def test_seen_from_the_other_side() -> None:
    assert Difference(1, -1, 3, 0.5).scaled(-100) == (-100, -300, 100, 0.5)
    assert Difference(1).scaled(-100) == Difference(-100)


def test_the_more_comparisons_the_less_each_says() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.02]) == [0.02]
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
