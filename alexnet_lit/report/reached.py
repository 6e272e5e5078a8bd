"""How soon a run comes to a given accuracy."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from alexnet_lit.report.events import Point
from alexnet_lit.report.experiments import Experiment
from alexnet_lit.report.runs import Run
from alexnet_lit.report.significance import Spread, spread

_STEP = 0.05
_ROUNDING = 1e-6  # event files have values in float32: 0.7 comes back as 0.69999999


class Reached(NamedTuple):
    """Of `runs` runs: at which image and second those that got there did; images are None where no run tells."""

    runs: int
    images: Spread
    seconds: Spread


def reached(experiment: Experiment, tag: str, accuracy: float) -> Reached:
    """The first evaluation of each run that counts at `accuracy` or above."""
    firsts = [(run, _first(run, tag, accuracy)) for run in experiment.completed]
    there = [(run, point) for run, point in firsts if point is not None]
    images = [point.step * run.images_a_step for run, point in there if run.images_a_step]
    return Reached(len(firsts), spread(images), spread([point.seconds for _, point in there]))


def usual_accuracy(experiments: Sequence[Experiment], tag: str) -> float | None:
    """The highest multiple of 0.05 that half of the runs come to; None if they come to none."""
    best = [
        max(point.value for point in run.curves[tag])
        for experiment in experiments
        for run in experiment.completed
        if tag in run.curves
    ]
    steps = math.floor(statistics.median_low(best) / _STEP + _ROUNDING) if best else 0
    return round(steps * _STEP, 2) or None


def _first(run: Run, tag: str, accuracy: float) -> Point | None:
    return next((point for point in run.curves.get(tag, ()) if point.value >= accuracy - _ROUNDING), None)
