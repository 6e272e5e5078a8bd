"""A search by Optuna for what makes the objective best."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import Train
from tests.sweep.tiny import QUIET, REFUSED, jobs_of, result_of, rows_of, sweep_of, trouble

pytestmark = pytest.mark.slow
optuna = pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs alexnet-lit[sweep]")


def test_it_survives_what_fails_and_goes_on(train: Train, tmp_path: Path) -> None:
    ahead = tmp_path / "ahead"
    ahead.touch()
    outcomes = {"-1": "failed", "1e+30": "diverged", "0.01": "completed"}
    ask = [f"optimizer.lr=choice({','.join(outcomes)})", "scheduler=constant", trouble("interrupt", ahead, job=5)]

    stopped = train(*QUIET, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=10", *ask)

    sweep = sweep_of(stopped)
    assert stopped.status == 130
    assert f"train.py -m resume_sweep={sweep}" in stopped.out
    assert len(rows_of(sweep)) == 6

    resumed = train("-m", f"resume_sweep={sweep}", logs=stopped.logs)

    assert resumed.status == 1
    rows = rows_of(sweep)
    assert len({row["number"] for row in rows}) == len(rows) == 10
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


def test_a_search_that_can_not_begin_is_refused_in_one_line(train: Train, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one at first")
    storages = [f"sqlite:///{tmp_path}/text.db", "nosuch://host/o"]
    lines = {f"hydra.sweeper.storage='{url}'": f"hydra.sweeper.storage={url}: can't be used (" for url in storages}
    for typed, line in {**lines, "objective=null": "objective=null: a search needs one: use objective=val/acc"}.items():
        outcome = train(*SEARCH, typed)
        assert outcome.err.startswith(f"error: {line}")
        assert (outcome.status, outcome.err.count("\n"), outcome.out) == (2, 1, "")
        assert not list(outcome.logs.glob("*/*"))


def test_a_second_search_into_a_study_draws_other_values(train: Train, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/shared.db"
    ask = [*SEARCH, f"hydra.sweeper.storage={storage}", "hydra.sweeper.study_name=tpe"]
    for number in range(2):
        assert train(*ask, logs=tmp_path / str(number)).status == 1
    trials = optuna.load_study(study_name="tpe", storage=storage).trials
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 4

    outcome = train(*ask, "objective=val/loss", "direction=minimize")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith(f"error: hydra.sweeper.storage={storage}: can't be used (Cannot overwrite study dir")
    assert not list(outcome.logs.glob("*/*"))
