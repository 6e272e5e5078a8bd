"""Curves of experiments, ready to be drawn: a mean and a band over runs, and the runs that did not complete."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from alexnet_lit.report.experiments import Experiment
from alexnet_lit.report.runs import Run

Numbers = NDArray[numpy.float64]
_ENOUGH = 300  # points of a line; more can't be told apart


class Line(NamedTuple):
    """x, mean, low and high have equal lengths, of one run all three are its values; empty if no run counts.

    broken: (x, y) of each run that did not complete.
    """

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers
    broken: list[tuple[Numbers, Numbers]]


def images_a_step(experiments: Sequence[Experiment]) -> dict[Run, float] | None:
    """Of each run. One that does not tell has what the others of its experiment agree on, or else all others do; None
    if there is no telling.
    """
    common = _agreed(run for experiment in experiments for run in experiment.runs)
    sizes = {
        run: run.images_a_step or _agreed(experiment.runs) or common
        for experiment in experiments
        for run in experiment.runs
    }
    return {run: size for run, size in sizes.items() if size} if all(sizes.values()) else None


def _agreed(runs: Iterable[Run]) -> float | None:
    sizes = {round(run.images_a_step) for run in runs if run.images_a_step}
    return sizes.pop() if len(sizes) == 1 else None


def line_of(experiment: Experiment, tag: str, scale: dict[Run, float] | None) -> Line:
    """The curve `tag` of an experiment, against training images, or against steps without a scale.

    It ends where the first of its runs ends, so that no mean jumps as a run leaves it.
    """
    curves = [_thin(run, tag, scale) for run in experiment.completed if tag in run.curves]
    broken = [_thin(run, tag, scale) for run in experiment.runs if run.status != "completed" and tag in run.curves]
    if not curves:
        none = numpy.empty(0)
        return Line(none, none, none, none, broken)
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    x = numpy.unique(numpy.concatenate([x for x, _ in curves]))
    x = x[(x >= first) & (x <= last)]
    values = numpy.stack([numpy.interp(x, *curve) for curve in curves])  # (runs, points)
    return Line(x, values.mean(0), values.min(0), values.max(0), broken)


def _thin(run: Run, tag: str, scale: dict[Run, float] | None) -> tuple[Numbers, Numbers]:
    """The curve; of a long one the means over so many points in a row that few enough are left."""
    points = run.curves[tag]
    size = math.ceil(len(points) / _ENOUGH)
    x = numpy.array([point.step for point in points], dtype=float) * (scale[run] if scale else 1)
    y = numpy.array([point.value for point in points])
    starts = numpy.arange(0, len(points), size)
    counts = numpy.diff([*starts, len(points)])
    return numpy.add.reduceat(x, starts) / counts, numpy.add.reduceat(y, starts) / counts
