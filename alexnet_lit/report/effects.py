"""What each of the paper's ideas came to here: experiments with it against the same without."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from alexnet_lit.report.experiments import Experiment
from alexnet_lit.report.ideas import IDEAS, Idea, has
from alexnet_lit.report.reached import reached
from alexnet_lit.report.significance import Difference, difference


class Effect(NamedTuple):
    """worth: with minus without, in percentage points. sooner: images to the accuracy without, by those with it."""

    idea: Idea
    having: Experiment
    lacking: Experiment
    worth: Difference
    sooner: float | None


def effects_of(experiments: Sequence[Experiment], *, score: str, tag: str, accuracy: float | None) -> list[Effect]:
    """One for each two experiments that differ in an idea and in nothing else, in the order of the paper's sections.

    score: a figure of the result. accuracy: what `sooner` is measured to, on the curve `tag`.
    """
    effects = []
    for idea in IDEAS:
        for one, other in combinations(experiments, 2):
            mine = has(idea, one.overrides, other.overrides)
            if mine is None:
                continue
            having, lacking = (one, other) if mine else (other, one)
            worth = difference(having.scores(score), lacking.scores(score))
            if worth is not None:
                sooner = None if accuracy is None else _sooner(having, lacking, tag, accuracy)
                effects.append(Effect(idea, having, lacking, worth.scaled(100), sooner))
    return effects


def _sooner(having: Experiment, lacking: Experiment, tag: str, accuracy: float) -> float | None:
    """None unless all runs of both get there."""
    both = [reached(experiment, tag, accuracy) for experiment in (having, lacking)]
    if any(each.images.n < each.runs for each in both):
        return None
    with_it, without = (each.images.mean for each in both)
    return without / with_it if with_it and without else None
