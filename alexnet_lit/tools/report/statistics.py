"""Experiments compared: means over seeds, Welch's t test, time to an accuracy, and what the paper's ideas are worth."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from alexnet_lit.tools.report.runs import find_baseline, group_runs

_ROUNDING = 1e-6  # event files hold float32: 0.7 comes back as 0.69999999


class Difference(NamedTuple):
    """A difference of two means, its 95% interval and the p value of "there is none"; NaN where n allows none."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


class Idea(NamedTuple):
    """An idea of Krizhevsky, Sutskever and Hinton 2012 that can be switched: a row of ideas.csv.

    choice_with, choice_without: the two choices of `idea=` that it tells apart. points: percentage points of top-1
    accuracy on ImageNet that the paper claims, NaN where it gives none; claim: its words.
    """

    name: str
    section: str
    choice_with: str
    choice_without: str
    points: float
    claim: str

    def tells_apart(self, having: Mapping[str, str], lacking: Mapping[str, str]) -> bool:
        """Whether of two experiments, given by their overrides, the first has the idea and the second has not, and they
        differ in nothing else.
        """
        choices = having.get("idea", "base"), lacking.get("idea", "base")
        others = [{key: each[key] for key in each if key != "idea"} for each in (having, lacking)]
        return choices == (self.choice_with, self.choice_without) and others[0] == others[1]


class Study:
    """Runs grouped into numbered experiments, which are compared with the one at `baseline`.

    runs: a row per run, sorted by `experiment`; of those that completed the last of each seed and fold `counts`.
    labels, overrides: of each experiment, what tells it from the others.
    stage: "val", or "test" where nothing was validated. metric: the result that experiments are compared by.
    accuracy: on the stage's curve, what images and seconds are measured to; NaN if there is none.
    spread: count, mean and sample standard deviation over the runs of each experiment that count, of their results and
    of the first `image` and `second` with the accuracy.
    differences: to the baseline in percentage points, None where there is none. corrected: their p values (Holm).
    effects: (idea, having, lacking, worth in percentage points, image_ratio) for each two experiments that differ in an
    idea alone; image_ratio: training images to the accuracy without the idea over those with it, NaN unless all runs
    get there.

    Raises: UserError if `baseline` names no experiment.
    """

    def __init__(self, runs: pd.DataFrame, *, baseline: str | None, accuracy: float | None) -> None:
        experiments, self.overrides, self.labels, self.common_overrides = group_runs(runs)
        self.baseline = find_baseline(self.labels, baseline)
        self.runs = runs = runs.assign(experiment=experiments).sort_values("experiment", kind="stable")
        self.stage = "val" if any("val/acc" in curves for curves in runs["curves"]) else "test"
        tag, numbers = f"{self.stage}/acc", range(len(self.labels))
        runs["images_per_step"] = images_per_step(runs)

        completed = runs[runs["status"] == "completed"].drop_duplicates(["experiment", "seed", "fold"], keep="last")
        runs["counts"] = runs.index.isin(completed.index)
        runs.loc[(runs["status"] == "completed") & ~runs["counts"], "remark"] = "done again later, does not count"
        self.accuracy = usual_accuracy(completed["curves"], tag) if accuracy is None else accuracy
        first = [first_reached(curves.get(tag), self.accuracy) for curves in completed["curves"]]
        results = completed[["experiment", "test/acc", "val/acc_best", "seconds"]].astype(float)
        results["image"] = [step for step, _ in first] * completed["images_per_step"]
        results["second"] = [second for _, second in first]

        self.spread = results.groupby("experiment").agg(["count", "mean", "std"]).reindex(numbers)
        self.metric = "test/acc" if results["test/acc"].notna().any() else "val/acc_best"
        percent = [100 * results.loc[results["experiment"] == n, self.metric].dropna() for n in numbers]
        self.differences = [None if n == self.baseline else welch(percent[n], percent[self.baseline]) for n in numbers]
        self.corrected = holm([each.p if each else math.nan for each in self.differences])
        images = [results.loc[results["experiment"] == n, "image"].mean(skipna=False) for n in numbers]

        self.effects: list[tuple[Idea, int, int, Difference, float]] = []
        for idea, (having, lacking) in product(IDEAS, permutations(numbers, 2)):
            if not idea.tells_apart(self.overrides[having], self.overrides[lacking]):
                continue
            if worth := welch(percent[having], percent[lacking]):
                self.effects.append((idea, having, lacking, worth, images[lacking] / images[having]))


def welch(values: Sequence[float], base: Sequence[float]) -> Difference | None:
    """mean(values) - mean(base) by Welch's t test (1947), which assumes neither equal variances nor equal n.

    It is not paired by seed: what a seed decides (first weights, order of images) is drawn for another net anew, so
    that pairs are hardly alike, and pairing would halve the degrees of freedom.

    None where one of them is empty; without interval and p where one has a single value, or neither has any spread.
    """
    if not len(values) or not len(base):
        return None
    value = float(np.mean(values) - np.mean(base))
    if min(len(values), len(base)) < 2 or len(set(values)) == len(set(base)) == 1:
        return Difference(value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # one of the two may well have no spread
        test = ttest_ind(values, base, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return Difference(value, float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> pd.Series:
    """The p values of a family of tests, corrected so that one in twenty such families has any below 0.05 by chance
    alone (Holm 1979). NaN stays NaN and does not count.
    """
    p = pd.Series(p_values, dtype=float)
    ordered = p.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).clip(upper=1).cummax().reindex(p.index)


def first_reached(curve: pd.DataFrame | None, accuracy: float) -> tuple[float, float]:
    """The step and seconds of the first evaluation with this accuracy or more, NaN if there is none."""
    reached = () if curve is None else curve[curve["value"] >= accuracy - _ROUNDING].itertuples()
    return next(((float(row.step), float(row.seconds)) for row in reached), (math.nan, math.nan))


def usual_accuracy(curves: Iterable[dict[str, pd.DataFrame]], tag: str) -> float:
    """The highest multiple of 0.05 that half of the runs reach on the curve `tag`; NaN if they reach none."""
    best = pd.Series([each[tag]["value"].max() for each in curves if tag in each], dtype=float)
    steps = best.quantile(interpolation="lower") / 0.05 + _ROUNDING if len(best) else 0
    return round(0.05 * math.floor(steps), 2) or math.nan


def images_per_step(runs: pd.DataFrame) -> pd.Series:
    """Of each run. A run that does not say has what the others of its experiment agree on, or else what all do."""

    def agreed(sizes: pd.Series) -> float:
        return float(sizes.round().max()) if sizes.round().nunique() == 1 else math.nan

    known = runs["images_per_step"]
    return known.fillna(known.groupby(runs["experiment"]).transform(agreed)).fillna(agreed(known))


_TABLE = pd.read_csv(Path(__file__).with_name("ideas.csv"), keep_default_na=False, na_values={"points": ""})
IDEAS = [Idea(*row) for row in _TABLE.itertuples(index=False)]
