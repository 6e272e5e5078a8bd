"""What TensorBoard shows of several runs: HParams as its own backend reads them, and its page in a real browser."""

import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
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
from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.config import to_plain
from tests.browser import CHROMIUM, browser, served
from tests.conftest import small_run
from tests.sweep.tiny import TINY, jobs_of, result_of

METRICS = ("test/acc", "val/acc_best", "test/loss", "seconds")
ACCURACIES, LOSSES = ["test/acc", "train/acc", "val/acc"], ["test/loss", "train/loss", "val/loss"]
# Group by group, of which the first two are unfolded.
PICTURES = ["net/activations", "net/kernels", "test/classes", "test/confusion", "test/mistakes"]


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


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs."""
    logs, recipe = tmp_path_factory.mktemp("logs"), ("data.train_size=64", "scheduler=constant")
    return small_run(logs, *TINY, *recipe, "-m", "optimizer=sgd,adamw", "data.augment.crop=0.9", "logger=tensorboard")


@pytest.mark.slow
def test_a_sweep_is_one_table_with_its_true_scores(sweep: Path) -> None:
    experiment, rows = board(sweep)

    columns = {column.name: column for column in experiment.hparam_infos}
    assert [metric.name.tag for metric in experiment.metric_infos] == [*METRICS]
    types = {name: columns[name].type for name in ("model.lrn", "optimizer", "optimizer.lr", "seed")}
    assert types == {"model.lrn": 2, "optimizer": 1, "optimizer.lr": 3, "seed": 3}  # bool, string, number
    assert {name for name, column in columns.items() if column.differs} == {"optimizer"}
    assert rows.keys() == {job.name for job in jobs_of(sweep)}, "a row a run, named after its folder"
    for job in jobs_of(sweep):
        row, result = rows[job.name], result_of(job)
        cells = {name: value(cell) for name, cell in row.hparams.items()}
        assert cells["optimizer"] == {"sgd": "SGD", "adamw": "AdamW"}[job.name.rpartition("-")[2]]
        assert (cells["data.augment.crop"], cells["model.lrn"]) == (0.9, False)
        assert {metric.name.tag for metric in row.metric_values} == {*METRICS}
        for metric in row.metric_values:
            assert metric.value == pytest.approx(result[metric.name.tag], rel=1e-6)
            assert metric.training_step == 8
        assert [session.status for session in row.sessions] == [STATUS_SUCCESS]


def write_row(folder: Path, *typed: str, status: str = "completed") -> None:
    """The row of a run of these overrides."""
    logger = TensorBoard(run_dir=str(folder))
    config = to_plain(alexnet_lit.compose("model=lenet", "data=sample", *typed, f"paths.run={folder}"))
    logger.log_hyperparams(config)
    logger.end({"status": status, "seconds": 1.5, "steps": 2, "overrides": list(typed)})
    logger.experiment.close()


def test_runs_that_stand_alone_show_first_what_is_varied_most(tmp_path: Path) -> None:
    deleted = ("optimizer=sgd", "~optimizer.momentum", "optimizer.nesterov=false", "+optimizer.dampening=0")
    write_row(tmp_path / "a", "model.dropout=0.3", "label_smoothing=0.1", *deleted, "name=a")
    own = ("scheduler.warmup=0.5", "optimizer.betas=[0.8,0.9]", "callbacks.ema.decay=0.9", "callbacks.board.images=2")
    write_row(tmp_path / "b", "optimizer=adamw", "callbacks=[ema,early_stopping]", *own, "name=b")

    experiment, rows = board(tmp_path)

    shown = [column.name for column in experiment.hparam_infos[:5]]  # as many as the page has until asked for more
    assert shown == ["model.dropout", "model.lrn", "optimizer", "optimizer.lr", "trainer.precision"]
    names = {column.name for column in experiment.hparam_infos}
    assert {"label_smoothing", "scheduler"} < names  # those typed in one run alone depend on the run that is asked
    assert not {"name", "paths.logs", "callbacks.board.images"} & names
    first, second = ({name: value(cell) for name, cell in rows[run].hparams.items()} for run in "ab")
    keys = ["model.dropout", "optimizer", "label_smoothing", "scheduler", "optimizer.nesterov"]
    assert [first[key] for key in keys] == [0.3, "SGD", 0.1, "one_cycle", False]
    keys = ["optimizer", "callbacks", "callbacks.ema.decay", "scheduler.warmup", "optimizer.betas", "scheduler"]
    assert [second[key] for key in keys] == [
        *("AdamW", "progress,milestones,board,ema,early_stopping", 0.9, 0.5, "[0.8, 0.9]", "one_cycle")
    ]


def test_a_run_that_diverged_has_a_row_and_one_that_may_go_on_has_none(tmp_path: Path) -> None:
    write_row(tmp_path / "mine", "+optimizer.dampening=0", status="diverged")
    write_row(tmp_path / "stopped", status="interrupted")
    experiment, rows = board(tmp_path)
    assert [(name, row.sessions[0].status) for name, row in rows.items()] == [("mine", STATUS_FAILURE)]
    assert "optimizer.dampening" in {column.name for column in experiment.hparam_infos}, "what was typed"


def open_dashboard(page: Page, address: str) -> None:
    page.goto("about:blank")  # a new fragment alone loads nothing, and the open page may write its own over it
    page.goto(address)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.slow
def test_the_page_shows_the_runs_of_a_sweep(sweep: Path, tmp_path: Path) -> None:
    names = sorted(job.name for job in jobs_of(sweep))
    typed = (sys.executable, "-m", "tensorboard.main", f"--logdir={sweep}", "--host=127.0.0.1", "--port=0")
    with served(*typed, scratch=tmp_path) as (_, address), browser() as page:
        page.goto(address)
        expect(page.locator("runs-data-table tb-data-table-content-row")).to_have_text(names)
        headings = page.locator("metrics-card-groups .group-title")  # what stands before the slash
        scalars = ["grad_norm", "images_per_second", "lr", "seconds", "test", "train", "val"]
        expect(headings.filter(has_not_text="net")).to_have_text(scalars)

        # Training and validation on one chart; below it stands what it found.
        open_dashboard(page, f"{address}#custom_scalars")
        for title, tags in {"accuracy": ACCURACIES, "loss": LOSSES}.items():
            chart = page.locator("tf-custom-scalar-multi-line-chart-card", has=page.get_by_text(title, exact=True))
            chart.locator(".toggle-matches-button").click()
            expect(chart.locator(".match-list-entry")).to_have_count(3 * len(names))
            found = chart.locator(".match-list-entry").all_text_contents()  # a symbol, the tag, and the run in brackets
            assert sorted({text.split()[1] for text in found}) == tags

        # Pictures, each of which is one.
        open_dashboard(page, f"{address}#images")
        for tag in PICTURES:
            image = page.locator("tf-image-loader", has_text=f"tag: {tag}").locator("img").first
            expect(image).to_have_js_property("complete", True)
            assert image.evaluate("image => image.naturalWidth") > 200, tag

        # A row for each run, whose values the tests above have read.
        open_dashboard(page, f"{address}#hparams")
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        expect(cells.filter(has_text="optimizer-adamw")).to_have_count(1)
