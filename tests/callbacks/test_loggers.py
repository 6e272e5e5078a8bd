"""What loggers leave in memory, on the disk, and with W&B and MLflow, by the real packages without a network."""

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import wandb
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined] # made at import time

from alexnet_lit.callbacks import trackers
from alexnet_lit.callbacks.loggers import CSV, TensorBoard
from alexnet_lit.callbacks.trackers import MLflow, WandB
from alexnet_lit.errors import UserError
from alexnet_lit.terminal import close_log, open_log
from tests.conftest import Train
from tests.distributed.test_environment import variables
from tests.processes import Runs, rank_group
from tests.runs import scalars
from tests.sweep.tiny import TINY, jobs_of, result_of, sweep_of


def test_csv_of_a_resumed_run_measures_again_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    logger = CSV(run_dir=str(tmp_path))
    logger.rewind(3)  # there is no file yet
    logger.path.touch()
    logger.rewind(3)  # nor is anything in it
    for step in (1, 2, 3, 10):
        logger.log_metrics({"loss": 0.5}, step)
    with logger.path.open("a") as file:
        file.write("2,lo")  # cut short by a kill

    logger.rewind(3)
    logger.log_metrics({"loss": 0.25}, 3)

    lines = ["step,tag,value", "1,loss,0.5", "2,loss,0.5", "3,loss,0.25", ""]
    assert logger.path.read_bytes().decode().split("\r\n") == lines
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.posix
def test_a_full_disk_costs_the_rest_of_the_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No thread dies of it with a traceback, and what is there can be read."""

    logger = TensorBoard(run_dir=str(tmp_path))
    logger.log_metrics({"loss": 1.0}, 1)
    logger.save()
    (file,) = tmp_path.iterdir()
    open_log(None, speak=True)
    import resource  # which Windows lacks

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 9, limits[1]))  # within the next record
    try:
        for step in range(2, 40):
            logger.log_metrics({"loss": 1.0}, step)
            logger.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger.log_metrics({"loss": 1.0}, 40)  # there is room again, but half a record ends the file
    logger.experiment.close()
    close_log()
    out, err = capsys.readouterr()
    assert (out, err) == (f"warning: {file} can't be written (File too large): the run goes on without\n", "")
    assert scalars(tmp_path) == {"loss": [(1, 1.0)]}


LENET = (*TINY, "callbacks=none")
OFFLINE = variables("WANDB_MODE=offline WANDB_SILENT=true MLFLOW_ALLOW_FILE_STORE=true GIT_PYTHON_REFRESH=quiet")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)


def wandb_runs(folder: Path) -> list[dict[str, Any]]:
    """Id, config, summary, steps and exit status of the W&B runs in a run's folder, the oldest first."""
    return [_content(file) for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]


def _content(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"config": {}, "summary": {}, "steps": [], "exit": None}
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": record.run.run_id, "name": record.run.display_name, "group": record.run.run_group}
        for key, items in (("config", record.config.update), ("summary", record.summary.update)):
            found[key] |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
        history = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
        found["steps"] += [int(history["trainer/global_step"])] if "train/loss" in history else []
        if kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


def _records(data: bytes) -> Iterator[Record]:
    """The file is a LevelDB log: blocks of 32 KiB, in which a record may go on in the next one."""
    place, content = 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        content += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(content)
            content = b""


def mlflow_runs(store: str) -> list[Run]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("alexnet_lit")
    assert experiment is not None
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.start_time)


