"""A search by Optuna for what makes the objective best."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Train
from tests.sweep.tiny import TINY, jobs_of, result_of, rows_of, sweep_of, trouble


@pytest.mark.slow
def test_it_has_to_have_an_objective(train: Train) -> None:
    pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs alexnet-lit[sweep]")
    for ask in (["-m", "hydra/sweeper=optuna", "optimizer.lr=interval(0.001,0.1)"], ["sweep=optuna"]):
        outcome = train(*TINY, *ask, "objective=null")
        assert outcome.status == 2
        assert outcome.err.startswith(
            "error: objective=null: a search needs one: use objective=val/acc, or a sweep that"
        )
        assert outcome.err.count("\n") == 1
        assert not list((outcome.logs / "sweeps").iterdir())


@pytest.mark.slow
def test_it_survives_what_fails_and_goes_on(train: Train, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs alexnet-lit[sweep]")
    ahead = tmp_path / "ahead"
    ahead.touch()
    values = ("-1", "1e+30", "0.01")  # fails, diverges, trains
    ask = [f"optimizer.lr=choice({','.join(values)})", "scheduler=constant", trouble("interrupt", ahead, job=5)]

    stopped = train(*TINY, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=10", "logger=none", *ask)

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    assert len(rows_of(sweep)) == 6

    resumed = train("-m", f"resume_sweep={sweep}", logs=stopped.logs)

    assert resumed.status == 1
    rows = rows_of(sweep)
    assert len(rows) == 10
    assert len({row["number"] for row in rows}) == 10
    assert {row["optimizer.lr"]: row["status"] for row in rows} == dict(
        zip(values, ("failed", "diverged", "completed"), strict=True)
    )
    study = optuna.load_study(study_name="alexnet_lit", storage=f"sqlite:///{sweep}/study.db")
    assert study.direction.name == "MAXIMIZE"
    assert sorted(trial.value for trial in study.trials if trial.value is not None) == sorted(
        result_of(job).get("val/acc_best", -float("inf")) if result_of(job)["status"] == "completed" else -float("inf")
        for job in jobs_of(sweep)
    )
    assert OmegaConf.load(sweep / "optimization_results.yaml").best_params["optimizer.lr"] == 0.01

    again = train("-m", f"resume_sweep={sweep}", logs=stopped.logs)
    assert f"{sweep} is complete" in again.out
