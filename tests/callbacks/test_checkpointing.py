"""Checkpoints that cannot be written, those of a step of several batches, and those that are of another net."""

import errno
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_lit.lit import Classifier
from tests.conftest import Train

LENET = (
    *("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=32", "data.train_size=64"),
    *("data.val_size=64", "trainer.accelerator=cpu", "trainer.max_epochs=1", "trainer.limit_test_batches=1"),
)


def test_a_run_on_a_disk_that_fills_up_says_so(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save
    written: list[int] = []

    def full(content: Any, file: Any) -> None:
        if written:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)
        written.append(content["global_step"])

    monkeypatch.setattr("torch.save", full)

    outcome = train(*LENET, "checkpoint.every_steps=1", "objective=null")

    assert outcome.status == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(
        f"error: {outcome.folder / 'checkpoints' / 'last.ckpt'}: cannot be written (No space left on device)"
    )
    assert outcome.result["status"] == "failed"
    assert torch.load(outcome.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1
    assert [file.name for file in (outcome.folder / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_step_of_several_batches_is_finished_before_a_stop(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients so far are in no checkpoint. A validation comes in the middle of it."""
    arguments = (*LENET, "data.train_size=320", "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=5")
    straight = train(*arguments, logs=tmp_path / "straight")

    def on_train_batch_start(module: Classifier, batch: Any, batch_idx: int) -> None:
        begin(module, batch, batch_idx)
        if batch_idx == 3:
            signal.raise_signal(signal.SIGINT)

    begin = Classifier.on_train_batch_start
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "on_train_batch_start", on_train_batch_start)
        stopped = train(*arguments, logs=tmp_path / "stopped")
    assert (stopped.status, stopped.result["steps"], stopped.result["images"]) == (130, 2, 6 * 32), stopped.err

    resumed = train(f"ckpt={stopped.folder}", logs=tmp_path / "stopped")

    assert (resumed.status, resumed.result["steps"]) == (0, 4), resumed.err
    mine, other = (
        torch.load(outcome.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for outcome in (resumed, straight)
    )
    assert all(torch.equal(value, other[name]) for name, value in mine.items())


@pytest.mark.slow
def test_the_same_net_goes_on_from_a_file_and_another_is_refused_with_the_difference(
    train: Train, tmp_path: Path
) -> None:
    file = tmp_path / "last.ckpt"
    shutil.copy(train(*LENET).folder / "checkpoints" / "last.ckpt", file)
    lenet = f"error: ckpt={file}: is of another net, with "
    for typed, line in (
        (["model.lrn=true", "model.dropout=0.25"], "model.dropout=0.0, model.lrn=false: set these, or start a new run"),
        (["model.activation=relu"], "model.activation=sigmoid: set these, or start a new run"),
    ):
        outcome = train(*LENET, *typed, f"ckpt={file}")
        assert (outcome.status, outcome.err) == (2, f"{lenet}{line}\n")

    outcome = train(*LENET, "trainer.max_epochs=2", "model.init=kaiming", f"ckpt={file}", logs=tmp_path / "more")
    assert (outcome.status, outcome.result["steps"]) == (0, 4), outcome.err

    checkpoint = torch.load(file, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] = torch.zeros(7, 3)
    torch.save(checkpoint, file)
    outcome = train(*LENET, f"ckpt={file}")
    assert (outcome.status, outcome.err) == (2, f"{lenet}{name} (7, 3): use a checkpoint of this net\n")
    assert not [path for path in (outcome.logs / "runs").iterdir() if not (path / "result.json").exists()]


def test_of_equal_scores_the_later_is_best(train: Train) -> None:
    """Nothing is learnt at a rate of 0, so each of the three validations comes to the same."""
    outcome = train(*LENET, "optimizer.lr=0.0", "trainer.max_epochs=3", "checkpoint.keep=2", "logger=none")
    assert outcome.status == 0, outcome.err
    checkpoints = outcome.folder / "checkpoints"
    steps = {
        name: torch.load(checkpoints / f"{name}.ckpt", weights_only=True)["global_step"] for name in ("best", "best_2")
    }
    assert steps == {"best": 6, "best_2": 4}
