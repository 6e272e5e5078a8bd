"""A sweep that was stopped, or in which jobs failed, goes on with `resume_sweep=`."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import Outcome, Train
from tests.sweep.tiny import QUIET, REFUSED, jobs_of, result_of, rows_of, sweep_of, trouble
from tests.test_run import equal, weights

pytestmark = pytest.mark.slow


def contents(sweep: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sweep.rglob("*") if path.is_file()}


def resumed(train: Train, before: Outcome) -> Outcome:
    return train("-m", f"resume_sweep={sweep_of(before)}", logs=before.logs)


def test_what_was_stopped_goes_on_bit_for_bit_and_what_failed_starts_anew(train: Train, tmp_path: Path) -> None:
    """Job 0 completes, 1 is killed (as its lost result says), 2 fails, 3 is stopped by Ctrl-C, 4 is not started."""
    fails, stops = tmp_path / "fails", tmp_path / "stops"
    ask = [*QUIET, "data.augment.erase=0.5", "model.dropout=0.5", "data.train_size=32"]
    straight = train(*ask, "seed=3", logs=tmp_path / "straight")
    fails.touch()
    stops.touch()

    stopped = train(*ask, "-m", "seed=0,1,2,3,4", trouble("error", fails, job=2), trouble("interrupt", stops, job=3))

    sweep = sweep_of(stopped)
    jobs = jobs_of(sweep)
    assert stopped.status == 130
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "completed", "failed", "interrupted"]
    assert rows_of(sweep)[2]["reason"] == "RuntimeError: a bug"
    assert "RuntimeError: a bug" in stopped.err
    assert "Traceback" in (jobs[2] / "train.log").read_text()
    assert "4 jobs: 2 completed, 1 failed, 1 interrupted, stopped before its end" in stopped.out
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    killed, done = weights(jobs[1]), contents(jobs[0])
    (jobs[1] / "result.json").unlink()

    outcome = resumed(train, stopped)

    assert outcome.status == 0, outcome.err
    assert [job.name for job in jobs_of(sweep)] == [f"{seed}_seed-{seed}" for seed in range(5)]
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 5
    assert contents(jobs[0]) == done, "what is done stays as it is"
    assert equal(weights(jobs[1]), killed)
    assert result_of(jobs[2])["steps"] == 4
    assert equal(weights(jobs[3]), weights(straight.folder))
    assert result_of(jobs[3])["test/loss"] == straight.result["test/loss"]
    assert ["resume  " in (job / "train.log").read_text() for job in jobs] == [False, True, False, True]
    (earlier,) = (sweep / "earlier").glob("*/*")
    assert result_of(earlier)["reason"] == "RuntimeError: a bug"

    before = [contents(job) for job in jobs]
    again = resumed(train, stopped)

    assert again.status == 0
    assert again.out.count("completed before") == 5
    assert "go on with" not in again.out
    assert [contents(job) for job in jobs] == before, "a complete sweep is left alone"


def test_it_is_not_started_twice_and_takes_nothing_that_would_make_another_sweep_of_it(
    train: Train, tmp_path: Path
) -> None:
    failed = train(*REFUSED, "-m", "seed=0,1")
    sweep = sweep_of(failed)
    job, before = jobs_of(sweep)[0], contents(sweep)
    with FileLock(sweep / ".running.lock"):
        outcome = resumed(train, failed)
    assert outcome.status == 2
    assert "this sweep is still running" in outcome.err

    for typed, line in (
        ([f"resume_sweep={sweep}", "seed=3"], "seed=3: a sweep goes on as it was started: leave it out"),
        ([f"resume_sweep={tmp_path}"], f"resume_sweep={tmp_path}: is no sweep, as there is no multirun.yaml in it"),
        ([f"resume_sweep={job}"], f"continue a run with ckpt={job}"),
        ([f"ckpt={sweep}"], f"ckpt={sweep}: is a sweep, not a run: use resume_sweep={sweep}"),
    ):
        outcome = train(*typed)
        assert outcome.status == 2
        assert line in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert contents(sweep) == before