@pytest.mark.slow
def test_each_job_of_a_sweep_has_a_run_and_a_continued_one_goes_on_in_it(train: Train, tmp_path: Path) -> None:
    store = f"file:{tmp_path}/mlruns"
    typed = (*LENET, "logger=[csv,wandb,mlflow]", f"logger.mlflow.tracking_uri={store}")
    outcome = train("-m", *typed, "seed=0,1")
    assert outcome.status == 0, outcome.err

    sweep = sweep_of(outcome)
    jobs = jobs_of(sweep)
    found, results = [run for job in jobs for run in wandb_runs(job)], [result_of(job) for job in jobs]
    assert len({run["id"] for run in found}) == len(found) == 2
    assert [run["config"]["seed"] for run in found] == [0, 1]
    assert found[0]["config"]["model"]["_target_"] == "alexnet_lit.nets.LeNet"
    assert [(run["name"], run["group"], run["exit"]) for run in found] == [(job.name, sweep.name, 0) for job in jobs]
    assert [run["summary"]["test/acc"] for run in found] == [result["test/acc"] for result in results]
    assert [(run["summary"]["status"], run["steps"]) for run in found] == 2 * [("completed", [1, 2])]
    assert all((job / "metrics.csv").exists() for job in jobs)

    kept = mlflow_runs(store)
    assert [(run.info.run_name, run.data.params["seed"]) for run in kept] == [(jobs[0].name, "0"), (jobs[1].name, "1")]
    assert [run.data.tags["sweep"] for run in kept] == 2 * [sweep.name]
    assert [(run.info.status, run.data.tags["status"]) for run in kept] == 2 * [("FINISHED", "completed")]
    assert [run.data.metrics["test/acc"] for run in kept] == [result["test/acc"] for result in results]

    longer = train(f"ckpt={jobs[1]}", "trainer.max_epochs=2")
    assert longer.status == 0, longer.err
    first, second = wandb_runs(jobs[1])
    assert (second["id"], second["steps"], second["config"]["trainer"]["max_epochs"]) == (first["id"], [3, 4], 2)
    again = mlflow_runs(store)
    assert [run.info.run_id for run in again] == [run.info.run_id for run in kept]
    points = MlflowClient(store).get_metric_history(again[1].info.run_id, "train/loss")
    assert [point.step for point in points] == [1, 2, 3, 4]
    assert again[1].info.status == "FINISHED"


@pytest.mark.parametrize(("status", "mlflow"), [("interrupted", "KILLED"), ("diverged", "FAILED")])
def test_what_did_not_complete_is_said(status: str, mlflow: str, tmp_path: Path) -> None:
    run, store = tmp_path / "runs" / "1", f"file:{tmp_path}/mlruns"
    run.mkdir(parents=True)
    theirs = MLflow(run_dir=str(run), experiment_name="alexnet_lit", tracking_uri=store)
    for logger in (WandB(run_dir=str(run), project="p"), theirs):
        logger.end({"status": status})  # nothing was begun: nothing begins
        logger.log_metrics({"val/acc": 0.5}, 1)
        logger.end({"status": status, "val/acc_best": 0.5, "test/acc": None, "steps": 1})
    assert "MLFLOW_TRACKING_URI" not in os.environ, "where the next run would go"
    (one,), (other,) = wandb_runs(run), mlflow_runs(store)
    assert (one["exit"], one["summary"]["status"]) == (1, status)
    assert (other.info.status, other.data.metrics) == (mlflow, {"val/acc": 0.5, "val/acc_best": 0.5})


@pytest.mark.slow
def test_on_two_devices_the_first_rank_alone_logs(tmp_path: Path) -> None:
    store = f"file:{tmp_path}/mlruns"
    outcome = Runs(tmp_path / "logs", ranks=2, environment=lambda *place: {**rank_group(*place), **OFFLINE})
    typed = ("logger=[wandb,mlflow]", f"logger.mlflow.tracking_uri={store}", "trainer.devices=2")
    assert outcome(*LENET, *typed) == [0, 0], outcome.text
    (run,) = wandb_runs(outcome.folder)
    assert (run["config"]["trainer"]["devices"], run["steps"], run["exit"]) == (2, [1, 2], 0)
    (kept,) = mlflow_runs(store)
    assert (kept.info.status, kept.data.metrics["test/acc"]) == ("FINISHED", outcome.result["test/acc"])


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_missing_package_is_named_in_a_line(package: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    line = f'logger={package}: needs a package that is not installed: pip install "alexnet-lit[{package}]"'
    assert train(*LENET, f"logger={package}").refusal == line


def test_without_an_account_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb reads WANDB_MODE once in a process, so the refusal is not its own here."""
    refusal = wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")
    monkeypatch.setattr(wandb, "init", Mock(side_effect=refusal))
    with pytest.raises(UserError, match=r"logger=wandb: No API key configured.*WANDB_MODE=offline"):
        WandB(run_dir=str(tmp_path), project="p").log_metrics({"val/acc": 0.5}, 1)
