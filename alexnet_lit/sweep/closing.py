"""What a person reads when a sweep ends: a table of all jobs, what failed and where, and how to go on."""

import shlex
from pathlib import Path

from rich import box
from rich.table import Table

from alexnet_lit.console import close_log, log, open_log, show
from alexnet_lit.groups import varying
from alexnet_lit.resume import program
from alexnet_lit.sweep.jobs import Job, jobs_of, left_to_run, planned
from alexnet_lit.sweep.summary import SCORES, count, fixed


def close(sweep: Path) -> list[str]:
    """Print it, and return the statuses of all jobs."""
    jobs, plan = jobs_of(sweep), planned(sweep)
    open_log(None, speak=True)
    try:
        show(_table(jobs))
        for job in jobs:
            if job.status != "completed":
                log.info("%-11s %s%s", job.status, job.folder, f": {job.reason}" if job.reason else "")
        missing = 0 if plan is None else len(plan) - len(jobs)
        log.info("sweep       %s%s", count(jobs), f", {missing} not started" if missing > 0 else "")
        log.info("summary     %s", sweep / "summary.md")
        left = left_to_run(sweep)
        if left or (left is None and not all(job.ended for job in jobs)):
            again = shlex.quote(f"resume_sweep={sweep}")
            log.info("go on with: %s train.py -m %s", program("python"), again)
    finally:
        close_log()
    return [job.status for job in jobs] + ["unfinished"] * max(missing, 0)


def _table(jobs: list[Job]) -> Table:
    keys = varying(jobs)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("job", *keys, "status", *SCORES, "seconds"):
        table.add_column(name, justify="right" if name in ("job", *SCORES, "seconds") else "left", no_wrap=True)
    for job in jobs:
        scores = [fixed(job.result.get(score)) for score in SCORES]
        values = [job.overrides.get(key, "") for key in keys]
        table.add_row(str(job.number), *values, job.status, *scores, fixed(job.result.get("seconds"), 1))
    return table
