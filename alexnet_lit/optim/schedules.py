"""Learning-rate schedules: how one comes from the config, and the one that torch's library lacks."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, validate_call
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Fraction = Annotated[float, Field(ge=0, le=1)]


class Schedule:
    """A schedule before its optimizer is there: how it is made, when it steps, and the score that it looks at."""

    def __init__(
        self, factory: Callable[[Optimizer], LRScheduler], *, interval: Literal["step", "epoch"], monitor: str | None
    ) -> None:
        self.factory = factory
        self.interval = interval
        self.monitor = monitor


@validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
def one_cycle(
    optimizer: Optimizer,
    *,
    total_steps: Annotated[int, Field(ge=1)],
    warmup: Fraction,
    start: Fraction,
    end: Fraction,
) -> LambdaLR:
    """Rise in a straight line to the optimizer's rate over the first `warmup` of the run, then fall in one to the end.

    start, end: fractions of the optimizer's rate before the first and in the last step. The rate is a function of the
    step and the length of the run alone: it works for runs of one step, and a resumed run may be made longer.
    torch's OneCycleLR divides by zero where warm-up is a single step, and refuses to go on past its end.
    Source: Smith and Topin 2018, with straight lines as in their figure 1 and without cycling momentum.
    """
    return LambdaLR(optimizer, partial(_factor, total_steps=total_steps, warmup=warmup, start=start, end=end))


def _factor(step: int, *, total_steps: int, warmup: float, start: float, end: float) -> float:
    """The fraction of the peak rate for a step counted from 0."""
    rising = round(warmup * total_steps)
    if step < rising:
        return start + (1 - start) * (step + 1) / rising
    falling = max(1, total_steps - rising - 1)
    return 1 + (end - 1) * min(1.0, (step - rising) / falling)
