"""What the report says of a study: sections of sentences and tables, as plain text."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from alexnet_lit.tools.report.statistics import Difference, Effect, Study

NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_NAMES = {"test/acc": "test accuracy", "val/acc_best": "best validation accuracy"}
_SPREAD = f"Mean ± standard deviation (divided by n {MINUS} 1) of the n runs that completed, each seed and fold once."
_WELCH = """Interval and p: Welch's t test, not paired by seed. Corrected: over all comparisons of this table together,
{} (Holm); * is below 0.05."""
_SEEDS = "The spread is that of seeds alone: with the same test images for all, it says nothing of other images."
_IDEAS = """With minus without the idea, all else alike: {}, Welch's t test, not corrected. The paper's points are of
top-1 accuracy in 1000 classes of ImageNet, with another net and training: signs can be compared, sizes can't."""
_RUNS = "Runs that did not complete are shown with what is recorded of them, and count in no mean."


class Section(NamedTuple):
    """A heading, a table of texts, and notes below it."""

    title: str
    notes: Sequence[str]
    table: pd.DataFrame | None = None


def experiments_section(study: Study) -> Section:
    """A row per experiment: its scores, and how far it is from the baseline."""
    counts = study.runs.groupby("experiment")["counts"].agg(["sum", "count"])
    table = pd.DataFrame({"experiment": study.labels})
    table["n"] = [str(n) if n == of else f"{n} of {of}" for n, of in counts.itertuples(index=False)]
    table["test accuracy"] = _means(study, "test/acc", 4)
    table["best validation accuracy"] = _means(study, "val/acc_best", 4)
    table["seconds"] = _means(study, "seconds", 1)
    notes = [_SPREAD]
    if len(study.labels) > 1:
        found = study.differences
        table["difference, points"] = [number(each.value, 2, "+") if each else NONE for each in found]
        table.loc[study.baseline, "difference, points"] = "baseline"
        table["95% interval"] = [_interval(each) for each in found]
        table["p"] = [_probability(each.p) if each else NONE for each in found]
        table["p, corrected"] = [_probability(p) + " *" * (p < 0.05) for p in study.corrected]
        metric, base = _NAMES[study.metric], study.labels[study.baseline]
        notes.append(f"Differences are of the {metric}, against {base}, in percentage points.")
        notes += [_WELCH.format(study.corrected.count()), _SEEDS] if study.corrected.notna().any() else []
    return Section("Experiments", notes, table)


def ideas_section(study: Study) -> Section:
    """A row for each two experiments that an idea tells apart, beside the paper's claim."""
    counts = study.spread[study.metric]["count"]
    rows = [
        {
            "idea": effect_name(study, effect),
            "section": effect.idea.section,
            f"with {MINUS} without, points": number(effect.worth.value, 2, "+"),
            "95% interval": _interval(effect.worth),
            "n with, without": f"{counts[effect.having]:.0f}, {counts[effect.lacking]:.0f}",
            "in the paper": effect.idea.claim,
        }
        for effect in study.effects
    ]
    return Section("The paper's ideas", [_IDEAS.format(_NAMES[study.metric])], pd.DataFrame(rows))


def runs_section(study: Study) -> Section:
    """A row per run, whatever came of it."""
    runs = study.runs
    root = os.path.commonpath([folder.parent for folder in runs["folder"]])
    names = [Path(os.path.relpath(folder, root)).as_posix() for folder in runs["folder"]]
    table = pd.DataFrame({"run": names, "status": [*runs["status"]], "seed": [*runs["seed"].replace("", NONE)]})
    columns = {"steps": 0, "test/acc": 4, "val/acc_best": 4, "seconds": 1}
    for column, digits in columns.items():
        table[_NAMES.get(column, column)] = [number(value, digits) for value in runs[column]]
    table["remark"] = [*runs["remark"]]
    return Section("Runs", [_RUNS], table)


def effect_name(study: Study, effect: Effect) -> str:
    """The idea, with what else tells the two experiments from others."""
    overrides = study.overrides[effect.having].items()
    others = " ".join(f"{key}={value}" for key, value in overrides if key != "idea")
    return f"{effect.idea.name} ({others})" if others else effect.idea.name


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
