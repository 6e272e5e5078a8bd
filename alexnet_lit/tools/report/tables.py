"""What the report says of a study: sections of sentences and tables, as plain text."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from alexnet_lit.tools.report.runs import NUMBERS
from alexnet_lit.tools.report.statistics import Difference, Idea, Study

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
TEXT_COLUMNS = ("experiment", "idea", "section", "in the paper", "run", "status", "remark")  # others hold numbers
BOLD_COLUMNS = ("experiment", "difference, points", "95% interval", "p", "p, corrected")  # of bold rows
_NAMES = {"test/acc": "test accuracy", "val/acc": "validation accuracy", "val/acc_best": "best validation accuracy"}
_SPREAD = f"Mean ± standard deviation (divided by n {MINUS} 1) of the n runs that completed, each seed and fold once."
_WELCH = """Interval and p: Welch's t test, not paired by seed. Corrected: over all comparisons of this table together,
{} (Holm); bold is below 0.05."""
_SEEDS = "The spread is that of seeds alone: with the same test images for all, it says nothing of other images."
_REACHED = """The first evaluation at or above it, mean ± standard deviation of the runs that got there. Seconds are
those since the run's event file began, evaluations included; pauses before a resume do not count."""
_USUAL = "Without --accuracy it is the highest multiple of 0.05 that half of the runs come to."
_IDEAS = """With minus without the idea, all else alike: {}, Welch's t test, not corrected. The paper's points are of
top-1 accuracy in 1000 classes of ImageNet, with another net and training: signs can be compared, sizes can't."""
_RATIO = "Images without : with: how many times as many training images it takes to a {} without the idea."
_RUNS = "Runs that did not complete are shown with what is recorded of them, and count in no mean."


class Section(NamedTuple):
    """A heading, a table of texts, and notes below it.

    experiments: the number of the experiment of each row, for its colour. bold: the rows whose BOLD_COLUMNS are
    set in bold. grey: those without a completed run.
    """

    title: str
    notes: Sequence[str]
    table: pd.DataFrame | None = None
    experiments: Sequence[int] = ()
    bold: Sequence[int] = ()
    grey: Sequence[int] = ()


def experiments_section(study: Study) -> Section:
    """A row per experiment: its scores, and how far it is from the baseline."""
    counts = study.runs.groupby("experiment")["counts"].agg(["sum", "count"])
    table = pd.DataFrame({"experiment": study.labels})
    table["n"] = [str(n) if n == of else f"{n} of {of}" for n, of in counts.itertuples(index=False)]
    table["test accuracy"] = _means(study, "test/acc", 4)
    table["best validation accuracy"] = _means(study, "val/acc_best", 4)
    notes = [_SPREAD]
    if len(study.labels) > 1:
        found = study.differences
        table["difference, points"] = [number(each.value, 2, "+") if each else NONE for each in found]
        table.loc[study.baseline, "difference, points"] = "baseline"
        table["95% interval"] = [_interval(each) for each in found]
        table["p"] = [_probability(each.p) if each else NONE for each in found]
        table["p, corrected"] = study.corrected.map(_probability)
        metric, base = _NAMES[study.metric], study.labels[study.baseline]
        notes.append(f"Differences are of the {metric}, against {base}, in percentage points.")
        notes += [_WELCH.format(study.corrected.count()), _SEEDS] if study.corrected.notna().any() else []
    table["seconds"] = _means(study, "seconds", 1)
    significant, empty = study.corrected.index[study.corrected < 0.05], counts.index[counts["sum"] == 0]
    return Section("Experiments", notes, table, table.index, significant, empty)


def reached_section(study: Study) -> Section:
    """A row per experiment: how soon it reaches the accuracy."""
    if math.isnan(study.accuracy):
        return Section("To an accuracy", ["No accuracy was recorded on the way."])
    table = pd.DataFrame({"experiment": study.labels})
    completed = study.runs.groupby("experiment")["counts"].sum()
    table["got there"] = [f"{n:.0f} of {completed[i]}" for i, n in study.spread["second"]["count"].items()]
    table["training images"], table["seconds"] = _means(study, "image", 0), _means(study, "second", 1)
    table = table[completed > 0]
    return Section(f"To a {_accuracy(study)}", [_REACHED, _USUAL], table, table.index)


def ideas_section(study: Study) -> Section:
    """A row for each two experiments that an idea tells apart, beside the paper's claim."""
    counts = study.spread[study.metric]["count"]
    rows = []
    for idea, having, lacking, worth, ratio in study.effects:
        name = effect_name(study, idea, having)
        interval, n = _interval(worth), f"{counts[having]:.0f}, {counts[lacking]:.0f}"
        rows.append([name, idea.section, number(worth.value, 2, "+"), interval, n, number(ratio, 2), idea.claim])
    columns = ["idea", "section", f"with {MINUS} without, points", "95% interval", "n with, without"]
    table = pd.DataFrame(rows, columns=[*columns, "images without : with", "in the paper"])
    ratio_note = [] if math.isnan(study.accuracy) else [_RATIO.format(_accuracy(study))]
    return Section("The paper's ideas", [_IDEAS.format(_NAMES[study.metric]), *ratio_note], table)


def runs_section(study: Study) -> Section:
    """A row per run, whatever came of it."""
    runs = study.runs
    root = os.path.commonpath([folder.parent for folder in runs["folder"]])
    names = [Path(os.path.relpath(folder, root)).as_posix() for folder in runs["folder"]]
    table = pd.DataFrame({"run": names, "status": [*runs["status"]], "seed": [*runs["seed"].replace("", NONE)]})
    if (runs["fold"] != "").any():
        table["fold"] = [*runs["fold"].replace("", NONE)]
    titles = ["steps", "training images", "test accuracy", "best validation accuracy", "seconds"]
    for title, key, digits in zip(titles, NUMBERS, (0, 0, 4, 4, 1), strict=True):
        table[title] = [number(value, digits) for value in runs[key]]
    table["device"] = [*runs["device"]]
    table["remark"] = [*runs["remark"]]
    incomplete = table.index[table["status"] != "completed"]
    return Section("Runs", [_RUNS], table, [*runs["experiment"]], grey=incomplete)


def effect_name(study: Study, idea: Idea, having: int) -> str:
    """The idea, with what else tells the two experiments from others."""
    overrides = study.overrides[having].items()
    others = " ".join(f"{key}={value}" for key, value in overrides if key != "idea")
    return f"{idea.name} ({others})" if others else idea.name


def _accuracy(study: Study) -> str:
    return f"{_NAMES[f'{study.stage}/acc']} of {study.accuracy:.3g}"


def _means(study: Study, column: str, digits: int) -> list[str]:
    """Like 0.8123 ± 0.0045, for each experiment."""
    pairs = zip(study.spread[column]["mean"], study.spread[column]["std"], strict=True)
    return [number(mean, digits) + ("" if math.isnan(std) else f" ± {number(std, digits)}") for mean, std in pairs]


def number(value: float, digits: int, sign: str = "") -> str:
    """Like 12,345.6, or with the sign "+" like +1.25."""
    return NONE if math.isnan(value) else f"{value:{sign},.{digits}f}".replace("-", MINUS)


def _interval(difference: Difference | None) -> str:
    """Like +0.20 … +1.30."""
    if difference is None or math.isnan(difference.p):
        return NONE
    return f"{number(difference.low, 2, '+')} … {number(difference.high, 2, '+')}"


def _probability(p: float) -> str:
    """Like 0.031."""
    return NONE if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
