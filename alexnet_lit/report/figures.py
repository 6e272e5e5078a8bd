"""How figures are written: with a true minus sign, and a dash where there is none."""

from alexnet_lit.report.significance import Difference, Spread

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def fixed(value: float | None, digits: int = 4) -> str:
    """Like 12,345.6."""
    return NONE if value is None else f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float) -> str:
    """Like +1.25."""
    return f"{value:+.2f}".replace("-", MINUS)


def mean(spread: Spread, digits: int = 4) -> str:
    """Like 0.8123 ± 0.0045."""
    text = fixed(spread.mean, digits)
    return text if spread.std is None else f"{text} ± {fixed(spread.std, digits)}"


def interval(difference: Difference) -> str | None:
    """Like +0.20 … +1.30; None where n does not allow one."""
    if difference.low is None or difference.high is None:
        return None
    return f"{signed(difference.low)} … {signed(difference.high)}"


def probability(p: float | None) -> str:
    """Like 0.031."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
