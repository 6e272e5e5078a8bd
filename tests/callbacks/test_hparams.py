"""HParams, as TensorBoard's own backend reads it: a table with a row for each run."""

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.api_pb2 import (  # type: ignore[attr-defined] # made at import time
    STATUS_FAILURE,
    STATUS_SUCCESS,
    GetExperimentRequest,
    ListSessionGroupsRequest,
)
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as GetExperiment
from tensorboard.plugins.hparams.list_session_groups import Handler as ListSessionGroups

import alexnet_lit
from alexnet_lit.callbacks.hparams import COLUMNS
from tests.conftest import Train
from tests.sweep.tiny import TINY, jobs_of, result_of, sweep_of

pytestmark = pytest.mark.slow

METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")


def board(logs: Path) -> tuple[Any, dict[str, Any]]:
    """What the page is made of: the table's columns, and its rows by name."""
    runs = EventMultiplexer()
    runs.AddRunsFromDirectory(str(logs))
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(logs)), logdir=str(logs)))
    request = ListSessionGroupsRequest(allowed_statuses=[0, 1, 2, 3], slice_size=100)
    experiment = GetExperiment(RequestContext(), context, "", GetExperimentRequest()).run()
    rows = ListSessionGroups(RequestContext(), context, "", request).run()
    return experiment, {row.name: row for row in rows.session_groups}


def value(cell: Any) -> Any:
    return getattr(cell, cell.WhichOneof("kind"))


def test_what_was_deleted_has_no_value(train: Train) -> None:
    outcome = train(*TINY, "~optimizer.momentum", "optimizer.nesterov=false", "+optimizer.dampening=0")
    assert (outcome.status, outcome.err) == (0, "")
    _, rows = board(outcome.logs / "runs")
    (row,) = rows.values()
    assert "optimizer.momentum" not in row.hparams
    assert value(row.hparams["optimizer.nesterov"]) is False
    assert row.sessions[0].status == STATUS_SUCCESS


def test_a_sweep_is_one_table_with_its_true_scores(train: Train) -> None:
    sweep = sweep_of(train(*TINY, "-m", "model.lrn=true,false", "optimizer=sgd,adamw", "data.augment.crop=0.9"))

    experiment, rows = board(sweep)

    columns = {column.name: column for column in experiment.hparam_infos}
    assert [metric.name.tag for metric in experiment.metric_infos] == [*METRICS]
    types = {name: columns[name].type for name in ("model.lrn", "optimizer", "optimizer.lr", "seed")}
    assert types == {"model.lrn": 2, "optimizer": 1, "optimizer.lr": 3, "seed": 3}  # bool, string, number
    assert {name for name, column in columns.items() if column.differs} == {"model.lrn", "optimizer"}
    assert rows.keys() == {job.name for job in jobs_of(sweep)}, "a row a run, named after its folder"
    for job in jobs_of(sweep):
        row, result = rows[job.name], result_of(job)
        told = {name: value(cell) for name, cell in row.hparams.items()}
        assert told["model.lrn"] is ("lrn-true" in job.name)
        assert told["optimizer"] == {"sgd": "SGD", "adamw": "AdamW"}[job.name.rpartition("-")[2]]
        assert (told["data.augment.crop"], told["model.compile"]) == (0.9, "false")
        assert ("optimizer.momentum" in told) is (told["optimizer"] == "SGD")
        assert {metric.name.tag for metric in row.metric_values} == {*METRICS}
        for metric in row.metric_values:
            assert metric.value == pytest.approx(result[metric.name.tag], rel=1e-6)
            assert metric.training_step == 2
        assert [session.status for session in row.sessions] == [STATUS_SUCCESS]


def test_each_switch_of_augmentation_is_a_column() -> None:
    config = alexnet_lit.compose("data=fashion_mnist")
    no_switch = {"_target_", "color_axes"}  # the axes are the data's
    keys = {f"data.augment.{key}" for key in config.data.augment if key not in no_switch}
    assert keys <= set(COLUMNS)


def test_a_key_of_ones_own_is_a_column(train: Train) -> None:
    average = ("callbacks=ema", "callbacks.ema.decay=0.9", "callbacks.board.every=2")
    typed = ("scheduler.warmup=0.5", "optimizer=adamw", "optimizer.betas=[0.8,0.9]", "name=mine")
    outcome = train(*TINY, *typed, *average)
    experiment, rows = board(outcome.logs / "runs")
    (row,) = rows.values()
    told = {name: value(cell) for name, cell in row.hparams.items()}
    assert (told["scheduler.warmup"], told["optimizer.betas"], told["scheduler"]) == (0.5, "[0.8, 0.9]", "one_cycle")
    assert (told["callbacks"], told["callbacks.ema.decay"]) == ("ema", 0.9)
    names = {column.name for column in experiment.hparam_infos}
    assert {"scheduler.warmup", "optimizer.betas"} < names
    assert not {"name", "paths.logs", "callbacks.board.every"} & names


def test_runs_that_stand_alone_show_first_what_is_varied_most(train: Train) -> None:
    train(*TINY, "model.dropout=0.3", "label_smoothing=0.1", "name=a")
    outcome = train(
        *TINY, "optimizer=adamw", "callbacks=[ema,early_stopping]", "trainer.precision=bf16-mixed", "name=b"
    )

    experiment, rows = board(outcome.logs / "runs")

    shown = [column.name for column in experiment.hparam_infos[:5]]  # as many as the page has until asked for more
    assert shown == ["model.dropout", "model.lrn", "optimizer", "optimizer.lr", "trainer.precision"]
    assert {"label_smoothing", "callbacks"} < {column.name for column in experiment.hparam_infos}
    keys = ("model.dropout", "optimizer", "trainer.precision", "label_smoothing", "callbacks")
    assert [
        [value(row.hparams[key]) for key in keys] for _, row in sorted(rows.items(), key=lambda row: row[0][-1])
    ] == [
        [0.3, "SGD", "32-true", 0.1, "none"],
        [0.0, "AdamW", "bf16-mixed", 0.0, "ema,early_stopping"],
    ]


def test_a_run_that_diverged_has_a_row_and_no_scores(train: Train) -> None:
    outcome = train(*TINY, "optimizer.lr=1e30", "scheduler=constant")
    _, rows = board(outcome.logs / "runs")
    (row,) = rows.values()
    assert row.sessions[0].status == STATUS_FAILURE
    assert {metric.name.tag for metric in row.metric_values} == {"seconds"}
