"""A sweep's results: summary.csv and summary.md in its folder, and the table printed at its end."""

import csv
import io
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from alexnet_lit.sweep.jobs import REPEATS, Job, jobs_of, left_to_run, planned, write
from alexnet_lit.terminal import close_log, log, open_log, program, show

SCORES = ("test/acc", "val/acc_best")


def update_summary(sweep: Path) -> None:
    """Write summary.csv and summary.md anew. Where they can't be written, the sweep goes on without them.

    Of two jobs that end at once one may be missing until the next update; the sweep's end has one.
    """
    try:
        jobs = jobs_of(sweep)
        write(sweep / "summary.csv", _csv(jobs))
        write(sweep / "summary.md", _markdown(sweep.name, jobs))
    except OSError as error:
        print(f"warning: {sweep / 'summary.md'}: can't be written ({error.strerror})", file=sys.stderr)


def print_summary(sweep: Path) -> list[str]:
    """Print a table of all jobs, what failed, and how to go on; returns the statuses of all jobs."""
    jobs, plan = jobs_of(sweep), planned(sweep)
    keys = _varying(jobs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", *keys, "status", *SCORES, "seconds"):
        table.add_column(name, justify="right" if name in ("job", *SCORES, "seconds") else "left", no_wrap=True)
    for job in jobs:
        table.add_row(*_cells(job, keys))
    missing = 0 if plan is None else max(0, len(plan) - len(jobs))
    open_log(None, speak=True)
    try:
        show(table)
        for job in jobs:
            if job.status != "completed":
                log.info("%-11s %s%s", job.status, job.folder, f": {job.reason}" if job.reason else "")
        log.info("sweep       %s%s", _count(jobs), f", {missing} not started" if missing else "")
        log.info("summary     %s", sweep / "summary.md")
        left = left_to_run(sweep)
        if left or (left is None and not all(job.ended for job in jobs)):
            log.info("go on with: %s train.py -m %s", program("python"), shlex.quote(f"resume_sweep={sweep}"))
    finally:
        close_log()
    return [job.status for job in jobs] + ["unfinished"] * missing


def _keys(jobs: Iterable[Job]) -> list[str]:
    """The keys of all overrides, in the order in which they were typed."""
    return list(dict.fromkeys(key for job in jobs for key in job.overrides))


def _varying(jobs: Sequence[Job]) -> list[str]:
    """The keys in which jobs differ."""
    return [key for key in _keys(jobs) if len({job.overrides.get(key) for job in jobs}) > 1]


def _cells(job: Job, keys: Sequence[str]) -> list[str]:
    """Number, values of `keys`, status, scores and seconds."""
    scores = [_fixed(job.result.get(score)) for score in SCORES]
    seconds = _fixed(job.result.get("seconds"), 1)
    return [str(job.number), *(job.overrides.get(key, "") for key in keys), job.status, *scores, seconds]


def _count(jobs: Sequence[Job]) -> str:
    """Like `8 jobs: 6 completed, 2 failed`."""
    statuses = Counter(job.status for job in jobs)
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: " + ", ".join(f"{n} {status}" for status, n in statuses.items())


def _csv(jobs: Sequence[Job]) -> str:
    page, keys = io.StringIO(), _keys(jobs)
    rows = csv.writer(page, lineterminator="\n")
    rows.writerow(["number", *keys, "status", *SCORES, "seconds", "folder", "reason"])
    for job in jobs:
        values = [job.overrides.get(key) for key in keys]
        figures = [job.result.get(name) for name in (*SCORES, "seconds")]
        rows.writerow([job.number, *values, job.status, *figures, job.folder.name, job.reason])
    return page.getvalue()


def _markdown(name: str, jobs: Sequence[Job]) -> str:
    keys = _varying(jobs)
    same = [f"{key}={jobs[0].overrides[key]}" for key in _keys(jobs) if key not in keys]
    rows = [[*_cells(job, keys), job.folder.name, job.reason] for job in jobs]
    parts = [
        f"# Sweep {name}",
        _count(jobs) + ".",
        *([f"Each with `{' '.join(same)}`."] if same else []),
        _table(["number", *keys, "status", *SCORES, "seconds", "folder", "reason"], rows),
        "## Over seeds and folds",
        "Mean and standard deviation (divided by n - 1) of the n jobs that completed.",
        _over_repeats(jobs, [key for key in keys if key not in REPEATS]),
    ]
    return "\n\n".join(parts) + "\n"


def _over_repeats(jobs: Sequence[Job], keys: Sequence[str]) -> str:
    """A row for each combination of overrides, over seeds and folds."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.overrides.get(key, "") for key in keys), []).append(job)
    rows = []
    for values, group in groups.items():
        done = [job.result for job in group if job.status == "completed"]
        cells = [str(len(done))]
        for score in SCORES:
            scores = [result[score] for result in done if result.get(score) is not None]
            cells.append(_fixed(statistics.mean(scores) if scores else None))
            cells.append(_fixed(statistics.stdev(scores) if len(scores) > 1 else None))
        rows.append([*values, *cells])
    return _table([*keys, "n", *(f"{score} {what}" for score in SCORES for what in ("mean", "std"))], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _fixed(value: float | None, digits: int = 4) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"
