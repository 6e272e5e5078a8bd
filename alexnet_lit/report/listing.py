"""The section that shows each run as what it is."""

import os
from collections.abc import Sequence
from pathlib import Path

from alexnet_lit.report.figures import NONE, fixed
from alexnet_lit.report.runs import Run
from alexnet_lit.report.section import Row, Section, Table
from alexnet_lit.report.study import Study
from alexnet_lit.report.words import Words


def status_of(status: str, text: Words) -> str:
    """Its word in the language; one that is new to the report stays as it is."""
    known = ("completed", "interrupted", "diverged", "failed", "unfinished")
    return text(status) if status in known else status


def runs_section(study: Study, text: Words) -> Section:
    """A row a run, whatever came of it."""
    folds = any(run.repeat[1] for run in study.runs)
    keys = ["run", "status", "seed", *(["fold"] if folds else []), "steps", "images"]
    header = [text(key) for key in (*keys, "test/acc", "val/acc_best", "seconds", "remark")]
    parents = [run.folder.parent for run in study.runs]
    above = os.path.commonpath(parents)
    rows = [
        _run(run, above, folds, n, text, counts=run in each.completed)
        for n, each in enumerate(study.experiments)
        for run in each.runs
    ]
    return Section(text("runs"), Table(header, rows, words=2, remarks=True), [text("about_runs")])


def _run(run: Run, above: str, folds: bool, n: int, text: Words, *, counts: bool) -> Row:
    if run.status == "unfinished":  # what an earlier result says is old
        best = max((point.value for point in run.curves.get("val/acc", ())), default=None)
        figures = [fixed(run.last_step, 0), NONE, NONE, fixed(best), NONE]
    else:
        digits = {"steps": 0, "images": 0, "test/acc": 4, "val/acc_best": 4, "seconds": 1}
        figures = [fixed(run.figure(key), n) for key, n in digits.items()]
    cells = [Path(os.path.relpath(run.folder, above)).as_posix(), status_of(run.status, text), run.repeat[0] or NONE]
    cells += [run.repeat[1] or NONE] * folds
    return Row([*cells, *figures, _remark(run, text, counts=counts)], n, ended=run.status == "completed")


def _remark(run: Run, text: Words, *, counts: bool) -> str:
    """Why a run came to no result, or doesn't count; empty where there is nothing to say."""
    reasons: Sequence[str] = [str(run.result.get("reason") or ""), run.broken]
    if run.status == "unfinished" and not run.broken:
        reasons = [text("gone_on") if run.result else text("no_result")]
        reasons = [*reasons, *([] if run.last_step else [text("nothing_recorded")])]
    elif run.status == "completed" and not counts:
        reasons = [text("again")]
    elif run.status == "completed" and not run.curves:
        reasons = [text("no_events")]
    return text("comma").join(filter(None, reasons))
