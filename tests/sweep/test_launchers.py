"""Jobs in joblib's processes, as submitit starts them, here in place of Slurm; and in a search by Optuna."""

import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Train
from tests.processes import Runs
from tests.sweep.tiny import QUIET, REFUSED, TINY, jobs_of, result_of, rows_of, sweep_of
from tests.trouble import trouble

pytestmark = pytest.mark.slow
optuna = pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")

JOBLIB = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_one_is_killed_ctrl_c_lets_one_save_and_they_go_on(train: Train, tmp_path: Path) -> None:
    ask = [*QUIET, *JOBLIB, "checkpoint.every_steps=1", "optimizer.lr=0.01,0.02,0.03"]
    ask += [trouble("kill", tmp_path / "killed", job=0), trouble("all", tmp_path / "stops", job=1)]

    stopped = train(*ask)

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

    train("-m", f"resume_sweep={sweep}", "hydra/launcher=basic", logs=stopped.logs).ok()
    assert [row["status"] for row in rows_of(sweep)] == ["completed"] * 3
    assert all("resume  " in (job / "train.log").read_text() for job in jobs)


def test_jobs_that_begin_at_once_share_a_new_database(train: Train) -> None:
    outcome = train(*TINY, *JOBLIB, "callbacks=none", "seed=0,1", "logger=mlflow", "trainer.devices=2")
    statuses = [row["status"] for row in rows_of(sweep_of(outcome))]
    assert (statuses, "test accuracy" in outcome.out) == (["completed"] * 2, False), outcome.out


@pytest.mark.parametrize(("send", "number", "reason"), [("killpg", 2, "SIGINT"), ("kill", 15, "SIGUSR1")])
def test_one_is_killed_and_the_other_saves(send: str, number: int, reason: str, train: Train, tmp_path: Path) -> None:
    """Ctrl-C, which a terminal sends to all processes, and `kill` of the one that waits for them."""
    killed, waiting, logs = tmp_path / "killed", tmp_path / "waiting", tmp_path / "logs"
    ask = [*QUIET, "-m", "hydra/launcher=submitit_local", "optimizer.lr=0.02,0.03", "checkpoint.every_steps=1"]
    ask += [trouble("kill", killed, job=0), trouble("wait", waiting, job=1)]
    run = Runs(logs)
    (process,) = run.start(*ask, before=os.setsid)
    deadline = time.monotonic() + 100
    while killed.exists() or waiting.exists():
        assert time.monotonic() < deadline
        assert process.is_alive(), run.text
        time.sleep(0.1)

    getattr(os, send)(process.pid, number)
    assert run.wait([process]) == [130]

    (sweep,) = (logs / "sweeps").iterdir()
    assert f"{signal.Signals(number).name}: the jobs that run save and end" in run.text
    assert [row["status"] for row in rows_of(sweep)] == ["unfinished", "interrupted"]
    assert [row["reason"] for row in rows_of(sweep)] == ["no result.json: at work still, or killed", reason]
    assert f"train.py -m resume_sweep={sweep}" in run.text
    assert "interrupted\n" in run.text
    printed = "".join(path.read_text() for path in [run.output, *logs.rglob("*_log.*")])  # those are the jobs'
    assert "Traceback" not in printed
    assert "warning: " not in printed

    train("-m", f"resume_sweep={sweep}", "hydra/launcher=basic", logs=logs).ok()
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "completed"]
    assert all("resume  " in (job / "train.log").read_text() for job in jobs_of(sweep))


def test_where_there_is_no_slurm_its_launcher_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = train(*QUIET, "-m", "hydra/launcher=submitit_slurm", "seed=0,1")
    assert outcome.refusal.startswith('hydra/launcher=submitit_slurm: Could not detect "srun", are you indeed on a ')
    assert not list((outcome.logs / "sweeps").iterdir())


def test_it_survives_what_fails_and_goes_on(train: Train, tmp_path: Path) -> None:
    outcomes = {"-1": "failed", "1e+30": "diverged", "0.01": "completed"}
    ask = [f"optimizer.lr=choice({','.join(outcomes)})", "scheduler=constant", "hydra.sweeper.n_trials=6"]
    ask += ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=1"]  # draws 1e+30, -1, 0.01, 0.01

    stopped = train(*QUIET, "-m", *ask, trouble("interrupt", tmp_path / "ahead", job=3))

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    assert len(rows_of(sweep)) == 4

    resumed = train("-m", f"resume_sweep={sweep}", logs=stopped.logs)
    assert resumed.status == 1
    rows = rows_of(sweep)
    assert len({row["number"] for row in rows}) == len(rows) == 6
    assert {row["optimizer.lr"]: row["status"] for row in rows} == outcomes
    study = optuna.load_study(study_name="alexnet_lit", storage=f"sqlite:///{sweep}/study.db")
    assert study.direction.name == "MAXIMIZE"
    assert sorted(trial.value for trial in study.trials if trial.value is not None) == sorted(
        result_of(job).get("val/acc_best", -float("inf")) if result_of(job)["status"] == "completed" else -float("inf")
        for job in jobs_of(sweep)
    )
    assert OmegaConf.load(sweep / "optimization_results.yaml").best_params["optimizer.lr"] == 0.01

    trials = len(study.trials)
    assert train("-m", f"resume_sweep={sweep}", logs=stopped.logs).status == 1
    assert len(optuna.load_study(study_name="alexnet_lit", storage=study._storage).trials) == trials, "none is left"


SEARCH = (*REFUSED, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "optimizer.lr=interval(0.001,0.1)")


def test_a_second_search_into_a_study_draws_other_values(train: Train, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/shared.db"
    ask = [*SEARCH, f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=tpe"]
    for number in range(2):
        assert train(*ask, logs=tmp_path / str(number)).status == 1
    trials = optuna.load_study(study_name="tpe", storage=storage).trials
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 4

    outcome = train(*ask, "objective=val/loss", "direction=minimize")
    assert outcome.refusal.startswith(f"hydra.sweeper.storage={storage}: can't be used (Cannot overwrite study dir")
    assert not list(outcome.logs.glob("*/*"))
