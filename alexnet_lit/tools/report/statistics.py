"""Experiments compared: means over seeds, Welch's t test, and what the paper's ideas are worth."""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import ttest_ind

from alexnet_lit.tools.report.runs import find_baseline, group_runs


class Difference(NamedTuple):
    """A difference of two means, its 95% interval and the p value of "there is none"; NaN where n allows none."""

    value: float = math.nan
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
        """Whether two experiments, given by their overrides, differ in this idea alone, which the first one has."""
        having, lacking = {"idea": "base", **having}, {"idea": "base", **lacking}
        return lacking["idea"] == self.choice_without and having == {**lacking, "idea": self.choice_with}


class Effect(NamedTuple):
    """What an idea is worth, in percentage points: two experiments, by number, that differ in it alone."""

    idea: Idea
    having: int
    lacking: int
    worth: Difference


class Study:
    """Runs grouped into numbered experiments, which are compared with the one at `baseline`.

    runs: a row per run, sorted by `experiment`; of those that completed the last of each seed and fold `counts`.
    labels, overrides: of each experiment, what tells it from the others.
    metric: the result that experiments are compared by.
    spread: count, mean and sample standard deviation over the runs of each experiment that count, of their results.
    differences: to the baseline in percentage points. corrected: their p values (Holm).
    effects: of each two experiments that differ in an idea alone.

    Raises: UserError if `baseline` names no experiment.
    """

    def __init__(self, runs: pd.DataFrame, *, baseline: str | None) -> None:
        experiments, self.overrides, self.labels, self.common_overrides = group_runs(runs)
        self.baseline = find_baseline(self.labels, baseline)
        self.runs = runs = runs.assign(experiment=experiments).sort_values("experiment", kind="stable")
        sizes = runs.groupby("experiment")["images_per_step"].transform("median")
        runs["images_per_step"] = runs["images_per_step"].fillna(sizes)  # missing for a run that was killed

        completed = runs[runs["status"] == "completed"].drop_duplicates(["experiment", "seed", "fold"], keep="last")
        runs["counts"] = runs.index.isin(completed.index)
        runs.loc[(runs["status"] == "completed") & ~runs["counts"], "remark"] = "done again later, does not count"
        results = completed[["experiment", "test/acc", "val/acc_best", "seconds"]].astype(float)

        numbers = range(len(self.labels))
        self.spread = results.groupby("experiment").agg(["count", "mean", "std"]).reindex(numbers)
        self.metric = "test/acc" if results["test/acc"].notna().any() else "val/acc_best"
        percent = [100 * results.loc[results["experiment"] == n, self.metric].dropna() for n in numbers]
        self.differences = [welch(values, percent[self.baseline]) for values in percent]
        self.differences[self.baseline] = Difference()
        self.corrected = holm([each.p for each in self.differences])
        self.effects = [
            Effect(idea, having, lacking, worth)
            for idea, (having, lacking) in product(IDEAS, permutations(numbers, 2))
            if idea.tells_apart(self.overrides[having], self.overrides[lacking])
            and not math.isnan((worth := welch(percent[having], percent[lacking])).value)
        ]

    def name_of(self, effect: Effect) -> str:
        """The idea, with what else tells the two experiments from others."""
        others = " ".join(f"{key}={value}" for key, value in self.overrides[effect.having].items() if key != "idea")
        return f"{effect.idea.name} ({others})" if others else effect.idea.name


def welch(values: Sequence[float], base: Sequence[float]) -> Difference:
    """mean(values) - mean(base) by Welch's t test (1947), which assumes neither equal variances nor equal n.

    It is not paired by seed: nets of a seed share the order of images, and initial weights where shapes agree, but
    their scores correlate little, and pairing would halve the degrees of freedom.

    NaN where one of them is empty; without interval and p where one has a single value, or neither has any spread.
    """
    if not len(values) or not len(base):
        return Difference()
    value = float(np.mean(values) - np.mean(base))
    if min(len(values), len(base)) < 2 or len(set(values)) == len(set(base)) == 1:
        return Difference(value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss")  # one of the two may well have no spread
        test = ttest_ind(values, base, equal_var=False)
    low, high = test.confidence_interval(0.95)
    return Difference(value, float(low), float(high), float(test.pvalue))


def holm(p_values: Sequence[float]) -> pd.Series:
    """The p values of a family of tests, corrected for their number (Holm 1979). NaN stays NaN and does not count."""
    p = pd.Series(p_values, dtype=float)
    ordered = p.dropna().sort_values()
    return (ordered * np.arange(len(ordered), 0, -1)).clip(upper=1).cummax().reindex(p.index)


_TABLE = pd.read_csv(Path(__file__).with_name("ideas.csv"), keep_default_na=False, na_values={"points": ""})
IDEAS = [Idea(*row) for row in _TABLE.itertuples(index=False)]
