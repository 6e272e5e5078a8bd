"""What a sweep came to: summary.csv and summary.md in its folder, and the table at its end."""

import csv
import io
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet_lit.groups import REPEATS, grouped, keys_of, varying
from alexnet_lit.sweep.jobs import Job, jobs_of, write

SCORES = ("test/acc", "val/acc_best")


def update(sweep: Path) -> None:
    """Write summary.csv and summary.md anew. Of jobs that end at the same time each waits for the other.

    Where they can't be written, the sweep goes on without them.
    """
    lock = FileLock(sweep / ".summary.lock", timeout=30)
    # Without the lock, which some file systems do not have, a row may be missing until the next job ends.
    with suppress(Timeout, OSError, NotImplementedError):
        lock.acquire()
    try:
        jobs = jobs_of(sweep)
        write(sweep / "summary.csv", _csv(jobs))
        write(sweep / "summary.md", _markdown(sweep.name, jobs))
    except OSError as error:
        print(f"warning: {sweep / 'summary.md'}: can't be written ({error.strerror})", file=sys.stderr)
    finally:
        lock.release()


def count(jobs: Sequence[Job]) -> str:
    """Like `8 jobs: 6 completed, 2 failed`."""
    statuses = Counter(job.status for job in jobs)
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}: " + ", ".join(f"{n} {status}" for status, n in statuses.items())


def _csv(jobs: Sequence[Job]) -> str:
    page, keys = io.StringIO(), keys_of(jobs)
    rows = csv.writer(page, lineterminator="\n")
    rows.writerow(["number", *keys, "status", *SCORES, "seconds", "folder", "reason"])
    for job in jobs:
        rows.writerow(
            [
                *(job.number, *(job.overrides.get(key) for key in keys), job.status),
                *(job.result.get(name) for name in (*SCORES, "seconds")),
                *(job.folder.name, job.reason),
            ]
        )
    return page.getvalue()


def _markdown(name: str, jobs: Sequence[Job]) -> str:
    keys = varying(jobs)
    same = [f"{key}={jobs[0].overrides[key]}" for key in keys_of(jobs) if key not in keys] if jobs else []
    rows = [
        [
            *(str(job.number), *(job.overrides.get(key, "") for key in keys), job.status),
            *(fixed(job.result.get(score)) for score in SCORES),
            *(fixed(job.result.get("seconds"), 1), job.folder.name, job.reason),
        ]
        for job in jobs
    ]
    parts = [
        f"# Sweep {name}",
        count(jobs) + ".",
        *([f"Each with `{' '.join(same)}`."] if same else []),
        _table(["number", *keys, "status", *SCORES, "seconds", "folder", "reason"], rows),
        "## Over seeds and folds",
        "Mean and standard deviation (divided by n - 1) of the n jobs that completed.",
        _over_repeats(jobs, [key for key in keys if key not in REPEATS]),
    ]
    return "\n\n".join(parts) + "\n"


def _over_repeats(jobs: Sequence[Job], keys: Sequence[str]) -> str:
    """A row for each combination of overrides, whatever the seed."""
    rows = []
    for values, group in grouped(jobs, keys).items():
        done = [job.result for job in group if job.status == "completed"]
        cells = [str(len(done))]
        for score in SCORES:
            scores = [result[score] for result in done if result.get(score) is not None]
            cells.append(fixed(statistics.mean(scores) if scores else None))
            cells.append(fixed(statistics.stdev(scores) if len(scores) > 1 else None))
        rows.append([*values, *cells])
    return _table([*keys, "n", *(f"{score} {what}" for score in SCORES for what in ("mean", "std"))], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def fixed(value: float | None, digits: int = 4) -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}"
