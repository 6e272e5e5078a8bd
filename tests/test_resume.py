"""A run that is stopped and resumed is the run that was never stopped: rates, weights, and what callbacks know."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_lit.lit import Classifier
from tests.conftest import Train

# Six epochs of four steps.
LENET = (
    *("data=sample", "model=lenet", "model.activation=relu", "model.dropout=0.2", "data.image_size=28"),
    *("data.batch_size=8", "data.train_size=32", "data.val_size=16", "trainer.accelerator=cpu", "logger=none"),
    *("trainer.max_epochs=6", "trainer.log_every_n_steps=1", "trainer.limit_test_batches=1", "~callbacks.progress"),
)
PLATEAU = ("scheduler=plateau", "scheduler.patience=1", "scheduler.threshold=0.9")


def stop_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during that step, counted from 1."""

    def on_train_batch_start(module: Classifier, *arguments: Any) -> None:
        begin(module, *arguments)
        if module.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)

    begin = Classifier.on_train_batch_start
    patch.setattr(Classifier, "on_train_batch_start", on_train_batch_start)


def last(folder: Path) -> dict[str, Any]:
    """What last.ckpt holds, without what differs between any two runs: times, and the folder."""
    content: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    del content["callbacks"]["Speed"]["seconds"], content["callbacks"]["Speed"]["training_seconds"]
    points = content["callbacks"]["Picture"]["points"]
    for tag in [tag for tag in points if "second" in tag]:
        del points[tag]
    del content["hyper_parameters"]
    return content


def rates(folder: Path) -> list[float]:
    """The learning rate of each step."""
    return [rate for _, rate in last(folder)["callbacks"]["Picture"]["points"]["lr"]]


def assert_same(mine: Any, other: Any, place: str = "") -> None:
    """Equal in every number, tensors bit for bit."""
    if isinstance(other, dict):
        assert mine.keys() == other.keys(), place
        for key in other:
            assert_same(mine[key], other[key], f"{place}/{key}")
    elif isinstance(other, list | tuple):
        assert len(mine) == len(other), place
        for n, (one, another) in enumerate(zip(mine, other, strict=True)):
            assert_same(one, another, f"{place}/{n}")
    elif isinstance(other, torch.Tensor):
        assert torch.equal(mine, other), place
    else:
        assert mine == other, place


def stopped_and_resumed(train: Train, logs: Path, typed: Sequence[str], *steps: int) -> Path:
    """The folder of a run that was interrupted in each of these steps, and each time resumed."""
    arguments = list(typed)
    for step in steps:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(step, patch)
            stopped = train(*arguments, logs=logs)
        assert stopped.status == 130, stopped.err
        arguments = [f"ckpt={stopped.folder}"]
    resumed = train(*arguments, logs=logs)
    assert (resumed.status, resumed.err) == (0, "")
    return resumed.folder


@pytest.mark.parametrize(
    "typed",
    [
        ("scheduler=constant",),
        ("scheduler=step", "scheduler.step_size=2"),
        ("scheduler=one_cycle",),
        ("scheduler=one_cycle", "scheduler.interval=epoch", "scheduler.total_steps=run_epochs"),
        PLATEAU,
        (*PLATEAU, "scheduler.monitor=train/loss", "trainer.max_epochs=-1", "trainer.max_steps=24"),
        (*PLATEAU, "trainer.check_val_every_n_epoch=2", "scheduler.patience=0"),
        (*PLATEAU, "trainer.val_check_interval=0.75", "trainer.accumulate_grad_batches=2"),
        (*PLATEAU, "callbacks=[ema,early_stopping]", "trainer.limit_train_batches=3"),
        ("callbacks=early_stopping", "trainer.val_check_interval=0.5", "optimizer.lr=0.0", "trainer.max_steps=40"),
    ],
    ids=lambda typed: " ".join(typed).replace("/", "-"),
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(typed: tuple[str, ...], train: Train, tmp_path: Path) -> None:
    """Stopped in mid-epoch, at an epoch's end, and with an epoch's first step."""
    arguments = (*LENET, *typed)
    whole = train(*arguments, logs=tmp_path / "whole")
    assert (whole.status, whole.err) == (0, "")
    epoch = whole.result["steps"] // whole.result["epochs"]

    folder = stopped_and_resumed(train, tmp_path / "stopped", arguments, 2 * epoch - 1, 3 * epoch, 3 * epoch + 1)

    assert_same(last(folder), last(whole.folder))
    result = json.loads((folder / "result.json").read_text())
    for key in ("epochs", "steps", "images", "val/acc_best", "test/acc", "test/loss"):
        assert result[key] == whole.result[key], key
