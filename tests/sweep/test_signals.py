"""Several jobs in one process: each begins as the first one did."""

import logging
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from alexnet_lit.sweep import summary
from tests.conftest import Train
from tests.sweep.tiny import QUIET, TINY, jobs_of, result_of, rows_of, sweep_of
from tests.trouble import trouble

US = psutil.Process()


@pytest.mark.linux
@pytest.mark.slow
def test_jobs_take_no_more_memory_than_the_first_two(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    held, update = [], summary.update_summary

    def note(sweep: Path) -> None:
        held.append((US.memory_info().rss, threading.active_count(), US.num_fds()))
        update(sweep)

    monkeypatch.setattr("alexnet_lit.app.update_summary", note)
    handlers = list(logging.getLogger().handlers)

    outcome = train(*TINY, "-m", "seed=0,1,2", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1").ok()
    assert [int(row["seed"]) for row in rows_of(sweep_of(outcome))] == [0, 1, 2]
    second, last = held[1], held[2]
    assert last[0] - second[0] < 30e6
    threads, files = (late - early for late, early in zip(last[1:], second[1:], strict=True))
    assert max(threads, files) <= 0  # of other tests some may have ended meanwhile
    assert logging.getLogger().handlers == handlers


@pytest.mark.linux
@pytest.mark.slow
def test_ranks_have_a_job_of_their_own_and_leave_the_process_as_it_was(train: Train) -> None:
    """One of two is killed: the job names it, and the next job runs."""
    assert train(*QUIET).status == 0  # what is opened once and for all is open now
    environment, handlers = dict(os.environ), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads, sockets = set(threading.enumerate()), set(US.net_connections("all"))
    processes = set(US.children())

    typed = (*TINY, "~callbacks.board", "data.train_size=32", trouble("kill", rank=1))
    outcome = train(*typed, "-m", "trainer.devices=2,1")

    sweep, reason = sweep_of(outcome), "rank 1 was ended by SIGKILL"
    jobs = jobs_of(sweep)
    assert (outcome.status, outcome.err) == (1, ""), "what the other rank lost is no news"
    assert [result_of(job)["world_size"] for job in jobs] == [2, 1]
    assert [(row["status"], row["reason"]) for row in rows_of(sweep)] == [("failed", reason), ("completed", "")]
    assert f"| {reason} |" in (sweep / "summary.md").read_text()
    assert f"{jobs[0]}: {reason}\n" in outcome.out, "below the closing table"
    assert result_of(jobs[0])["killed"]
    assert (jobs[0] / "train.log").read_text().rstrip().endswith(f"failed: {reason}")
    assert len(list((outcome.logs / "runs").iterdir())) == 1, "no rank makes a folder of its own"
    for job in jobs:
        files = sorted(path.name for path in job.rglob("*") if path.is_file())
        assert len([name for name in files if name.startswith("events.out.")]) == 1
        assert [name for name in files if name.endswith(".log")] == ["train.log"]
    for text in ("features.conv1", "the sample in the package"):
        assert outcome.out.count(text) == 2, "the console speaks once a job"
        assert (jobs[0] / "train.log").read_text().count(text) == 1
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not set(threading.enumerate()) - threads
    assert set(US.net_connections("all")) <= sockets
    assert set(US.children()) <= processes
