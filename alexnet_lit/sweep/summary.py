"""A sweep's results: summary.csv and summary.md in its folder, and the table printed at its end."""

import csv
import io
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from alexnet_lit.sweep.jobs import Job, jobs_of, unfinished_jobs
from alexnet_lit.terminal import close_log, log, log_table, open_log, train_command

_FIGURES = {"test/acc": 4, "val/acc_best": 4, "seconds": 1}  # columns from result.json, and their decimals


def update_summary(sweep: Path) -> None:
    """Write summary.csv and summary.md anew. If they can't be written, the sweep continues without.

    Of two jobs that end at once one may be missing until the next update; the sweep's end has one.
    """
    jobs = jobs_of(sweep)
    for name, text in {"summary.csv": _csv(jobs), "summary.md": _markdown(sweep, jobs)}.items():
        part = sweep / f"{name}.{os.getpid()}.part"  # jobs that end at once write the same summary
        try:
            part.write_text(text, encoding="utf-8", newline="")
            part.replace(sweep / name)
        except OSError as error:
            part.unlink(missing_ok=True)
            print(f"warning: {sweep / name}: can't be written ({error.strerror})", file=sys.stderr)


def print_summary(sweep: Path, *, stopped: bool) -> list[str]:
    """Print a table of all jobs, what failed, and how to resume; returns the statuses of all jobs."""
    jobs = jobs_of(sweep)
    keys = _varying(jobs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", *keys, "status", *_FIGURES):
        table.add_column(name, justify="right" if name in ("job", *_FIGURES) else "left", no_wrap=True)
    for job in jobs:
        table.add_row(*_cells(job, keys))
    open_log(None, speak=True)
    try:
        log_table(table)
        for job in jobs:
            if job.status != "completed":
                log.info("%-11s %s%s", job.status, job.folder, f": {job.reason}" if job.reason else "")
        log.info("sweep       %s%s", _count(jobs), ", stopped before its end" if stopped else "")
        log.info("summary     %s", sweep / "summary.md")
        if stopped or unfinished_jobs(sweep):
            log.info("resume with: %s -m %s", train_command(), shlex.quote(f"resume_sweep={sweep}"))
    finally:
        close_log()
    return [job.status for job in jobs]


def _keys(jobs: Iterable[Job]) -> list[str]:
    """The keys of all overrides, in the order in which they were typed."""
    return list(dict.fromkeys(key for job in jobs for key in job.overrides))


def _varying(jobs: Sequence[Job]) -> list[str]:
    """The keys in which jobs differ."""
    return [key for key in _keys(jobs) if len({job.overrides.get(key) for job in jobs}) > 1]


def _cells(job: Job, keys: Sequence[str]) -> list[str]:
    """Number, values of `keys`, status, scores and seconds; empty where a job has none."""
    figures = [(job.result.get(name), decimals) for name, decimals in _FIGURES.items()]
    texts = ["" if value is None else f"{value:.{decimals}f}" for value, decimals in figures]
    return [str(job.number), *(job.overrides.get(key, "") for key in keys), job.status, *texts]


def _count(jobs: Sequence[Job]) -> str:
    """Like `8 jobs: 6 completed, 2 failed`."""
    statuses = Counter(job.status for job in jobs)
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: " + ", ".join(f"{n} {status}" for status, n in statuses.items())


def _csv(jobs: Sequence[Job]) -> str:
    page, keys = io.StringIO(), _keys(jobs)
    rows = csv.writer(page, lineterminator="\n")
    rows.writerow(["number", *keys, "status", *_FIGURES, "folder", "reason"])
    values = ([*map(job.overrides.get, keys), job.status, *map(job.result.get, _FIGURES)] for job in jobs)
    rows.writerows([job.number, *row, job.folder.name, job.reason] for job, row in zip(jobs, values, strict=True))
    return page.getvalue()


def _markdown(sweep: Path, jobs: Sequence[Job]) -> str:
    keys = _varying(jobs)
    same = [f"{key}={jobs[0].overrides[key]}" for key in _keys(jobs) if key not in keys]
    header = ["number", *keys, "status", *_FIGURES, "folder", "reason"]
    rows = [header, ["---"] * len(header), *([*_cells(job, keys), job.folder.name, job.reason] for job in jobs)]
    parts = [
        f"# Sweep {sweep.name}",
        _count(jobs) + ".",
        *([f"Each with `{' '.join(same)}`."] if same else []),
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows),
        f"Means and differences: `python -m alexnet_lit report {shlex.quote(str(sweep))}`.",
    ]
    return "\n\n".join(parts) + "\n"
