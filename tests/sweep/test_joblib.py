"""Jobs of a sweep side by side, in joblib's processes."""

from pathlib import Path

import pytest

from tests.conftest import Train
from tests.sweep.tiny import QUIET, jobs_of, rows_of, sweep_of, trouble

pytestmark = pytest.mark.slow

pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs alexnet-lit[sweep]")
JOBLIB = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_one_is_killed_ctrl_c_lets_one_save_and_they_go_on(train: Train, tmp_path: Path) -> None:
    killed, stops = tmp_path / "killed", tmp_path / "stops"
    killed.touch()
    stops.touch()
    ask = [*QUIET, *JOBLIB, "checkpoint.every_steps=1", "optimizer.lr=0.01,0.02,0.03,0.04"]

    stopped = train(*ask, trouble("kill", killed, job=0), trouble("all", stops, job=1))

    sweep = sweep_of(stopped)
    jobs = jobs_of(sweep)
    assert (stopped.status, stopped.err) == (130, "interrupted\n")
    assert [row["status"] for row in rows_of(sweep)] == ["unfinished", "interrupted"]
    assert rows_of(sweep)[0]["reason"] == "no result.json: at work still, or killed"
    assert "job 0  was killed\n" in stopped.out
    assert "job 1  1_optimizer.lr-0.02  interrupted: SIGINT\n" in stopped.out
    assert "SIGINT: the jobs that run save and end, no other starts; once more to stop at once\n" in stopped.out
    assert "test accuracy" not in stopped.out, "jobs would talk at once"
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    assert not (sweep / ".stop").exists()

    resumed = train("-m", f"resume_sweep={sweep}", "hydra/launcher=basic", logs=stopped.logs)

    assert (resumed.status, resumed.err) == (0, "")
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 4
    assert all("resume  " in (job / "train.log").read_text() for job in jobs)


def test_no_processes_are_refused(train: Train) -> None:
    outcome = train(*QUIET, *JOBLIB, "hydra.launcher.n_jobs=0", "seed=0,1")
    line = "error: hydra.launcher.n_jobs=0: use a number of processes, or -1 for one a core\n"
    assert (outcome.status, outcome.err) == (2, line)
    assert not list((outcome.logs / "sweeps").iterdir())
