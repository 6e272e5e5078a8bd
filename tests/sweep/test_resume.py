"""A sweep that was stopped, or in which jobs failed, goes on with `resume_sweep=`."""

import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import Outcome, Train
from tests.sweep.tiny import REFUSED, TINY, jobs_of, result_of, rows_of, sweep_of, trouble
from tests.test_run import equal, scalars, weights

pytestmark = pytest.mark.slow


def contents(sweep: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sweep.rglob("*") if path.is_file()}


def resumed(train: Train, before: Outcome) -> Outcome:
    return train("-m", f"resume_sweep={sweep_of(before)}", logs=before.logs)


def test_stopped_with_ctrl_c_it_goes_on_bit_for_bit(train: Train, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ask = [*TINY, "-m", "seed=0,1,2", "data.augment.erase=0.5", "model.dropout=0.5", "data.train_size=32"]
    ask += [trouble("interrupt", ahead, job=1)]
    straight = train(*ask, logs=tmp_path / "straight")
    ahead.touch()

    stopped = train(*ask, logs=tmp_path / "stopped")

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "interrupted"]
    assert "1 not started" in stopped.out
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    first = contents(jobs_of(sweep)[0])
    plan = (sweep / "multirun.yaml").read_bytes()

    outcome = resumed(train, stopped)

    assert (outcome.status, outcome.err) == (0, "")
    assert contents(jobs_of(sweep)[0]) == first, "what is done stays as it is"
    assert (sweep / "multirun.yaml").read_bytes() == plan
    assert [job.name for job in jobs_of(sweep)] == [job.name for job in jobs_of(sweep_of(straight))]
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 3
    for job, other in zip(jobs_of(sweep), jobs_of(sweep_of(straight)), strict=True):
        assert equal(weights(job), weights(other))
        assert scalars(job)["train/loss"] == scalars(other)["train/loss"]
        assert result_of(job)["test/loss"] == result_of(other)["test/loss"]


def test_what_failed_starts_anew_and_keeps_its_first_attempt(train: Train, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    failed = train(*TINY, "-m", "seed=0,1", trouble("error", ahead, job=0))
    sweep = sweep_of(failed)
    assert failed.status == 1
    assert "RuntimeError: a bug" in failed.err
    assert [(row["status"], row["reason"]) for row in rows_of(sweep)] == [
        ("failed", "RuntimeError: a bug"),
        ("completed", ""),
    ]
    assert "Traceback" in (jobs_of(sweep)[0] / "train.log").read_text()

    outcome = resumed(train, failed)

    assert outcome.status == 0, outcome.err
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 2
    assert [job.name for job in jobs_of(sweep)] == ["0_seed-0", "1_seed-1"]
    assert result_of(jobs_of(sweep)[0])["steps"] == 2
    assert [step for step, _ in scalars(jobs_of(sweep)[0])["train/loss"]] == [1, 2]
    (earlier,) = (sweep / "earlier").iterdir()
    assert result_of(earlier)["reason"] == "RuntimeError: a bug"

    before = contents(sweep)
    again = resumed(train, failed)

    assert again.status == 0
    assert f"{sweep} is complete" in again.out
    assert contents(sweep) == before, "a complete sweep is left alone"


def test_a_job_that_was_killed_goes_on_from_its_last_checkpoint(train: Train) -> None:
    whole = train(*TINY, "-m", "seed=0,1")
    sweep = sweep_of(whole)
    first, second = jobs_of(sweep)
    expected = weights(second)
    (second / "result.json").unlink()  # as after SIGKILL
    shutil.rmtree(first)  # as before its start

    outcome = resumed(train, whole)

    assert outcome.status == 0, outcome.err
    assert "resume  " in outcome.out
    assert equal(weights(second), expected)
    assert [row["number"] for row in rows_of(sweep)] == ["0", "1"]
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 2


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


def test_a_job_continued_by_itself_is_told_in_the_summary(train: Train, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    stopped = train(*TINY, "-m", "seed=0,1", "data.augment.crop=0.9,1.0", trouble("interrupt", ahead, job=0))
    sweep = sweep_of(stopped)

    outcome = train(f"ckpt={jobs_of(sweep)[0]}")

    assert outcome.status == 0, outcome.err
    assert [row["status"] for row in rows_of(sweep)] == ["completed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
