"""Jobs of a sweep side by side, in joblib's processes."""

from pathlib import Path

import pytest

from tests.conftest import Train
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, sweep_of, trouble

pytestmark = pytest.mark.slow


@pytest.fixture
def side_by_side() -> tuple[str, ...]:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs alexnet-lit[sweep]")
    return "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"


def test_two_at_a_time_with_a_failure_and_ctrl_c(train: Train, tmp_path: Path, side_by_side: tuple[str, ...]) -> None:
    ahead = tmp_path / "ahead"
    ask = [*TINY, *side_by_side, "seed=0", "optimizer.lr=0.01,-1", trouble("all", ahead, job=0)]

    failed = train(*ask, logs=tmp_path / "failed")

    rows = rows_of(sweep_of(failed))
    assert failed.status == 1
    assert [row["status"] for row in rows] == ["completed", "failed"]
    assert "job 1  1_optimizer.lr--1  failed: optimizer: Invalid learning rate: -1\n" in failed.out
    assert "epoch 1/1" not in failed.out, "jobs would talk at once"
    assert "epoch 1/1" in (jobs_of(sweep_of(failed))[0] / "train.log").read_text()

    ahead.touch()
    ask[-3:] = [f"seed={','.join(map(str, range(7)))}", trouble("all", ahead, job=0)]
    stopped = train(*ask, logs=tmp_path / "stopped")

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert result_of(jobs_of(sweep)[0])["status"] == "interrupted"
    assert len(jobs_of(sweep)) < 7
    assert " not started" in stopped.out
    assert f"train.py -m resume_sweep={sweep}" in stopped.out

    resumed = train("-m", f"resume_sweep={sweep}", logs=stopped.logs)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 7
    assert "resume  " in (jobs_of(sweep)[0] / "train.log").read_text()
    assert not (sweep / ".stop").exists()


def test_a_terminal_that_closes_lets_them_save(train: Train, tmp_path: Path, side_by_side: tuple[str, ...]) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    stopped = train(*TINY, *side_by_side, "seed=0,1,2,3,4,5", trouble("hangup_all", ahead, job=0))

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert "SIGHUP: the jobs that run save and end, no other starts\n" in stopped.out
    assert result_of(jobs_of(sweep)[0])["reason"] == "SIGHUP"
    assert len(jobs_of(sweep)) < 6


def test_a_process_that_is_killed_takes_no_other_job_along(
    train: Train, tmp_path: Path, side_by_side: tuple[str, ...]
) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    ask = [*TINY, *side_by_side, "seed=0,1,2", "checkpoint.every_steps=1", trouble("kill", ahead, job=1)]

    outcome = train(*ask)

    sweep = sweep_of(outcome)
    reason = "its process was ended by SIGKILL"
    assert (outcome.status, outcome.err) == (1, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "failed", "completed"]
    assert rows_of(sweep)[1]["reason"] == reason
    assert f"job 1  failed: {reason}\n" in outcome.out
    assert f"failed      {jobs_of(sweep)[1]}: {reason}" in outcome.out
    assert f"train.py -m resume_sweep={sweep}" in outcome.out

    resumed = train("-m", f"resume_sweep={sweep}", logs=outcome.logs)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 3
    assert "resume  " in (jobs_of(sweep)[1] / "train.log").read_text()


def test_what_it_can_not_do_is_refused(train: Train, side_by_side: tuple[str, ...]) -> None:
    for typed, line in (
        ("n_jobs=0", "error: hydra.launcher.n_jobs=0: use a number of processes, or -1 for one a core\n"),
        ("timeout=5", "error: hydra.launcher.timeout=5.0: ends no job here: use trainer.max_time\n"),
    ):
        outcome = train(*TINY, *side_by_side, f"hydra.launcher.{typed}", "seed=0,1")
        assert (outcome.status, outcome.err) == (2, line)
        assert not list((outcome.logs / "sweeps").iterdir())
