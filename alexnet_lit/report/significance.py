"""How far apart two experiments are, and how sure one can be of that."""

import statistics
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import ttest_ind

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Mean and sample standard deviation (divided by n - 1) of n values; None where n does not allow them."""

    n: int
    mean: float | None
    std: float | None


class Difference(NamedTuple):
    """Of two means, with its 95% interval and the p value of "there is none"; None where n does not allow them."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def scaled(self, factor: float) -> "Difference":
        """In another unit; a negative factor looks at it from the other side."""
        if self.low is None or self.high is None:
            return Difference(factor * self.value)
        low, high = sorted((factor * self.low, factor * self.high))
        return Difference(factor * self.value, low, high, self.p)


def spread(values: Sequence[float]) -> Spread:
    """What n values come to."""
    mean = statistics.fmean(values) if values else None
    return Spread(len(values), mean, statistics.stdev(values) if len(values) > 1 else None)


def difference(values: Sequence[float], base: Sequence[float]) -> Difference | None:
    """mean(values) - mean(base) by Welch's t test (1947), which takes neither equal spreads nor equal n for granted.

    It is not paired by seed: what a seed decides (first weights, order of images) is drawn for another net anew, so
    that pairs are hardly alike, and pairing would halve the degrees of freedom.

    None where one of them is empty; without interval and p where one has a single value, or neither has any spread.
    """
    if not values or not base:
        return None
    value = statistics.fmean(values) - statistics.fmean(base)
    if min(len(values), len(base)) < 2 or len(set(values)) == len(set(base)) == 1:
        return Difference(value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # one of the two may well have no spread
        test = ttest_ind(values, base, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    return Difference(value, float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values of a family of tests, so corrected that one in twenty such families has any below 0.05 by mere
    chance (Holm 1979). None stays None and does not count.
    """
    tested = sorted((p, n) for n, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, n) in enumerate(tested):
        least = max(least, min(1.0, p * (len(tested) - rank)))
        corrected[n] = least
    return corrected
