"""`python -m alexnet_lit report`: the runs of a sweep, or any runs, compared on a page: one file, all inside."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment

from alexnet_lit import __version__
from alexnet_lit.errors import UserError, replacing
from alexnet_lit.tools.report.figures import draw
from alexnet_lit.tools.report.runs import read_runs
from alexnet_lit.tools.report.statistics import Difference, Study

_MARK = "alexnet_lit report"  # in the file: tells a report from what somebody wrote
_NONE, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_NAMES = {"test/acc": "test accuracy", "val/acc_best": "best validation accuracy"}
_SPREAD = f"Mean ± standard deviation (divided by n {_MINUS} 1) of the n runs that completed, each seed and fold once."
_WELCH = """Interval and p: Welch's t test of each alone, not paired by seed. Corrected: for the {} comparisons of this
table (Holm); * is below 0.05."""
_SEEDS = "The spread is that of seeds and folds: it says nothing of other images, and folds share training images."
_IDEAS = """With minus without the idea, all other overrides alike: {}, Welch's t test, not corrected. The paper's
points are of top-1 accuracy in 1000 classes of ImageNet, with another net and training: compare signs, not sizes."""
_RUNS = "Runs that did not complete are shown with what is recorded of them, and count in no mean."


class Section(NamedTuple):
    """A heading, notes below it, and a table of texts between."""

    title: str
    notes: Sequence[str]
    table: pd.DataFrame | None = None


def report(folders: list[str], *, baseline: str | None, out: Path | None) -> None:
    """Report on all runs in `folders` and below in report.html; in `out`, else in the first of them.

    baseline: the experiment that the others are compared with. An earlier report is replaced; a file that is no report
    is not.

    Raises: UserError.
    """
    study = Study(read_runs(folders), baseline=baseline)
    file = (out or Path(folders[0]).expanduser()) / "report.html"
    if file.exists() and (file.is_dir() or _MARK.encode() not in file.read_bytes()[:2000]):
        raise UserError(f"{file}: is there already and is no report of ours: name another folder with --out")
    names = [Path(each).expanduser().resolve().name for each in folders]
    page = _render(study, ", ".join(names[:3] + ["…"] * (len(names) > 3)))
    with replacing(file, "name another file with --out") as part:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
    print(file)


def _render(study: Study, title: str) -> str:
    """The page; names are escaped."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["html"] = lambda table: table.to_html(index=False, border=0, justify="unset")
    svg, notes = draw(study)
    statuses = study.runs.sort_index()["status"].value_counts(sort=False)
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    template = Path(__file__).with_name("template.html").read_text(encoding="utf-8")
    ideas = [_ideas(study)] if study.effects else []
    with pd.option_context("display.max_colwidth", None):
        return environment.from_string(template).render(
            mark=_MARK,
            title=title,
            counts=f"Runs: {len(study.runs)} ({counts}). Experiments: {len(study.labels)}.",
            overrides=" ".join(f"{key}={value}" for key, value in study.common_overrides.items()),
            sections=[_experiments(study), Section("Learning curves", notes), *ideas, _runs(study)],
            svg=svg,
            foot=f"Made by alexnet_lit {__version__} from what the runs recorded alone.",
        )


def _experiments(study: Study) -> Section:
    """A row per experiment: its scores, and how far it is from the baseline."""
    runs, scored = study.runs.groupby("experiment").size(), study.spread[study.metric]["count"].fillna(0).astype(int)
    table = pd.DataFrame({"experiment": study.labels})
    table["n"] = [str(n) if n == of else f"{n} of {of}" for n, of in zip(scored, runs, strict=True)]
    for column, digits in {"test/acc": 4, "val/acc_best": 4, "seconds": 1}.items():
        spread = study.spread[column][["mean", "std"]].itertuples(index=False)
        table[_NAMES.get(column, column)] = [
            _number(mean, digits) + ("" if math.isnan(std) else f" ± {_number(std, digits)}") for mean, std in spread
        ]
    notes = [_SPREAD]
    if len(study.labels) > 1:
        found = study.differences
        table["difference, points"] = [_number(each.value, 2, "+") for each in found]
        table.loc[study.baseline, "difference, points"] = "baseline"
        table["95% interval"] = [_interval(each) for each in found]
        table["p"] = [_probability(each.p) for each in found]
        table["p, corrected"] = [_probability(p) + " *" * (p < 0.05) for p in study.corrected]
        metric, base = _NAMES[study.metric], study.labels[study.baseline]
        notes.append(f"Differences are of the {metric}, against {base}, in percentage points.")
        notes += [_WELCH.format(study.corrected.count()), _SEEDS] if study.corrected.notna().any() else []
    return Section("Experiments", notes, table)


def _ideas(study: Study) -> Section:
    """A row for each two experiments that differ in one idea, with the paper's claim."""
    counts = study.spread[study.metric]["count"]
    rows = [
        {
            "idea": study.name_of(effect),
            "section": effect.idea.section,
            f"with {_MINUS} without, points": _number(effect.worth.value, 2, "+"),
            "95% interval": _interval(effect.worth),
            "n with, without": f"{counts[effect.having]:.0f}, {counts[effect.lacking]:.0f}",
            "in the paper": effect.idea.claim,
        }
        for effect in study.effects
    ]
    return Section("The paper's ideas", [_IDEAS.format(_NAMES[study.metric])], pd.DataFrame(rows))


def _runs(study: Study) -> Section:
    """A row per run, failed ones too."""
    runs = study.runs.reset_index(drop=True)
    root = os.path.commonpath([folder.parent for folder in runs["folder"]])
    names = [Path(os.path.relpath(folder, root)).as_posix() for folder in runs["folder"]]
    table = pd.DataFrame({"run": names, "status": runs["status"], "seed": runs["seed"].replace("", _NONE)})
    for column, digits in {"steps": 0, "test/acc": 4, "val/acc_best": 4, "seconds": 1}.items():
        table[_NAMES.get(column, column)] = [_number(value, digits) for value in runs[column]]
    table["remark"] = runs["remark"]
    return Section("Runs", [_RUNS], table)


def _number(value: float, digits: int, sign: str = "") -> str:
    """Like 12,345.6, or with the sign "+" like +1.25."""
    return _NONE if math.isnan(value) else f"{value:{sign},.{digits}f}".replace("-", _MINUS)


def _interval(difference: Difference) -> str:
    """Like +0.20 … +1.30."""
    low, high = (_number(value, 2, "+") for value in (difference.low, difference.high))
    return _NONE if math.isnan(difference.p) else f"{low} … {high}"


def _probability(p: float) -> str:
    """Like 0.031."""
    return _NONE if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
